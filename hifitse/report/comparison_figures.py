"""Figures of a comparison: arms side by side, their differences beside the plan's, gains mixture by mixture.

Colours and sizes are those of :mod:`hifitse.report.figures`. No two labels overlap: they are placed where there is room.
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from hifitse import HifitseError
from hifitse.metrics import Interval
from hifitse.report.curriculum_figure import schedule
from hifitse.report.figures import BLUE, CURVES, DPI, GREEN, GREY, ORANGE, STYLE, VERMILLION, WIDTH
from hifitse.report.labels import legend, legend_columns, log_axis, place_labels

__all__ = ["forest", "gain_scatter", "grouped", "learning", "lines", "pareto", "schedule", "series"]

MARKERS = "oDs^vP"
EXPECTED = "#f7dfae"
"""ORANGE, pale: the plan's range behind a measured difference."""


def _bars(intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Means (M,) and lengths of the bars below and above them (2, M); no bar where there is no interval."""
    mean, low, high = (np.array([getattr(interval, name) for interval in intervals], float) for name in ("mean", "low", "high"))
    return mean, np.nan_to_num(np.stack([mean - low, high - mean]).clip(0))


@matplotlib.rc_context(STYLE)
def pareto(
    points: Mapping[str, tuple[float, Interval]], xlabel: str, baseline: str = "baseline", ylabel: str = "SI-SDRi, dB"
) -> Figure:
    """Quality with its interval against cost, and the front: what is best among all that cost no more.

    Args:
        points: name -> cost above 0, quality. A point without a finite quality is left out.
        xlabel: cost with its unit; the axis is logarithmic.
        baseline: name of the point that is marked.

    Raises:
        HifitseError: no point with a quality, or a cost that is not above 0.
    """
    kept = {name: point for name, point in points.items() if np.isfinite(point[1].mean)}
    wrong = {name: cost for name, (cost, _) in kept.items() if not (np.isfinite(cost) and cost > 0)}
    if wrong or not kept:
        raise HifitseError(f"points have the costs {wrong}, expected numbers above 0 and at least one point with a quality")
    cost = np.array([point[0] for point in kept.values()], float)
    quality, bars = _bars([point[1] for point in kept.values()])
    span = max(cost.max() / cost.min(), 3.0)
    figure = Figure(figsize=(WIDTH, 4.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    log_axis(axis, cost.min() / span**0.16, cost.max() * span**0.16)
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    front = [index for place, index in enumerate(order) if place == 0 or quality[index] > best[place - 1]]
    line = [*quality[front], quality[front[-1]]]
    axis.step([*cost[front], axis.get_xlim()[1]], line, where="post", color=GREEN, lw=1.3, ls="--", zorder=1.5)
    for index, name in enumerate(kept):
        mine = name == baseline
        axis.errorbar(
            cost[index], quality[index], yerr=bars[:, [index]], fmt="D" if mine else "o", ms=7 if mine else 5.5, capsize=3,
            color=VERMILLION if mine else BLUE, elinewidth=1.2, label=name,
        )  # fmt: skip
    axis.margins(y=0.2)  # room for labels above and below the bars
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    handles = [Line2D([], [], color=BLUE, marker="o", label="mean with 95 % interval")]
    if baseline in kept:
        handles.append(Line2D([], [], color=VERMILLION, marker="D", label=baseline))
    handles.append(Line2D([], [], color=GREEN, ls="--", lw=1.3, label="Pareto front: best at its cost or less"))
    legend(figure, handles, [handle.get_label() for handle in handles])
    figure.draw_without_rendering()
    corners = axis.transData.transform(np.stack([[*cost[front], axis.get_xlim()[1]], line], 1))
    flat = [Bbox.from_extents(a[0], a[1] - 3, b[0], a[1] + 3) for a, b in zip(corners[:-1], corners[1:], strict=True)]
    bounds = np.stack([quality - bars[0], quality + bars[1]], 1)
    place_labels(axis, np.stack([cost, quality], 1), [textwrap.fill(name, 26) for name in kept], bounds, flat)
    return figure


@matplotlib.rc_context(STYLE)
def forest(rows: Sequence[tuple[str, Interval | None, tuple[float, float] | None]], xlabel: str) -> Figure:
    """One line per arm: the measured difference with its interval, over the range that the plan expects.

    A filled point's interval excludes 0, an open one's does not.

    Args:
        rows: from top to bottom: label, difference (``None`` where not measured), lowest and highest expected (``None`` without).
        xlabel: difference with its unit.

    Raises:
        HifitseError: no rows.
    """
    if not rows:
        raise HifitseError("a forest plot has 0 rows, expected at least one")
    labels = [textwrap.fill(label, 34).replace("$", r"\$") for label, _, _ in rows]  # a dollar sign begins no formula
    height = 0.2 + 0.19 * max(label.count("\n") + 1 for label in labels)  # inches a row
    figure = Figure(figsize=(WIDTH, height * len(rows) + 1.1), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=GREY, lw=1)
    for place, (_, value, expected) in enumerate(rows):
        if expected is not None:
            low, high = expected
            axis.barh(place, high - low, left=low, height=0.62, color=EXPECTED, lw=2 if low == high else 0, edgecolor=EXPECTED, zorder=1)
        if value is None or not np.isfinite(value.mean):
            axis.text(0.99, place, "not measured", transform=axis.get_yaxis_transform(), ha="right", va="center", color=GREY, fontsize=9)
            continue
        mean, bars = _bars([value])
        face = BLUE if value.excludes_zero else "white"
        axis.errorbar(mean, [place], xerr=bars, fmt="o", ms=6, capsize=3.5, color=BLUE, mfc=face, elinewidth=1.6, zorder=3)
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.08)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel(xlabel)
    handles = [
        Line2D([], [], color=BLUE, marker="o", label="measured, 95 % interval without 0"),
        Line2D([], [], color=BLUE, marker="o", mfc="white", label="measured, interval with 0"),
        Patch(color=EXPECTED, label="the plan expects"),
    ]
    legend(figure, handles, [handle.get_label() for handle in handles])
    return figure


@matplotlib.rc_context(STYLE)
def gain_scatter(baseline: np.ndarray, arm: np.ndarray, name: str, xlabel: str, ylabel: str) -> Figure:
    """Each mixture's value with the arm against that with the baseline; above the diagonal the arm is better.

    Args:
        baseline, arm: (M,) of the same mixtures; those without a finite value in both are left out.
        name: of the arm, for the title.
        xlabel, ylabel: with the unit.

    Raises:
        HifitseError: not the same number of mixtures, or none with both values.
    """
    before, after = np.asarray(baseline, float), np.asarray(arm, float)
    if before.shape != after.shape or before.ndim != 1:
        raise HifitseError(f"baseline and arm have the shapes {before.shape} and {after.shape}, expected one number for each mixture")
    finite = np.isfinite(before) & np.isfinite(after)
    if not finite.any():
        raise HifitseError(f"0 of {len(finite)} mixtures have a value with both, expected at least one")
    before, after = before[finite], after[finite]
    gain = after - before
    figure = Figure(figsize=(WIDTH, 5.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    margin = 0.09 * max(high - low, 1e-3)
    axis.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), xlabel=xlabel, ylabel=ylabel, aspect="equal")
    axis.axline((low, low), slope=1, color=GREY, lw=1)
    axis.scatter(before, after, s=20, c=np.where(gain > 0, BLUE, VERMILLION), alpha=0.6, lw=0)
    middle = f"mean {gain.mean():+.2f}, median {np.median(gain):+.2f}".replace("-", "−")
    axis.set_title(textwrap.fill(f"{name}: higher (blue) in {int((gain > 0).sum())} of {len(gain)} mixtures, {middle}", 62))
    return figure


@matplotlib.rc_context(STYLE)
def grouped(values: Mapping[str, Mapping[str, Interval]], ylabel: str, xlabel: str = "") -> Figure:
    """Means with 95 % intervals: groups along the x axis, in each group one point an arm.

    Args:
        values: label of the group -> name of the arm -> interval. An arm may be missing from a group.
        ylabel: with the unit.
        xlabel: what the groups are.

    Raises:
        HifitseError: no group, or no arm in any.
    """
    names = list(dict.fromkeys(name for arms in values.values() for name in arms))
    if not names:
        raise HifitseError(f"{len(values)} groups hold 0 arms, expected at least one of each")
    labels, turned = _group_labels(values)
    legend_rows = -(-len(names) // legend_columns(names))
    height = 2.9 + 0.2 * legend_rows + (0.05 * max(map(len, labels)) if turned else 0)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.axhline(0, color=GREY, lw=0.8)
    step = min(0.16, 0.7 / len(names))
    for number, name in enumerate(names):
        places = [place for place, arms in enumerate(values.values()) if name in arms]
        mean, bars = _bars([arms[name] for arms in values.values() if name in arms])
        shift = step * (number - (len(names) - 1) / 2)
        colour, marker = CURVES[number % len(CURVES)], MARKERS[number % len(MARKERS)]
        filled = colour if number < len(CURVES) else "white"  # where the colours begin again, hollow
        line = {"fmt": marker, "ms": 5.5, "capsize": 3, "color": colour, "elinewidth": 1.4, "label": name}
        axis.errorbar(np.array(places) + shift, mean, yerr=bars, markerfacecolor=filled, **line)
    axis.set_xticks(range(len(values)), labels, fontsize=9, **turned)
    axis.set_xlim(-0.6, len(values) - 0.4)
    axis.grid(axis="x", visible=False)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(textwrap.fill(ylabel, 36))
    legend(figure, *axis.get_legend_handles_labels())
    return figure


def _group_labels(values: Mapping[str, Mapping[str, Interval]]) -> tuple[list[str], dict[str, object]]:
    """Labels with the number of mixtures, cut to the room of a group; where a word is wider than that, in one line and turned."""
    room = max(5, 96 // len(values))
    wide = any(len(word) > room for label in values for word in label.split())
    labels = []
    for label, arms in values.items():
        counts = sorted({interval.n for interval in arms.values()})
        count = "–".join(map(str, counts if len(counts) < 3 else (counts[0], counts[-1])))
        labels.append(f"{label}, n={count}" if wide else f"{textwrap.fill(label, room)}\nn={count}")
    return labels, {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if wide else {}


def learning(validations: Mapping[str, Sequence[Mapping]], ylabel: str = "SI-SDRi of unseen speakers, dB") -> Figure:
    """SI-SDRi on the validation list over the steps, one curve an arm.

    Args:
        validations: name of the arm -> rows with ``step`` and ``si_sdri_db``; rows without a number are left out.

    Raises:
        HifitseError: no arm.
    """
    return lines({"": {name: series(rows, "si_sdri_db") for name, rows in validations.items()}}, "step", ylabel, levels={"": 0.0})


def series(rows: Sequence[Mapping], key: str) -> list[tuple[float, float]]:
    """Step and value of a history's rows that have a number there."""
    return [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]


@matplotlib.rc_context(STYLE)
def lines(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    xlabel: str,
    ylabel: str = "",
    *,
    log: str = "",
    colours: Mapping[str, str] | None = None,
    levels: Mapping[str, float] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
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
            look = {"color": (colours or {}).get(name, CURVES[number % len(CURVES)]), "marker": MARKERS[number % len(MARKERS)], "ms": 4.5}
            look["ls"] = "-" if number < len(CURVES) else "--"
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
