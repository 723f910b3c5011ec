"""The parts of a report on a comparison of variants with a baseline, as a notebook displays them: gains, conditions, costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import HTML, Image

from hifitse.evaluation.comparison import UNSEEN, Comparison, Expected
from hifitse.evaluation.cost import Cost
from hifitse.evaluation.experiment import Arm, OwnModel
from hifitse.evaluation.rows import (
    METRICS,
    SAME_MIXTURE_DB,
    SELECTIVITY,
    Rows,
    contrast,
    difference,
    mean,
    of_list,
    only_list,
    spread,
    verdict,
)
from hifitse.metrics import Interval, paired
from hifitse.params import Params
from hifitse.report import figures, listening, tables
from hifitse.report.figures import series
from hifitse.report.show import LEAST_MIXTURES, box, card, cut, picture, scale, table, tested

Conditions = Mapping[str, Mapping[str, Rows]]
"""Condition -> arm -> rows of one list."""
WORDS = {"helped": ("good", "better than"), "hurt": ("bad", "worse than"), "neutral": ("weak", "no measurable difference from")}
"""Verdict -> mark of its box, and wording."""
OTHERS = {
    "SI-SDRi, wrong enrolment, dB": ("si_sdri_wrong_enroll_db", 2, True), "right minus wrong, dB": (SELECTIVITY, 2, True),
    "confusions": ("confusion_rate", 2, False),
    "STOI": ("stoi", 3, False), "PESQ": ("pesq", 2, False), "suppression, dB": ("absent_suppression_db", 1, False),
}  # fmt: skip
"""Further columns of :func:`results`: label -> metric, digits, signed."""


def headline(found: Mapping[str, Interval], other: str = "the baseline") -> tuple[str, str]:
    """Return mark (``good``, ``weak`` or ``bad``) and headline, decided by the variants' SI-SDRi differences alone."""
    least = min((value.n for value in found.values()), default=0)
    if least < LEAST_MIXTURES:
        return "weak", f"Too few mixtures ({least}) to compare the variants."
    said = {word: ", ".join(name for name, value in found.items() if judged(value) == word) for word in WORDS}
    parts = {word: f"{names}: {WORDS[word][1]} {other}." for word, names in said.items() if names}
    return WORDS[next(iter(parts))][0], " ".join(part[0].upper() + part[1:] for part in parts.values())


def judged(value: Interval) -> str:
    """Return "helped", "neutral" or "hurt", or "too few" if there are too few mixtures for a verdict."""
    return verdict(value, "si_sdri_db") if value.n >= LEAST_MIXTURES else "too few"


def expectation(expected: Expected | None) -> str:
    """Describe the gain that the plan expects."""
    return f"the plan expects {tables.span(expected)}" if expected else "the plan names no gain"


def gains(comparison: Comparison) -> dict[str, Interval]:
    """Return the paired SI-SDRi difference of each variant from the baseline."""
    return {name: difference(arm.rows, comparison.baseline.rows) for name, arm in comparison.arms.items()}


def answer(comparison: Comparison) -> HTML:
    """Return the answer box: each variant's paired difference, the gain the plan expects, and data and scale."""
    base, found = comparison.baseline, gains(comparison)
    mark, line = headline(found)
    boxes = "".join(card(name, value, expectation(comparison.expected.get(name))) for name, value in found.items())
    n = next((value.n for value in found.values()), 0)
    many = f" Of {len(found)} intervals about one in twenty excludes 0 by chance." if len(found) > 2 else ""
    text = f"SI-SDRi minus the baseline's on the same {n} test mixtures of {tested(base.params)}."
    text += f" {trainings(comparison)}{many} {scale(base, 'The baseline')}"
    return box(mark, cut(comparison.all.values()) + line, boxes, text)


def trainings(comparison: Comparison) -> str:
    """Describe how many times each arm was trained, and by which rule."""
    base, own = comparison.baseline, [arm for arm in comparison.all.values() if not isinstance(arm.run, OwnModel)]
    if not base.others:
        return "Each arm was trained once, so the intervals cover the test mixtures but do not cover seed-to-seed variance."
    counts, within = {1 + len(arm.others) for arm in own}, tables.number(base.evaluation.arm_seeds_within, 1)
    rule = f", or only once if the interval of its first training lay entirely below −{within} dB" if 1 in counts else ""
    return f"Each arm was trained {max(counts)} times{rule}."


def declared(comparison: Comparison) -> HTML:
    """Tabulate the parameters in which each variant differs from the baseline, and the variants left out."""
    rows = [
        [name, parameter, str(before), str(after), Params.model_fields[parameter].description or ""]
        for name in comparison.arms for parameter, (before, after) in comparison.changes(name).items()
    ]  # fmt: skip
    rows += [[name, "left out by skip_arms", "", "", ""] for name in comparison.skipped]
    return HTML(tables.table(["variant", "parameter", "baseline value", "new value", "meaning"], rows))


def results(comparison: Comparison) -> HTML:
    """Tabulate the means of each arm with intervals, and the paired differences with their verdicts."""
    found, rows, base = gains(comparison), [], comparison.baseline
    unseen = len(of_list(base.rows, UNSEEN)) > 0
    for name, arm in comparison.all.items():
        gain = found.get(name)
        row = {"arm": name, "SI-SDRi, dB": mean(arm.rows), "difference, dB": gain or ""}
        row |= {"plan expects": tables.span(comparison.expected.get(name)) if gain else "", "verdict": judged(gain) if gain else ""}
        if unseen:
            row[f"{UNSEEN}, dB"] = mean(arm.rows, list_name=UNSEEN)
            row["difference there, dB"] = difference(arm.rows, base.rows, list_name=UNSEEN) if gain else ""
        if base.others:
            row["trainings"] = 1 + len(arm.others)
            row["range of means, dB"] = tables.number(spread(arm.rows)) if arm.others else "–"
        rows.append(row | {label: tables.measured(mean(arm.rows, metric), *form) for label, (metric, *form) in OTHERS.items()})
    return table(rows, "means with 95 % intervals" + unseen * "; unseen sources: speech of other studios, languages and microphones")


def forest(comparison: Comparison) -> Image:
    """Plot the differences and their intervals over the ranges that the plan expects."""
    found = gains(comparison)
    lines = [(name, value, comparison.expected.get(name)) for name, value in found.items()]
    shown = ", ".join(f"{name} {tables.number(value.mean, 2, True)} dB" for name, value in found.items())
    return picture(figures.forest(lines, "SI-SDRi minus the baseline's, dB"), f"Paired differences to the baseline: {shown}")


def listen(comparison: Comparison, name: str, *others: str) -> list[listening.Example]:
    """Return the mixtures that gain and lose most with a variant, for :func:`hifitse.report.show.listen`. ``others`` add estimates."""
    return listening.contrasts({each: comparison.all[each] for each in (comparison.baseline.name, *others, name)}, name)


def grouped(values: Conditions, metric: str = "si_sdri_db", xlabel: str = "") -> Image:
    """Plot a metric of several arms under several conditions."""
    means = {group: {name: mean(rows, metric, only_list(rows)) for name, rows in arms.items()} for group, arms in values.items()}
    figure = figures.grouped({xlabel: means}, METRICS[metric].title)
    return picture(figure, f"{METRICS[metric].label} of {', '.join(next(iter(values.values()), {}))} under: {', '.join(values)}")


def grouped_table(values: Conditions, baseline: str) -> HTML:
    """Tabulate SI-SDRi under several conditions, and each arm's paired difference from the baseline under the same condition."""
    rows = []
    for group, arms in values.items():
        for name, mine in arms.items():
            listed = only_list(mine)
            gain = difference(mine, arms[baseline], list_name=listed) if name != baseline else None
            row = {"condition": group, "arm": name, "SI-SDRi, dB": mean(mine, list_name=listed)}
            rows.append(row | {"difference, dB": gain or "", "verdict": judged(gain) if gain else ""})
    return table(rows, "means with 95 % intervals")


def learning(comparison: Comparison) -> Image:
    """Plot each arm's SI-SDRi on the validation set over the steps."""
    curves = {name: series(arm.run.validation, "si_sdri_db") for name, arm in comparison.all.items()}
    figure = figures.lines({"": curves}, "step", "SI-SDRi of unseen speakers, dB", levels={"": 0.0})
    return picture(figure, "SI-SDRi of unseen speakers over the training steps of " + ", ".join(comparison.all))


def growth(comparison: Comparison) -> Image | HTML:
    """Plot the gain over the baseline after 1/8, 1/4, 1/2 and all of the baseline's steps: does it grow or fade?

    Validations of the first seed are paired by mixture. An arm without a validation near a step, on the baseline's mixtures, is omitted,
    as is one that starts from other weights than the baseline.
    """
    base, groups = comparison.baseline, {}
    arms = {name: arm for name, arm in comparison.arms.items() if arm.params.start_from == base.params.start_from}
    for share in (1 / 8, 1 / 4, 1 / 2, 1):
        for name, arm in arms.items():
            mine, theirs = (_validated(each, share * base.params.steps) for each in (arm, base))
            if mine and theirs and abs(mine["mix_db"] - theirs["mix_db"]) < SAME_MIXTURE_DB:
                label = f"{share * base.params.steps * base.params.batch_size:,.0f}"
                groups.setdefault(label, {})[name] = paired(mine["gains_db"], theirs["gains_db"])
    if len(groups) < 2:
        return HTML("<p>No arm was validated often enough alongside the baseline to draw this figure.</p>")
    curves = {name: [arms[name] for arms in groups.values() if name in arms] for name in arms}
    means = {name: ", ".join(tables.number(each.mean, 2, True) for each in curve) for name, curve in curves.items() if curve}
    shown = "; ".join(f"{name} {values} dB" for name, values in means.items())
    drawn = figures.grouped({"items heard by the baseline at that step": groups}, "SI-SDRi minus the baseline's, dB")
    return picture(drawn, f"Gain over the baseline by items heard: {shown}")


def _validated(arm: Arm, step: float) -> dict[str, Any] | None:
    """Return the validation nearest to ``step`` that has a value per mixture, at most 5 % of the training away."""
    rows = [row for row in arm.run.validation if "gains_db" in row and abs(row["step"] - step) <= 0.05 * arm.params.steps]
    return min(rows, key=lambda row: abs(row["step"] - step), default=None)


def adding_up(comparison: Comparison, together: str, separate: Sequence[str] = ()) -> HTML:
    """Return a box with the gain of ``together``, the variant with all changes, the sum of the gains of ``separate``, the variants with one
    change each (by default all others), and the difference of the two."""
    base, whole = comparison.baseline.rows, comparison.arms[together].rows
    parts = [comparison.arms[name].rows for name in separate or [name for name in comparison.arms if name != together]]
    total = contrast([*((1, rows) for rows in parts), (-len(parts), base)])
    # (t - b) - sum(p - b) = t - sum(p) + (count - 1) b
    more = contrast([(1, whole), *((-1, rows) for rows in parts), (len(parts) - 1, base)])
    mark, line = "weak", "The combined gain matches the sum of the separate gains, as far as this run can tell."
    if more.n < LEAST_MIXTURES:
        line = f"Too few mixtures ({more.n}) to say whether the gains add up."
    elif more.excludes_zero:
        mark, word = ("good", "more") if more.mean > 0 else ("bad", "less")
        line = f"The combined gain is {word} than the sum of the separate gains."
    cards = {together: difference(whole, base), "sum of the separate gains": total, "together minus the sum": more}
    text = f"Differences of SI-SDRi to the baseline on the same {more.n} test mixtures of {tested(comparison.baseline.params)}."
    return box(mark, line, "".join(card(label, value) for label, value in cards.items()), text)


def cost_table(comparison: Comparison, costs: Mapping[str, Cost]) -> HTML:
    """Tabulate parameters, operations, memory, audio per update, seconds per step and SI-SDRi of each arm."""
    rows = []
    for name, arm in comparison.all.items():
        each, params = costs[name], arm.params
        heard = params.batch_size * params.accumulation * params.seconds
        row = {"arm": name, "parameters, M": f"{each.parameters / 1e6:.2f}", "GFLOP per second of audio": f"{each.gflops_per_second:.2f}"}
        row |= {"training step, MB": tables.number(each.training_mb, 0), "audio per update, s": f"{heard:g}"}
        row |= {"time per step, ratio to the baseline": tables.measured(each.step_ratio)}
        row |= {"seconds per step here": tables.number(each.step_seconds, 3)}
        if isinstance(arm.run, OwnModel):  # ``costs`` has those of the baseline's parameters
            row = dict.fromkeys(row, "–") | {"arm": name}
        rows.append(row | {"SI-SDRi, dB": mean(arm.rows)})
    return table(rows, "memory is calculated, not measured, and missing with checkpointing; 1 MB is 10⁶ bytes")


def against_cost(comparison: Comparison, costs: Mapping[str, Cost]) -> Image:
    """Plot SI-SDRi against operations, one point per arm. The intervals are in :func:`cost_table`."""
    arms = {name: arm for name, arm in comparison.all.items() if not isinstance(arm.run, OwnModel)}
    points = {name: (costs[name].gflops_per_second, mean(arm.rows).mean) for name, arm in arms.items()}
    curves = {name: [point] for name, point in points.items()}
    figure = figures.lines({"": curves}, "GFLOP per second of audio, forward", "SI-SDRi, dB", log="x")
    shown = [f"{name} {x:.2f} GFLOP, {tables.number(y, 2, True)} dB" for name, (x, y) in points.items()]
    return picture(figure, f"SI-SDRi against operations: {', '.join(shown)}")
