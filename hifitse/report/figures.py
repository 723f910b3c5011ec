"""Figures of a report: rows, histories and audio in, :class:`matplotlib.figure.Figure` out, and figures as small PNG files.

Lines use the colours of Okabe and Ito, spectrograms 'magma'; both can be read by colour-blind people and in grey.
Nothing here uses pyplot, so no figure is shown twice or kept in memory.
"""

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from hifitse import SAMPLE_RATE
from hifitse.metrics import Interval

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#6b6b6b"
CURVES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = "oDs^vP"
DPI = 110
WIDTH = 7.2  # inches: about 790 pixels, still readable when a phone shows it at half that width
STYLE = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.labelsize": 10, "axes.grid": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.7,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9,
    "axes.titlelocation": "left", "figure.facecolor": "white", "lines.linewidth": 1.6,
}  # fmt: skip
INK, NIGHT = "#e3e6ea", "#14171b"
DARK = STYLE | {
    "figure.facecolor": NIGHT, "axes.facecolor": NIGHT, "savefig.facecolor": NIGHT, "text.color": INK, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip
"""Of spectrograms, which are dark of themselves: a page in dark mode turns all other figures round, and leaves these as they are."""
MAGMA = matplotlib.colormaps["magma"].resampled(48)
"""Steps of 1.7 dB: the fewer, the smaller the file; with the letters they fit into the 256 colours of a small PNG."""
TOP_MEL = 2595 * np.log10(1 + SAMPLE_RATE / 1400)
RANGE_DB = 80.0
"""dB below the loudest point at which a spectrogram turns black."""
FREQUENCY_TICKS = (0, 500, 1000, 2000, 4000, 8000, 16000, 24000)
LINE_CHARACTERS, HANDLE_CHARACTERS = 112, 9
"""Characters of a legend across a figure, and the width of its symbol with the space around it."""
TERM_UNITS = {"si_sdr": "dB", "snr": "dB", "absent": "dB relative to the mixture", "multires": "dB", "speaker": "nats"}
"""Units of the loss terms; the spectral ones are relative to the target's level and have none."""


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG of 256 colours, about a third of the size of a full one."""
    for text in figure.findobj(Text):
        if "$" in text.get_text() and "\\mathdefault" not in text.get_text():  # a dollar sign in a name begins no formula
            text.set_parse_math(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # letters that no font here has are drawn as boxes
        figure.savefig(buffer, format="png", dpi=dpi)
    image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def spectrogram(audio: np.ndarray, n_fft: int = 2048, hop_length: int = 1024, rows: int = 120) -> np.ndarray:
    """Power in dB of ``rows`` bands evenly spaced on the mel scale from 0 to 24 kHz.

    Args:
        audio: ``(T,)`` at 48 kHz.

    Returns:
        ``(rows, L)`` in dB, -120 where there is silence; a full-scale sine has -6 dB.
    """
    padded = np.pad(np.asarray(audio, np.float32), (n_fft // 2, n_fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: hop_length][: len(audio) // hop_length + 1]  # (L, n_fft)
    window = np.hanning(n_fft).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=-1) / window.sum()).T ** 2  # (F, L)
    edges = 700 * (10 ** (np.linspace(0, TOP_MEL, rows + 1) / 2595) - 1) * n_fft / SAMPLE_RATE  # in bins
    mapped = np.maximum.reduceat(power, np.ceil(edges[:-1]).astype(int))  # a band between two bins takes the next one
    return np.maximum(10 * np.log10(mapped + 1e-12), -120)  # the logarithm of some processors is a digit below


@matplotlib.rc_context(DARK)
def spectrograms(clips: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """One spectrogram below the other, all with the same colour scale, its top the loudest point of the first clip.

    Args:
        clips: title of the panel -> ``(T,)`` at 48 kHz.
    """
    images = {name: spectrogram(audio) for name, audio in clips.items()}
    top = float(max(next(iter(images.values())).max(), -100))
    norm = Normalize(top - RANGE_DB, top)
    figure = Figure(figsize=(WIDTH, 1.75 * len(clips) + 0.7), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(clips), 1, sharex=True))
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        extent = (0, len(clips[name]) / SAMPLE_RATE, 0, TOP_MEL)
        drawn = axis.imshow(image, origin="lower", aspect="auto", extent=extent, cmap=MAGMA, norm=norm, interpolation="nearest")
        axis.set_yticks(2595 * np.log10(1 + np.array(FREQUENCY_TICKS) / 700), [f"{tick / 1000:g}" for tick in FREQUENCY_TICKS])
        axis.set(title=name, ylabel="kHz")
        axis.grid(False)
    axes[-1].set_xlabel("time, s")
    bar = figure.colorbar(drawn, ax=list(axes), label="level, dBFS", pad=0.015, aspect=35)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def panel(height: float) -> tuple[Figure, Axes]:
    """A figure of that height, in inches, with one axis."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def error_bars(intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Means (M,) and lengths of the bars below and above them (2, M); no bar where there is no interval."""
    mean, low, high = np.array([(each.mean, each.low, each.high) for each in intervals], float).reshape(-1, 3).T
    return mean, np.nan_to_num(np.stack([mean - low, high - mean]).clip(0))


def look(number: int) -> dict[str, str]:
    """Colour and marker of one of several curves; where the colours begin again, hollow and dashed."""
    colour, again = CURVES[number % len(CURVES)], number >= len(CURVES)
    return {"color": colour, "marker": MARKERS[number % len(MARKERS)], "mfc": "white" if again else colour, "ls": "--" if again else "-"}


def series(rows: Sequence[Mapping], key: str) -> list[tuple[float, float]]:
    """Step and value of a history's rows that have a number there."""
    return [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]


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


@matplotlib.rc_context(STYLE)
def enrolment_use(values: Mapping[str, Sequence[float | None]], intervals: Mapping[str, Interval]) -> Figure:
    """One dot a mixture and the mean with its interval, for each kind of enrolment; grey lines join a mixture's dots.

    Args:
        values, intervals: kind of enrolment -> SI-SDRi in dB of every mixture, ``None`` where not measured; interval of the mean.
    """
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
