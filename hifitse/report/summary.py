"""The plan's claims beside what was measured, from nothing but the ``metrics.json`` files of the reports.

A file that is cut short, of another notebook or damaged becomes a row with the reason; nothing here raises for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hifitse.evaluation.rows import BASELINE
from hifitse.metrics import Interval
from hifitse.report import report
from hifitse.report.collect import RECORDINGS, SYNTHETIC, Report
from hifitse.report.contract import Claim
from hifitse.report.show import LEAST_MIXTURES

METRIC = "si_sdri_db"
"""The metric that the plan's gains are compared in."""
VERDICTS = ("helped", "neutral", "hurt")
TOO_FEW = "too few mixtures"
"""In place of a verdict with less than ``LEAST_MIXTURES`` mixtures."""


@dataclass(frozen=True)
class Stage:
    """A claim of the improvement plan.

    Attributes:
        notebook: the one that measures it, ``NN_name``.
        title: in a few words.
        expected: the gain that the plan expects, dB; ``None`` where it names no range.
        remark: what else the plan or published work says of the gain.
        effort: what has to be done.
        retrain: whether a model has to be trained again.
    """

    notebook: str
    title: str
    expected: tuple[float, float] | None
    remark: str
    effort: str
    retrain: str

    @property
    def number(self) -> str:
        """The two digits of its notebook."""
        return self.notebook[:2]


PLAN = (
    Stage("01_gan_finetune", "GAN fine-tuning", (0.3, 0.8), "", "fine-tune a finished run with discriminators", "no"),
    Stage("02_capacity", "capacity", (0.5, 1.5), "for each of two steps", "a larger model", "yes"),
    Stage("03_long_segments", "longer segments", (0.3, 0.8), "published: about 0 beyond 4.4 s", "longer training mixtures", "yes"),
    Stage(
        "04_augmentation", "augmentation", (0.2, 0.5), "several enrolments: +0.3 to +0.5", "augmented mixtures and enrolments",
        "yes; not for several enrolments at inference",
    ),
    Stage("05_curriculum", "curriculum", None, "published: about +1 for voice similarity", "a harder third phase, closer voices", "yes"),
    Stage("06_losses", "losses", (0.3, 0.8), "", "other loss terms and weights", "yes"),
    Stage("07_conditioning", "conditioning", (0.3, 0.7), "published: +2.7 at several levels", "other use of the enrolment", "yes"),
    Stage("08_data_loading", "data loading", None, "speed, not dB", "the same mixtures, made faster", "no"),
    Stage("09_combined", "02 to 05 combined", None, "that the gains compound", "all of 02 to 05 together", "yes"),
)  # fmt: skip
"""The eight stages, and the ninth claim that their gains compound."""


@dataclass(frozen=True)
class Entry:
    """One line of the summary: an arm that was measured, or why a claim was not.

    Attributes:
        stage: the claim.
        data: ``SYNTHETIC`` or ``RECORDINGS``.
        state: "measured"; "reported", for a report that compares no SI-SDRi; "failed", "unreadable" or "missing".
        reason: of all states but "measured".
        report: where it comes from; ``None`` where it is missing.
        arm, against: names of the arm and of what it is compared with.
        value: the paired difference of SI-SDRi, dB.
        verdict: "helped", "neutral", "hurt" or ``TOO_FEW``.
        expected: the range that its notebook gives for this arm, dB.
        slower: seconds per step over those of ``against``.
        parameters: of the arm's model.
        steps: of the arm's training.
    """

    stage: Stage
    data: str
    state: str
    reason: str = ""
    report: Report | None = None
    arm: str = ""
    against: str = BASELINE
    value: Interval | None = None
    verdict: str = ""
    expected: tuple[float, float] | None = None
    slower: float | None = None
    parameters: float | None = None
    steps: float | None = None

    @property
    def runnable(self) -> bool:
        """Whether its notebook is in this checkout."""
        return (report.CHECKOUT / "notebooks" / f"{self.stage.notebook}.ipynb").exists()


def _measured(stage: Stage, of: Report, claim: Claim) -> Entry:
    """One comparison of SI-SDRi as an entry; "unreadable" with the reason where its interval says nothing."""
    ends = (math.nan, math.nan) if claim.low is None or claim.high is None else (claim.low, claim.high)
    if claim.difference is None or ends[0] > claim.difference or ends[1] < claim.difference:
        reason = f"the comparison of {claim.arm!r} has no difference within its interval"
        return Entry(stage, of.data, "unreadable", reason, of, claim.arm)
    value = Interval(float(claim.difference), *ends, claim.n)
    return Entry(
        stage=stage,
        data=of.data,
        state="measured",
        report=of,
        arm=claim.arm + (f" ({claim.list} list)" if claim.list != "test" else ""),
        against=claim.baseline,
        value=value,
        verdict=claim.verdict if value.n >= LEAST_MIXTURES and math.isfinite(value.low) else TOO_FEW,
        expected=tuple(claim.expected) if claim.expected and len(claim.expected) == 2 else None,
        slower=_slower(of, claim),
        parameters=of.arm(claim.arm).parameters,
        steps=of.arm(claim.arm).steps,
    )


def _slower(of: Report, claim: Claim) -> float | None:
    """Time of an arm's step relative to that of the arm it is compared with: measured in turns where it was, else of the two trainings."""
    ratio = of.arm(claim.arm).step_ratio
    if ratio is not None and claim.baseline == BASELINE:
        return ratio.mean
    cost, before = (of.arm(name).seconds_per_step for name in (claim.arm, claim.baseline))
    return cost / before if cost and before and min(cost, before) > 0 else None


def entries(reports: Sequence[Report]) -> list[Entry]:
    """At least one entry for each claim of the plan and kind of data: by the plan's order, then by kind of data, then by gain.

    Args:
        reports: as :func:`read` gives them.
    """
    found = []
    for stage in PLAN:
        for data in (SYNTHETIC, RECORDINGS):
            mine: list[Entry] = []
            for one in (one for one in reports if one.notebook[:2] == stage.number and one.data == data):
                if not one.usable:
                    mine.append(Entry(stage, data, one.status, one.reason, one))
                    continue
                lines = _compared(stage, one)
                mine += lines or [Entry(stage, data, "reported", "its report compares no SI-SDRi", one)]
            absent = Entry(stage, data, "missing")
            absent = replace(absent, reason="not run yet" if absent.runnable else "there is no such notebook yet")
            found += ranked(mine) or [absent]
    return found


def beyond(reports: Sequence[Report]) -> list[Entry]:
    """The measured arms of complete reports that answer no claim of the plan, such as the best recipe, by gain."""
    others = [one for one in reports if one.usable and one.notebook[:2] not in {stage.number for stage in PLAN}]
    found = [_compared(Stage(one.notebook, one.notebook[3:], None, "", "", ""), one) for one in others]
    return ranked([entry for each in found for entry in each])


def _compared(stage: Stage, one: Report) -> list[Entry]:
    """The comparisons of SI-SDRi of a complete report; not those that a summary repeats from others, which name their ``report``."""
    claims = one.metrics.comparisons
    return [_measured(stage, one, each) for each in claims if each.metric == METRIC and not each.report]


def ranked(lines: Sequence[Entry]) -> list[Entry]:
    """Those with a measured gain first, the largest first; the others after them, by the plan's order."""
    return sorted(lines, key=lambda entry: (entry.value is None, -entry.value.mean if entry.value else 0.0, entry.stage.number, entry.arm))


def comparisons(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """The comparisons of all complete reports of the plan's stages, each with the report that it comes from."""
    mine = [one for one in reports if one.usable and one.notebook[:2] in {stage.number for stage in PLAN}]
    return [each.model_dump(exclude_unset=True) | {"report": one.folder} for one in mine for each in one.metrics.comparisons]
