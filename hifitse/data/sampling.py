"""Draw the pieces of recordings for a scene: speech, cropped where there is some and joined if an utterance is too short; noise that is not
a pause; rooms. Also align and measure room responses, recorded or synthetic.
"""

import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import ceil

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Clips
from hifitse.data.manifest import CorpusError, Utterance
from hifitse.data.reader import Reader, Recent
from hifitse.data.scene import File, Noise, Piece, Segment

FRAME = SAMPLE_RATE // 50  # activity is determined in frames of 20 ms
ACTIVE_DB = -35.0  # a frame is active above this level relative to the 95th percentile of its utterance's frames
MIN_ACTIVITY = 0.4  # smallest share of active frames in a crop; if a few draws do not reach it, the most active crop is taken
SILENT_RMS = 1e-4  # -80 dBFS: an utterance whose loud frames stay below is silent and not used
WHOLE_S = 20.0  # of a longer utterance only a part is analysed, a different one each time
PART_S = 10.0  # length of such a part, or twice the requested length if that is more
GAP_S = (0.1, 0.3)  # silence between joined utterances
NOISE_TRIES = 100  # in a folder of which nine tenths are pauses, one mixture in 40,000 would find no noise
LOUD_POWER, SILENT_POWER = 1e-5, 1e-8  # -50 and -80 dBFS: a louder piece is always used, a quieter one is silent and drawn again
PAUSE = 1e-4  # a piece between the two is a pause if 40 dB below its file: scaled to the level of noise, its dither would be audible
PROBES = 16  # pieces of 1 s by which the level of a file is measured


# ---- speech


@dataclass(frozen=True)
class ActivityMask:
    """Where an utterance has speech."""

    active: np.ndarray  # (L,) bool, by frame; the last frame may be partial
    gain: float  # scales its loud frames to RMS 1
    start: int = 0  # sample of the file at which the first frame begins


Line = list[tuple[int, Utterance, ActivityMask]]  # one after the other, each with the frame at which it begins


@dataclass
class SpeechSampler:
    """Draws stretches of speech.

    An utterance of up to 20 s is decoded whole once to find its speech, and its mask is kept (at most 64 MB), ``None`` if it is silent or
    broken. Of a longer one, 10 s or more are analysed each time."""

    reader: Reader
    masks: Recent = field(default_factory=Recent)

    def draw(
        self, rng: np.random.Generator, first: Iterable[Utterance], reserve: Iterable[Utterance], samples: int, speed: float,
        least: float = MIN_ACTIVITY, around_s: float = 0.0,
    ) -> Segment:  # fmt: skip
        """Draw a stretch of exactly ``samples`` samples with speech in it; raise CorpusError if every utterance is silent or broken.

        Utterances are taken in the given order until they are long enough, all at one level, joined with gaps of 0.1 to 0.3 s, and repeated
        if there are no more. ``reserve`` is used only if nothing in ``first`` is usable.

        Args:
            least: smallest share of active frames in a crop, 0 to 1; 0 takes the first place drawn, even if it is all silence.
            around_s: s, silence added before and after each utterance, into which a crop may extend."""
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
        """Find the speech in utterances, as the first mixtures that use them do; in forked processes if ``workers`` is above 0."""
        short = [each for each in utterances if each.samples <= WHOLE_S * SAMPLE_RATE]
        if not workers:
            self._look(short)
            return
        # not multiprocessing's Pool, which ends its processes by SIGTERM, for which a training has its own handler
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            for found in pool.map(self._look, [short[number::workers] for number in range(workers)]):
                for path, mask in found.items():
                    self.masks.get(path, partial(_sized, mask))

    def _look(self, utterances: Sequence[Utterance]) -> dict[str, ActivityMask | None]:
        found = {}
        for each in utterances:
            found[each.path] = self._mask(np.random.default_rng(0), each, 1)
            self.reader.forget()
        return found

    def _line(self, rng: np.random.Generator, first: Iterable[Utterance], reserve: Iterable[Utterance], frames: int, around: int) -> Line:
        """Join utterances to at least ``frames`` frames, with ``around`` frames of silence before and after each."""
        line: Line = []
        end = 0

        def more() -> Iterable[Utterance]:  # lazy: a long list is read only as far as needed
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
        """Return where an utterance, or a random part of a long one, has speech; ``None`` if it has none or is broken."""
        def heard(start: int, samples: int) -> ActivityMask | None:
            with suppress(HifitseError):
                return activity_mask(self.reader.look(utterance, start, samples), start)
            return None

        if utterance.samples > max(WHOLE_S * SAMPLE_RATE, 2 * frames * FRAME):
            # a part that is silent or broken is not remembered: rng would then depend on what was drawn before
            part = max(round(PART_S * SAMPLE_RATE), 2 * frames * FRAME)
            return heard(int(rng.integers(utterance.samples - part + 1)), part)
        return self.masks.get(utterance.path, lambda: _sized(heard(0, utterance.samples)))


def _sized(mask: ActivityMask | None) -> tuple[ActivityMask | None, int]:
    """Return a mask and its size in bytes, including overhead."""
    return mask, 400 + (len(mask.active) if mask else 0)


def activity_mask(speech: np.ndarray, start: int = 0) -> ActivityMask | None:
    """Find the active frames of a signal (T,); return ``None`` if it is silent."""
    framed = audio.crop_or_pad(speech, ceil(len(speech) / FRAME) * FRAME).reshape(-1, FRAME)  # (T,) -> (L, FRAME)
    power = np.einsum("lt,lt->l", framed, framed) / FRAME
    loud = float(np.percentile(power, 95)) if len(power) else 0.0
    if loud < SILENT_RMS**2:
        return None
    return ActivityMask(power > loud * 10 ** (ACTIVE_DB / 10), loud**-0.5, start)


def _place(rng: np.random.Generator, active: np.ndarray, frames: int, least: float) -> tuple[int, float]:
    """Return the first of ``frames`` frames and their share of active ones: of four draws the first active enough, else the best place."""
    count = np.concatenate([[0], np.cumsum(active)])
    share = (count[frames:] - count[:-frames]) / frames  # by first frame
    draws = rng.integers(len(share), size=4)
    start = int(next((draw for draw in draws if share[draw] >= least), np.argmax(share)))
    return start, float(share[start])


# ---- noise and rooms


class Acoustics:
    """Noises and rooms of one split, ``None`` if the parameters need none; decoded noise is kept up to ``limit`` bytes."""

    def __init__(self, noises: Clips | None, rooms: Clips | None, reverb_prob: float, limit: int) -> None:
        self.noises, self.rooms, self.reverb_prob = noises, rooms, reverb_prob
        self.reader = Reader(noises.root, limit) if noises else None
        self._powers: dict[str, float] = {}
        self._frames = Recent()
        self._groups = list(rooms.groups.items()) if rooms else []

    def room(self, rng: np.random.Generator, talkers: int, prob: float | None = None) -> tuple[str | None, list[File]]:
        """Draw a room, and a response for each talker, at different positions as far as it has enough, with probability ``prob`` (``None``:
        ``reverb_prob``); at 0, nothing is drawn. Raise CorpusError if a room is needed but none are loaded."""
        prob = self.reverb_prob if prob is None else prob
        if prob == 0 or rng.random() >= prob:
            return None, []
        if not self._groups:
            raise CorpusError("a room is needed but none are loaded, expected reverb_prob above 0 or eval_enroll 'reverberant'")
        name, positions = self._groups[rng.integers(len(self._groups))]
        order = rng.permutation(len(positions))
        clips = [positions[order[number % len(order)]] for number in range(talkers)]
        return name, [File(clip.path, clip.samples) for clip in clips]

    def noise(self, rng: np.random.Generator, samples: int) -> Noise:
        """Draw a piece of noise that is neither silent nor a pause; raise CorpusError if none is loaded or all draws are silent."""
        if self.noises is None:
            raise CorpusError("noise is needed but none is loaded, expected noise_prob or noisy_enroll_prob above 0 or eval_enroll 'noisy'")
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
        """Return the mean square of a piece. Recordings of up to 20 s are decoded whole once for it, of longer ones the piece each time."""
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
        """Return whether a piece of power ``found`` is the noise of its file, not a pause in it."""
        if LOUD_POWER > found > SILENT_POWER and clip.path not in self._powers:
            starts = np.linspace(0, max(0, clip.samples - SAMPLE_RATE), PROBES).astype(int)
            self._powers[clip.path] = float(np.mean([power(self.noises.read(clip, start, SAMPLE_RATE)) for start in starts]))
        return found > max(SILENT_POWER, PAUSE * self._powers.get(clip.path, 0))


def power(signal: np.ndarray) -> float:
    """Return the mean square of (T,); never 0, so that it can be a divisor."""
    # einsum runs on one thread, so that every process sums in the same order.
    return max(float(np.einsum("t,t->", signal, signal)) / max(1, len(signal)), 1e-20)


def _checked(rir: np.ndarray) -> np.ndarray:
    rir = np.asarray(rir, np.float32)
    if rir.ndim != 1 or not np.isfinite(rir).all() or not rir.any():
        raise HifitseError(f"room response of shape {rir.shape} is not usable, expected (T,) with finite values, not all 0")
    return rir


def direct_path(rir: np.ndarray) -> int:
    """Return the index of the direct path: the first peak above a third of the response's largest absolute value."""
    size = np.abs(_checked(rir))
    first = int(np.argmax(size > size.max() / 3))
    return first + int(np.argmax(np.diff(size[first:], append=0) <= 0))  # to the top of the slope


def align(rir: np.ndarray) -> np.ndarray:
    """Crop a response (T,) so that sample 0 is its direct path, and scale it so that this sample is 1: (T',) float32.
    A signal convolved with it and cropped to its own length stays in time with the dry signal."""
    rir = _checked(rir)
    start = direct_path(rir)
    return rir[start:] / rir[start]


def t60(rir: np.ndarray) -> float:
    """Return the T60 of a response (T,) in s, extrapolated from -5 to -25 dB (T20) of Schroeder's backward integral of its energy."""
    rir = _checked(rir).astype(np.float64)
    energy = np.cumsum(np.square(rir[direct_path(rir) :])[::-1])[::-1]
    decay_db = 10 * np.log10(np.maximum(energy / energy[0], 1e-12))
    used = np.flatnonzero((decay_db <= -5) & (decay_db >= -25))
    if len(used) < 10 or decay_db[-1] > -25:
        raise HifitseError(f"room response decays by only {-decay_db[-1]:.0f} dB or abruptly, expected a gradual decay by 25 dB or more")
    slope = np.polyfit(used / SAMPLE_RATE, decay_db[used], 1)[0]  # dB/s
    return float(-60 / slope)
