"""The parts of a report that compares variants with a baseline, as a notebook displays them."""

from collections.abc import Mapping

import numpy as np
from IPython.display import HTML, Image
from markupsafe import Markup

from hifitse.evaluation.comparison import Comparison, Expected
from hifitse.evaluation.experiment import Arm
from hifitse.evaluation.rows import Rows, contrast, difference, mean, only_list, verdict
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report import comparison_figures, listening, tables
from hifitse.report.show import LEAST_MIXTURES, box, card, cut, gains, picture, scale, voices

Conditions = Mapping[str, Mapping[str, Rows]]
"""Condition -> arm -> rows of one list."""
WORDS = {"helped": "better than the baseline", "hurt": "worse than the baseline", "neutral": "no measurable difference from the baseline"}
MARKS = {"helped": "good", "hurt": "bad", "neutral": "weak"}


def headline(found: Mapping[str, Interval]) -> tuple[str, str]:
    """Mark (``good``, ``weak`` or ``bad``) and headline of a comparison, by the intervals of the paired differences alone.

    Args:
        found: variant -> difference of SI-SDRi to the baseline.
    """
    least = min((value.n for value in found.values()), default=0)
    if least < LEAST_MIXTURES:
        return "weak", f"Too few mixtures ({least}) to compare the variants."
    said = {name: verdict(value, "si_sdri_db") for name, value in found.items()}
    groups = {word: [name for name, each in said.items() if each == word] for word in ("helped", "hurt", "neutral")}
    parts = [f"{', '.join(names)}: {WORDS[word]}" for word, names in groups.items() if names]
    first = next(word for word, names in groups.items() if names)
    return MARKS[first], ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def answer(comparison: Comparison) -> HTML:
    """The answer in a box: each variant's paired difference beside what the plan expects, on what data, at what scale."""
    base = comparison.baseline
    found = {name: difference(arm.rows, base.rows) for name, arm in comparison.arms.items()}
    mark, line = headline(found)
    boxes = "".join(card(name, value, expectation(comparison.expected.get(name))) for name, value in found.items())
    n = next(iter(found.values())).n if found else 0
    seeds = 1 + len(base.others)
    trained = "Each was trained once" if seeds == 1 else f"Each was trained {seeds} times"
    luck = "; the intervals are over test mixtures, and do not cover seed-to-seed variance" if seeds == 1 else ""
    many = f" Of {len(found)} intervals one in twenty misses 0 by chance alone." if len(found) > 2 else ""
    data = f"SI-SDRi minus the baseline's on the same {n} test mixtures of unseen {voices(base.params)}."
    text = f"{data} {trained}{luck}.{many} {scale(base, 'The baseline')}"
    return box(mark, cut(comparison.all.values()) + line, boxes, text)


def expectation(expected: Expected | None) -> str:
    """What the plan expects, in words."""
    return "the plan names no gain" if expected is None else f"the plan expects {plan_range(expected)}"


def plan_range(expected: Expected | None) -> str:
    """The range of gains that the plan expects, dB, or a dash."""
    if expected is None:
        return "–"
    low, high = (tables.number(value, 1, True) for value in expected)
    return f"about {low}" if low == high else f"{low} to {high}"


def judged(value: Interval) -> str:
    """ "helped", "neutral" or "hurt", or that there are too few mixtures to say."""
    return verdict(value, "si_sdri_db") if value.n >= LEAST_MIXTURES else "too few"


def declared(comparison: Comparison) -> HTML:
    """All in which each variant differs from the baseline."""
    rows = []
    for name in comparison.arms:
        for parameter, (before, after) in comparison.changes(name).items():
            rows.append([name, parameter, str(before), str(after), Params.model_fields[parameter].description or ""])
    return HTML(tables.table(["variant", "parameter", "baseline", "variant's", "meaning"], rows))


def results(comparison: Comparison) -> HTML:
    """Means of each arm with intervals, and the paired differences with their verdicts."""
    rows = []
    for name, arm in comparison.all.items():
        cells = [tables.measured(mean(arm.rows), 2, True)]
        if name == comparison.baseline.name:
            cells += ["", "", ""]
        else:
            value, expected = difference(arm.rows, comparison.baseline.rows), comparison.expected.get(name)
            cells += [tables.measured(value, 2, True), plan_range(expected), judged(value)]
        cells += [tables.measured(mean(arm.rows, metric), digits, signed) for metric, digits, signed in OTHERS]
        rows.append([name, *cells])
    header = ["arm", "SI-SDRi, dB", "difference, dB", "plan expects", "verdict"]
    header += ["SI-SDRi, wrong enrolment, dB", "confusions", "STOI", "PESQ", "suppression, dB"]
    return HTML(tables.table(header, rows, "means with 95 % intervals"))


OTHERS = (
    ("si_sdri_wrong_enroll_db", 2, True), ("confusion_rate", 2, False), ("stoi", 3, False), ("pesq", 2, False),
    ("absent_suppression_db", 1, False),
)  # fmt: skip
"""Further metrics of the table: name, digits, signed."""


def forest(comparison: Comparison) -> Image:
    """Differences with intervals over the plan's ranges."""
    lines = [
        (name, difference(arm.rows, comparison.baseline.rows), comparison.expected.get(name)) for name, arm in comparison.arms.items()
    ]
    shown = ", ".join(f"{name} {tables.number(value.mean, 2, True)} dB" for name, value, _ in lines)
    return picture(comparison_figures.forest(lines, "SI-SDRi minus the baseline's, dB"), f"Paired differences to the baseline: {shown}")


def scatter(comparison: Comparison, name: str) -> Image:
    """Each test mixture's SI-SDRi with a variant against that with the baseline."""
    before, after = (np.nanmean(gains(arm, "right"), 0) for arm in (comparison.baseline, comparison.arms[name]))  # (M,), over the seeds
    figure = comparison_figures.gain_scatter(before, after, name, "SI-SDRi of the baseline, dB", f"SI-SDRi of {name}, dB")
    return picture(figure, f"SI-SDRi of each test mixture, {name} against the baseline")


def listen(comparison: Comparison, name: str) -> list[listening.Example]:
    """The mixtures that gained and lost most with a variant; give each to :func:`hifitse.report.show.listen`."""
    return listening.contrasts(comparison.baseline, comparison.arms[name])


def grouped(values: Conditions, metric: str = "si_sdri_db", xlabel: str = "") -> Image:
    """A metric of several arms under several conditions."""
    means = {group: {name: mean(rows, metric, only_list(rows)) for name, rows in arms.items()} for group, arms in values.items()}
    label, unit, _ = tables.LABELS[metric]
    figure = comparison_figures.grouped(means, f"{tables.short(metric)}, {unit}", xlabel)
    return picture(figure, f"{label} of {', '.join(next(iter(values.values()), {}))} under: {', '.join(values)}")


def grouped_table(values: Conditions, baseline: str) -> HTML:
    """SI-SDRi under several conditions, and each arm's paired difference to the baseline's under the same condition."""
    rows = []
    for group, arms in values.items():
        for name, mine in arms.items():
            listed = only_list(mine)
            other = None if name == baseline else difference(mine, arms[baseline], list_name=listed)
            change = "" if other is None else tables.measured(other, 2, True)
            word = "" if other is None else judged(other)
            rows.append([group, name, tables.measured(mean(mine, list_name=listed), 2, True), change, word])
    return HTML(tables.table(["condition", "arm", "SI-SDRi, dB", "difference, dB", "verdict"], rows, "means with 95 % intervals"))


def learning(comparison: Comparison) -> Image:
    """SI-SDRi of the validation voices over the steps, arm by arm."""
    figure = comparison_figures.learning({name: arm.run.validation for name, arm in comparison.all.items()})
    return picture(figure, "SI-SDRi of unseen speakers over the training steps of " + ", ".join(comparison.all))


def schedule(arm: Arm, baseline: Arm) -> list[HTML | Image]:
    """The curriculum of a variant beside the baseline's, with its name above, to be displayed one after the other."""
    starts = ", ".join(f"{100 * start:.0f} %" for start in arm.params.phase_starts)
    figure = comparison_figures.schedule(arm.params, baseline.params)
    return [HTML(Markup("<h3>{}</h3>").format(arm.name)), picture(figure, f"Curriculum of {arm.name}: phases from {starts} of the steps")]


def adding_up(comparison: Comparison, together: str) -> HTML:
    """Gain of all changes at once, the sum of the separate gains, and the difference of the two, in a box.

    Args:
        comparison: of one variant a change, and one with all of them.
        together: name of that one.
    """
    base = comparison.baseline.rows
    parts = [arm.rows for name, arm in comparison.arms.items() if name != together]
    whole = difference(comparison.arms[together].rows, base)
    total = contrast([*((1, rows) for rows in parts), (-len(parts), base)])
    # (t - b) - sum(p - b) = t - sum(p) + (count - 1) b
    more = contrast([(1, comparison.arms[together].rows), *((-1, rows) for rows in parts), (len(parts) - 1, base)])
    if more.n < LEAST_MIXTURES:
        mark, line = "weak", f"Too few mixtures ({more.n}) to say whether the gains add up."
    elif not more.excludes_zero:
        mark, line = "weak", "Together they bring what the separate gains add up to, as far as this run can tell."
    elif more.mean > 0:
        mark, line = "good", "Together they bring more than the separate gains add up to."
    else:
        mark, line = "bad", "Together they bring less than the separate gains add up to."
    boxes = ""
    for label, value in ((together, whole), ("sum of the separate gains", total), ("together minus the sum", more)):
        boxes += card(label, value)
    text = f"Differences of SI-SDRi to the baseline on the same {more.n} test mixtures of unseen {voices(comparison.baseline.params)}."
    return box(mark, line, boxes, text)
