"""The plan's claims beside what was measured, from nothing but the ``metrics.json`` files of the reports.

A file that is cut short, of another notebook or otherwise not as it should be becomes a row with the reason; nothing here raises for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hifitse.evaluation.rows import BASELINE
from hifitse.metrics import Interval
from hifitse.report import report
from hifitse.report.collect import RECORDINGS, SYNTHETIC, CollectError, Report, mapping, number, plain
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
        retrain: whether a model has to be trained anew.
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
    Stage("02_capacity", "capacity", (0.5, 1.5), "a step", "a larger model", "yes"),
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
        state: "measured"; "reported", for a complete report that compares no SI-SDRi; "failed", "unreadable" or "missing".
        reason: of all states but "measured".
        report: where it comes from; ``None`` where it is missing.
        arm, against: names of the arm and of what it is compared with.
        value: the paired difference of SI-SDRi, dB.
        verdict: "helped", "neutral", "hurt" or ``TOO_FEW``.
        expected: the range that its notebook gives for this arm, dB.
        slower: seconds a step over those of ``against``.
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


def _interval(row: Mapping[str, Any]) -> Interval:
    """Difference, interval and number of mixtures of a comparison; ends that are not known are nan.

    Raises:
        CollectError: a number is missing or makes no sense, or the verdict is none.
    """
    arm = plain(repr(row.get("arm")), 60)
    for key in ("difference", "n"):
        if number(row.get(key)) is None:
            raise CollectError(f"the comparison of {arm} has {plain(repr(row.get(key)), 40)} as {key!r}, allowed is a number")
    low, high = number(row.get("low")), number(row.get("high"))
    ends = (math.nan, math.nan) if low is None or high is None else (low, high)
    if ends[0] > row["difference"] or ends[1] < row["difference"]:
        raise CollectError(f"the comparison of {arm} has an interval that does not hold its mean")
    if row.get("verdict") not in VERDICTS:
        said = plain(repr(row.get("verdict")), 40)
        raise CollectError(f"the comparison of {arm} has the verdict {said}, allowed are {', '.join(VERDICTS)}")
    return Interval(float(row["difference"]), *ends, int(row["n"]))


def _measured(stage: Stage, of: Report, row: Mapping[str, Any]) -> Entry:
    """One comparison of SI-SDRi as an entry; "unreadable" with the reason where it says nothing that can be used."""
    arm, against = str(row.get("arm")), str(row.get("baseline", BASELINE))
    try:
        value = _interval(row)
    except CollectError as error:
        return Entry(stage, of.data, "unreadable", str(error), of, plain(arm, 60))
    where = f" ({plain(row['list'], 30)} list)" if row.get("list", "test") != "test" else ""
    expected = [number(end) for end in row["expected"]] if isinstance(row.get("expected"), list) else []
    return Entry(
        stage=stage,
        data=of.data,
        state="measured",
        report=of,
        arm=plain(arm, 60) + where,
        against=plain(against, 60),
        value=value,
        verdict=row["verdict"] if value.n >= LEAST_MIXTURES and math.isfinite(value.low) else TOO_FEW,
        expected=(expected[0], expected[1]) if len(expected) == 2 and None not in expected else None,
        slower=_slower(of, arm, against),
        parameters=number(of.arm(arm).get("parameters")),
        steps=number(of.arm(arm).get("steps")),
    )


def _slower(of: Report, arm: str, against: str) -> float | None:
    """Time of an arm's step over that of the arm it is compared with: measured in turns where it was, else from the two trainings."""
    ratio = of.arm(arm).get("step_ratio")
    if isinstance(ratio, dict) and against == BASELINE:
        return number(ratio.get("mean"))
    cost, before = (number(of.arm(name).get("seconds_per_step")) for name in (arm, against))
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
                if one.status != "complete":
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
    others = [one for one in reports if one.status == "complete" and one.notebook[:2] not in {stage.number for stage in PLAN}]
    found = [_compared(Stage(one.notebook, one.notebook[3:], None, "", "", ""), one) for one in others]
    return ranked([entry for each in found for entry in each])


def _compared(stage: Stage, one: Report) -> list[Entry]:
    """The comparisons of SI-SDRi of a complete report; not those that a summary repeats from others, which name their ``report``."""
    rows = map(mapping, one.content["comparisons"])
    return [_measured(stage, one, row) for row in rows if row.get("metric") == METRIC and "report" not in row]


def ranked(lines: Sequence[Entry]) -> list[Entry]:
    """Those with a measured gain first, the largest first; the others after them, by the plan's order."""
    return sorted(lines, key=lambda entry: (entry.value is None, -entry.value.mean if entry.value else 0.0, entry.stage.number, entry.arm))


def comparisons(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """The comparisons of all complete reports of the plan's stages, each with the report that it comes from."""
    mine = [one for one in reports if one.status == "complete" and one.notebook[:2] in {stage.number for stage in PLAN}]
    return [dict(row) | {"report": one.folder} for one in mine for row in one.content["comparisons"] if isinstance(row, Mapping)]
