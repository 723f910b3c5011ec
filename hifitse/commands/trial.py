"""One extraction from a test mixture, as drawn or changed, or from the user's own file; measure, plot and play it."""

import copy
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
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import evaluation_conditions
from hifitse.evaluation.evaluate import listed_mixture
from hifitse.metrics import si_sdr
from hifitse.model.extraction import SILENT_DB
from hifitse.model.verifier import likeness
from hifitse.params import Params
from hifitse.report import figures, listening, page, tables
from hifitse.training.validation import Extract, estimate


@dataclass(frozen=True)
class Scene:
    """A mixture of the test list and changes to it; ``None`` keeps what was drawn."""

    index: int = 0
    target: str | None = None  # name of a test speaker
    interferers: tuple[str, ...] | None = None  # names of 0 to 8 test speakers
    sir_db: float | None = None  # dB, target to each interferer, -40 to 40
    snr_db: float | None = None  # dB, target to noise, -40 to 60; infinity: no noise
    room: bool | None = None  # with or without a room


class Scenes(Mixer):
    """Mixer of scenes with the test speakers, rooms and noises of an evaluation. An unchanged scene is a mixture that it draws itself."""

    def __init__(self, params: Params) -> None:
        super().__init__(params.model_copy(update={"eval_list": ""}), "test")  # a list cannot be changed
        self.conditions = evaluation_conditions(self.params)["test"]
        self.chosen: list[str] = []

    def scene(self, scene: Scene) -> Mixture:
        """Return the mixture of a scene. Raises HifitseError: a value is not allowed, or noise or rooms are not loaded."""
        if len(scene.interferers or ()) > 8:
            raise HifitseError(f"{len(scene.interferers)} interferers are asked for, expected 0 to 8")
        if scene.snr_db not in (None, math.inf) and self.acoustics.noises is None:
            raise HifitseError(f"SNR is {scene.snr_db} dB, expected parameters with noise_prob above 0")
        conditions = self.conditions[scene.index]
        made = copy.copy(self)  # self.acoustics still decides the enrolments' rooms, so only the mixture changes
        values: dict[str, float] = {}
        if scene.target is not None or scene.interferers is not None:
            drawn = listed_mixture(self, self.params.eval_seed, scene.index, conditions).metadata
            target = scene.target or drawn["target_speaker"]
            others = drawn["interferer_speakers"] if scene.interferers is None else scene.interferers
            made.chosen = [target, *(name for name in others if name != target)]
            count = len(made.chosen) - 1
            conditions = replace(conditions, interferers_min=count, interferers_max=count)
        if scene.sir_db is not None:
            values |= {"sir_min_db": scene.sir_db, "sir_max_db": scene.sir_db}
        if scene.snr_db is not None:
            values["noise_prob"] = float(math.isfinite(scene.snr_db))
            if math.isfinite(scene.snr_db):
                conditions = replace(conditions, snr_min_db=scene.snr_db, snr_max_db=scene.snr_db)
        if scene.room is not None:
            values["reverb_prob"] = float(scene.room)
        made.params = self.params.model_copy(update=values)
        return listed_mixture(made, self.params.eval_seed, scene.index, conditions)

    def _names(self, target: int, others: list[int], count: int, similarity: float) -> list[str]:
        # A mixture without target and noise gets an interferer even if none was chosen.
        if not self.chosen:
            return super()._names(target, others, count, similarity)
        rest = (name for name in map(self.speakers.__getitem__, (target, *others)) if name not in self.chosen)
        return [*self.chosen, *rest][: count + 1]


ENROLMENTS = {"of the target": "right", "of an interferer": "wrong", "silence": "zero", "own file": "own"}
LONGEST_S = 30.0  # seconds used of a longer file, so that an extraction takes only seconds


def read(path: Path, name: str) -> np.ndarray:
    """Read the first 30 s of an audio or video file, mixed down, ``(T,)`` at 48 kHz; error messages call it ``name``.
    Raises AudioError: not audio, shorter than 0.1 s, silent, or not finite."""
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
    """Read an item of ``ipywidgets.FileUpload.value`` like :func:`read`."""
    name = str(upload["name"])
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", name)
    with tempfile.TemporaryDirectory(prefix="hifitse-") as folder:
        path = Path(folder) / f"file{found[0] if found else ''}"
        path.write_bytes(bytes(upload["content"]))
        return read(path, name)


@dataclass(frozen=True)
class Heard:
    """Result of one extraction."""

    clips: dict[str, np.ndarray]  # label -> (T,) at 48 kHz, in display order, the enrolment last
    said: str  # the measurements in one sentence
    about: str  # which mixture and enrolment, for screen readers
    likeness: np.ndarray | None = None  # (L,) similarity of estimate and enrolment, if the model has a verifier
    threshold: float | None = None  # least likeness at which the speaker counts as present


def own_mixture(mix: np.ndarray) -> Mixture:
    """Wrap a recording ``(T,)`` of unknown content as a mixture, with silent target, noise and enrolment."""
    nothing, about = np.zeros((0, len(mix)), np.float32), {"id": "own mixture", "index": None}
    return Mixture(mix, np.zeros_like(mix), nothing, np.zeros_like(mix), np.zeros((1, len(mix)), np.float32), None, about)


def extract(extractor: Extract, mixture: Mixture, kind: str, own: np.ndarray | None = None) -> Heard:
    """Extract once on the CPU from a mixture of the test list or of :func:`own_mixture`. ``kind`` is a value of ``ENROLMENTS``;
    ``own`` (T',) is the enrolment of kind "own". Raises HifitseError: there is no enrolment of that kind."""
    is_own = mixture.metadata["index"] is None
    if kind == "own":
        if own is None:
            raise HifitseError("no enrolment of your own is loaded, expected an uploaded sound or video file, or its path")
        mixture = replace(mixture, enroll=own[None])
    elif kind != "zero" and is_own:
        raise HifitseError("the speakers of your own mixture are not known, expected the enrolment 'own file' or 'silence'")
    elif kind == "wrong" and mixture.wrong_enroll is None:
        raise HifitseError("the target of this mixture is absent or alone, so no interferer is enrolled; expected another enrolment")
    est = estimate(extractor, [mixture], "right" if kind == "own" else kind, "cpu")[0].numpy()
    clips = {"mixture": mixture.mix}
    clips |= {"target": mixture.target} if mixture.target.any() else {}
    enroll = {"wrong": mixture.wrong_enroll, "zero": np.zeros_like(mixture.enroll)}.get(kind, mixture.enroll)
    label = next(name for name, value in ENROLMENTS.items() if value == kind)
    about = f"{'own mixture' if is_own else 'test mixture ' + str(mixture.metadata['index'])}, enrolment: {label}"
    heard = Heard(clips | {"estimate": est, "enrolment": enroll[0]}, measured(mixture, est, is_own), about)
    if kind == "zero" or getattr(extractor, "verifier", None) is None:  # a user's model may be any function
        return heard
    alike = likeness(extractor.verifier, est, enroll, listening.FRAME_SECONDS)
    return replace(heard, likeness=alike, threshold=extractor.origin.metrics.get("presence", {}).get("threshold_likeness"))


def measured(mixture: Mixture, est: np.ndarray, is_own: bool) -> str:
    """Describe SI-SDR before and after, and SI-SDRi, in one sentence."""
    target = torch.from_numpy(mixture.target)
    if is_own:
        return "The target in a mixture of your own is not known, so nothing is measured."
    if not target.any():
        return "The target is silent in this mixture: silence is right."
    before, after = (float(si_sdr(torch.from_numpy(signal), target)) for signal in (mixture.mix, est))
    shown = [tables.number(value, 1, True) for value in (after - before, before, after)]
    return f"SI-SDRi {shown[0]} dB: SI-SDR {shown[1]} dB before, {shown[2]} dB after."


def shown(heard: Heard) -> HTML:
    """Display the sentence, spectrograms on one colour scale, and players with one gain."""
    clips = {name: clip for name, clip in heard.clips.items() if name != "enrolment"}
    # As HTML, because JupyterLab drops the alternative text of an image.
    picture = page.image(figures.png(listening.spectrograms(clips)), f"Spectrograms of {', '.join(clips)}; {heard.about}. {heard.said}")
    gain_db = 20 * math.log10(listening.common_gain(heard.clips))
    gain = f"All players have one gain, {tables.number(gain_db, 1, True)} dB; the mixture's own level is "
    level = f"{tables.number(audio.level_db(clips['mixture']), 1)} dBFS."
    if heard.likeness is not None:
        levels = {name: listening.level_db(clips[name]) for name in ("mixture", "estimate")}
        curves = figures.presence(listening.times(heard.likeness), levels, None, heard.likeness, heard.threshold)
        picture += page.image(figures.png(curves), f"Levels, and likeness of the estimate to the enrolment, over time; {heard.about}.")
    listen = listening.players(heard.clips, heard.about)
    return HTML(f"<style>{page.FRAGMENTS}</style><p><b>{heard.said}</b></p>{picture}<p>{gain}{level}</p>{listen}")
