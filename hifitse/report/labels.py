"""Words in a figure where they cover nothing: labels of points, legends above the axes, ticks of a logarithmic axis."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from hifitse.report.figures import GREY

LINE_CHARACTERS = 112
"""Characters of a legend's letters across a figure."""
HANDLE_CHARACTERS = 9
"""The width of a legend's symbol with the space around it, in characters."""
DISTANCES = (7, 14, 24, 36, 50, 66)
"""Points between a label and what it names, nearest first."""


def legend_columns(labels: Sequence[str]) -> int:
    """The most columns in which these labels fit side by side; a legend is filled column by column."""
    for columns in range(len(labels), 1, -1):
        widths = [max(map(len, column)) + HANDLE_CHARACTERS for column in np.array_split(labels, columns)]
        if sum(widths) <= LINE_CHARACTERS:
            return columns
    return 1


def legend(figure: Figure, handles: Sequence, labels: Sequence[str]) -> None:
    """A legend above the axes; labels that are too long for one line are cut into several."""
    labels = [textwrap.fill(label, LINE_CHARACTERS - HANDLE_CHARACTERS) for label in labels]
    figure.legend(handles, labels, loc="outside upper left", ncols=legend_columns(labels), columnspacing=1.6)


def place_labels(axis: Axes, places: np.ndarray, texts: Sequence[str], bars: np.ndarray, others: Sequence[Bbox] = ()) -> None:
    """Write each text beside its point, or at an end of its bar, where it covers least; the figure must have been laid out.

    Args:
        places: (M, 2) in data coordinates.
        bars: (M, 2) lower and upper end of each point's vertical bar, in data coordinates.
        others: further boxes not to cover, in pixels.
    """
    points = axis.transData.transform(places)
    ends = np.stack([axis.transData.transform(np.stack([places[:, 0], bars[:, end]], 1)) for end in (0, 1)], 1)  # (M, 2, 2)
    unit = axis.figure.dpi / 72
    room = axis.get_window_extent()
    taken = [Bbox.from_extents(*(point - 5 * unit), *(point + 5 * unit)) for point in points]
    taken += [Bbox.from_extents(*(low - 4 * unit), *(high + 4 * unit)) for low, high in ends] + list(others)
    crowd = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).sum(1)
    for index in np.argsort(crowd):  # the point with most neighbours first: it has least choice
        label = axis.annotate(texts[index], places[index], (0, 0), textcoords="offset points", fontsize=9, in_layout=False, zorder=5)
        label.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
        size = np.array(label.get_window_extent().size)
        anchors = [(points[index], DISTANCES, np.arange(0, 360, 22.5)), *((end, DISTANCES[:3], (-90, 90)) for end in ends[index])]
        found = []
        for anchor, distances, angles in anchors:
            for distance, angle in ((distance, angle) for distance in distances for angle in angles):
                direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
                corner = anchor + direction * distance * unit + (np.clip(direction * 1.5, -1, 1) - 1) * size / 2
                box = Bbox.from_extents(*(corner - 1.5 * unit), *(corner + size + 1.5 * unit))
                covered = sum(_area(box, other) for other in taken) + 4 * (box.width * box.height - _area(box, room))
                found.append((covered + distance * unit, corner, box, anchor, distance))
        _, corner, box, anchor, distance = min(found, key=lambda each: each[0])
        taken.append(box)
        label.set_position((corner - points[index]) / unit)
        if distance > 14:
            line = axis.transData.inverted().transform([np.clip(anchor, box.min, box.max), anchor])
            axis.plot(*line.T, color=GREY, lw=0.6, zorder=2, scalex=False, scaley=False)


def _area(a: Bbox, b: Bbox) -> float:
    both = Bbox.intersection(a, b)
    return 0.0 if both is None else both.width * both.height


def log_axis(axis: Axes, low: float, high: float) -> None:
    """A logarithmic x axis from ``low`` to ``high``, above 0, with some ticks, apart from each other, written as plain numbers."""
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), np.arange(1, 10, 0.5), np.arange(1, 10, 0.1)):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 4:
            break
    shown = [ticks[0]] if len(ticks) else []
    for tick in ticks[1:]:  # 9.9 and 10 would touch
        if np.log(tick / shown[-1]) >= 0.08 * np.log(high / low):
            shown.append(tick)
    axis.xaxis.set_major_locator(FixedLocator(shown))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
