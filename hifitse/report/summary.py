"""Compare the plan's claims with the measurements, using only the reports' ``metrics.json``: entries, and rows of their tables.

A file that is incomplete or damaged becomes a row with the reason; it never raises an error.
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
RANKING = ("arm", "verdict", "measured, dB", "95 % interval", "n", "the plan, dB", "against the plan", "time per step, size", "made on")
KINDS = (RECORDINGS, SYNTHETIC)
"""Kinds of data, the more informative one first."""
STAGES = ("claim", "the plan, dB", *KINDS, "also said", "effort", "new training")
SCALE = ("arm", *SCALES, "did the verdict change?")
Row = tuple[str, list[str]]
"""Link target of the first cell, or an empty string; and the cells as plain text."""


class Stage(NamedTuple):
    """A claim of the improvement plan: the notebook that tests it, and the gain in dB that the plan expects, if it states one."""

    notebook: str
    title: str
    expected: tuple[float, float] | None = None
    remark: str = ""
    effort: str = ""
    retrain: str = ""

    @property
    def number(self) -> str:
        """The two-digit number of the notebook."""
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
"""The eight stages of the plan, and a ninth claim: that their gains compound."""
NUMBERS = {stage.number for stage in PLAN}
CONTROLS = {"01_gan_finetune": "longer", "12_diagnosis": "AdamW"}
"""Notebook -> the arm that answers are compared with instead of the baseline: the same without what the question is about."""


@dataclass(frozen=True)
class Entry:
    """One line of the summary: a measured arm, or the reason why a claim was not measured."""

    stage: Stage
    data: str  # ``SYNTHETIC`` or ``RECORDINGS``
    state: str  # "measured"; "reported" (the report compares no SI-SDRi); "failed", "unreadable" or "missing", with a ``reason``
    reason: str = ""
    report: Report | None = None
    name: str = ""  # notebook number and arm, plus the test list if it is not the common one, and the reference arm if not the baseline
    usual: bool = False  # on the common test list, and against the baseline or the control of ``CONTROLS``
    value: Interval | None = None  # paired SI-SDRi difference, dB
    verdict: str = ""  # "helped", "neutral", "hurt" or ``TOO_FEW``
    expected: tuple[float, ...] = ()  # range that the notebook states for this arm, dB
    beside: str = "–"  # position of the interval relative to that range
    slower: float | None = None  # seconds per step relative to the reference arm
    scale: tuple[str, str] = ("", "")  # model size; data, preset, steps and device


def _measured(stage: Stage, of: Report, claim: Claim) -> Entry:
    """Convert a comparison of SI-SDRi to an entry."""
    value, mine, other = claim.interval, of.arm(claim.arm), of.arm(claim.baseline)
    name = f"{stage.number} {claim.arm}" + (f" ({claim.list} list)" if claim.list != "test" else "")
    verdict = claim.verdict if value.n >= LEAST_MIXTURES and math.isfinite(value.low) else TOO_FEW
    expected = tuple(claim.expected or ())
    beside = "–"
    if expected and verdict != TOO_FEW:
        beside = "below it" if value.high < expected[0] else "above it" if value.low > expected[1] else "overlaps it"
    name += f" (against {claim.baseline})" if claim.baseline != BASELINE else ""
    slower = mine.step_ratio.mean / other.step_ratio.mean if mine.step_ratio and other.step_ratio else None
    seeds = of.metrics.params.get("arm_seeds")
    most = "up to " if of.metrics.params.get("arm_seeds_within") else ""  # arms that are clearly worse have only one
    several = f", {most}{seeds} seeds" if isinstance(seeds, int) and seeds > 1 else ", 1 seed"
    steps = f"{mine.steps:,.0f} steps" if mine.steps else "steps not stated"
    scale = (f"{mine.parameters / 1e6:.2f} M" if mine.parameters else "", f"{of.data}, {of.preset}, {steps}{several}, {of.said('device')}")
    usual = claim.list == "test" and claim.baseline == CONTROLS.get(of.notebook, BASELINE)
    return Entry(stage, of.data, "measured", "", of, name, usual, value, verdict, expected, beside, slower, scale)


def _compared(stage: Stage, of: Report) -> list[Entry]:
    """Return a report's comparisons of SI-SDRi that have a value, without those on unseen sources and those copied from another report."""
    mine = (each for each in of.metrics.comparisons if each.metric == "si_sdri_db" and not each.report)
    return [_measured(stage, of, each) for each in mine if each.list != UNSEEN and each.difference is not None]


def ranked(lines: Iterable[Entry]) -> list[Entry]:
    """Sort entries: measured gains first, in descending order, then the others in the plan's order."""
    return sorted(lines, key=lambda entry: (-entry.value.mean if entry.value else math.inf, entry.stage.number, entry.name))


def entries(reports: Sequence[Report]) -> list[Entry]:
    """Return at least one entry per claim and kind of data, sorted by the plan's order, kind of data and gain."""
    found = []
    for stage in PLAN:
        for data in KINDS:
            mine: list[Entry] = []
            for one in (one for one in reports if one.notebook[:2] == stage.number and one.data == data):
                if one.usable:
                    mine += _compared(stage, one) or [Entry(stage, data, "reported", "its report compares no SI-SDRi", one)]
                else:
                    mine.append(Entry(stage, data, one.status, one.reason, one))
            found += ranked(mine) or [Entry(stage, data, "missing", "not run yet")]
    return found


def beyond(reports: Sequence[Report]) -> list[Entry]:
    """Return the arms of usable reports that test no claim of the plan, such as the best recipe, sorted by gain."""
    others = [one for one in reports if one.usable and one.notebook[:2] not in NUMBERS]
    return ranked(entry for one in others for entry in _compared(Stage(one.notebook, one.notebook[3:]), one))


def comparisons(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Return the comparisons of all usable reports of the plan's stages, each with the name of its report."""
    mine = [one for one in reports if one.usable and one.notebook[:2] in NUMBERS]
    return [each.model_dump(exclude_unset=True) | {"report": one.folder} for one in mine for each in one.metrics.comparisons]


# ---- table rows and sentences


def link(of: Report | None) -> str:
    """Return the link to a report's page, relative to the reports root."""
    return quote(f"{of.place}/{report.FILES[0]}".encode(errors="replace")) if of else ""


def measured(found: Iterable[Entry], data: str) -> list[Entry]:
    """Return the measured arms on one kind of data, the largest gain first."""
    return ranked(entry for entry in found if entry.value and entry.data == data)


def ranking_rows(found: Iterable[Entry], data: str) -> list[Row]:
    """Return one row per measured arm on one kind of data, sorted by gain."""
    rows = []
    for entry in measured(found, data):
        numbers = [tables.number(entry.value.mean, 2, True), tables.interval(vars(entry.value), 2, True), str(entry.value.n)]
        cost = ", ".join(filter(None, [f"{entry.slower:.2f} ×" if entry.slower else "", entry.scale[0]])) or "–"
        cells = [entry.name, entry.verdict, *numbers, tables.span(entry.expected), entry.beside, cost, entry.scale[1]]
        rows.append((link(entry.report), cells))
    return rows


def stage_rows(found: Sequence[Entry]) -> list[Row]:
    """Return one row per claim, in the plan's order, with the outcome on both kinds of data."""
    rows = []
    for stage in PLAN:
        cells = [f"{stage.number} {stage.title}", tables.span(stage.expected)]
        for data in KINDS:
            mine = Counter(entry.verdict or entry.state for entry in found if entry.stage == stage and entry.data == data)
            cells.append(", ".join(f"{count} {word}" if mine.total() > 1 else word for word, count in mine.items()))
        rows.append(("", [*cells, stage.remark or "–", stage.effort, stage.retrain]))
    return rows


def commands(found: Iterable[Entry], preset: str = "demo") -> list[str]:
    """Return the command for each claim and kind of data that is missing, failed or unreadable."""
    wanted = [each for each in found if each.state in ("failed", "unreadable", "missing")]
    where = {SYNTHETIC: preset, RECORDINGS: "people"}
    return list(dict.fromkeys(f"hifitse run {each.stage.notebook} --preset {where[each.data]}" for each in wanted))


def scale_rows(reports: Sequence[Report]) -> list[Row]:
    """Return one row per compared arm, with its verdict and gain in each preset, people first."""
    told: dict[str, dict[str, Entry]] = {}
    for one in (one for one in reports if one.usable and one.folder.partition("/")[0] in SCALES):
        for entry in (entry for entry in _compared(Stage(one.notebook, ""), one) if entry.value):
            told.setdefault(entry.name, {})[one.preset] = entry
    rows = []
    for name, mine in sorted(told.items()):
        said = {preset: f"{entry.verdict} {tables.number(entry.value.mean, 2, True)}" for preset, entry in mine.items()}
        verdicts = [entry.verdict for entry in mine.values() if entry.verdict in VERDICTS]
        changed = "–" if len(verdicts) < 2 else "no" if len(set(verdicts)) == 1 else "yes"
        first = next(mine[preset] for preset in SCALES if preset in mine)
        rows.append((link(first.report), [name, *(said.get(preset, "–") for preset in SCALES), changed]))
    return rows


def _count(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def _counts(verdicts: Sequence[str], words: Sequence[str] = VERDICTS) -> str:
    return ", ".join(f"{verdicts.count(word)} {word}" for word in (*words, *[TOO_FEW] * (TOO_FEW in verdicts)))


def sentences(found: Sequence[Entry]) -> tuple[str, list[tuple[str, str, str]], str]:
    """Return the verdict: a headline; per kind of data its name, how many arms helped by their usual comparison, and the other counts; and
    how to interpret it."""
    claims = {entry.stage.number for entry in found if entry.state in ("measured", "reported")}
    headline = f"{len(claims)} of the plan's {len(PLAN)} claims were measured."
    cards = []
    for data in KINDS:
        mine = measured(found, data)
        usual = [entry.verdict for entry in mine if entry.usual]
        others = [entry.verdict for entry in mine if not entry.usual]
        more = f" (on other test lists or against another arm: {_counts(others)})" if others else ""
        gone = len({entry.stage for entry in found if entry.data == data and entry.state in ("missing", "failed", "unreadable")})
        of = f"of {_count(len(usual), 'arm')} of {_count(len({entry.stage for entry in mine}), 'claim')}"
        gaps = f"{_count(gone, 'claim')} missing, failed or unreadable"
        cards.append((data, f"{usual.count('helped')} helped", f"{of}; {_counts(usual, VERDICTS[1:])}{more}; {gaps}"))
    judged = [entry for entry in found if entry.verdict in VERDICTS]
    below, hoped = sum(entry.beside == "below it" for entry in judged), sum(entry.beside != "–" for entry in judged)
    text = (
        f"An arm helped or hurt if the 95 % interval of its paired difference in SI-SDRi excludes 0; with fewer than {LEAST_MIXTURES} "
        f"mixtures there is no verdict. Of the {_count(len(judged), 'comparison')} with a verdict, about one in 40 would appear to help "
        "even without any effect, and intervals from a single training per arm do not include seed-to-seed variance. Notebook 09 repeats "
        "some arms of 02 to 05. "
    )
    text += f"Where the plan names a range ({_count(hoped, 'comparison')}), the whole interval is below it for {below}. " if hoped else ""
    text += "The plan refers to 1.5 million steps on recordings; the tables state the data and scale of each number here."
    return headline, cards, text


def forest(found: Sequence[Entry], data: str) -> tuple[Figure, str] | None:
    """Return a forest plot of one kind of data, with unmeasured claims, and its alternative text; ``None`` if nothing was measured."""
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
