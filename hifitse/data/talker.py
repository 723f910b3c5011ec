"""One speaker's stretch of speech: cropped where there is speech, joined from utterances where one is too short."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Corpus, CorpusError, Utterance
from hifitse.data.recent import Recent
from hifitse.data.segments import Segments

FRAME = SAMPLE_RATE // 50
"""Samples of the 20 ms frames in which activity is counted."""

ACTIVE_DB = -35.0
"""A frame is active above this, relative to its utterance's 95th percentile of frame levels."""

MIN_ACTIVITY = 0.4
"""Least share of active frames in a crop, if not said otherwise; where some draws do not reach it, the most active crop is taken."""

SILENT_RMS = 1e-4
"""-80 dBFS: an utterance whose loud frames stay below is silent, and not used."""

WHOLE_S = 20.0
"""s: of a longer utterance only a part is looked at, each time another one."""

PART_S = 10.0
"""s: length of such a part, or twice what is asked for where that is more."""

GAP_S = (0.1, 0.3)
"""s: silence between joined utterances."""


@dataclass(frozen=True)
class Survey:
    """Where an utterance has speech: its level and its mask, not its audio.

    Attributes:
        active: (L,) bool, by 20 ms frame; the last frame may be a part of one.
        gain: factor that brings its loud frames to RMS 1.
        start: sample of the file at which the first frame begins.
    """

    active: np.ndarray
    gain: float
    start: int = 0


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
    """Draws stretches of speech from a corpus.

    An utterance of up to 20 s is decoded whole once, to see where it has speech; that is remembered (64 MB at most), its audio as far as
    ``segments`` allows, and what is read from then on is the crop. Of a longer one 10 s or more are read each time. ``unusable`` has the
    reason by path of each file found silent or broken on the way.
    """

    corpus: Corpus
    segments: Segments = field(default_factory=Segments)
    surveys: Recent = field(default_factory=Recent)
    unusable: dict[str, str] = field(default_factory=dict)
    _fresh: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict)
    """By path what was just read to be looked at, with the sample of the file at which it begins; for the same draw only."""

    def draw(
        self,
        rng: np.random.Generator,
        first: Iterable[Utterance],
        reserve: Iterable[Utterance],
        samples: int,
        speed: float,
        least: float = MIN_ACTIVITY,
        around_s: float = 0.0,
    ) -> Stretch:
        """A stretch of exactly ``samples`` samples with speech in it.

        Utterances are taken in the given order until there is enough, each at the same level, with gaps of 0.1 to 0.3 s, and repeated
        where there is no further one. ``reserve`` is touched only where nothing in ``first`` is usable.

        Args:
            rng: drawn from for the gaps and the crop.
            first, reserve: utterances of one speaker.
            samples: length, above 0.
            speed: factor of :func:`hifitse.audio.change_speed`.
            least: share of active frames that a crop should have, 0 to 1; 0 takes the first place drawn, be it silence throughout.
            around_s: s, silence that is put before and after each utterance, into which a crop may fall.

        Raises:
            CorpusError: every utterance is silent or broken.
        """
        frames = ceil(ceil(samples * speed) / FRAME)
        around = round(around_s * SAMPLE_RATE / FRAME)
        line = self._line(rng, first, reserve, frames, around)
        mask = np.zeros(max(at + len(survey.active) for at, _, survey in line) + around, bool)
        for at, _, survey in line:
            mask[at : at + len(survey.active)] = survey.active
        start, activity = _place(rng, mask, frames, least)
        fresh, self._fresh = self._fresh, {}
        crop = np.zeros(frames * FRAME, np.float32)
        names = []
        for at, utterance, survey in line:
            low, high = max(at, start), min(at + len(survey.active), start + frames)
            if low >= high:
                continue
            begin, length = survey.start + (low - at) * FRAME, (high - low) * FRAME
            if utterance.path in fresh:
                origin, known = fresh[utterance.path]
                read = known[begin - origin : begin - origin + length]
            else:
                read = self._read(utterance, begin, length)
            put = (low - start) * FRAME
            crop[put : put + len(read)] = read * np.float32(survey.gain)
            names.append(utterance.utterance)
        stretch = audio.crop_or_pad(self._faster(crop, speed), samples)
        return Stretch(stretch, tuple(names), start * FRAME / SAMPLE_RATE, activity)

    def look(self, utterance: Utterance) -> None:
        """See where an utterance has speech, as the first mixture that uses it does."""
        self._survey(np.random.default_rng(0), utterance, 1)
        self._fresh.clear()

    def _read(self, utterance: Utterance, start: int, samples: int) -> np.ndarray:
        """A stretch of an utterance, (T,); from memory where the whole of it may be kept."""
        if self.segments.holds(utterance.samples) and (utterance.sample_rate == SAMPLE_RATE or _whole(utterance)):
            return self.segments.read(utterance.path, start, samples, lambda: self.corpus.read(utterance))
        if utterance.sample_rate != SAMPLE_RATE and _whole(utterance):
            # Of a resampled file a part read alone may differ in the last bit from the same part of the whole.
            return self.corpus.read(utterance)[start : start + samples]
        return self.corpus.read(utterance, start, samples)

    def _faster(self, crop: np.ndarray, speed: float) -> np.ndarray:
        """A crop (T,) at another speed."""
        return audio.change_speed(crop, speed)

    def _line(
        self, rng: np.random.Generator, first: Iterable[Utterance], reserve: Iterable[Utterance], frames: int, around: int
    ) -> list[tuple[int, Utterance, Survey]]:
        """Utterances one after the other, with the frame at which each begins, of ``frames`` frames together at least.

        Each has ``around`` frames of silence before and after it, which count among them.
        """
        line: list[tuple[int, Utterance, Survey]] = []
        queue, end = iter(first), 0  # a long list is read no further than needed
        while end < frames:
            utterance = next(queue, None)
            if utterance is None:
                again = [utterance for _, utterance, _ in line]
                queue, reserve = (iter(again), reserve) if again else (iter(reserve), ())
                utterance = next(queue, None)
            if utterance is None:
                speaker = next((utterance.speaker for utterance in first), "?")
                raise CorpusError(f"speaker {speaker} has only silent or broken utterances, needed is one with speech")
            survey = self._survey(rng, utterance, frames)
            if survey is None:
                continue
            at = around + (end + round(rng.uniform(*GAP_S) * SAMPLE_RATE / FRAME) if line else 0)
            line.append((at, utterance, survey))
            end = at + len(survey.active) + around
        return line

    def _survey(self, rng: np.random.Generator, utterance: Utterance, frames: int) -> Survey | None:
        """Where an utterance, or a random part of a long one, has speech; ``None`` where it has none."""
        if utterance.path in self.unusable:
            return None
        try:
            if utterance.samples > max(WHOLE_S * SAMPLE_RATE, 2 * frames * FRAME):
                part = max(round(PART_S * SAMPLE_RATE), 2 * frames * FRAME)
                start = int(rng.integers(utterance.samples - part + 1))
                self._fresh[utterance.path] = start, self._read(utterance, start, part)
                return survey(self._fresh[utterance.path][1], start)
            found = self.surveys.get(utterance.path, lambda: self._first_look(utterance))
        except HifitseError as error:
            self.unusable[utterance.path] = str(error)
            return None
        if found is None:
            self.unusable[utterance.path] = f"file {utterance.path} is silent, needed is speech above -80 dBFS"
        return found

    def _first_look(self, utterance: Utterance) -> tuple[Survey | None, int]:
        """The survey of a whole utterance, and the bytes that it takes with the objects around the mask."""
        speech = self._read(utterance, 0, utterance.samples)
        # Of a resampled file a part read alone may differ in the last bit: then it is always read alone, seen before or not.
        if utterance.sample_rate == SAMPLE_RATE:
            self._fresh[utterance.path] = 0, speech
        found = survey(speech)
        return found, 400 + (len(found.active) if found else 0)


def _whole(utterance: Utterance) -> bool:
    """Whether an utterance is short enough to be decoded whole."""
    return utterance.samples <= WHOLE_S * SAMPLE_RATE


def survey(speech: np.ndarray, start: int = 0) -> Survey | None:
    """Find the active frames of a signal (T,); ``None`` where it is silent."""
    speech = audio.crop_or_pad(speech, ceil(len(speech) / FRAME) * FRAME)
    framed = speech.reshape(-1, FRAME)  # (T,) -> (L, FRAME)
    power = np.einsum("lt,lt->l", framed, framed) / FRAME
    loud = float(np.percentile(power, 95)) if len(power) else 0.0
    if loud < SILENT_RMS**2:
        return None
    return Survey(power > loud * 10 ** (ACTIVE_DB / 10), loud**-0.5, start)


def _place(rng: np.random.Generator, active: np.ndarray, frames: int, least: float) -> tuple[int, float]:
    """First of ``frames`` frames, and the share of active ones: of a few draws the first that is active enough, or the best place."""
    count = np.concatenate([[0], np.cumsum(active)])
    share = (count[frames:] - count[:-frames]) / frames  # by first frame
    for start in rng.integers(len(share), size=4):
        if share[start] >= least:
            return int(start), float(share[start])
    start = int(np.argmax(share))
    return start, float(share[start])
