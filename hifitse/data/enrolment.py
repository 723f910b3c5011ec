"""Enrolments of a mixture's talkers: which utterances, how they are disturbed, at which level."""

from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.data.acoustics import Acoustics
from hifitse.data.augment import draw_change
from hifitse.data.conditions import Conditions
from hifitse.data.corpus import Corpus, Utterance
from hifitse.data.scene import Enrollment
from hifitse.data.talker import SpeechSampler
from hifitse.params import Params

ENROLL_LEVEL_DB = (-32.0, -20.0)  # dBFS, RMS
ENROLL_SNR_DB = (0.0, 20.0)  # of a noisy enrolment


class Enrolments:
    """Draws enrolments from the corpus and the acoustics of one split."""

    def __init__(self, params: Params, corpus: Corpus, acoustics: Acoustics, sampler: SpeechSampler) -> None:
        self.params, self.corpus, self.acoustics, self.sampler = params, corpus, acoustics, sampler

    def draw(
        self, rng: np.random.Generator, change: np.random.Generator, conditions: Conditions, speaker: str, speed: float,
        used: Set[str], noisy: bool,
    ) -> list[Enrollment]:  # fmt: skip
        """Enrolments of a speaker at one speed, from utterances other than those ``used`` in the mixture where there are some.

        CorpusError where a speaker or noise folder is silent throughout, or noise or a room is asked for and none is loaded.

        Args:
            rng: for the utterances, the level, and the noise and room of a noisy enrolment that is "drawn", whatever it is asked to be.
            change: for all else that is done to them.
            noisy: whether "drawn" enrolments are noisy.
        """
        samples = round(self.params.enroll_seconds * SAMPLE_RATE)
        said = self.corpus.speakers[speaker]
        taken: set[str] = set()
        drawn = []
        for _ in range(self.params.enrollments):
            order = shuffled(rng, said)
            segment = self.sampler.draw(rng, others(order, used, frozenset(taken)), order, samples, speed)
            taken |= set(segment.utterances)
            values: dict[str, Any] = {}
            if noisy and self.acoustics.noises is not None:
                values = self._room(rng) | self._noise(rng, samples)
            if conditions.enroll_as != "drawn":  # of the clean one; what was drawn above is dropped, but rng is where it would be
                values = self._asked(change, conditions.enroll_as, samples)
            if conditions.enroll_augment_prob > 0 and change.random() < conditions.enroll_augment_prob:
                values["changes"] = (*values.get("changes", ()), draw_change(change))
            drawn.append(Enrollment(segment, level_db=rng.uniform(*ENROLL_LEVEL_DB), **values))
        return drawn

    def _asked(self, rng: np.random.Generator, how: str, samples: int) -> dict[str, Any]:
        if how == "noisy":
            return self._noise(rng, samples)
        if how == "reverberant":
            return self._room(rng, prob=1.0)
        return {"changes": (draw_change(rng, how),)}

    def _room(self, rng: np.random.Generator, prob: float | None = None) -> dict[str, Any]:
        """A room of its own, if not said otherwise as often as mixtures have one."""
        room, responses = self.acoustics.room(rng, 1, prob)
        return {"room": room, "response": responses[0] if responses else None}

    def _noise(self, rng: np.random.Generator, samples: int) -> dict[str, Any]:
        return {"noise": self.acoustics.noise(rng, samples), "snr_db": rng.uniform(*ENROLL_SNR_DB)}


class Order:
    """Utterances in a given order. Only the needed ones are read, because a speaker of a large corpus has thousands on disk."""

    def __init__(self, said: Sequence[Utterance], order: np.ndarray) -> None:
        self._said, self._order = said, order

    def __iter__(self) -> Iterator[Utterance]:
        return (self._said[int(number)] for number in self._order)

    def __getitem__(self, part: slice) -> "Order":
        return Order(self._said, self._order[part])


def others(order: Order, used: Set[str], taken: Set[str]) -> Iterator[Utterance]:
    """Of an order first what is neither used nor taken, then what is taken; the order as it is where all is used."""
    empty = True
    for again in (False, True):
        for utterance in order if taken or not again else ():
            if utterance.utterance not in used and (utterance.utterance in taken) == again:
                empty = False
                yield utterance
    if empty:
        yield from order


def shuffled(rng: np.random.Generator, utterances: Sequence[Utterance]) -> Order:
    """The utterances in a random order."""
    return Order(utterances, rng.permutation(len(utterances)))
