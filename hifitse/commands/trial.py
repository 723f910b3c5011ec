"""One extraction by hand: from a test mixture or an own file, with the enrolment that is asked for; measured, seen and heard."""

import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.display import HTML

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.audio import AudioError
from hifitse.data.mixing import Mixture
from hifitse.metrics import si_sdr
from hifitse.model.extraction import SILENT_DB
from hifitse.model.likeness import likeness
from hifitse.report import comparison_figures, document, figures, listening, tables
from hifitse.training.validation import Extract, estimate

ENROLMENTS = {"of the target": "right", "of an interferer": "wrong", "silence": "zero", "own file": "own"}
LONGEST_S = 30.0  # s: what is used of a longer own file, so that an extraction stays a matter of seconds


def read(path: Path, name: str) -> np.ndarray:
    """The first 30 s of an audio or video file, ``(T,)`` at 48 kHz, its channels mixed down; ``name`` is what its owner calls it.
    Raises AudioError: it is not audio, shorter than 0.1 s, silent, or not finite."""
    try:
        signal = audio.read(path, samples=round(LONGEST_S * SAMPLE_RATE))
    except AudioError as error:
        raise AudioError(str(error).replace(repr(str(path)), repr(name))) from None
    if len(signal) < SAMPLE_RATE // 10:
        raise AudioError(f"file {name!r} lasts {len(signal) / SAMPLE_RATE:.3f} s, expected at least 0.1 s")
    if audio.level_db(signal) < SILENT_DB:
        raise AudioError(f"file {name!r} is silent ({audio.level_db(signal):.0f} dBFS), expected a file with a voice in it")
    return signal


def decode_upload(upload: Mapping[str, Any]) -> np.ndarray:
    """As :func:`read`, of an item of the value of ``ipywidgets.FileUpload``."""
    name = str(upload["name"])
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", name)
    with tempfile.TemporaryDirectory(prefix="hifitse-") as folder:
        path = Path(folder) / f"file{found[0] if found else ''}"
        path.write_bytes(bytes(upload["content"]))
        return read(path, name)


@dataclass(frozen=True)
class Heard:
    """One extraction: audio ``(T,)`` at 48 kHz by label in the order to show it, the enrolment last; what was measured, in one sentence;
    what the clips belong to, for those who do not see the panel; and the likeness ``(L,)`` of the estimate to the enrolment, with that
    from which on the speaker counts as present, ``None`` where nobody is enrolled, or the model has no verifier or measured threshold.
    """

    clips: dict[str, np.ndarray]
    said: str
    about: str
    likeness: np.ndarray | None = None
    threshold: float | None = None


def own_mixture(mix: np.ndarray) -> Mixture:
    """A recording ``(T,)`` of which nothing else is known as a mixture: no target, nobody enrolled."""
    nothing, about = np.zeros((0, len(mix)), np.float32), {"id": "own mixture", "index": None}
    return Mixture(mix, np.zeros_like(mix), nothing, np.zeros_like(mix), np.zeros((1, len(mix)), np.float32), None, about)


def extract(extractor: Extract, mixture: Mixture, kind: str, own: np.ndarray | None = None) -> Heard:
    """Extract once from a mixture of the test list, or :func:`own_mixture`, on the CPU.

    Args:
        extractor: on the CPU, in evaluation mode.
        kind: whose enrolment, one of the values of ``ENROLMENTS``.
        own: ``(T',)``, the enrolment of the kind "own".

    Raises HifitseError: there is no enrolment of that kind.
    """
    is_own = mixture.metadata["index"] is None
    if kind == "own":
        if own is None:
            raise HifitseError("no enrolment was dropped in, expected 'own file' with one; sound and video files can be read")
        mixture = replace(mixture, enroll=own[None])
    elif kind != "zero" and is_own:
        raise HifitseError("nobody knows here who speaks in a mixture of your own; expected the enrolment 'own file' or 'silence'")
    elif kind == "wrong" and mixture.wrong_enroll is None:
        raise HifitseError("the target of this mixture is absent or alone, so no interferer is enrolled; expected another enrolment")
    est = estimate(extractor, [mixture], "right" if kind == "own" else kind, "cpu")[0].numpy()
    clips = {"mixture": mixture.mix}
    clips |= {"target": mixture.target} if mixture.target.any() else {}
    enroll = {"wrong": mixture.wrong_enroll, "zero": np.zeros_like(mixture.enroll)}.get(kind, mixture.enroll)
    label = next(name for name, value in ENROLMENTS.items() if value == kind)
    about = f"{'own mixture' if is_own else 'test mixture ' + str(mixture.metadata['index'])}, enrolment: {label}"
    heard = Heard(clips | {"estimate": est, "enrolment": enroll[0]}, measured(mixture, est, is_own), about)
    if kind == "zero" or getattr(extractor, "verifier", None) is None:  # a model of one's own may be any function
        return heard
    alike = likeness(extractor.verifier, est, enroll, listening.FRAME_SECONDS)
    return replace(heard, likeness=alike, threshold=extractor.origin.metrics.get("presence", {}).get("threshold_likeness"))


def measured(mixture: Mixture, est: np.ndarray, is_own: bool) -> str:
    """SI-SDR before and after, and by how much it rose, in one sentence."""
    target = torch.from_numpy(mixture.target)
    if is_own:
        return "The target in a mixture of your own is not known, so nothing is measured."
    if not target.any():
        return "The target is silent in this mixture: silence is right."
    before, after = (float(si_sdr(torch.from_numpy(signal), target)) for signal in (mixture.mix, est))
    shown = [tables.number(value, 1, True) for value in (after - before, before, after)]
    return f"SI-SDRi {shown[0]} dB: SI-SDR {shown[1]} dB before, {shown[2]} dB after."


def shown(heard: Heard) -> HTML:
    """The sentence, spectrograms on one colour scale and players with one gain."""
    clips = {name: clip for name, clip in heard.clips.items() if name != "enrolment"}
    # As HTML, for JupyterLab leaves out the text that goes with a picture.
    picture = document.image(figures.png(figures.spectrograms(clips)), f"Spectrograms of {', '.join(clips)}; {heard.about}. {heard.said}")
    gain_db = 20 * math.log10(document.common_gain(heard.clips))
    gain = f"All players have one gain, {tables.number(gain_db, 1, True)} dB; the mixture's own level is "
    level = f"{tables.number(audio.level_db(clips['mixture']), 1)} dBFS."
    if heard.likeness is not None:
        levels = {name: listening.level_db(clips[name]) for name in ("mixture", "estimate")}
        curves = comparison_figures.presence(listening.times(heard.likeness), levels, None, heard.likeness, heard.threshold)
        picture += document.image(figures.png(curves), f"Levels, and likeness of the estimate to the enrolment, over time; {heard.about}.")
    listen = document.players(heard.clips, heard.about)
    return HTML(f"<style>{document.FRAGMENTS}</style><p><b>{heard.said}</b></p>{picture}<p>{gain}{level}</p>{listen}")
