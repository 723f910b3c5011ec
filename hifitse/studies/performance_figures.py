"""Figures of performance: growth with the length, where the time goes, what attention costs, gains, long recordings."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hifitse.metrics import Interval
from hifitse.report.figures import BLUE, CURVES, DPI, GREY, STYLE, VERMILLION, WIDTH
from hifitse.report.labels import log_axis
from hifitse.studies.performance import Attention, Pass

MARKERS = "osD^vP"


def _measured(axis: Axes, places: Sequence[float]) -> tuple[float, float]:
    """A logarithmic x axis with a tick at each place that was measured; its ends are returned."""
    ends = min(places) / 1.2, max(places) * 1.2
    axis.set_xscale("log")
    axis.set_xlim(*ends)
    axis.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
    axis.minorticks_off()
    return ends


def _draw(axis: Axes, curves: Mapping[str, Sequence[Pass]], x: str, y: str) -> None:
    """A colour for each model, whose name stands before the comma, and a line for each number of threads."""
    models = list(dict.fromkeys(name.partition(",")[0] for name in curves))
    for name, passes in curves.items():
        number = models.index(name.partition(",")[0]) % len(CURVES)
        line = "-" if passes[0].threads > 1 else ":"
        places, values = ([getattr(each, attribute) for each in passes] for attribute in (x, y))
        face = None if passes[0].threads > 1 else "white"
        axis.plot(places, values, line, color=CURVES[number], marker=MARKERS[number], ms=5, mfc=face, label=name)


@matplotlib.rc_context(STYLE)
def growth(curves: Mapping[str, Sequence[Pass]]) -> Figure:
    """Time of a forward pass against the length of the mixture, both logarithmic: a straight line is a power law.

    Args:
        curves: name, which says the exponent -> passes of rising lengths.
    """
    figure = Figure(figsize=(WIDTH, 3.8), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    lengths = [each.seconds for passes in curves.values() for each in passes]
    ends = _measured(axis, lengths)
    axis.set_yscale("log")
    axis.plot(ends, ends, color=GREY, lw=1, ls="--", label="as long as it plays")
    _draw(axis, curves, "seconds", "took_s")
    axis.set_xlabel("length of the mixture, s")
    axis.set_ylabel("forward pass, s")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def rates(curves: Mapping[str, Sequence[Pass]], over: str, xlabel: str, peaks: Mapping[int, float]) -> Figure:
    """10^9 floating-point operations a second, beside the machine's own peak.

    Args:
        curves: name -> passes.
        over: attribute of a pass on the horizontal axis.
        xlabel: its name with its unit.
        peaks: threads -> 10^9 operations a second, as :func:`hifitse.studies.performance.peak_gflops`.
    """
    figure = Figure(figsize=(WIDTH, 3.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    _measured(axis, [getattr(each, over) for passes in curves.values() for each in passes])
    for count, peak in peaks.items():
        axis.axhline(peak, color=GREY, lw=1, ls="--")
        text = f"peak, {count} thread{'s' if count != 1 else ''}"
        # Two peaks may lie close together: the highest is named above its line, the others below.
        up = {"xytext": (0, 3), "va": "bottom"} if peak == max(peaks.values()) else {"xytext": (0, -3), "va": "top"}
        axis.annotate(text, (1, peak), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", **up)
    _draw(axis, curves, over, "rate")
    axis.set_ylim(0, 1.12 * max([axis.get_ylim()[1] / 1.05, *peaks.values()]))
    axis.set_xlabel(xlabel)
    axis.set_ylabel("10⁹ operations a second")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def parts(found: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Milliseconds of a training step by part of the network, forward and backward, a panel for each model.

    Args:
        found: model -> part -> s forward, s backward.
    """
    names = list(next(iter(found.values())))
    figure = Figure(figsize=(WIDTH, 0.27 * len(names) + 1.4), dpi=DPI, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(found), sharey=True))
    for axis, (model, each) in zip(panels, found.items(), strict=True):
        forward, backward = 1e3 * np.array(list(each.values())).T
        axis.barh(names, forward, color=BLUE, height=0.62, label="forward pass")
        axis.barh(names, backward, left=forward, color=VERMILLION, height=0.62, label="backward pass")
        axis.grid(axis="y", visible=False)
        axis.set_title(model)
        axis.set_xlabel("time of a training step, ms")
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def attention(cost: Attention, chunk_s: float, longest_s: float = 1800.0) -> Figure:
    """Share of frame attention in the operations against the length of what is computed at once.

    Args:
        cost: of the model.
        chunk_s: s, longest stretch that extraction computes at once.
        longest_s: s, where the axis ends.
    """
    figure = Figure(figsize=(WIDTH, 2.9), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    seconds = np.geomspace(1, longest_s, 200)
    log_axis(axis, 1, longest_s)
    axis.plot(seconds, [100 * cost.share(each) for each in seconds], color=BLUE, label="whole mixture at once")
    share = 100 * cost.share(chunk_s)
    axis.plot([chunk_s, longest_s], [share, share], color=VERMILLION, ls="--", label="in chunks")
    axis.plot(cost.half_s, 50, "D", color=BLUE)
    axis.annotate(f"half at {cost.half_s:.0f} s", (cost.half_s, 50), xytext=(-8, 4), textcoords="offset points", ha="right")
    axis.set_ylim(0, 100)
    axis.set_xlabel("length of the mixture, s")
    axis.set_ylabel("attention, % of operations")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def gains(found: Mapping[str, Interval], xlabel: str) -> Figure:
    """Ratios with their 95 % intervals, one line each; 1 is marked.

    Args:
        found: name -> ratio above 0.
        xlabel: what the ratio is of.
    """
    figure = Figure(figsize=(WIDTH, 0.34 * len(found) + 1.0), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.axvline(1, color=GREY, lw=1)
    for place, value in enumerate(found.values()):
        bars = np.nan_to_num([[value.mean - value.low], [value.high - value.mean]]).clip(0)
        axis.errorbar(value.mean, place, xerr=bars, fmt="o", color=BLUE, capsize=3, ms=6)
    axis.set_yticks(range(len(found)), list(found))
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_xlim(0)
    axis.margins(x=0.1)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(xlabel)
    return figure


@matplotlib.rc_context(STYLE)
def long_recordings(found: Mapping[str, Mapping[float, Mapping[str, float]]]) -> Figure:
    """Memory and seconds a second against the length of a recording, by way of extraction.

    Args:
        found: as :func:`hifitse.studies.long_recordings.by_length`.
    """
    figure = Figure(figsize=(WIDTH, 3.1), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 2)
    lengths = [seconds for each in found.values() for seconds in each]
    for colour, marker, (kind, each) in zip(CURVES, MARKERS, found.items(), strict=False):
        if each:
            panels[0].plot(list(each), [value["peak_mb"] for value in each.values()], color=colour, marker=marker, label=kind)
            panels[1].plot(list(each), [value["took_s"] / seconds for seconds, value in each.items()], color=colour, marker=marker)
    for axis, label in zip(panels, ("peak memory of the process, MB", "seconds for a second of audio"), strict=True):
        _measured(axis, lengths)
        axis.set_ylim(0, 1.1 * max(axis.get_ylim()))
        axis.set_xlabel("length of the recording, s")
        axis.set_ylabel(label)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure
