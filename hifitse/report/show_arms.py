"""The parts of a report that compares variants with a baseline, as a notebook displays them: gains, conditions, costs."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from IPython.display import HTML, Image

from hifitse.config import ExtractorConfig
from hifitse.evaluation import cost
from hifitse.evaluation.comparison import Comparison, Expected
from hifitse.evaluation.cost import Cost
from hifitse.evaluation.rows import Rows, contrast, difference, mean, only_list, verdict
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report import comparison_figures, listening, tables
from hifitse.report.figures import GREY, STYLE, error_bars, legend, look, panel, series
from hifitse.report.show import LEAST_MIXTURES, box, card, cut, picture, scale, table, voices

Conditions = Mapping[str, Mapping[str, Rows]]
"""Condition -> arm -> rows of one list."""
WORDS = {
    "helped": ("good", "better than the baseline"),
    "hurt": ("bad", "worse than the baseline"),
    "neutral": ("weak", "no measurable difference from the baseline"),
}
"""Verdict -> mark of its box, and what it says."""
OTHERS = {
    "SI-SDRi, wrong enrolment, dB": ("si_sdri_wrong_enroll_db", 2, True), "confusions": ("confusion_rate", 2, False),
    "STOI": ("stoi", 3, False), "PESQ": ("pesq", 2, False), "suppression, dB": ("absent_suppression_db", 1, False),
}  # fmt: skip
"""Further columns of :func:`results`: metric, digits, signed."""
PLAN_SIZES = {
    "the plan's baseline": ({}, 11.79),
    "A: lstm_hidden 384": ({"lstm_hidden": 384}, 18.0),
    "B: 8 blocks": ({"blocks": 8}, 16.0),
    "C: both": ({"lstm_hidden": 384, "blocks": 8}, 24.0),
}
"""Model of the plan -> its changes, and millions of parameters as the plan has them."""


def headline(found: Mapping[str, Interval]) -> tuple[str, str]:
    """Mark (``good``, ``weak`` or ``bad``) and headline, by variants' differences of SI-SDRi to the baseline alone."""
    least = min((value.n for value in found.values()), default=0)
    if least < LEAST_MIXTURES:
        return "weak", f"Too few mixtures ({least}) to compare the variants."
    said = {word: ", ".join(name for name, value in found.items() if judged(value) == word) for word in WORDS}
    parts = {word: f"{names}: {WORDS[word][1]}." for word, names in said.items() if names}
    return WORDS[next(iter(parts))][0], " ".join(part[0].upper() + part[1:] for part in parts.values())


def judged(value: Interval) -> str:
    """"helped", "neutral" or "hurt", or that there are too few mixtures to say."""
    return verdict(value, "si_sdri_db") if value.n >= LEAST_MIXTURES else "too few"


def _range(expected: Expected | None) -> str:
    low, high = (tables.number(value, 1, True) for value in expected or (None, None))
    return f"about {low}" if expected and low == high else f"{low} to {high}" if expected else "–"


def expectation(expected: Expected | None) -> str:
    """What the plan expects, in words."""
    return f"the plan expects {_range(expected)}" if expected else "the plan names no gain"


def _gains(comparison: Comparison) -> dict[str, Interval]:
    """Variant -> paired difference of SI-SDRi to the baseline."""
    return {name: difference(arm.rows, comparison.baseline.rows) for name, arm in comparison.arms.items()}


def _db(value: Interval) -> str:
    return tables.measured(value, 2, True)


def answer(comparison: Comparison) -> HTML:
    """The answer in a box: each variant's paired difference beside what the plan expects, on what data, at what scale."""
    base, found = comparison.baseline, _gains(comparison)
    mark, line = headline(found)
    boxes = "".join(card(name, value, expectation(comparison.expected.get(name))) for name, value in found.items())
    n = next((value.n for value in found.values()), 0)
    trained = f"Each was trained {1 + len(base.others)} times."
    if not base.others:
        trained = "Each was trained once; the intervals are over test mixtures, and do not cover seed-to-seed variance."
    many = f" Of {len(found)} intervals one in twenty misses 0 by chance alone." if len(found) > 2 else ""
    data = f"SI-SDRi minus the baseline's on the same {n} test mixtures of unseen {voices(base.params)}."
    return box(mark, cut(comparison.all.values()) + line, boxes, f"{data} {trained}{many} {scale(base, 'The baseline')}")


def declared(comparison: Comparison) -> HTML:
    """All in which each variant differs from the baseline."""
    rows = []
    for name in comparison.arms:
        for parameter, (before, after) in comparison.changes(name).items():
            rows.append([name, parameter, str(before), str(after), Params.model_fields[parameter].description or ""])
    return HTML(tables.table(["variant", "parameter", "baseline", "variant's", "meaning"], rows))


def results(comparison: Comparison) -> HTML:
    """Means of each arm with intervals, and the paired differences with their verdicts."""
    found, rows = _gains(comparison), []
    for name, arm in comparison.all.items():
        gain = [_db(found[name]), _range(comparison.expected.get(name)), judged(found[name])] if name in found else ["", "", ""]
        others = [tables.measured(mean(arm.rows, metric), digits, signed) for metric, digits, signed in OTHERS.values()]
        rows.append([name, _db(mean(arm.rows)), *gain, *others])
    header = ["arm", "SI-SDRi, dB", "difference, dB", "plan expects", "verdict", *OTHERS]
    return HTML(tables.table(header, rows, "means with 95 % intervals"))


def forest(comparison: Comparison) -> Image:
    """Differences with intervals over the plan's ranges."""
    found = _gains(comparison)
    lines = [(name, value, comparison.expected.get(name)) for name, value in found.items()]
    shown = ", ".join(f"{name} {tables.number(value.mean, 2, True)} dB" for name, value in found.items())
    return picture(comparison_figures.forest(lines, "SI-SDRi minus the baseline's, dB"), f"Paired differences to the baseline: {shown}")


def listen(comparison: Comparison, name: str, *others: str) -> list[listening.Example]:
    """The mixtures that gained and lost most with a variant, also as others make them; give each to :func:`hifitse.report.show.listen`."""
    return listening.contrasts({each: comparison.all[each] for each in (comparison.baseline.name, *others, name)}, name)


def grouped(values: Conditions, metric: str = "si_sdri_db", xlabel: str = "") -> Image:
    """A metric of several arms under several conditions."""
    means = {group: {name: mean(rows, metric, only_list(rows)) for name, rows in arms.items()} for group, arms in values.items()}
    label, unit, _ = tables.LABELS[metric]
    figure = comparison_figures.grouped({xlabel: means}, f"{tables.short(metric)}, {unit}")
    return picture(figure, f"{label} of {', '.join(next(iter(values.values()), {}))} under: {', '.join(values)}")


def grouped_table(values: Conditions, baseline: str) -> HTML:
    """SI-SDRi under several conditions, and each arm's paired difference to the baseline's under the same condition."""
    rows = []
    for group, arms in values.items():
        for name, mine in arms.items():
            listed = only_list(mine)
            gain = difference(mine, arms[baseline], list_name=listed)
            rows.append([group, name, _db(mean(mine, list_name=listed)), *(["", ""] if name == baseline else [_db(gain), judged(gain)])])
    return HTML(tables.table(["condition", "arm", "SI-SDRi, dB", "difference, dB", "verdict"], rows, "means with 95 % intervals"))


def learning(comparison: Comparison) -> Image:
    """SI-SDRi of the validation voices over the steps, arm by arm."""
    curves = {name: series(arm.run.validation, "si_sdri_db") for name, arm in comparison.all.items()}
    figure = comparison_figures.lines({"": curves}, "step", "SI-SDRi of unseen speakers, dB", levels={"": 0.0})
    return picture(figure, "SI-SDRi of unseen speakers over the training steps of " + ", ".join(comparison.all))


def adding_up(comparison: Comparison, together: str) -> HTML:
    """Gain of all changes at once, the sum of the separate gains, and the difference of the two, in a box.

    Args:
        comparison: of one variant a change, and one with all of them.
        together: name of that one.
    """
    base, whole = comparison.baseline.rows, comparison.arms[together].rows
    parts = [arm.rows for name, arm in comparison.arms.items() if name != together]
    total = contrast([*((1, rows) for rows in parts), (-len(parts), base)])
    # (t - b) - sum(p - b) = t - sum(p) + (count - 1) b
    more = contrast([(1, whole), *((-1, rows) for rows in parts), (len(parts) - 1, base)])
    mark, line = "weak", "Together they bring what the separate gains add up to, as far as this run can tell."
    if more.n < LEAST_MIXTURES:
        line = f"Too few mixtures ({more.n}) to say whether the gains add up."
    elif more.excludes_zero:
        mark, word = ("good", "more") if more.mean > 0 else ("bad", "less")
        line = f"Together they bring {word} than the separate gains add up to."
    cards = {together: difference(whole, base), "sum of the separate gains": total, "together minus the sum": more}
    text = f"Differences of SI-SDRi to the baseline on the same {more.n} test mixtures of unseen {voices(comparison.baseline.params)}."
    return box(mark, line, "".join(card(label, value) for label, value in cards.items()), text)


def cost_table(comparison: Comparison, costs: Mapping[str, Cost]) -> HTML:
    """Parameters, operations, memory, audio per update and seconds per step of each arm beside its SI-SDRi."""
    rows = []
    for name, arm in comparison.all.items():
        each, params = costs[name], arm.params
        heard = params.batch_size * params.accumulation * params.seconds
        row = {"arm": name, "parameters, M": f"{each.parameters / 1e6:.2f}", "GFLOP per second of audio": f"{each.gflops_per_second:.2f}"}
        row |= {"training step, MB": tables.number(each.training_mb, 0), "audio per update, s": f"{heard:g}"}
        row |= {"time per step, ratio to the baseline": tables.measured(each.step_ratio)}
        rows.append(row | {"seconds per step here": tables.number(each.step_seconds, 3), "SI-SDRi, dB": mean(arm.rows)})
    return table(rows, "memory is counted, but not with checkpointing; 1 MB is 10⁶ bytes")


@matplotlib.rc_context(STYLE)
def pareto(comparison: Comparison, costs: Mapping[str, Cost]) -> Image:
    """SI-SDRi with its interval against operations, and the front: what is best among all that cost no more."""
    cost = np.array([costs[name].gflops_per_second for name in comparison.all])
    quality, lengths = error_bars([mean(arm.rows) for arm in comparison.all.values()])
    figure, axis = panel(4.4)
    margin = max(cost.max() / cost.min(), 3.0) ** 0.1
    comparison_figures.log_axis(axis, cost.min() / margin, cost.max() * margin)
    for number, name in enumerate(comparison.all):  # in the colours that the arms have in all figures
        bar = {"x": cost[[number]], "y": quality[[number]], "yerr": lengths[:, [number]]}
        axis.errorbar(**bar, capsize=3, ms=7, elinewidth=1.4, label=name, **(look(number) | {"ls": ""}))
    best = front(cost, quality)
    best = np.append(best, best[-1:])  # the last one's line goes on to the end
    x = np.append(cost[best[:-1]], axis.get_xlim()[1]) if len(best) else []
    axis.step(x, quality[best], where="post", color=GREY, lw=1.3, ls="--", zorder=1.5, label="Pareto front: best at its cost or less")
    axis.set(xlabel="GFLOP per second of audio, forward", ylabel="SI-SDRi, dB")
    legend(figure, *axis.get_legend_handles_labels())
    shown = [f"{name} {x:.2f} GFLOP, {tables.number(y, 2, True)} dB" for name, x, y in zip(comparison.all, cost, quality, strict=True)]
    return picture(figure, f"SI-SDRi against operations: {', '.join(shown)}")


def front(cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Indices of the points, by rising cost, that are better than all that cost no more; both (M,), those without a quality are not."""
    order = np.lexsort((-quality, cost))
    ranked = np.nan_to_num(quality[order], nan=-np.inf)
    return order[ranked > np.maximum.accumulate([-np.inf, *ranked[:-1]])]


def plan_sizes() -> HTML:
    """Counted parameters and operations of the plan's full models beside its guesses."""
    rows = []
    for name, (changes, guess) in PLAN_SIZES.items():
        config = ExtractorConfig(**changes)
        values = ((cost.parameters(config) / 1e6, 2), (guess, 2), (cost.gflops_per_second(config), 1))
        rows.append([name, *(tables.number(value, digits) for value, digits in values)])
    return HTML(tables.table(["model", "parameters, M, counted", "parameters, M, in the plan", "GFLOP per second of audio"], rows))
