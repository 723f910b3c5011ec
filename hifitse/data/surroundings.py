"""What is around the talkers: a piece of noise, a room."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.fft import rfft

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import rooms, synthetic
from hifitse.data.clips import Clip, Clips, load_clips, merged_clips
from hifitse.data.convolver import Convolver, transform_length
from hifitse.data.corpus import CorpusError
from hifitse.data.manifest import sources
from hifitse.data.recent import Recent
from hifitse.data.segments import Segments
from hifitse.params import Params

FADE_S = 0.01
"""s: crossfade where a looped noise meets itself."""

NOISE_TRIES = 8
SILENT_POWER = 1e-12
"""-120 dBFS: mean square below which a piece of noise is silent, and drawn anew."""


class Surroundings:
    """Noises and rooms of one split; ``None`` where the parameters need none. Keeps at most 64 MB of responses a process,
    or ``cache_mb`` where that is more, and as many decoded noises as ``segments`` allows.

    What only the enrolments of the evaluation need (``eval_enroll``) is not there for the training.
    """

    def __init__(self, params: Params, split: Literal["train", "valid", "test"], segments: Segments | None = None) -> None:
        self.segments = segments or Segments()
        shares = (params.valid_share, params.test_share, params.corpus_seed)
        self.noises: Clips | None = None
        asked = params.eval_enroll if split != "train" else "drawn"
        if params.noise_prob > 0 or max(params.noisy_enroll_prob) > 0 or asked == "noisy":
            self.noises = merged_clips([load_clips(each, "noise") for each in _noise_folders(params)]).split(*shares)[split]
        self.rooms: Clips | None = None
        if params.reverb_prob > 0 or asked == "reverberant":
            self.rooms = merged_clips([load_clips(each, "room") for each in _room_folders(params)]).split(*shares)[split]
        self.reverb_prob = params.reverb_prob
        self._rates: dict[str, bool] = {}
        self._groups = list(self.rooms.groups.items()) if self.rooms else []
        self._recent = Recent(max(Recent().limit, self.segments.limit))
        self._convolver = Convolver()

    def room(self, rng: np.random.Generator, talkers: int, prob: float | None = None) -> tuple[str | None, list[Clip]]:
        """A room and a response for each talker: other positions as far as the room has some.

        As often as ``prob`` says, ``None``: ``reverb_prob``; where that is 0 nothing is drawn.

        Raises:
            CorpusError: a room is asked for, and none are loaded.
        """
        prob = self.reverb_prob if prob is None else prob
        if prob == 0 or rng.random() >= prob:
            return None, []
        if not self._groups:
            raise CorpusError("a room is asked for and none are loaded, allowed is that with reverb_prob above 0, or for eval_enroll")
        name, positions = self._groups[rng.integers(len(self._groups))]
        order = rng.permutation(len(positions))
        return name, [positions[order[number % len(order)]] for number in range(talkers)]

    def reverberate(self, dry: np.ndarray, responses: list[Clip]) -> np.ndarray:
        """Each row convolved with its aligned response, (S, T) -> (S, T); what rings on beyond the end is cut."""
        samples = dry.shape[-1]
        size = transform_length(samples + min(max(response.samples for response in responses), samples))
        return self._convolver.convolve(dry, [self._spectrum(response, samples, size) for response in responses])

    def _spectrum(self, clip: Clip, samples: int, size: int) -> np.ndarray:
        """Fourier transform of an aligned response's first ``samples`` samples."""
        def make() -> tuple[np.ndarray, int]:
            spectrum = rfft(rooms.align(self.rooms.read(clip))[:samples].astype(np.float32, copy=False), size)
            return spectrum, spectrum.nbytes

        return self._recent.get((clip.path, samples, size), make)

    def _read(self, clip: Clip, start: int, samples: int) -> np.ndarray:
        """A stretch of a noise, (T,); from memory where the whole of it may be kept."""
        # Of a resampled file a part read alone may differ in the last bit from the same part of the whole.
        if self.segments.holds(clip.samples) and self._at_48k(clip):
            return self.segments.read(clip.path, start, samples, lambda: self.noises.read(clip))
        return self.noises.read(clip, start, samples)

    def _at_48k(self, clip: Clip) -> bool:
        if clip.path not in self._rates:
            self._rates[clip.path] = audio.info(self.noises.root / clip.path).sample_rate == SAMPLE_RATE
        return self._rates[clip.path]

    def noise(self, rng: np.random.Generator, samples: int) -> tuple[np.ndarray, dict[str, Any]]:
        """A piece of a noise recording, (T,), looped where the recording is shorter; its file and start.

        Raises:
            CorpusError: no noises are loaded, or they are silent.
        """
        if self.noises is None:
            raise CorpusError("noise is asked for and none is loaded, allowed is that with noise_prob above 0, or for eval_enroll")
        reason = "every piece drawn was silent"
        for _ in range(NOISE_TRIES):
            clip = self.noises.clips[rng.integers(len(self.noises.clips))]
            start = int(rng.integers(max(1, clip.samples - samples + 1)))
            try:
                noise = self._read(clip, start, samples)
            except HifitseError as error:
                reason = str(error)
                continue
            if len(noise) and power(noise) > SILENT_POWER:
                noise = loop(noise, samples) if len(noise) < samples else noise
                return noise, {"noise": clip.path, "noise_start_s": start / SAMPLE_RATE}
        raise CorpusError(f"noise folder {self.noises.root} gave no sound in {NOISE_TRIES} draws: {reason}")


def _noise_folders(params: Params) -> list[Path | str]:
    made = partial(synthetic.make_noise, params.corpus_seed, params.synthetic_noises)
    return [made() if each == "synthetic" else each for each in sources(params.noise)]


def _room_folders(params: Params) -> list[Path | str]:
    made = partial(rooms.make_bank, params.synthetic_rooms, params.corpus_seed)
    return [made() if each == "synthetic" else each for each in sources(params.rooms)]


def power(signal: np.ndarray) -> float:
    """Mean square of (T,); never 0, so that it can be divided by."""
    # einsum runs on one thread, so that the sum has one order in every process.
    return max(float(np.einsum("t,t->", signal, signal)) / max(1, len(signal)), 1e-20)


def loop(signal: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a signal to a length, its end crossfaded into its beginning at equal power, (T,) -> (samples,)."""
    fade = min(round(FADE_S * SAMPLE_RATE), len(signal) // 2)
    cycle = signal[: len(signal) - fade].copy()
    angle = np.linspace(0, np.pi / 2, fade, endpoint=False, dtype=np.float32)
    head = cycle[:fade].copy()
    cycle[:fade] = head * np.sin(angle) + signal[len(signal) - fade :] * np.cos(angle)
    tiled = np.resize(cycle, samples)
    tiled[:fade] = signal[: min(fade, samples)]  # nothing comes before the first round
    return tiled
