"""Where a speaker's stretch of speech comes from: cropped where there is speech, joined from utterances where one is too short."""

import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import ceil

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.manifest import CorpusError, Utterance
from hifitse.data.reader import Reader, Recent
from hifitse.data.scene import File, Piece, Segment

FRAME = SAMPLE_RATE // 50  # activity is counted in frames of 20 ms
ACTIVE_DB = -35.0  # a frame is active above this, relative to its utterance's 95th percentile of frame levels
MIN_ACTIVITY = 0.4  # least share of active frames in a crop; where some draws do not reach it, the most active crop is taken
SILENT_RMS = 1e-4  # -80 dBFS: an utterance whose loud frames stay below is silent, and not used
WHOLE_S = 20.0  # of a longer utterance only a part is looked at, each time another one
PART_S = 10.0  # length of such a part, or twice what is asked for where that is more
GAP_S = (0.1, 0.3)  # silence between joined utterances


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
