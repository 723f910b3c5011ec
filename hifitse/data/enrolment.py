"""Enrolments of a mixture's talkers: which utterances, how they are disturbed, at which level."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from hifitse import SAMPLE_RATE, audio
from hifitse.data.augment import CHANGES, augmented
from hifitse.data.conditions import Conditions
from hifitse.data.corpus import Corpus, Utterance
from hifitse.data.surroundings import Surroundings, power
from hifitse.data.talker import Talkers
from hifitse.params import Params

PEAK = 0.99
"""Largest absolute value of an enrolment."""
ENROLL_LEVEL_DB = (-32.0, -20.0)
"""dBFS: RMS level of an enrolment."""
ENROLL_SNR_DB = (0.0, 20.0)
"""dB: speech-to-noise ratio of a noisy enrolment."""


class Enrolments:
    """Draws enrolments from the corpus and the surroundings of one split."""

    def __init__(self, params: Params, corpus: Corpus, surroundings: Surroundings, talkers: Talkers) -> None:
        self.params, self.corpus, self.surroundings, self.talkers = params, corpus, surroundings, talkers

    def draw(
        self,
        rng: np.random.Generator,
        change: np.random.Generator,
        conditions: Conditions,
        speaker: str,
        speed: float,
        used: Set[str],
        noisy: bool,
    ) -> tuple[np.ndarray, dict[str, list[Any]]]:
        """Enrolments of a speaker, (N, T'), at one speed, from other utterances where there are some.

        Utterances and levels come from ``rng`` alone, whatever ``conditions.enroll_as`` and ``enroll_augment_prob`` are.

        Args:
            rng: for the utterances, the level, and the noise and room of a noisy enrolment that is "drawn".
            change: for all else that is done to them.
            conditions: of the mixture.
            speaker: name.
            speed: factor of :func:`hifitse.audio.change_speed`.
            used: names of the utterances in the mixture.
            noisy: whether "drawn" enrolments are noisy.

        Returns:
            The enrolments, and by name one value for each: ``utterances``, ``snr_db``, ``noise``, ``room``, ``changed`` (name of the
            change in :data:`hifitse.data.augment.CHANGES`), ``level_db``; ``None`` where there is none.

        Raises:
            CorpusError: a speaker or noise folder is silent throughout, or noise or a room is asked for and none is loaded.
        """
        samples = round(self.params.enroll_seconds * SAMPLE_RATE)
        said = self.corpus.speakers[speaker]
        taken: set[str] = set()
        enroll = np.empty((self.params.enrollments, samples), np.float32)
        info: dict[str, list[Any]] = {"utterances": [], "snr_db": [], "noise": [], "room": [], "changed": [], "level_db": []}
        for row in enroll:
            order = shuffled(rng, said)
            stretch = self.talkers.draw(rng, Others(order, used, frozenset(taken)), order, samples, speed)
            taken |= set(stretch.utterances)
            done, values = stretch.audio, {}
            if noisy and self.surroundings.noises:
                done, values = self._disturb(rng, stretch.audio)
            if conditions.enroll_as != "drawn":  # of the clean one; what was drawn above is dropped, but rng is where it would be
                done, values = self._asked(change, stretch.audio, conditions.enroll_as)
            if conditions.enroll_augment_prob > 0 and change.random() < conditions.enroll_augment_prob:
                done, values["changed"] = augmented(done, change)
            row[:] = audio.set_level(done, rng.uniform(*ENROLL_LEVEL_DB))
            row *= np.float32(min(1.0, PEAK / max(float(np.abs(row).max()), 1e-9)))
            values |= {"utterances": "+".join(stretch.utterances), "level_db": round(audio.level_db(row), 4)}
            for key, column in info.items():
                column.append(values.get(key))
        return enroll, info

    def _asked(self, rng: np.random.Generator, clean: np.ndarray, how: str) -> tuple[np.ndarray, dict[str, Any]]:
        """An enrolment disturbed in one way."""
        if how == "noisy":
            return self._noisy(rng, clean)
        if how == "reverberant":
            room, responses = self.surroundings.room(rng, 1, prob=1.0)
            return self.surroundings.reverberate(clean[None], responses)[0], {"room": room}
        return CHANGES[how](clean, rng), {"changed": how}

    def _disturb(self, rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """A noisy enrolment: a room of its own as often as mixtures have one, and noise."""
        room, responses = self.surroundings.room(rng, 1)
        if responses:
            clean = self.surroundings.reverberate(clean[None], responses)[0]
        noisy, values = self._noisy(rng, clean)
        return noisy, values | {"room": room}

    def _noisy(self, rng: np.random.Generator, clean: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        noise, origin = self.surroundings.noise(rng, len(clean))
        snr = rng.uniform(*ENROLL_SNR_DB)
        gain = np.sqrt(power(clean) / power(noise)) * 10 ** (-snr / 20)
        return clean + noise * np.float32(gain), {"snr_db": round(float(snr), 4), "noise": origin["noise"]}


class Order:
    """Utterances in a given order; only those that are asked for are looked at, for a speaker of a large corpus has thousands on disk."""

    def __init__(self, said: Sequence[Utterance], order: np.ndarray) -> None:
        self._said, self._order = said, order

    def __iter__(self) -> Iterator[Utterance]:
        return (self._said[int(number)] for number in self._order)

    def __getitem__(self, part: slice) -> "Order":
        return Order(self._said, self._order[part])


@dataclass(frozen=True)
class Others:
    """Of an order first what is neither used nor taken, then what is taken; the order as it is where all is used."""

    order: Order
    used: Set[str]
    taken: Set[str]

    def __iter__(self) -> Iterator[Utterance]:
        empty = True
        for again in (False, True):
            for utterance in self.order if self.taken or not again else ():
                if utterance.utterance not in self.used and (utterance.utterance in self.taken) == again:
                    empty = False
                    yield utterance
        if empty:
            yield from self.order


def shuffled(rng: np.random.Generator, utterances: Sequence[Utterance]) -> Order:
    """The utterances in a random order."""
    return Order(utterances, rng.permutation(len(utterances)))
