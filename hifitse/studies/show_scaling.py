"""Notebook 15 as it is displayed: verdict, table of arms, curves over the time of training, predictions."""

from collections.abc import Mapping, Sequence
from functools import cache, partial

import matplotlib
import numpy as np
from IPython.display import HTML, Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.cost import gflops_per_second
from hifitse.evaluation.rows import BASELINE, difference, mean
from hifitse.report import figures, tables
from hifitse.report.figures import CURVES, DPI, STYLE, WIDTH
from hifitse.report.show import box, card, picture, table, voices
from hifitse.report.show_arms import headline, judged
from hifitse.studies.scaling import HOURS, Guesses, curve, leaders


def deviation(comparison: Comparison, minutes: float) -> float:
    """Largest share by which an arm's training missed its time."""
    return max(abs(arm.run.seconds / (60 * minutes) - 1) for arm in comparison.all.values())


def answer(comparison: Comparison, guesses: Guesses, minutes: float) -> HTML:
    """Which arms beat the baseline in the time of the study, and who leads later."""
    gains = {name: difference(arm.rows, comparison.baseline.rows) for name, arm in comparison.arms.items()}
    best = sorted(gains, key=lambda name: -np.nan_to_num(gains[name].mean, nan=-np.inf))[:4]
    mark, line = headline({name: gains[name] for name in best})
    later = [f"after {hours:g} h {' or '.join(leaders(guesses, hours)[:3]) or 'not determined'}" for hours in HOURS]
    text = (
        f"The four best of {len(gains)} arms: SI-SDRi minus the baseline's on the same validation mixtures of "
        f"{voices(comparison.baseline.params)}; no test speaker was heard. Each was trained once, with as many steps as fill {minutes:g} "
        f"minutes; the clock showed at most {deviation(comparison, minutes):.0%} more or less. The best of many is partly luck. "
        f"Predicted to lead: {'; '.join(later)}."
    )
    return box(mark, line, "".join(card(name, gains[name]) for name in best), text)


def results(comparison: Comparison, minutes: float) -> HTML:
    """Every arm: arithmetic, what it heard in its time, SI-SDRi, difference to the baseline, wrong enrolment."""
    rows, counted = [], cache(partial(gflops_per_second, seconds=4.0, enroll_seconds=comparison.baseline.params.enroll_seconds))
    for name, arm in comparison.all.items():
        seconds, items = arm.run.seconds, arm.run.step * arm.params.batch_size
        gain = difference(arm.rows, comparison.baseline.rows)
        row = {"arm": name, "10⁶ multiply-adds per second": f"{500 * counted(arm.params.extractor):,.0f}", "minutes": f"{seconds / 60:.3g}"}
        row |= {"off": f"{seconds / (60 * minutes) - 1:+.0%}", "items heard": f"{items:,}", "items per second": f"{items / seconds:.3g}"}
        row |= {"SI-SDRi, dB": mean(arm.rows), "difference, dB": "" if name == BASELINE else gain}
        row |= {"verdict": "" if name == BASELINE else judged(gain), "wrong enrolment, dB": mean(arm.rows, "si_sdri_wrong_enroll_db")}
        rows.append(row)
    return table(rows, f"means over validation mixtures with 95 % intervals; {minutes:g} minutes of training for each arm")


def forecast(guesses: Guesses) -> HTML:
    """What each arm's curve predicts; who leads, or is not told from who does, has a star."""
    first = {hours: leaders(guesses, hours) for hours in HOURS}
    rows = []
    for name, each in guesses.items():
        said = {hours: tables.measured(value) if value else "not determined" for hours, value in each.items()}
        rows.append({"arm": name} | {f"{hours:g} h, dB": text + " *" * (name in first[hours]) for hours, text in said.items()})
    return table(rows, "SI-SDRi of the validation during training, predicted, with 95 % intervals; * best, or not told from the best")


@matplotlib.rc_context(STYLE)
def curves(comparison: Comparison, kinds: Mapping[str, Sequence[str]]) -> Image:
    """SI-SDRi against minutes of training, a panel for each kind of arms with the baseline in black, labelled at the lines' ends."""
    rows = -(-len(kinds) // 2)
    figure = Figure(figsize=(WIDTH, 2.5 * rows + 0.3), dpi=DPI, layout="constrained")
    axes, drawn, known = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).flat, [], []
    for axis, (kind, names) in zip(axes, kinds.items(), strict=False):
        axis.set_title(kind)
        for name, colour in zip([BASELINE, *names], ["black", *CURVES, *CURVES], strict=False):
            hours, values = curve(comparison.all[name].run)
            axis.plot(60 * hours, values, color=colour, lw=1.2, marker=".", ms=3)
            drawn += [(axis, name, colour, values[-1])] if len(values) else []
            known += (60 * hours).tolist()
    if known:
        figures.log_axis(axes[0], 0.9 * min(known), 1.1 * max(known))
    for axis in axes[: len(kinds)]:  # now that the range, which all share, is known
        _label(axis, sorted((dB, name, colour) for where, name, colour, dB in drawn if where is axis))
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    figure.supxlabel("minutes of training", fontsize=10)
    figure.supylabel("SI-SDRi of the validation, dB", fontsize=10)
    return picture(figure, f"SI-SDRi of the validation against the time of training of {', '.join(comparison.all)}")


def _label(axis: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names beside the lines' ends, (dB, name, colour) by rising dB, as far apart as letters are high."""
    places, gap = [], 0.085 * np.ptp(axis.get_ylim())
    for value, *_ in ends:
        places.append(max([value, *(place + gap for place in places[-1:])]))
    shift = np.mean([place - value for place, (value, *_) in zip(places, ends, strict=True)]) if ends else 0.0
    for place, (_, name, colour) in zip(places, ends, strict=True):
        axis.text(1.02, place - shift, name, transform=axis.get_yaxis_transform(), color=colour, fontsize=7.5, va="center")


def measured(comparison: Comparison, guesses: Guesses) -> dict[str, dict[str, object]]:
    """What is kept in ``metrics.json`` of each arm: seconds of training, items heard, points of the curve, predictions."""
    found = {}
    for name, arm in comparison.all.items():
        points = [list(point) for point in zip(*(each.tolist() for each in curve(arm.run)), strict=True)]
        found[name] = {"seconds": arm.run.seconds, "items": arm.run.step * arm.params.batch_size, "curve_hours_db": points}
        found[name]["predicted_db"] = {f"{hours:g} h": vars(value) if value else None for hours, value in guesses[name].items()}
    return found
