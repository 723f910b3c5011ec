"""One speaker's stretch of speech: cropped where there is speech, joined from utterances where one is too short."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Corpus, CorpusError, Utterance

FRAME = SAMPLE_RATE // 50
"""Samples of the 20 ms frames in which activity is counted."""

ACTIVE_DB = -35.0
"""A frame is active above this, relative to its utterance's 95th percentile of frame levels."""

MIN_ACTIVITY = 0.4
"""Least share of active frames in a crop; where some draws do not reach it, the most active crop is taken."""

SILENT_RMS = 1e-4
"""-80 dBFS: an utterance whose loud frames stay below is silent, and not used."""

WHOLE_S = 20.0
"""s: of a longer utterance only a part of about this length is read."""

GAP_S = (0.1, 0.3)
"""s: silence between joined utterances."""


class Recent:
    """What was computed last, up to a number of bytes; each process has its own."""

    def __init__(self, limit: int = 64 * 2**20) -> None:
        self.limit = limit
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value kept under ``key``, or that of ``make()``, which returns it with its size in bytes."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value, size = make()
        self._kept[key] = (value, size)
        self._bytes += size
        while self._bytes > self.limit:
            self._bytes -= self._kept.popitem(last=False)[1][1]
        return value


@dataclass(frozen=True)
class Stretch:
    """Speech of one speaker.

    Attributes:
        audio: (T,) float32, of arbitrary level.
        utterances: names of the utterances it was made from, in order.
        start_s: where the crop begins in the joined utterances, s before the change of speed.
        activity: share of active frames, 0 to 1.
    """

    audio: np.ndarray
    utterances: tuple[str, ...]
    start_s: float
    activity: float


@dataclass
class Talkers:
    """Draws stretches of speech from a corpus; ``unusable`` has the reason by path of each file found silent or broken on the way."""

    corpus: Corpus
    recent: Recent = field(default_factory=Recent)
    unusable: dict[str, str] = field(default_factory=dict)

    def draw(
        self, rng: np.random.Generator, first: Sequence[Utterance], reserve: Sequence[Utterance], samples: int, speed: float
    ) -> Stretch:
        """A stretch of exactly ``samples`` samples with speech in it.

        Utterances are taken in the given order until there is enough, each at the same level, with gaps of 0.1 to 0.3 s, and repeated
        where there is no further one. ``reserve`` is touched only where nothing in ``first`` is usable.

        Args:
            rng: drawn from for the gaps and the crop.
            first, reserve: utterances of one speaker.
            samples: length, above 0.
            speed: factor of :func:`hifitse.audio.change_speed`.

        Raises:
            CorpusError: every utterance is silent or broken.
        """
        frames = ceil(ceil(samples * speed) / FRAME)
        pieces: list[tuple[np.ndarray, np.ndarray]] = []
        names: list[str] = []
        queue, usable, have = list(first), [], 0
        while have < frames:
            if not queue:
                queue, reserve = (list(usable), reserve) if usable else (list(reserve), ())
            if not queue:
                speaker = next((utterance.speaker for utterance in first), "?")
                raise CorpusError(f"speaker {speaker} has only silent or broken utterances, needed is one with speech")
            utterance = queue.pop(0)
            piece = self._piece(rng, utterance, frames)
            if piece is None:
                continue
            if pieces:
                gap = round(rng.uniform(*GAP_S) * SAMPLE_RATE / FRAME)
                pieces.append((np.zeros(gap * FRAME, np.float32), np.zeros(gap, bool)))
                have += gap
            pieces.append(piece)
            usable.append(utterance)
            names.append(utterance.utterance)
            have += len(piece[1])
        line, active = (np.concatenate(parts) for parts in zip(*pieces, strict=True)) if len(pieces) > 1 else pieces[0]
        start, activity = _place(rng, active, frames)
        crop = line[start * FRAME : (start + frames) * FRAME]
        stretch = audio.crop_or_pad(audio.change_speed(crop, speed), samples)
        return Stretch(stretch, tuple(names), start * FRAME / SAMPLE_RATE, activity)

    def _piece(self, rng: np.random.Generator, utterance: Utterance, frames: int) -> tuple[np.ndarray, np.ndarray] | None:
        """An utterance, or a part of a long one, with its active frames; ``None`` where there is no speech."""
        if utterance.path in self.unusable:
            return None
        longest = max(round(WHOLE_S * SAMPLE_RATE), 2 * frames * FRAME)
        try:
            if utterance.samples > longest:
                start = int(rng.integers(utterance.samples - longest + 1))
                return self._level(utterance, start, longest)[0]
            piece = self.recent.get(utterance.path, lambda: self._level(utterance, 0, None))
        except HifitseError as error:
            self.unusable[utterance.path] = str(error)
            return None
        if piece is None:
            self.unusable[utterance.path] = f"file {utterance.path} is silent, needed is speech above -80 dBFS"
        return piece

    def _level(self, utterance: Utterance, start: int, samples: int | None) -> tuple[tuple[np.ndarray, np.ndarray] | None, int]:
        """Audio in whole frames with its loud frames at RMS 1, the mask of its active frames, and the bytes of both."""
        speech = self.corpus.read(utterance, start, samples)
        speech = audio.crop_or_pad(speech, ceil(len(speech) / FRAME) * FRAME)
        framed = speech.reshape(-1, FRAME)  # (T,) -> (L, FRAME)
        power = np.einsum("lt,lt->l", framed, framed) / FRAME
        loud = float(np.percentile(power, 95)) if len(power) else 0.0
        if loud < SILENT_RMS**2:
            return None, 0
        speech /= np.sqrt(np.float32(loud))
        return (speech, power > loud * 10 ** (ACTIVE_DB / 10)), speech.nbytes


def _place(rng: np.random.Generator, active: np.ndarray, frames: int) -> tuple[int, float]:
    """First of ``frames`` frames, and the share of active ones: of a few draws the first that is active enough, or the best place."""
    count = np.concatenate([[0], np.cumsum(active)])
    share = (count[frames:] - count[:-frames]) / frames  # by first frame
    for start in rng.integers(len(share), size=4):
        if share[start] >= MIN_ACTIVITY:
            return int(start), float(share[start])
    start = int(np.argmax(share))
    return start, float(share[start])
