"""Figures of intervals and curves: differences beside the plan's, means under several conditions, curves over one axis.

Colours and sizes are those of :mod:`hifitse.report.figures`: an arm has the same ones in all figures of a report.
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from hifitse import HifitseError
from hifitse.metrics import Interval
from hifitse.report import figures
from hifitse.report.figures import BLUE, DPI, GREY, ORANGE, STYLE, TERM_UNITS, WIDTH, error_bars, legend

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
    handles = {"measured, 95 % interval without 0": Line2D([], [], color=BLUE, marker="o")}
    handles["measured, interval with 0"] = Line2D([], [], color=BLUE, marker="o", mfc="white")
    handles |= {"the plan expects": Patch(color=EXPECTED)} if any(expected is not None for *_, expected in rows) else {}
    legend(figure, list(handles.values()), list(handles))
    return figure


@matplotlib.rc_context(STYLE)
def grouped(panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], ylabel: str) -> Figure:
    """Means with 95 % intervals: groups along the x axis, in each group one point an arm; panels side by side.

    Args:
        panels: label of the x axis -> label of the group -> name of the arm -> interval. An arm may be missing from a group.

    Raises:
        HifitseError: no group, or no arm in any.
    """
    names = list(dict.fromkeys(name for groups in panels.values() for arms in groups.values() for name in arms))
    if not names:
        raise HifitseError(f"{len(panels)} panels hold 0 arms, expected at least one of each")
    most = max(map(len, panels.values()))
    room = max(5, 96 // most // len(panels) - 2 * (len(panels) > 1))
    wide = any(len(word) > room for groups in panels.values() for label in groups for word in label.split())  # then turned, in one line
    longest = max(len(label) for groups in panels.values() for label in groups)
    height = 3.1 - 0.2 * (-len(names) // figures.legend_columns(names)) + (0.05 * longest + 0.3 if wide else 0)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axis, (xlabel, groups) in zip(axes, panels.items(), strict=True):
        _draw_groups(axis, {name: {group: arms[name] for group, arms in groups.items() if name in arms} for name in names}, list(groups))
        counts = [sorted({interval.n for interval in arms.values()}) for arms in groups.values()]
        counted = [f"n={each[0]}" if len(each) == 1 else f"n={each[0]}–{each[-1]}" for each in counts]
        pairs = zip(groups, counted, strict=True)
        labels = [f"{label}, {count}" if wide else f"{textwrap.fill(label, room)}\n{count}" for label, count in pairs]
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if wide else {}
        axis.set_xticks(range(len(groups)), labels, fontsize=9, **turned)
        axis.set_xlabel(xlabel)
    axes[0].set_ylabel(textwrap.fill(ylabel, 36))
    if len(names) > 1:
        legend(figure, *axes[0].get_legend_handles_labels())
    return figure


def _draw_groups(axis: Axes, arms: Mapping[str, Mapping[str, Interval]], groups: Sequence[str]) -> None:
    """Arm -> group -> interval: each mean with its interval, the arms of a group side by side."""
    axis.axhline(0, color=GREY, lw=0.8)
    step = min(0.16, 0.7 / len(arms))
    for number, (name, values) in enumerate(arms.items()):
        places = np.array([groups.index(group) for group in values]) + step * (number - (len(arms) - 1) / 2)
        mean, lengths = error_bars(list(values.values()))
        axis.errorbar(places, mean, yerr=lengths, label=name, ms=5.5, capsize=3, elinewidth=1.4, **(figures.look(number) | {"ls": ""}))
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.grid(axis="x", visible=False)


@matplotlib.rc_context(STYLE)
def lines(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], xlabel: str, ylabel: str = "", *, log: str = "",
    colours: Mapping[str, str] | None = None, levels: Mapping[str, float] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None, columns: int = 1,
) -> Figure:  # fmt: skip
    """Curves over one x axis, one panel below the other or in columns; a curve looks the same in all.

    Args:
        panels: title -> name of the curve -> pairs of x and y.
        xlabel, ylabel: with the unit.
        log: axes that are logarithmic: "", "x", "y" or "xy".
        colours: of curves, where they mean something.
        levels: title of the panel -> y of a dotted line.
        spans: name -> first and last x of a shaded part.
        columns: of panels.

    Raises:
        HifitseError: no curve.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    if not names:
        raise HifitseError(f"{len(panels)} panels hold 0 curves, expected at least one")
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH, max(3.6, 1.8 * rows + 0.9)), dpi=DPI, layout="constrained")
    axes, shown = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel(), {}
    for axis, (title, curves) in zip(axes, panels.items(), strict=False):
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
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(panels) - columns) : len(panels)]:
        axis.set_xlabel(xlabel)
        axis.tick_params(labelbottom=True)
        if "x" not in log:
            axis.xaxis.set_major_locator(MaxNLocator(6 if columns == 1 else 4, integer=True))
    legend(figure, list(shown.values()), list(shown))
    return figure


def training(history: Sequence[Mapping], validation: Sequence[Mapping]) -> Figure:
    """Running means of every loss term, learning rate and gradient norm over the steps, and SI-SDRi on the validation list.

    Args:
        history: one mapping a logged step: ``step``, ``loss``, the terms by name, ``lr``, ``grad_norm``; learned
            weights (``weight_<term>``) have a figure of their own.
        validation: ``step`` and ``si_sdri_db``, and where measured ``si_sdri_wrong_enroll_db``.
    """
    logged = pd.DataFrame(list(history), columns=None if history else ["step"]).apply(pd.to_numeric, errors="coerce").set_index("step")
    means = logged.rolling(max(1, len(logged) // 30), center=True, min_periods=1).mean()
    means = means[len(means) // 50 if len(means) > 200 else 0 :]  # the first steps would flatten the rest
    titles = {"loss": "loss, all terms", "lr": "learning rate", "grad_norm": "gradient norm"}
    terms = [name for name in logged if name not in ("seconds", *titles) and not name.startswith("weight_")]
    panels = {}
    for name in ("loss", *terms, "lr", "grad_norm"):
        title = titles.get(name, f"term '{name}', {TERM_UNITS.get(name, 'no unit')}")
        panels |= {title: {"training": list(means[name].dropna().items())}} if name in means and means[name].notna().any() else {}
    kinds = {"right": "si_sdri_db", "wrong": "si_sdri_wrong_enroll_db"}
    title = "SI-SDRi of unseen speakers, dB"
    panels[title] = {f"validation, {kind} enrolment": figures.series(validation, key) for kind, key in kinds.items()}
    return lines(panels, "step", levels={title: 0.0}, columns=2)


def presence(
    seconds: np.ndarray, levels: Mapping[str, np.ndarray], span: tuple[float, float] | None = None,
    likeness: np.ndarray | None = None, threshold: float | None = None,
) -> Figure:  # fmt: skip
    """Level over time, and below it how like the enrolment the estimate sounds.

    Args:
        seconds, levels: ``(L,)`` s; name of the curve -> ``(L,)`` dBFS.
        span: start and end of the target's part, s, shaded.
        likeness, threshold: ``(L,)``, 0 to 1; and from where on the speaker counts as present, dotted.
    """
    curves = {name: list(zip(seconds, level, strict=True)) for name, level in levels.items()}
    panels = {"mean level, dBFS" if span else "level, dBFS": curves}
    alike = "likeness of the estimate to the enrolment" + (", dotted: present from here on" if threshold is not None else "")
    panels |= {alike: {"estimate": list(zip(seconds, likeness, strict=True))}} if likeness is not None else {}
    spans, marks = {"target speaks": span} if span else {}, {alike: threshold} if threshold is not None else {}
    return lines(panels, "time, s", levels=marks, spans=spans)


def log_axis(axis: Axes, low: float, high: float) -> None:
    """A logarithmic x axis from ``low`` to ``high``, above 0, with a few ticks written as plain numbers."""
    axis.set(xscale="log", xlim=(low, high))
    decades = LogLocator(subs=(1, 3) if high / low < 1000 else (1,))
    axis.xaxis.set_major_locator(MaxNLocator(6) if high / low < 30 else decades)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
