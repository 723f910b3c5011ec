"""What is around the talkers: pieces of noise, rooms, and what is needed to use any room response, made or measured."""

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.corpus import Clips
from hifitse.data.manifest import CorpusError, Utterance
from hifitse.data.reader import Reader, Recent
from hifitse.data.scene import File, Noise
from hifitse.data.talker import FRAME, WHOLE_S

NOISE_TRIES = 100  # in a folder of which nine tenths are pauses, one mixture in 40,000 would find none
LOUD_POWER, SILENT_POWER = 1e-5, 1e-8  # -50 and -80 dBFS: a louder piece is taken as it is, a fainter one is silent, and drawn again
PAUSE = 1e-4  # a piece between the two is a pause where it lies 40 dB below its file: at the level of noise, dither would be heard
PROBES = 16  # seconds of a file by which its level is known


class RoomError(HifitseError):
    """A room response that is silent, not finite, not one-dimensional or, for its T60, does not decay."""


class Acoustics:
    """Noises and rooms of one split, ``None`` where the parameters need none; noise is kept decoded up to ``limit`` bytes."""

    def __init__(self, noises: Clips | None, rooms: Clips | None, reverb_prob: float, limit: int) -> None:
        self.noises, self.rooms, self.reverb_prob = noises, rooms, reverb_prob
        self.reader = Reader(noises.root, limit) if noises else None
        self._powers: dict[str, float] = {}
        self._frames = Recent()
        self._groups = list(rooms.groups.items()) if rooms else []

    def room(self, rng: np.random.Generator, talkers: int, prob: float | None = None) -> tuple[str | None, list[File]]:
        """A room and a response for each talker, of other positions as far as it has some, as often as ``prob`` (``reverb_prob``) says.
        Where that is 0 nothing is drawn. CorpusError where a room is asked for, and none are loaded."""
        prob = self.reverb_prob if prob is None else prob
        if prob == 0 or rng.random() >= prob:
            return None, []
        if not self._groups:
            raise CorpusError("a room is asked for and none are loaded, expected parameters with reverb_prob above 0, or for eval_enroll")
        name, positions = self._groups[rng.integers(len(self._groups))]
        order = rng.permutation(len(positions))
        clips = [positions[order[number % len(order)]] for number in range(talkers)]
        return name, [File(clip.path, clip.samples) for clip in clips]

    def noise(self, rng: np.random.Generator, samples: int) -> Noise:
        """A piece of a noise recording that is neither silent nor a pause; CorpusError where none are loaded, or all are silent."""
        if self.noises is None:
            raise CorpusError("noise is asked for and none is loaded, expected parameters with noise_prob above 0, or for eval_enroll")
        reason: object = "every piece drawn was silent"
        for _ in range(NOISE_TRIES):
            clip = self.noises.clips[rng.integers(len(self.noises.clips))]
            start = int(rng.integers(max(1, clip.samples - samples + 1)))
            try:
                if self._heard(clip, self._power(clip, start, samples)):
                    return Noise(File(clip.path, clip.samples, clip.sample_rate), start)
            except HifitseError as error:
                reason = error
        raise CorpusError(f"noise folder {self.noises.root} gave no sound in {NOISE_TRIES} draws: {reason}")

    def _power(self, clip: Utterance, start: int, samples: int) -> float:
        """Mean square of a piece; a recording of up to 20 s is decoded whole once for that, of a longer one the piece each time."""
        def frames() -> tuple[np.ndarray, int]:
            sound = self.reader.look(clip, 0, clip.samples)
            framed = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)  # (L, FRAME)
            found = np.einsum("lt,lt->l", framed, framed) / FRAME
            return found, found.nbytes + 400

        inside = slice(-(-start // FRAME), (start + samples) // FRAME)
        if clip.samples <= WHOLE_S * SAMPLE_RATE and len(known := self._frames.get(clip.path, frames)[inside]):
            return float(known.mean())
        return power(self.reader.look(clip, start, samples))

    def _heard(self, clip: Utterance, found: float) -> bool:
        """Whether a piece with power ``found`` is the noise of its file, and not a pause in it."""
        if LOUD_POWER > found > SILENT_POWER and clip.path not in self._powers:
            starts = np.linspace(0, max(0, clip.samples - SAMPLE_RATE), PROBES).astype(int)
            self._powers[clip.path] = float(np.mean([power(self.noises.read(clip, start, SAMPLE_RATE)) for start in starts]))
        return found > max(SILENT_POWER, PAUSE * self._powers.get(clip.path, 0))


def power(signal: np.ndarray) -> float:
    """Mean square of (T,); never 0, so that it can be divided by."""
    # einsum runs on one thread, so that the sum has one order in every process.
    return max(float(np.einsum("t,t->", signal, signal)) / max(1, len(signal)), 1e-20)


# ---- room responses


def _checked(rir: np.ndarray) -> np.ndarray:
    rir = np.asarray(rir, np.float32)
    if rir.ndim != 1 or not np.isfinite(rir).all() or not rir.any():
        raise RoomError(f"room response of shape {rir.shape} is not usable, expected (T,) with finite values, not all 0")
    return rir


def direct_path(rir: np.ndarray) -> int:
    """Index of the direct path: the first peak that exceeds a third of the response's largest value."""
    size = np.abs(_checked(rir))
    first = int(np.argmax(size > size.max() / 3))
    return first + int(np.argmax(np.diff(size[first:], append=0) <= 0))  # to the top of the slope


def align(rir: np.ndarray) -> np.ndarray:
    """A response (T,) cut so that its direct path is sample 0, and scaled so that it is 1: (T',) float32.
    A signal convolved with it, cut to its own length, stays in time with the dry signal."""
    rir = _checked(rir)
    start = direct_path(rir)
    return rir[start:] / rir[start]


def t60(rir: np.ndarray) -> float:
    """Reverberation time of a response (T,) in s: three times the decay from -5 to -25 dB (T20) of Schroeder's backward integral."""
    rir = _checked(rir).astype(np.float64)
    energy = np.cumsum(np.square(rir[direct_path(rir) :])[::-1])[::-1]
    decay_db = 10 * np.log10(np.maximum(energy / energy[0], 1e-12))
    used = np.flatnonzero((decay_db <= -5) & (decay_db >= -25))
    if len(used) < 10 or decay_db[-1] > -25:
        raise RoomError(f"room response decays by {-decay_db[-1]:.0f} dB only or at once, expected a gradual decay by 25 dB or more")
    slope = np.polyfit(used / SAMPLE_RATE, decay_db[used], 1)[0]  # dB a second
    return float(-60 / slope)
