"""What the faults of the plan's baseline cost, as a notebook displays it."""

import html
from collections.abc import Mapping, Sequence

from IPython.display import HTML

from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import PUBLISHED, PUBLISHED_SOURCE
from hifitse.evaluation.rows import BASELINE, Row, difference, frame, mean, selectivity, shift
from hifitse.metrics import Interval
from hifitse.report import tables
from hifitse.report.report import parameter_count
from hifitse.report.show import LEAST_MIXTURES, voices
from hifitse.report.show_arms import judged
from hifitse.studies.diagnosis import CONTROL, FAULTS, RIGHT_TEST, TOGETHER, Fault, reference

SHORT = {
    "selectivity": ("right minus wrong enrolment", "dB", 2),
    "confusion_rate": ("confusions", "", 2),
    "absent_level_db": ("output level, target absent", "dB", 1),
    "absent_suppression_db": ("suppression, target absent", "dB", 1),
}
"""Metric in which a fault should show -> words, unit, digits."""


def _change(comparison: Comparison, fault: Fault, metric: str) -> Interval:
    rows, base = (comparison.all[name].rows for name in (fault.name, reference(comparison, fault)))
    return selectivity(rows, base) if metric == "selectivity" else difference(rows, base, metric)


def faults(comparison: Comparison) -> HTML:
    """Each fault: what it was, what is done here, what it costs in SI-SDRi, and what it does where it should show."""
    rows = []
    for fault in FAULTS:
        if fault.name not in comparison.arms:
            rows.append([fault.name, fault.was, "nothing else: the preset has this fault itself", "not measured", "", "", ""])
            continue
        value = _change(comparison, fault, "si_sdri_db")
        shown = []
        for metric in fault.shows:
            label, unit, digits = SHORT[metric]
            shown.append(f"{label} {tables.measured(_change(comparison, fault, metric), digits, True)} {unit}".strip())
        against = reference(comparison, fault)
        rows.append([fault.name, fault.was, fault.here, tables.measured(value, 2, True), against, judged(value), "; ".join(shown)])
    header = ["fault", "in the plan's baseline", "here in its place", "SI-SDRi with the fault, difference in dB", "against", "verdict"]
    return HTML(tables.table([*header, "where it should show"], rows, "paired differences with 95 % intervals, on correct test mixtures"))


def protocols(values: Mapping[str, Mapping[str, Sequence[Row]]]) -> HTML:
    """How far each fault of the testing moves the same model's number.

    Args:
        values: as :func:`hifitse.studies.diagnosis.tested` makes them.
    """
    right = values[RIGHT_TEST][BASELINE]
    rows = []
    for way, arms in values.items():
        mine = arms[BASELINE]
        moved = "" if way == RIGHT_TEST else tables.measured(_moved(mine, right), 2, True)
        cells = [tables.measured(mean(mine, metric), digits, True) for metric, digits in (("si_sdri_db", 2), ("si_sdr_db", 2))]
        rows.append([way, cells[0], moved, cells[1], tables.measured(mean(mine, "confusion_rate"), 2)])
    header = ["tested on", "SI-SDRi of the baseline, dB", "moved by, dB", "SI-SDR, dB", "confusions"]
    return HTML(tables.table(header, rows, "means with 95 % intervals; not paired where the voices are others"))


def _moved(rows: Sequence[Row], right: Sequence[Row]) -> Interval:
    """The same voices with the same index, or others."""
    return shift(rows, right, paired_by_index=bool((frame(rows)["split"].values == frame(right)["split"].values).all()))


def explanation(comparison: Comparison, values: Mapping[str, Mapping[str, Sequence[Row]]]) -> HTML:
    """What the measured faults can and cannot explain of the published number, in words that follow from the intervals."""
    base = comparison.baseline
    whole = difference(comparison.arms[TOGETHER].rows, base.rows)
    parts = [f"Too few mixtures ({whole.n}) to say what the faults explain."]
    if whole.n >= LEAST_MIXTURES:
        found = [(fault.name, _change(comparison, fault, "si_sdri_db")) for fault in FAULTS if fault.name in comparison.arms]
        found = sorted(found, key=lambda pair: pair[1].mean)
        hurt = "; ".join(f"{name} {tables.measured(value, 2, True)} dB" for name, value in found if value.high < 0)
        right = values[RIGHT_TEST][BASELINE]
        ways = [(way, _moved(arms[BASELINE], right)) for way, arms in values.items() if way != RIGHT_TEST]
        moved = "; ".join(f"{way} {tables.measured(value, 2, True)} dB" for way, value in ways)
        parts = [
            f"Of {len(found)} faults these have a measurable cost: {hurt or 'none'}.",
            f"All together they change SI-SDRi by {tables.measured(whole, 2, True)} dB.{_control(comparison)}",
            f"The way of testing moves the same model's number without any training: {moved}.",
        ]
    size = f"{parameter_count(base) / 1e6:.2f} million parameters after {base.run.step:,} steps on {voices(base.params)}"
    parts.append(
        f"The plan's +{PUBLISHED['si_sdri_db']} dB cannot be split into these parts: it is for {PUBLISHED_SOURCE}, with a model of 11.79 "
        f"million parameters; here it is {size}. A fault that costs a young model much may only slow it down, and one that costs it little "
        "may set the ceiling of a long training. What is measured here is what each fault does by itself, at this scale, and no more."
    )
    return HTML("".join(f"<p>{html.escape(part)}</p>" for part in parts))


def _control(comparison: Comparison) -> str:
    """The change of optimiser is in the arm with all faults, and is none of them."""
    if CONTROL not in comparison.arms:
        return ""
    control, together = comparison.arms[CONTROL].rows, comparison.arms[TOGETHER].rows
    alone, rest = difference(control, comparison.baseline.rows), difference(together, control)
    said = f"{tables.measured(alone, 2, True)} dB is AdamW in place of the preset's Muon, which is no fault"
    return f" Of that, {said}: against AdamW the faults change {tables.measured(rest, 2, True)} dB."


def remedies(comparison: Comparison) -> HTML:
    """What mending each fault gives back, most first: the same differences with the other sign."""
    rows = []
    for fault in FAULTS:
        if fault.name in comparison.arms:
            value = _change(comparison, fault, "si_sdri_db")
            back = Interval(-value.mean, -value.high, -value.low, value.n)
            rows.append((back.mean, [fault.here, fault.name, tables.measured(back, 2, True), judged(back)]))
    ordered = [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
    return HTML(tables.table(["what is done here", "in place of", "gives back, dB of SI-SDRi", "verdict"], ordered))
