"""Draw the figures of a report from rows, histories and intervals, and save them as small PNG files.

Curves use the Okabe-Ito colours, which colour-blind readers can tell apart and which remain legible in greyscale. An arm looks the same
in all figures of a report. The module does not use pyplot, so no figure is shown twice or kept in memory.
"""

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from hifitse import HifitseError
from hifitse.metrics import Interval

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#6b6b6b"
CURVES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = "oDs^vP"
DPI = 110
WIDTH = 7.2  # inches; about 790 pixels, still readable at half that width on a phone
STYLE = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.labelsize": 10, "axes.grid": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.7,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9,
    "axes.titlelocation": "left", "figure.facecolor": "white", "lines.linewidth": 1.6,
}  # fmt: skip
LINE_CHARACTERS, HANDLE_CHARACTERS = 112, 9
"""Characters that fit in one legend line, and the width of a legend symbol with its padding, in characters."""
TERM_UNITS = {"si_sdr": "dB", "snr": "dB", "absent": "dB relative to the mixture", "multires": "dB", "speaker": "nats"}
"""Units of the loss terms. Spectral terms are relative to the target's level and have no unit."""
EXPECTED = "#f7dfae"  # pale orange: the plan's range behind a measured difference


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """Return the figure as a PNG with 256 colours, about a third of the size of a full-colour one."""
    for text in figure.findobj(Text):
        if "$" in text.get_text() and "\\mathdefault" not in text.get_text():  # a dollar sign in a name does not start a formula
            text.set_parse_math(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # characters missing from all fonts are drawn as boxes
        figure.savefig(buffer, format="png", dpi=dpi)
    image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def panel(height: float) -> tuple[Figure, Axes]:
    """Return a figure with one axes; ``height`` is in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def error_bars(intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Return means (M,) and error bar lengths (2, M), below and above; lengths are 0 where there is no interval."""
    mean, low, high = np.array([(each.mean, each.low, each.high) for each in intervals], float).reshape(-1, 3).T
    return mean, np.nan_to_num(np.stack([mean - low, high - mean]).clip(0))


def look(number: int) -> dict[str, str]:
    """Return colour, marker and line style of curve ``number``. When the colours repeat, markers are hollow and lines dashed."""
    colour, again = CURVES[number % len(CURVES)], number >= len(CURVES)
    return {"color": colour, "marker": MARKERS[number % len(MARKERS)], "mfc": "white" if again else colour, "ls": "--" if again else "-"}


def series(rows: Sequence[Mapping], key: str) -> list[tuple[float, float]]:
    """Return (step, value) pairs of all rows in which ``key`` is a number."""
    return [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]


def legend_columns(labels: Sequence[str]) -> int:
    """Return the largest number of columns in which the labels fit side by side. A legend is filled column by column."""
    for columns in range(len(labels), 1, -1):
        widths = [max(map(len, column)) + HANDLE_CHARACTERS for column in np.array_split(labels, columns)]
        if sum(widths) <= LINE_CHARACTERS:
            return columns
    return 1


def legend(figure: Figure, handles: Sequence, labels: Sequence[str]) -> None:
    """Add a legend above the axes. Labels that are too long for one line are wrapped."""
    labels = [textwrap.fill(label, LINE_CHARACTERS - HANDLE_CHARACTERS) for label in labels]
    figure.legend(handles, labels, loc="outside upper left", ncols=legend_columns(labels), columnspacing=1.6)


@matplotlib.rc_context(STYLE)
def enrolment_use(values: Mapping[str, Sequence[float | None]], intervals: Mapping[str, Interval]) -> Figure:
    """Plot SI-SDRi per mixture as dots and the mean with its interval, for each kind of enrolment; grey lines join the dots of a mixture.
    A mixture without a value is ``None`` or nan."""
    figure, axis = panel(3.3)
    table = np.array(list(values.values()), float)  # (kinds, mixtures), nan where not measured
    jitter = np.random.default_rng(0).uniform(-0.13, 0.13, table.shape[1])
    places = np.arange(len(values))
    axis.plot(table, places[:, None] + jitter, color=GREY, lw=0.4, alpha=0.25)
    for place, (name, colour) in enumerate(zip(values, (BLUE, VERMILLION, PURPLE), strict=False)):
        axis.scatter(table[place], place + jitter, s=11, color=colour, alpha=0.55, lw=0)
        mean, lengths = error_bars([intervals[name]])
        axis.errorbar(mean, place + 0.3, xerr=lengths, fmt="D", color="black", ms=5, capsize=4)
        shown = f"{mean[0]:+.1f} dB".replace("-", "−")
        axis.annotate(shown, (mean[0], place + 0.3), (0, -15), textcoords="offset points", ha="center", fontsize=9)
    axis.axvline(0, color=GREY, lw=0.8)
    axis.set_yticks(places, list(values))
    axis.set(xlabel="SI-SDRi, dB", ylim=(len(values) - 0.35, -0.45))
    axis.grid(axis="y", visible=False)
    return figure


@matplotlib.rc_context(STYLE)
def forest(rows: Sequence[tuple[str, Interval | None, tuple[float, float] | None]], xlabel: str) -> Figure:
    """Draw a forest plot from rows of label, measured difference (hollow if its interval includes 0), and the range that the plan expects;
    ``None`` if unknown. Raises HifitseError: no rows."""
    if not rows:
        raise HifitseError("a forest plot has 0 rows, expected at least one")
    labels = [textwrap.fill(label, 34) for label, _, _ in rows]
    height = 0.2 + 0.19 * max(label.count("\n") + 1 for label in labels)  # inches per row
    figure, axis = panel(height * len(rows) + 1.1)
    axis.axvline(0, color=GREY, lw=1)
    for place, (_, value, expected) in enumerate(rows):
        if expected is not None:
            low, high = expected
            axis.barh(place, high - low, left=low, height=0.62, color=EXPECTED, lw=2 if low == high else 0, edgecolor=EXPECTED, zorder=1)
        if value is None or not np.isfinite(value.mean):
            axis.text(0.01, place, "not measured", transform=axis.get_yaxis_transform(), ha="left", va="center", color=GREY, fontsize=9)
            continue
        mean, bars = error_bars([value])
        face = BLUE if value.excludes_zero else "white"
        axis.errorbar(mean, [place], xerr=bars, fmt="o", ms=6, capsize=3.5, color=BLUE, mfc=face, elinewidth=1.6, zorder=3)
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.use_sticky_edges = False  # else a range that ends the axis would touch its edge
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
    """Plot means with 95 % intervals: groups along the x axis, one point per arm in each group, panels side by side.

    ``panels``: x axis label -> group label -> arm name -> interval. An arm may be missing from a group. Raises HifitseError: no arm.
    """
    names = list(dict.fromkeys(name for groups in panels.values() for arms in groups.values() for name in arms))
    if not names:
        raise HifitseError(f"{len(panels)} panels hold 0 arms, expected at least one of each")
    most = max(map(len, panels.values()))
    room = max(5, 96 // most // len(panels) - 2 * (len(panels) > 1))
    wide = any(len(word) > room for groups in panels.values() for label in groups for word in label.split())  # then rotated, one line
    longest = max(len(label) for groups in panels.values() for label in groups)
    height = 3.1 - 0.2 * (-len(names) // legend_columns(names)) + (0.05 * longest + 0.3 if wide else 0)
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
    """Draw each mean with its interval, the arms of a group side by side. ``arms``: arm -> group -> interval."""
    axis.axhline(0, color=GREY, lw=0.8)
    step = min(0.16, 0.7 / len(arms))
    for number, (name, values) in enumerate(arms.items()):
        places = np.array([groups.index(group) for group in values]) + step * (number - (len(arms) - 1) / 2)
        mean, lengths = error_bars(list(values.values()))
        axis.errorbar(places, mean, yerr=lengths, label=name, ms=5.5, capsize=3, elinewidth=1.4, **(look(number) | {"ls": ""}))
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.grid(axis="x", visible=False)


@matplotlib.rc_context(STYLE)
def lines(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], xlabel: str, ylabel: str = "", *, log: str = "",
    colours: Mapping[str, str] | None = None, levels: Mapping[str, float] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None, columns: int = 1,
) -> Figure:  # fmt: skip
    """Plot curves over a shared x axis, in stacked panels or columns. A curve looks the same in all panels. Raises HifitseError: no curve.

    Args:
        panels: title -> curve name -> (x, y) pairs.
        xlabel, ylabel, log: axis labels with units; which axes are logarithmic: "", "x", "y" or "xy".
        colours: curve name -> colour, where it has a meaning.
        levels, spans: panel title -> y of a dotted line; name -> first and last x of a shaded area.
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
            style = look(number) | {"ms": 4.5}
            if name in (colours or {}):
                style |= {"color": colours[name], "mfc": colours[name]}
            if len(points) > 12:  # staggered markers tell overlapping curves apart
                style["markevery"] = (number * (len(points) // 40), len(points) // 6)
            (shown[name],) = axis.plot(*points.T, **style)
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
    """Plot running means of the loss terms, learning rate and gradient norm over the steps, and SI-SDRi on the validation set. Takes the
    rows that a run logs. Learned weights (``weight_<term>``) have a separate figure."""
    logged = pd.DataFrame(list(history), columns=None if history else ["step"]).apply(pd.to_numeric, errors="coerce").set_index("step")
    means = logged.rolling(max(1, len(logged) // 30), center=True, min_periods=1).mean()
    means = means[len(means) // 50 if len(means) > 200 else 0 :]  # the first steps would compress the rest of the curve
    titles = {"loss": "loss, all terms", "lr": "learning rate", "grad_norm": "gradient norm"}
    terms = [name for name in logged if name not in ("seconds", *titles) and not name.startswith("weight_")]
    panels = {}
    for name in ("loss", *terms, "lr", "grad_norm"):
        title = titles.get(name, f"term '{name}', {TERM_UNITS.get(name, 'no unit')}")
        panels |= {title: {"training": list(means[name].dropna().items())}} if name in means and means[name].notna().any() else {}
    kinds = {"right": "si_sdri_db", "wrong": "si_sdri_wrong_enroll_db"}
    title = "SI-SDRi of unseen speakers, dB"
    panels[title] = {f"validation, {kind} enrolment": series(validation, key) for kind, key in kinds.items()}
    return lines(panels, "step", levels={title: 0.0}, columns=2)


def presence(
    seconds: np.ndarray, levels: Mapping[str, np.ndarray], span: tuple[float, float] | None = None,
    likeness: np.ndarray | None = None, threshold: float | None = None,
) -> Figure:  # fmt: skip
    """Plot levels ``(L,)`` in dBFS over time and, below them, the likeness ``(L,)`` of the estimate to the enrolment.

    ``span``: start and end in s of the target's speech, shaded. ``threshold``: likeness from which the speaker counts as present.
    """
    curves = {name: list(zip(seconds, level, strict=True)) for name, level in levels.items()}
    panels = {"mean level, dBFS" if span else "level, dBFS": curves}
    alike = "likeness of the estimate to the enrolment" + (", dotted: present from here on" if threshold is not None else "")
    panels |= {alike: {"estimate": list(zip(seconds, likeness, strict=True))}} if likeness is not None else {}
    spans, marks = {"target speaks": span} if span else {}, {alike: threshold} if threshold is not None else {}
    return lines(panels, "time, s", levels=marks, spans=spans)


def log_axis(axis: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic from ``low`` to ``high``, both above 0, with a few ticks labelled as plain numbers."""
    axis.set(xscale="log", xlim=(low, high))
    decades = LogLocator(subs=(1, 3) if high / low < 1000 else (1,))
    axis.xaxis.set_major_locator(MaxNLocator(6) if high / low < 30 else decades)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
