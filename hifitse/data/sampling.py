"""Pieces of recordings that a scene is drawn from: speech, cropped where there is some and joined where an utterance is too short; noise
that is no pause; rooms. And what any room response needs, made or measured.
"""

import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import ceil

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Clips
from hifitse.data.manifest import CorpusError, Utterance
from hifitse.data.reader import Reader, Recent
from hifitse.data.scene import File, Noise, Piece, Segment

FRAME = SAMPLE_RATE // 50  # activity is counted in frames of 20 ms
ACTIVE_DB = -35.0  # a frame is active above this, relative to its utterance's 95th percentile of frame levels
MIN_ACTIVITY = 0.4  # least share of active frames in a crop; where some draws do not reach it, the most active crop is taken
SILENT_RMS = 1e-4  # -80 dBFS: an utterance whose loud frames stay below is silent, and not used
WHOLE_S = 20.0  # of a longer utterance only a part is looked at, each time another one
PART_S = 10.0  # length of such a part, or twice what is asked for where that is more
GAP_S = (0.1, 0.3)  # silence between joined utterances
NOISE_TRIES = 100  # in a folder of which nine tenths are pauses, one mixture in 40,000 would find none
LOUD_POWER, SILENT_POWER = 1e-5, 1e-8  # -50 and -80 dBFS: a louder piece is taken as it is, a fainter one is silent, and drawn again
PAUSE = 1e-4  # a piece between the two is a pause where it lies 40 dB below its file: at the level of noise, dither would be heard
PROBES = 16  # seconds of a file by which its level is known


# ---- speech


@dataclass(frozen=True)
class ActivityMask:
    """Where an utterance has speech."""

    active: np.ndarray  # (L,) bool, by frame; the last may be a part of one
    gain: float  # brings its loud frames to RMS 1
    start: int = 0  # sample of the file at which the first frame begins


Line = list[tuple[int, Utterance, ActivityMask]]  # one after the other, with the frame at which each begins


@dataclass
class SpeechSampler:
    """Draws stretches of speech.
    An utterance of up to 20 s is decoded whole once, to see where it has speech; that is remembered (64 MB at most). Of a longer one 10 s
    or more are looked at each time. ``unusable`` has the reason by path of each file found silent or broken on the way.
    """

    reader: Reader
    masks: Recent = field(default_factory=Recent)
    unusable: dict[str, str] = field(default_factory=dict)

    def draw(
        self, rng: np.random.Generator, first: Iterable[Utterance], reserve: Iterable[Utterance], samples: int, speed: float,
        least: float = MIN_ACTIVITY, around_s: float = 0.0,
    ) -> Segment:  # fmt: skip
        """A stretch of exactly ``samples`` samples with speech in it; CorpusError where every utterance is silent or broken.

        Utterances are taken in the given order until there is enough, each at the same level, with gaps of 0.1 to 0.3 s, and repeated
        where there is no further one. ``reserve`` is touched only where nothing in ``first`` is usable.

        Args:
            least: share of active frames that a crop should have, 0 to 1; 0 takes the first place drawn, be it silence throughout.
            around_s: s, silence that is put before and after each utterance, into which a crop may fall."""
        frames = ceil(ceil(samples * speed) / FRAME)
        around = round(around_s * SAMPLE_RATE / FRAME)
        line = self._line(rng, first, reserve, frames, around)
        joined = np.zeros(max(at + len(mask.active) for at, _, mask in line) + around, bool)
        for at, _, mask in line:
            joined[at : at + len(mask.active)] = mask.active
        start, activity = _place(rng, joined, frames, least)
        pieces, names = [], []
        for at, said, mask in line:
            low, high = max(at, start), min(at + len(mask.active), start + frames)
            if low < high:
                file, begin = File(said.path, said.samples, said.sample_rate), mask.start + (low - at) * FRAME
                pieces.append(Piece(file, begin, (high - low) * FRAME, (low - start) * FRAME, mask.gain))
                names.append(said.utterance)
        return Segment(tuple(names), tuple(pieces), frames * FRAME, samples, speed, start * FRAME / SAMPLE_RATE, activity)

    def look(self, utterances: Sequence[Utterance], workers: int = 0) -> None:
        """See where utterances have speech, as the first mixtures that use them do, in forked processes if there are to be workers."""
        short = [each for each in utterances if each.samples <= WHOLE_S * SAMPLE_RATE]
        if not workers:
            self._look(short)
            return
        # not multiprocessing's Pool, which ends its processes by a signal that a training has a handler of its own for
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            for found, unusable in pool.map(self._look, [short[number::workers] for number in range(workers)]):
                self.unusable |= unusable
                for path, mask in found.items():
                    self.masks.get(path, partial(_sized, mask))

    def _look(self, utterances: Sequence[Utterance]) -> tuple[dict[str, ActivityMask | None], dict[str, str]]:
        found = {}
        for each in utterances:
            found[each.path] = self._mask(np.random.default_rng(0), each, 1)
            self.reader.forget()
        return {path: mask for path, mask in found.items() if mask}, self.unusable

    def _line(self, rng: np.random.Generator, first: Iterable[Utterance], reserve: Iterable[Utterance], frames: int, around: int) -> Line:
        """Utterances of ``frames`` frames together at least, with the ``around`` frames of silence before and after each."""
        line: Line = []
        end = 0

        def more() -> Iterable[Utterance]:  # a long list is read no further than needed
            yield from first
            if not line:
                yield from reserve
            while line:
                yield from [utterance for _, utterance, _ in line]

        for utterance in more():
            if (mask := self._mask(rng, utterance, frames)) is None:
                continue
            at = around + (end + round(rng.uniform(*GAP_S) * SAMPLE_RATE / FRAME) if line else 0)
            line.append((at, utterance, mask))
            end = at + len(mask.active) + around
            if end >= frames:
                return line
        raise CorpusError(f"speaker {utterance.speaker} has only silent or broken utterances, expected one with speech")

    def _mask(self, rng: np.random.Generator, utterance: Utterance, frames: int) -> ActivityMask | None:
        """Where an utterance, or a random part of a long one, has speech; ``None`` where it has none."""
        if utterance.path in self.unusable:
            return None
        try:
            if utterance.samples > max(WHOLE_S * SAMPLE_RATE, 2 * frames * FRAME):
                part = max(round(PART_S * SAMPLE_RATE), 2 * frames * FRAME)
                start = int(rng.integers(utterance.samples - part + 1))
                return activity_mask(self.reader.look(utterance, start, part), start)
            found = self.masks.get(utterance.path, lambda: _sized(activity_mask(self.reader.look(utterance, 0, utterance.samples))))
        except HifitseError as error:
            self.unusable[utterance.path] = str(error)
            return None
        if found is None:
            self.unusable[utterance.path] = f"file {utterance.path} is silent, expected speech above -80 dBFS"
        return found


def _sized(mask: ActivityMask | None) -> tuple[ActivityMask | None, int]:
    """A mask, and the bytes that it takes with the objects around it."""
    return mask, 400 + (len(mask.active) if mask else 0)


def activity_mask(speech: np.ndarray, start: int = 0) -> ActivityMask | None:
    """Find the active frames of a signal (T,); ``None`` where it is silent."""
    framed = audio.crop_or_pad(speech, ceil(len(speech) / FRAME) * FRAME).reshape(-1, FRAME)  # (T,) -> (L, FRAME)
    power = np.einsum("lt,lt->l", framed, framed) / FRAME
    loud = float(np.percentile(power, 95)) if len(power) else 0.0
    if loud < SILENT_RMS**2:
        return None
    return ActivityMask(power > loud * 10 ** (ACTIVE_DB / 10), loud**-0.5, start)


def _place(rng: np.random.Generator, active: np.ndarray, frames: int, least: float) -> tuple[int, float]:
    """First of ``frames`` frames, and the share of active ones: of a few draws the first that is active enough, or the best place."""
    count = np.concatenate([[0], np.cumsum(active)])
    share = (count[frames:] - count[:-frames]) / frames  # by first frame
    draws = rng.integers(len(share), size=4)
    start = int(next((draw for draw in draws if share[draw] >= least), np.argmax(share)))
    return start, float(share[start])


# ---- noise and rooms


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


def _checked(rir: np.ndarray) -> np.ndarray:
    rir = np.asarray(rir, np.float32)
    if rir.ndim != 1 or not np.isfinite(rir).all() or not rir.any():
        raise HifitseError(f"room response of shape {rir.shape} is not usable, expected (T,) with finite values, not all 0")
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
        raise HifitseError(f"room response decays by {-decay_db[-1]:.0f} dB only or at once, expected a gradual decay by 25 dB or more")
    slope = np.polyfit(used / SAMPLE_RATE, decay_db[used], 1)[0]  # dB a second
    return float(-60 / slope)
