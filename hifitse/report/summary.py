"""The plan's claims beside what was measured, from nothing but the reports' ``metrics.json``: entries, and rows of their tables.

A file that is cut short, of another notebook or damaged becomes a row with the reason; nothing here raises for it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from matplotlib.figure import Figure

from hifitse.evaluation.comparison import UNSEEN
from hifitse.evaluation.rows import BASELINE
from hifitse.metrics import Interval
from hifitse.report import figures, report, tables
from hifitse.report.collect import RECORDINGS, SCALES, SYNTHETIC, Report
from hifitse.report.contract import Claim
from hifitse.report.show import LEAST_MIXTURES

VERDICTS, TOO_FEW = ("helped", "neutral", "hurt"), "too few mixtures"
RANKING = ("arm", "verdict", "measured, dB", "95 % interval", "n", "the plan, dB", "beside the plan", "time per step, size", "made on")
KINDS = (RECORDINGS, SYNTHETIC)
"""Kinds of data, that which says more first."""
STAGES = ("claim", "the plan, dB", *KINDS, "also said", "effort", "new training")
SCALE = ("arm", *SCALES, "did the verdict change?")
Row = tuple[str, list[str]]
"""Where the first cell leads, or nothing; and the cells, plain text."""


class Stage(NamedTuple):
    """A claim of the improvement plan: the notebook that measures it, and the gain in dB that the plan expects, where it names one."""

    notebook: str
    title: str
    expected: tuple[float, float] | None = None
    remark: str = ""
    effort: str = ""
    retrain: str = ""

    @property
    def number(self) -> str:
        """The two digits of its notebook."""
        return self.notebook[:2]

    @property
    def runnable(self) -> bool:
        """Whether its notebook is in this checkout."""
        return (report.CHECKOUT / "notebooks" / f"{self.notebook}.ipynb").exists()


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
NUMBERS = {stage.number for stage in PLAN}


@dataclass(frozen=True)
class Entry:
    """One line of the summary: an arm that was measured, or why a claim was not."""

    stage: Stage
    data: str  # ``SYNTHETIC`` or ``RECORDINGS``
    state: str  # "measured"; "reported": its report compares no SI-SDRi; "failed", "unreadable" or "missing", with the ``reason``
    reason: str = ""
    report: Report | None = None
    name: str = ""  # number of the notebook, and the arm, with what it is compared with where that is not the baseline
    value: Interval | None = None  # the paired difference of SI-SDRi, dB
    verdict: str = ""  # "helped", "neutral", "hurt" or ``TOO_FEW``
    expected: tuple[float, ...] = ()  # the range that its notebook gives for this arm, dB
    beside: str = "–"  # where the interval lies relative to it
    slower: float | None = None  # seconds per step over those of what it is compared with
    scale: tuple[str, str] = ("", "")  # size, and what it was trained on


def _measured(stage: Stage, of: Report, claim: Claim) -> Entry:
    """One comparison of SI-SDRi as an entry; "unreadable" with the reason where its interval says nothing."""
    value, mine, other = claim.interval, of.arm(claim.arm), of.arm(claim.baseline)
    if math.isnan(value.mean) or value.low > value.mean or value.high < value.mean:
        return Entry(stage, of.data, "unreadable", f"the comparison of {claim.arm!r} has no difference within its interval", of)
    name = f"{stage.number} {claim.arm}" + (f" ({claim.list} list)" if claim.list != "test" else "")
    verdict = claim.verdict if value.n >= LEAST_MIXTURES and math.isfinite(value.low) else TOO_FEW
    expected = tuple(claim.expected or ()) if len(claim.expected or ()) == 2 else ()
    beside = "–"
    if expected and verdict != TOO_FEW:
        beside = "below it" if value.high < expected[0] else "above it" if value.low > expected[1] else "overlaps it"
    times = [each.seconds_per_step or 0 for each in (mine, other)]
    slower = times[0] / times[1] if min(times) > 0 else None  # of the two trainings, or measured in turns
    if claim.baseline == BASELINE:
        slower = mine.step_ratio.mean if mine.step_ratio else slower
    else:
        name += f" (against {claim.baseline})"
    seeds = of.metrics.params.get("arm_seeds")
    several = f", {seeds} seeds" if isinstance(seeds, int) and seeds > 1 else ""
    steps = f"{mine.steps:,.0f} steps" if mine.steps else "steps not said"
    scale = (f"{mine.parameters / 1e6:.2f} M" if mine.parameters else "", f"{of.data}, {of.preset}, {steps}{several}, {of.said('device')}")
    return Entry(stage, of.data, "measured", "", of, name, value, verdict, expected, beside, slower, scale)


def _compared(stage: Stage, of: Report) -> list[Entry]:
    """The comparisons of SI-SDRi of a report; not on unseen sources, nor what a summary repeats from its ``report``."""
    mine = (each for each in of.metrics.comparisons if each.metric == "si_sdri_db" and not each.report)
    return [_measured(stage, of, each) for each in mine if each.list != UNSEEN]


def ranked(lines: Iterable[Entry]) -> list[Entry]:
    """Those with a measured gain first, the largest first; the others after them, by the plan's order."""
    return sorted(lines, key=lambda entry: (-entry.value.mean if entry.value else math.inf, entry.stage.number, entry.name))


def entries(reports: Sequence[Report]) -> list[Entry]:
    """At least one entry for each claim of the plan and kind of data: by the plan's order, then by kind of data, then by gain."""
    found = []
    for stage in PLAN:
        for data in KINDS:
            mine: list[Entry] = []
            for one in (one for one in reports if one.notebook[:2] == stage.number and one.data == data):
                if one.usable:
                    mine += _compared(stage, one) or [Entry(stage, data, "reported", "its report compares no SI-SDRi", one)]
                else:
                    mine.append(Entry(stage, data, one.status, one.reason, one))
            reason = "not run yet" if stage.runnable else "there is no such notebook yet"
            found += ranked(mine) or [Entry(stage, data, "missing", reason)]
    return found


def beyond(reports: Sequence[Report]) -> list[Entry]:
    """The measured arms of complete reports that answer no claim of the plan, such as the best recipe, by gain."""
    others = [one for one in reports if one.usable and one.notebook[:2] not in NUMBERS]
    return ranked(entry for one in others for entry in _compared(Stage(one.notebook, one.notebook[3:]), one))


def comparisons(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """The comparisons of all complete reports of the plan's stages, each with the report that it comes from."""
    mine = [one for one in reports if one.usable and one.notebook[:2] in NUMBERS]
    return [each.model_dump(exclude_unset=True) | {"report": one.folder} for one in mine for each in one.metrics.comparisons]


# ---- as rows of tables, and in words


def link(of: Report | None) -> str:
    """Relative to the root of the reports: its page, or the first of its files that exists."""
    return quote(f"{of.place}/{of.files[0]}".encode(errors="replace")) if of and of.files else ""


def measured(found: Iterable[Entry], data: str) -> list[Entry]:
    """The measured arms on one kind of data, the largest gain first."""
    return ranked(entry for entry in found if entry.value and entry.data == data)


def _gain(expected: Iterable[float] | None) -> str:
    return " to ".join(tables.number(end, 1, True) for end in expected or ()) or "–"


def ranking_rows(found: Iterable[Entry], data: str) -> list[Row]:
    """One row for each measured arm on one kind of data, by gain."""
    rows = []
    for entry in measured(found, data):
        numbers = [tables.number(entry.value.mean, 2, True), tables.interval(vars(entry.value), 2, True), str(entry.value.n)]
        cost = ", ".join(filter(None, [f"{entry.slower:.2f} ×" if entry.slower else "", entry.scale[0]])) or "–"
        cells = [entry.name, entry.verdict, *numbers, _gain(entry.expected), entry.beside, cost, entry.scale[1]]
        rows.append((link(entry.report), cells))
    return rows


def stage_rows(found: Sequence[Entry]) -> list[Row]:
    """One row for each claim, in the plan's order, with what became of it on both kinds of data."""
    rows = []
    for stage in PLAN:
        cells = [f"{stage.number} {stage.title}", _gain(stage.expected)]
        for data in KINDS:
            mine = Counter(entry.verdict or entry.state for entry in found if entry.stage == stage and entry.data == data)
            cells.append(", ".join(f"{count} {word}" if mine.total() > 1 else word for word, count in mine.items()))
        rows.append(("", [*cells, stage.remark or "–", stage.effort, stage.retrain]))
    return rows


def commands(found: Iterable[Entry], preset: str = "demo") -> list[str]:
    """The command for each claim and kind of data that is missing or went wrong, where there is such a notebook."""
    wanted = [each for each in found if each.state in ("failed", "unreadable", "missing") and each.stage.runnable]
    where = {SYNTHETIC: preset, RECORDINGS: "people"}
    return list(dict.fromkeys(f"hifitse run {each.stage.notebook} --preset {where[each.data]}" for each in wanted))


def scale_rows(reports: Sequence[Report]) -> list[Row]:
    """One row for each arm that was compared with its baseline, with its verdict and gain in each preset, people first."""
    told: dict[str, dict[str, Entry]] = {}
    for one in (one for one in reports if one.usable and one.preset in SCALES):
        for entry in (entry for entry in _compared(Stage(one.notebook, ""), one) if entry.value):
            told.setdefault(entry.name, {})[one.preset] = entry
    rows = []
    for name, mine in sorted(told.items()):
        said = {preset: f"{entry.verdict} {tables.number(entry.value.mean, 2, True)}" for preset, entry in mine.items()}
        changed = "–" if len(mine) < 2 else "no" if len({entry.verdict for entry in mine.values()}) == 1 else "yes"
        first = next(mine[preset] for preset in SCALES if preset in mine)
        rows.append((link(first.report), [name, *(said.get(preset, "–") for preset in SCALES), changed]))
    return rows


def _count(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def sentences(found: Sequence[Entry]) -> tuple[str, list[tuple[str, str, str]], str]:
    """The verdict: a headline; for each kind of data its name, how many arms helped, and the rest; and how to take it."""
    claims = {entry.stage.number for entry in found if entry.state in ("measured", "reported")}
    headline = f"{len(claims)} of the plan's {len(PLAN)} claims were measured."
    cards = []
    for data in KINDS:
        mine = measured(found, data)
        counted = Counter(entry.verdict for entry in mine)
        rest = [f"{counted[word]} {word}" for word in (*VERDICTS[1:], TOO_FEW) if counted[word] or word in VERDICTS]
        gone = len({entry.stage for entry in found if entry.data == data and entry.state in ("missing", "failed", "unreadable")})
        of = f"of {_count(len(mine), 'arm')} of {_count(len({entry.stage for entry in mine}), 'claim')}"
        gaps = f"{_count(gone, 'claim')} missing, failed or unreadable"
        cards.append((data, f"{counted['helped']} helped", f"{of}; {', '.join(rest)}; {gaps}"))
    judged = [entry for entry in found if entry.verdict in VERDICTS]
    below, hoped = sum(entry.beside == "below it" for entry in judged), sum(entry.beside != "–" for entry in judged)
    text = (
        f"An arm helped or hurt where the 95 % interval of its paired difference in SI-SDRi excludes 0; with fewer than {LEAST_MIXTURES} "
        f"mixtures there is no verdict. {_count(len(judged), 'arm')} have one: if none changed anything, about one in 40 would still seem "
        "to have helped, and seed-to-seed variance is not in the intervals. "
    )
    text += f"Where the plan names a range ({_count(hoped, 'arm')}), the whole interval is below it for {below}. " if hoped else ""
    text += "The plan speaks of 1.5 million steps on recordings; what each number here was made on stands beside it."
    return headline, cards, text


def forest(found: Sequence[Entry], data: str) -> tuple[Figure, str] | None:
    """Forest plot of one kind of data, missing claims empty, and the text that stands for it; ``None`` where nothing was measured."""
    mine = measured(found, data)
    if not mine:
        return None
    several = len({entry.report.preset for entry in mine}) > 1
    lines = [(entry.name + (f", {entry.report.preset}" if several else ""), entry.value, entry.expected or None) for entry in mine]
    shown = "; ".join(f"{label} {tables.number(value.mean, 2, True)} dB" for label, value, _ in lines)
    done = {entry.stage for entry in mine}
    lines += [(f"{stage.number} {stage.title}", None, stage.expected) for stage in PLAN if stage not in done and stage.expected]
    figure = figures.forest(lines, "difference in SI-SDRi from the baseline, dB")
    return figure, f"Gains on {data} with 95 % intervals and the plan's ranges, largest first: {shown}"
