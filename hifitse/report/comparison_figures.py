"""Figures of several arms: differences beside the plan's, means under several conditions, curves over one axis.

Colours and sizes are those of :mod:`hifitse.report.figures`: an arm has the same ones in all figures of a report.
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from hifitse import HifitseError
from hifitse.metrics import Interval
from hifitse.report import figures
from hifitse.report.figures import BLUE, DPI, GREY, ORANGE, STYLE, WIDTH, error_bars, legend

EXPECTED = "#f7dfae"
"""ORANGE, pale: the plan's range behind a measured difference."""


@matplotlib.rc_context(STYLE)
def forest(rows: Sequence[tuple[str, Interval | None, tuple[float, float] | None]], xlabel: str) -> Figure:
    """One line per arm: the measured difference, open where its interval holds 0, over the range that the plan expects.

    Args:
        rows: from top to bottom: label, difference (``None`` where not measured), lowest and highest expected (``None`` without).

    Raises:
        HifitseError: no rows.
    """
    if not rows:
        raise HifitseError("a forest plot has 0 rows, expected at least one")
    labels = [textwrap.fill(label, 34).replace("$", r"\$") for label, _, _ in rows]  # a dollar sign begins no formula
    height = 0.2 + 0.19 * max(label.count("\n") + 1 for label in labels)  # inches a row
    figure, axis = figures.panel(height * len(rows) + 1.1)
    axis.axvline(0, color=GREY, lw=1)
    for place, (_, value, expected) in enumerate(rows):
        if expected is not None:
            low, high = expected
            axis.barh(place, high - low, left=low, height=0.62, color=EXPECTED, lw=2 if low == high else 0, edgecolor=EXPECTED, zorder=1)
        if value is None or not np.isfinite(value.mean):
            axis.text(0.99, place, "not measured", transform=axis.get_yaxis_transform(), ha="right", va="center", color=GREY, fontsize=9)
            continue
        mean, bars = error_bars([value])
        face = BLUE if value.excludes_zero else "white"
        axis.errorbar(mean, [place], xerr=bars, fmt="o", ms=6, capsize=3.5, color=BLUE, mfc=face, elinewidth=1.6, zorder=3)
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.08)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel(xlabel)
    handles = [Line2D([], [], color=BLUE, marker="o"), Line2D([], [], color=BLUE, marker="o", mfc="white"), Patch(color=EXPECTED)]
    legend(figure, handles, ["measured, 95 % interval without 0", "measured, interval with 0", "the plan expects"])
    return figure


@matplotlib.rc_context(STYLE)
def grouped(values: Mapping[str, Mapping[str, Interval]], ylabel: str, xlabel: str = "") -> Figure:
    """Means with 95 % intervals: groups along the x axis, in each group one point an arm.

    Args:
        values: label of the group -> name of the arm -> interval. An arm may be missing from a group.

    Raises:
        HifitseError: no group, or no arm in any.
    """
    names = list(dict.fromkeys(name for arms in values.values() for name in arms))
    if not names:
        raise HifitseError(f"{len(values)} groups hold 0 arms, expected at least one of each")
    room, labels = max(5, 96 // len(values)), []
    wide = any(len(word) > room for label in values for word in label.split())  # then in one line and turned
    for label, arms in values.items():
        counts = sorted({interval.n for interval in arms.values()})
        count = f"n={counts[0]}" if len(counts) == 1 else f"n={counts[0]}–{counts[-1]}"
        labels.append(f"{label}, {count}" if wide else f"{textwrap.fill(label, room)}\n{count}")
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if wide else {}
    height = 2.9 - 0.2 * (-len(names) // figures.legend_columns(names)) + (0.05 * max(map(len, labels)) if wide else 0)
    figure, axis = figures.panel(height)
    _draw_groups(axis, {name: {group: arms[name] for group, arms in values.items() if name in arms} for name in names}, list(values))
    axis.set_xticks(range(len(values)), labels, fontsize=9, **turned)
    axis.set(xlabel=xlabel, ylabel=textwrap.fill(ylabel, 36))
    legend(figure, *axis.get_legend_handles_labels())
    return figure


@matplotlib.rc_context(STYLE)
def by_condition(panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], ylabel: str = "SI-SDRi, dB") -> Figure:
    """Means with 95 % intervals: label of the panel's axis -> name of the curve -> label of the bin -> interval."""
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axis, (xlabel, arms) in zip(axes, panels.items(), strict=True):
        counts = {label: value.n for curve in reversed(arms.values()) for label, value in curve.items()}
        groups = list(dict.fromkeys(label for curve in arms.values() for label in curve))
        _draw_groups(axis, arms, groups)
        axis.set_xticks(range(len(groups)), [f"{label}\nn={counts[label]}" for label in groups], fontsize=9)
        axis.set_xlabel(xlabel)
    axes[0].set_ylabel(ylabel)
    if len(next(iter(panels.values()), ())) > 1:
        legend(figure, *axes[0].get_legend_handles_labels())
    return figure


def _draw_groups(axis: Axes, arms: Mapping[str, Mapping[str, Interval]], groups: Sequence[str]) -> None:
    """Arm -> group -> interval: each mean with its interval, the arms of a group side by side."""
    axis.axhline(0, color=GREY, lw=0.8)
    step = min(0.16, 0.7 / max(len(arms), 1))
    for number, (name, values) in enumerate(arms.items()):
        places = np.array([groups.index(group) for group in values]) + step * (number - (len(arms) - 1) / 2)
        mean, lengths = error_bars(list(values.values()))
        axis.errorbar(places, mean, yerr=lengths, label=name, ms=5.5, capsize=3, elinewidth=1.4, **(figures.look(number) | {"ls": ""}))
    axis.set_xlim(-0.6, max(len(groups), 1) - 0.4)
    axis.grid(axis="x", visible=False)


@matplotlib.rc_context(STYLE)
def lines(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], xlabel: str, ylabel: str = "", *, log: str = "",
    colours: Mapping[str, str] | None = None, levels: Mapping[str, float] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:  # fmt: skip
    """Curves over one x axis, one panel below the other; a curve looks the same in all.

    Args:
        panels: title -> name of the curve -> pairs of x and y.
        xlabel, ylabel: with the unit.
        log: axes that are logarithmic: "", "x", "y" or "xy".
        colours: of curves, where they mean something.
        levels: title of the panel -> y of a dotted line.
        spans: name -> first and last x of a shaded part.

    Raises:
        HifitseError: no curve.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    if not names:
        raise HifitseError(f"{len(panels)} panels hold 0 curves, expected at least one")
    figure = Figure(figsize=(WIDTH, max(3.6, 1.8 * len(panels) + 0.9)), dpi=DPI, layout="constrained")
    axes, shown = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True)), {}
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        axis.set(title=title, ylabel=ylabel)
        for (name, span), shade in zip((spans or {}).items(), (GREY, ORANGE), strict=False):
            shown[name] = axis.axvspan(*span, color=shade, alpha=0.2, lw=0)
        if title in (levels or {}):
            axis.axhline(levels[title], color=GREY, lw=1, ls=":")
        for name, pairs in curves.items():
            number, points = names.index(name), np.array(pairs, float).reshape(-1, 2)
            look = figures.look(number) | {"ms": 4.5}
            if name in (colours or {}):
                look |= {"color": colours[name], "mfc": colours[name]}
            if len(points) > 12:  # markers at places of their own tell curves apart that lie on each other
                look["markevery"] = (number * (len(points) // 40), len(points) // 6)
            (shown[name],) = axis.plot(*points.T, **look)
        if "y" in log:
            axis.set_yscale("log")
    if "x" in log:
        places = [x for curves in panels.values() for pairs in curves.values() for x, _ in pairs]
        log_axis(axes[-1], 0.9 * min(places), 1.1 * max(places))
    else:
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[-1].set_xlabel(xlabel)
    legend(figure, list(shown.values()), list(shown))
    return figure


def log_axis(axis: Axes, low: float, high: float) -> None:
    """A logarithmic x axis from ``low`` to ``high``, above 0, with a few ticks written as plain numbers."""
    axis.set(xscale="log", xlim=(low, high))
    decades = LogLocator(subs=(1, 3) if high / low < 1000 else (1,))
    axis.xaxis.set_major_locator(MaxNLocator(6) if high / low < 30 else decades)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
