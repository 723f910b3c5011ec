"""Select test mixtures to view and listen to: rebuild them from evaluation rows and extract them again with the run's weights.

Spectrograms use the 'magma' colour map, which colour-blind readers can read too.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hifitse import SAMPLE_RATE
from hifitse.audio import encode
from hifitse.data.lists import ListMixer, list_mixer
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import evaluation_conditions
from hifitse.evaluation.evaluate import listed_mixture
from hifitse.evaluation.experiment import Arm
from hifitse.machine import pick_device
from hifitse.model.verifier import likeness
from hifitse.params import Params
from hifitse.report.figures import STYLE, WIDTH
from hifitse.report.page import piece
from hifitse.report.tables import number
from hifitse.training.validation import estimate

FRAME_SECONDS = 0.1  # s: frame length of the levels in :func:`presence`
FLOOR_DB = -80.0  # dBFS: lowest level of these frames; without it, digital silence would pull a mean in dB down to minus infinity
DARK = STYLE | dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "#14171b")
DARK |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#e3e6ea")
"""Style of spectrograms, which are always dark. In dark mode a page inverts all figures except these."""
MAGMA = matplotlib.colormaps["magma"].resampled(48)
"""Colour steps of 1.7 dB. Fewer steps give smaller files; together with the text they fit into the 256 colours of a small PNG."""
TOP_MEL = 2595 * np.log10(1 + SAMPLE_RATE / 1400)
RANGE_DB = 80.0  # dynamic range of a spectrogram; points this far below the loudest one are black
FREQUENCY_TICKS = (0, 500, 1000, 2000, 4000, 8000, 16000, 24000)
PEAK = 0.9  # of the loudest clip in a group; the rest is headroom for the overshoot of a lossy codec


@dataclass(frozen=True)
class Example:
    """One test mixture with its estimates."""

    name: str  # why it was selected: best, median, worst, target absent, most improved, most worsened
    row: Mapping[str, Any]  # its evaluation row
    clips: Mapping[str, np.ndarray]  # label -> (T,) float32 at 48 kHz, in display order
    pictured: tuple[str, ...] = ("mixture", "target", "estimate")  # labels of the clips shown as spectrograms
    note: str = ""  # start of the caption, for information that the row does not have


def first_seed(arm: Arm, list_name: str) -> list[Mapping[str, Any]]:
    """Return the rows of one list from the arm's first training, whose weights are those of :attr:`Arm.run`."""
    mine = arm.rows[(arm.rows["list"] == list_name) & (arm.rows["seed"] == arm.params.seed)]
    return mine.astype(object).where(mine.notna(), None).to_dict("records")


def choose(test: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the best, median and worst row by SI-SDRi, and the first row without the target."""
    ranked = sorted((row for row in test if row["present"] and row["si_sdri_db"] is not None), key=lambda row: -row["si_sdri_db"])
    absent = [row for row in test if not row["present"]]
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]} if ranked else {}
    return chosen | ({"target absent": absent[0]} if absent else {})


def rebuild(row: Mapping[str, Any], params: Params, mixer: Mixer | ListMixer | None = None) -> Mixture:
    """Rebuild the mixture of an evaluation row. Pass a ``mixer`` of the test split to reuse it for several mixtures."""
    conditions = evaluation_conditions(params)[row["list"]][row["index"]]
    return listed_mixture(mixer or list_mixer(params, "test"), params.eval_seed, row["index"], conditions)


def _estimator(arm: Arm) -> Callable[..., np.ndarray]:
    """Return a function ``(mixture, kind of enrolment) -> estimate (T,)`` that uses the arm's weights."""
    device = pick_device(arm.params.device)
    extractor = arm.run.extractor().to(device)
    return lambda mixture, kind="right": estimate(extractor, [mixture], kind, device)[0].numpy()


def examples(arm: Arm) -> list[Example]:
    """Return the mixtures of :func:`choose`, each with the estimates for the right and, if there is one, the wrong enrolment."""
    mixer, extract, found = list_mixer(arm.evaluation, "test"), _estimator(arm), []
    for name, row in choose(first_seed(arm, "test")).items():
        mixture = rebuild(row, arm.evaluation, mixer)
        clips = {"mixture": mixture.mix} | ({"target": mixture.target} if row["present"] else {})
        clips |= {"estimate": extract(mixture), "enrolment": mixture.enroll[0]}
        if mixture.wrong_enroll is not None:
            clips["estimate with the wrong enrolment"] = extract(mixture, "wrong")
        found.append(Example(name, row, clips))
    return found


def contrasts(arms: Mapping[str, Arm], name: str) -> list[Example]:
    """Return the test mixtures on which arm ``name`` gains and loses most SI-SDRi over the first arm, with the estimates of all arms."""
    arm, baseline = arms[name], next(iter(arms.values()))
    before = {row["index"]: row["si_sdri_db"] for row in first_seed(baseline, "test")}
    both = [row for row in first_seed(arm, "test") if None not in (row["si_sdri_db"], before[row["index"]])]
    ranked = sorted(both, key=lambda row: row["si_sdri_db"] - before[row["index"]])
    mixer, extracts, found = list_mixer(arm.evaluation, "test"), {each: _estimator(one) for each, one in arms.items()}, []
    for title, row in (("most improved", ranked[-1]), ("most worsened", ranked[0])) if len(ranked) > 1 else ():
        mixture = rebuild(row, arm.evaluation, mixer)
        clips = {"mixture": mixture.mix, "target": mixture.target}
        clips |= {f"estimate, {each}": extract(mixture) for each, extract in extracts.items()}
        old = before[row["index"]]
        note = f"{name}: {number(row['si_sdri_db'] - old, 1, True)} dB against the baseline's {number(old, 1, True)} dB"
        found.append(Example(title, row, clips | {"enrolment": mixture.enroll[0]}, tuple(clips), note))
    return found


def caption(example: Example) -> str:
    """Describe the example in one line: SI-SDRi, interferers, SIR, SNR and room."""
    row = example.row

    def shown(words: str, key: str, signed: bool = True) -> str:
        return "" if row.get(key) is None else f"{words} {number(row[key], 1, signed)} dB"

    present = [shown("SI-SDRi", "si_sdri_db"), shown("with the wrong enrolment", "si_sdri_wrong_enroll_db")]
    parts = [example.note, *(present if row["present"] else [shown("suppression", "absent_suppression_db", signed=False)])]
    parts += [f"{row['n_interferers']} interferer{'s' if row['n_interferers'] != 1 else ''}"]
    parts += [shown("SIR", "sir_db") if row["present"] else "", shown("SNR", "snr_db") or "no noise"]
    return ", ".join(filter(None, [*parts, "in a room" if row.get("room") else "no room"]))


def spectrogram(audio: np.ndarray) -> np.ndarray:
    """Compute the power in dB, ``(120, L)``, of ``(T,)`` audio at 48 kHz in bands evenly spaced on the mel scale from 0 to 24 kHz.

    Silence is -120 dB; a full-scale sine has -6 dB.
    """
    n_fft, hop_length, rows = 2048, 1024, 120
    padded = np.pad(np.asarray(audio, np.float32), (n_fft // 2, n_fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length][: len(audio) // hop_length + 1]  # (L, n_fft)
    window = np.hanning(n_fft).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=-1) / window.sum()).T ** 2  # (F, L)
    edges = 700 * (10 ** (np.linspace(0, TOP_MEL, rows + 1) / 2595) - 1) * n_fft / SAMPLE_RATE  # in bins
    mapped = np.maximum.reduceat(power, np.ceil(edges[:-1]).astype(int))  # a band without a bin of its own takes the next bin
    return np.maximum(10 * np.log10(mapped + 1e-12), -120)  # on some processors the logarithm is slightly lower


@matplotlib.rc_context(DARK)
def spectrograms(clips: Mapping[str, np.ndarray]) -> Figure:
    """Plot stacked spectrograms of clips ``(T,)`` on one colour scale, whose maximum is the loudest point of the first clip."""
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
    return figure


def common_gain(clips: Mapping[str, np.ndarray]) -> float:
    """Return the common gain that scales the loudest sample of all clips to :data:`PEAK`, so that levels stay comparable."""
    peak = max((float(np.abs(audio).max(initial=0)) for audio in clips.values()), default=0.0)
    return PEAK / peak if peak > 1e-6 else 1.0


def players(clips: Mapping[str, np.ndarray], about: str) -> Markup:
    """Return one labelled player per clip ``(T,)``, with embedded MP3 audio and a common gain. ``about``: what the clips belong to, such as
    "best mixture", for screen readers. Raises AudioError: a clip is empty or not finite."""
    gain, shown = common_gain(clips), []
    for label, audio in clips.items():
        data = base64.b64encode(encode(audio * gain)).decode("ascii")
        shown.append((label, f"{label}, {about}, {len(audio) / SAMPLE_RATE:.1f} seconds", data))
    return piece("players", shown)


def presence(arm: Arm) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Compute the level over time of mixture, target and estimate, averaged in dB over the list "partial".

    Returns times ``(L,)`` in s, levels ``(L,)`` in dBFS, and the mean likeness of the estimate to the enrolment ``(L,)``, which is ``None``
    for a model without a verifier. Times are empty if the list is.
    """
    mixer, device = list_mixer(arm.evaluation, "test"), pick_device(arm.params.device)
    extractor = arm.run.extractor().to(device)
    levels: dict[str, list[np.ndarray]] = {"mixture": [], "target": [], "estimate": []}
    alike = []
    for row in first_seed(arm, "partial"):
        mixture = rebuild(row, arm.evaluation, mixer)
        est = estimate(extractor, [mixture], "right", device)[0].numpy()
        for name, audio in zip(levels, (mixture.mix, mixture.target, est), strict=True):
            levels[name].append(level_db(audio))
        alike += [likeness(extractor.verifier, est, mixture.enroll, FRAME_SECONDS)] if extractor.verifier is not None else []
    if not levels["mixture"]:
        return np.zeros(0), {}, None
    means = {name: np.mean(values, axis=0) for name, values in levels.items()}
    return times(means["mixture"]), means, np.mean(alike, axis=0) if alike else None


def times(values: np.ndarray) -> np.ndarray:
    """Return the centre times (L,) in s of frames (L,)."""
    return (np.arange(len(values)) + 0.5) * FRAME_SECONDS


def level_db(audio: np.ndarray) -> np.ndarray:
    """Return the levels (L,) in dBFS of the frames of audio (T,)."""
    hop = round(FRAME_SECONDS * SAMPLE_RATE)
    frames = audio[: len(audio) // hop * hop].reshape(-1, hop)
    return 10 * np.log10(np.maximum(np.square(frames, dtype=np.float64).mean(-1), 10 ** (FLOOR_DB / 10)))
