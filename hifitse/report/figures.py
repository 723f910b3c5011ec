"""Figures of a report: rows, histories and audio in, :class:`matplotlib.figure.Figure` out, and figures as small PNG files.

Lines use the colours of Okabe and Ito, spectrograms 'magma'; both can be read by colour-blind people and in grey.
Nothing here uses pyplot, so no figure is shown twice or kept in memory.
"""

import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image

from hifitse import SAMPLE_RATE
from hifitse.metrics import Interval

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#6b6b6b"
CURVES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
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
RANGE_DB = 80.0
"""dB below the loudest point at which a spectrogram turns black."""
FREQUENCY_TICKS = (0, 500, 1000, 2000, 4000, 8000, 16000, 24000)
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


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def spectrogram(audio: np.ndarray, n_fft: int = 2048, hop_length: int = 1024, rows: int = 120) -> np.ndarray:
    """Power in dB of ``rows`` bands evenly spaced on the mel scale from 0 to 24 kHz.

    Args:
        audio: ``(T,)`` at 48 kHz.

    Returns:
        ``(rows, L)`` in dB, -120 where there is silence; a full-scale sine has -6 dB.
    """
    padded = np.pad(np.asarray(audio, np.float32), (n_fft // 2, n_fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]  # (L, n_fft)
    frames = frames[: len(audio) // hop_length + 1]
    window = np.hanning(n_fft).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=-1) / window.sum()).T ** 2  # (F, L)
    edges = 700 * (10 ** (np.linspace(0, float(_mel(SAMPLE_RATE / 2)), rows + 1) / 2595) - 1) * n_fft / SAMPLE_RATE  # in bins
    bins = np.arange(len(power))
    mapped = np.empty((rows, power.shape[1]), np.float32)
    for row, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        inside = (bins >= low) & (bins < high)
        mapped[row] = power[inside].max(0) if inside.any() else power[min(round((low + high) / 2), len(power) - 1)]
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
        seconds = len(clips[name]) / SAMPLE_RATE
        extent = (0, seconds, 0, float(_mel(SAMPLE_RATE / 2)))
        drawn = axis.imshow(image, origin="lower", aspect="auto", extent=extent, cmap=MAGMA, norm=norm, interpolation="nearest")
        axis.set_yticks(_mel(np.array(FREQUENCY_TICKS)), [f"{tick / 1000:g}" for tick in FREQUENCY_TICKS])
        axis.set_title(name)
        axis.set_ylabel("kHz")
        axis.grid(False)
    axes[-1].set_xlabel("time, s")
    bar = figure.colorbar(drawn, ax=list(axes), label="level, dBFS", pad=0.015, aspect=35)
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _errorbar(axis: Axes, places: np.ndarray, intervals: Sequence[Interval], colour: str, label: str) -> None:
    mean, low, high = (np.array([getattr(interval, name) for interval in intervals], float) for name in ("mean", "low", "high"))
    axis.errorbar(places, mean, yerr=[mean - low, high - mean], fmt="o", ms=5, capsize=3, color=colour, label=label, elinewidth=1.4)


@matplotlib.rc_context(STYLE)
def by_condition(panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], ylabel: str = "SI-SDRi, dB") -> Figure:
    """Means with 95 % intervals by condition, one panel per condition.

    Args:
        panels: label of the panel's axis -> name of the curve -> label of the bin -> interval. Empty bins are left out.
    """
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axis, (xlabel, curves) in zip(axes, panels.items(), strict=True):
        bins = list(dict.fromkeys(label for curve in curves.values() for label in curve))
        first = next(iter(curves.values()), {})
        for number, (name, curve) in enumerate(curves.items()):
            shift = 0.16 * (number - (len(curves) - 1) / 2)
            _errorbar(axis, np.array([bins.index(label) for label in curve]) + shift, list(curve.values()), CURVES[number], name)
        counts = [f"{label}\nn={first[label].n}" if label in first else label for label in bins]
        axis.set_xticks(range(len(bins)), counts, fontsize=9)
        axis.set_xlim(-0.6, max(len(bins), 1) - 0.4)
        axis.axhline(0, color=GREY, lw=0.8)
        axis.set_xlabel(xlabel)
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel(ylabel)
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over about a thirtieth of the curve; the ends average what is there."""
    width = max(1, len(values) // 30)
    kernel = np.ones(width)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0), kernel, "same")
    count = np.convolve(finite.astype(float), kernel, "same")
    return total / np.where(count > 0, count, np.nan)


def _series(history: Sequence[Mapping], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(entry["step"], entry[key]) for entry in history if isinstance(entry.get(key), int | float)]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps, float), np.array(values, float)


@matplotlib.rc_context(STYLE)
def curves(history: Sequence[Mapping], validation: Sequence[Mapping]) -> Figure:
    """Training over the steps: every loss term, SI-SDRi on the validation list, learning rate and gradient norm.

    Args:
        history: one mapping a logged step: ``step``, ``loss``, the terms by name, ``lr``, ``grad_norm``; learned
            weights (``weight_<term>``) have a figure of their own.
        validation: ``step`` and ``si_sdri_db``, and where measured ``si_sdri_wrong_enroll_db``.
    """
    known = ("step", "seconds", "lr", "grad_norm", "loss")
    keys = [key for key in dict.fromkeys(k for entry in history for k in entry) if key not in known and not key.startswith("weight_")]
    terms = [key for key in keys if len(_series(history, key)[0])]
    panels = ["loss", *terms, "validation", "lr", "grad_norm"]
    panels = [name for name in panels if name == "validation" or len(_series(history, name)[0])]
    titles = {"loss": "loss, all terms", "validation": "SI-SDRi of unseen speakers, dB"}
    titles |= {"lr": "learning rate", "grad_norm": "gradient norm"}
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(WIDTH, 1.95 * rows + 0.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, 2, sharex=True)).ravel()
    for axis, name in zip(axes, panels, strict=False):
        axis.set_title(titles.get(name, f"term '{name}', {TERM_UNITS.get(name, 'no unit')}"))
        if name == "validation":
            for number, (key, label) in enumerate((("si_sdri_db", "right enrolment"), ("si_sdri_wrong_enroll_db", "wrong enrolment"))):
                steps, values = _series(validation, key)
                if len(steps):
                    axis.plot(steps, values, "o-", ms=4, color=CURVES[number], label=label)
            axis.axhline(0, color=GREY, lw=0.8)
            axis.legend(*axis.get_legend_handles_labels())
            continue
        steps, values = _series(history, name)
        if name == "lr":
            axis.plot(steps, values, color=GREEN)
            continue
        axis.plot(steps, values, color=SKY, lw=0.7, alpha=0.7, marker="o" if len(values) == 1 else None)
        axis.plot(steps, _smooth(values), color=BLUE)
        if len(values) > 200:  # the first steps would flatten the rest
            low, high = np.nanpercentile(values, [0.5, 98])
            axis.set_ylim(low - 0.08 * (high - low) - 1e-9, high + 0.08 * (high - low) + 1e-9)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(panels) - 2) : len(panels)]:
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.tick_params(labelbottom=True)
    return figure


@matplotlib.rc_context(STYLE)
def presence(
    seconds: np.ndarray,
    levels: Mapping[str, np.ndarray],
    span: tuple[float, float] | None = None,
    likeness: np.ndarray | None = None,
    threshold: float | None = None,
) -> Figure:
    """Level over time, and below it how like the enrolment the estimate sounds.

    Args:
        seconds: ``(L,)`` s.
        levels: name of the curve -> ``(L,)`` dBFS.
        span: start and end of the target's part, s, shaded.
        likeness: ``(L,)``, 0 to 1.
        threshold: likeness from which on the speaker counts as present.
    """
    figure = Figure(figsize=(WIDTH, 3.0 if likeness is None else 4.6), layout="constrained")
    axis, *below = np.atleast_1d(figure.subplots(1 if likeness is None else 2, 1, sharex=True))
    if span:
        axis.axvspan(*span, color=ORANGE, alpha=0.18, lw=0, label="target speaks")
    for under in below:
        if span:
            under.axvspan(*span, color=ORANGE, alpha=0.18, lw=0)
        under.plot(seconds, likeness, color=BLUE)
        if threshold is not None:
            under.axhline(threshold, color=GREY, ls="--", label="present from here on")
            under.legend(loc="lower right")
        under.set_ylim(0, 1)
        under.set_ylabel("likeness to enrolment")
    for (name, level), colour in zip(levels.items(), (GREY, GREEN, BLUE, VERMILLION), strict=False):
        axis.plot(seconds, level, color=colour, label=name, lw=3.5 if colour == GREY else 1.6)  # wide below, or equal lines would hide it
    figure.axes[-1].set_xlabel("time, s")
    axis.set_ylabel("mean level, dBFS" if span else "level, dBFS")
    axis.set_xlim(0, float(seconds[-1]))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


@matplotlib.rc_context(STYLE)
def enrolment_use(values: Mapping[str, Sequence[float | None]], intervals: Mapping[str, Interval]) -> Figure:
    """One dot a mixture and the mean with its interval, for each kind of enrolment; grey lines join a mixture's dots.

    Args:
        values: kind of enrolment -> SI-SDRi in dB of every mixture, in the same order; ``None`` where it was not measured.
        intervals: kind of enrolment -> interval of the mean.
    """
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axis = figure.subplots()
    table = np.array([[np.nan if value is None else value for value in column] for column in values.values()], float)  # (kinds, mixtures)
    jitter = np.random.default_rng(0).uniform(-0.13, 0.13, table.shape[1])
    places = np.arange(len(values))
    axis.plot(table, places[:, None] + jitter, color=GREY, lw=0.4, alpha=0.25)
    for place, (name, colour) in enumerate(zip(values, (BLUE, VERMILLION, PURPLE), strict=False)):
        axis.scatter(table[place], place + jitter, s=11, color=colour, alpha=0.55, lw=0)
        value = intervals[name]
        around = [[value.mean - value.low], [value.high - value.mean]]
        axis.errorbar(value.mean, place + 0.3, xerr=around, fmt="D", color="black", ms=5, capsize=4)
        shown = f"{value.mean:+.1f} dB".replace("-", "−")
        axis.annotate(shown, (value.mean, place + 0.3), (0, -15), textcoords="offset points", ha="center", fontsize=9)
    axis.axvline(0, color=GREY, lw=0.8)
    axis.set_yticks(places, list(values))
    axis.set_ylim(len(values) - 0.35, -0.45)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("SI-SDRi, dB")
    return figure
