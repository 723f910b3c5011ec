"""One mixture, as a pure function of parameters, split, seed, index and conditions.

Every number is drawn from ``default_rng([seed, index, split, stream])`` with a stream of its own for each purpose, so that neither the
order of the calls nor one part's draws change another part: the same mixture with another enrolment, without the target, or
without the room is otherwise the same mixture.

Levels. The power of the target is its mean square over the stretch in which it is there (the whole mixture but for partial
presence), that of an interferer or of the noise its mean square over the mixture, all after the room. SIR and SNR are ratios of
these. Where target and interferers take turns, the power of either is that over its own turns. Where the target is absent,
everything else is as if it were there, its level too.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from itertools import chain, islice
from math import ceil
from typing import Any, Literal

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import synthetic
from hifitse.data.acoustics import recorded_elsewhere
from hifitse.data.conditions import Conditions, evaluation_conditions, training_conditions, validation_conditions
from hifitse.data.corpus import Corpus, load_corpus, merged
from hifitse.data.enrolment import Enrolments, shuffled
from hifitse.data.manifest import sources
from hifitse.data.presence import Presence, gate, heard, length, presence, put
from hifitse.data.segments import Segments
from hifitse.data.similarity import Voices
from hifitse.data.surroundings import Surroundings, power
from hifitse.data.talker import Stretch, Talkers
from hifitse.data.utterance import source_of
from hifitse.machine import keep_freed_memory
from hifitse.params import Params

__all__ = ["Conditions", "Mixer", "Mixture", "evaluation_conditions", "training_conditions", "validation_conditions"]

SPLITS = ("train", "valid", "test")
PEAK = 0.99
"""Largest absolute value of a mixture and its parts."""


class Stream(IntEnum):
    """Purposes that draw independently of each other."""

    CAST = 0
    SPEECH = 1
    ROOM = 2
    NOISE = 3
    LEVEL = 4
    ENROLL = 5
    WRONG = 6
    TURNS = 7
    CHANGE = 8
    WRONG_CHANGE = 9
    SOURCE = 10
    ACOUSTICS = 11


@dataclass
class Mixture:
    """A mixture with its parts; all float32 at 48 kHz, and ``mix = target + interferers.sum(0) + noise`` to 1e-6.

    Attributes:
        mix: (T,).
        target: (T,), with its room; zeros where it is absent.
        interferers: (S, T), the loudest first; S may be 0.
        noise: (T,).
        enroll: (N, T'), the speaker asked for.
        wrong_enroll: (N, T'), the first interferer, noisy where ``enroll`` is; ``None`` where not asked for, or no interferer.
        metadata: flat, JSON-able: who, what, where, levels in dB, positions in s.
    """

    mix: np.ndarray
    target: np.ndarray
    interferers: np.ndarray
    noise: np.ndarray
    enroll: np.ndarray
    wrong_enroll: np.ndarray | None
    metadata: dict[str, Any]


@dataclass
class Cast:
    """Who speaks in a mixture; index 0 is the target."""

    present: bool
    noisy: bool
    speakers: list[str]
    speeds: list[float]
    said: list[Stretch] = field(default_factory=list)

    def used(self, number: int) -> set[str]:
        """Names of the utterances that talker ``number`` says in the mixture."""
        return set(self.said[number].utterances)


class Mixer:
    """Mixtures of one split. Keeps lists of files, and at most 64 MB each of utterances' masks and room responses a process,
    and ``cache_mb`` each of decoded speech, decoded noise and room responses.

    Args:
        params: sources, levels and shares; the curriculum comes with the conditions.
        split: "train", "valid" or "test": speakers, rooms and noises of no other split.

    Raises:
        HifitseError: a source is missing, unusable or too small to be split.
    """

    keeps_memory = True

    def __init__(self, params: Params, split: Literal["train", "valid", "test"]) -> None:
        if split not in SPLITS:
            raise HifitseError(f"split is {split!r}, allowed are {', '.join(SPLITS)}")
        if self.keeps_memory:
            keep_freed_memory()
        self.params, self.split = params, split
        kept = [each.strip() for each in params.train_only.split(",") if each.strip()]
        self.corpus: Corpus = _speech(params).split(params.valid_share, params.test_share, params.corpus_seed, kept)[split]
        self.surroundings = Surroundings(params, split, Segments(params.cache_mb * 2**20))
        self.speakers = list(self.corpus.speakers)
        self.origins = [(said[0].group, source_of(said[0])) for said in self.corpus.speakers.values()]
        self.talkers = Talkers(self.corpus, Segments(params.cache_mb * 2**20))
        self.enrolments = Enrolments(params, self.corpus, self.surroundings, self.talkers)
        self.voices = Voices.of(self.corpus) if max(params.similarity) > 0 else None

    def mixture(self, seed: int, index: int, conditions: Conditions, wrong_enroll: bool = False) -> Mixture:
        """Mixture number ``index`` of ``seed``.

        Where the split has fewer speakers than the conditions ask for, there are fewer interferers; a mixture without target and noise
        has at least one, and one with turns too.

        Args:
            seed, index: 0 or more.
            conditions: length and difficulty.
            wrong_enroll: also draw an enrolment of the first interferer; nothing else changes.

        Raises:
            HifitseError: a speaker or noise folder turns out to be silent or broken throughout, or the conditions ask for what the
                parameters do not: similar voices, noise or rooms.
        """
        there = presence(conditions, self._rng(seed, index, Stream.TURNS))
        chance = self._rng(seed, index, Stream.NOISE)
        has_noise = self.surroundings.noises is not None and chance.random() < self.params.noise_prob
        cast = self._cast(seed, index, conditions, has_noise, there)
        speech, where = self._place(self._rng(seed, index, Stream.ROOM), cast, there, (seed, index))
        noise, origin = self.surroundings.noise(chance, there.samples) if has_noise else (np.zeros(there.samples, np.float32), {})
        levels = self._balance(self._rng(seed, index, Stream.LEVEL), conditions, speech, noise, there)
        enroll, enrolled = self._enroll(seed, index, conditions, cast, 0)
        wrong, mistaken = None, {}
        if wrong_enroll and len(cast.speakers) > 1:
            wrong, mistaken = self._enroll(seed, index, conditions, cast, 1)
        if not cast.present:
            speech[0] = 0
        mix = speech.sum(0) + noise
        metadata = self._metadata(seed, index, conditions, cast, there) | where | origin | levels
        metadata |= {f"enroll_{key}": value for key, value in enrolled.items()}
        metadata |= {f"wrong_enroll_{key}": mistaken.get(key) for key in enrolled}
        metadata["mix_level_db"] = round(audio.level_db(mix), 4)
        return Mixture(mix, speech[0], speech[1:], noise, enroll, wrong, metadata)

    def look(self, most: int = 5000) -> None:
        """See where up to ``most`` utterances have speech, for which each is decoded whole once: as after a first pass through them."""
        for utterance in islice(chain.from_iterable(self.corpus.speakers.values()), most):
            self.talkers.look(utterance)

    def _rng(self, seed: int, index: int, *stream: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, SPLITS.index(self.split), *stream])

    def _cast(self, seed: int, index: int, conditions: Conditions, has_noise: bool, there: Presence) -> Cast:
        """Draw who is there and what they say, before the room."""
        rng = self._rng(seed, index, Stream.CAST)
        chance = rng.random(3)
        present = bool(chance[0] >= conditions.absent_prob)
        span = conditions.interferers_max - conditions.interferers_min + 1
        wanted = conditions.interferers_min + int(chance[2] * span)
        least = 1 if conditions.turns or not (present or has_noise) else 0
        count = min(max(wanted, least), len(self.speakers) - 1)
        order = rng.permutation(len(self.speakers))
        if self.params.corpus != "synthetic":
            own = self._rng(seed, index, Stream.SOURCE).random(2)
            count = 0 if self.split == "train" and own[1] < self.params.lone_prob and not least else count
            order = self._company(order, count, own[0] < self.params.same_source_prob)
        order = order if conditions.similarity > 0 else order[: count + 1]
        drawn = self._alike([self.speakers[i] for i in order], count, conditions.similarity)
        low, high = round(100 * self.params.speed_min), round(100 * self.params.speed_max)
        speeds = rng.integers(low, high + 1, size=9)[: count + 1] / 100
        cast = Cast(present, bool(chance[1] < conditions.noisy_enroll_prob), drawn, speeds.tolist())
        for number, (name, speed) in enumerate(zip(cast.speakers, cast.speeds, strict=True)):
            own = self._rng(seed, index, Stream.SPEECH, number)
            order = shuffled(own, self.corpus.speakers[name])
            # One utterance is left for the enrolment.
            checked = self.params.min_activity, self.params.untrimmed_s
            cast.said.append(self.talkers.draw(own, order[:-1], order[-1:], length(there.of(number)), speed, *checked))
        return cast

    def _company(self, order: np.ndarray, count: int, same_source: bool) -> list[int]:
        """Who may stand beside the first of an order: nobody of the same group, who may be the same person, and where asked for and
        there are enough, only people of the same source."""
        target, *others = order.tolist()
        group, source = self.origins[target]
        others = [other for other in others if self.origins[other][0] != group] or others
        if same_source:
            near = [other for other in others if self.origins[other][1] == source]
            others = near if len(near) >= count else others
        return [target, *others]

    def _alike(self, order: list[str], count: int, similarity: float) -> list[str]:
        """The first of a random order of all speakers as the target, and as interferers the next ``count`` of those like enough."""
        target, *others = order
        if similarity > 0:
            if self.voices is None:
                raise HifitseError(f"similarity of a mixture is {similarity}, allowed is 0 where the parameters' similarity is 0")
            nearest = set(self.voices.nearest(target, others)[: max(count, ceil((1 - similarity) * len(others)))])
            others = [name for name in others if name in nearest]
        return [target, *others[:count]]

    def _elsewhere(self, speech: np.ndarray, seed: int, index: int, *stream: int) -> np.ndarray:
        """A talker of the training as if recorded elsewhere, as often as ``acoustics_prob`` says."""
        if self.split != "train" or not self.params.acoustics_prob:
            return speech
        rng = self._rng(seed, index, *stream)
        return recorded_elsewhere(speech, rng) if rng.random() < self.params.acoustics_prob else speech

    def _place(self, rng: np.random.Generator, cast: Cast, there: Presence, at: tuple[int, int]) -> tuple[np.ndarray, dict[str, Any]]:
        """Put the talkers into the mixture's time and into a room: (S, T), the target first. The direct paths stay where they were."""
        speech = np.zeros((len(cast.said), there.samples), np.float32)
        for number, said in enumerate(cast.said):
            put(speech[number], there.of(number), self._elsewhere(said.audio, *at, Stream.ACOUSTICS, number))
        room, responses = self.surroundings.room(rng, len(speech))
        if responses:
            speech = self.surroundings.reverberate(speech, responses)
        for number, row in enumerate(speech):
            if length(there.of(number)) < there.samples:
                row *= gate(there.samples, there.of(number))
        return speech, {"room": room, "room_responses": [response.path for response in responses]}

    def _balance(
        self, rng: np.random.Generator, conditions: Conditions, speech: np.ndarray, noise: np.ndarray, there: Presence
    ) -> dict[str, Any]:
        """Scale the parts in place: SIR and SNR, then the level of all; returns the drawn values in dB."""
        params = self.params
        sir = np.sort(rng.uniform(params.sir_min_db, params.sir_max_db, size=8)[: len(speech) - 1])
        snr = rng.uniform(conditions.snr_min_db, conditions.snr_max_db)
        level = rng.uniform(params.level_min_db, params.level_max_db)
        reference = power(heard(speech[0], there.target))
        for part, ratio in zip(speech[1:], sir, strict=True):
            part *= np.float32(np.sqrt(reference / power(heard(part, there.others))) * 10 ** (-ratio / 20))
        if has_noise := bool(noise.any()):
            noise *= np.float32(np.sqrt(reference / power(noise)) * 10 ** (-snr / 20))
        mix = speech.sum(0) + noise
        gain = 10 ** (level / 20) / np.sqrt(power(mix))
        # With and without the target, and each part by itself: none may clip.
        peak = max(max(float(part.max()), -float(part.min())) for part in (mix, mix - speech[0], noise, *speech))
        clip_gain = min(1.0, PEAK / max(peak * gain, 1e-12))  # crops that are not checked may all be silent
        speech *= np.float32(gain * clip_gain)
        noise *= np.float32(gain * clip_gain)
        clip_db = 20 * float(np.log10(clip_gain))
        return {
            "sir_db": [round(float(ratio), 4) for ratio in sir],
            "snr_db": round(float(snr), 4) if has_noise else None,
            "level_db": round(float(level) + clip_db, 4),
            "clip_gain_db": round(clip_db, 4),
        }

    def _enroll(self, seed: int, index: int, conditions: Conditions, cast: Cast, number: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Enrolments of a talker; those of an interferer are disturbed as often, or they could be told without listening to the voice."""
        drawn, changed = (Stream.WRONG, Stream.WRONG_CHANGE) if number else (Stream.ENROLL, Stream.CHANGE)
        rngs = self._rng(seed, index, drawn), self._rng(seed, index, changed)
        speed = cast.speeds[number] if self.params.enroll_speed == "matched" else 1.0
        enroll, info = self.enrolments.draw(*rngs, conditions, cast.speakers[number], speed, cast.used(number), cast.noisy)
        for row, each in enumerate(enroll):
            enroll[row] = self._elsewhere(each, seed, index, Stream.ACOUSTICS, 100 + 10 * number + row)
        return enroll, info

    def _metadata(self, seed: int, index: int, conditions: Conditions, cast: Cast, there: Presence) -> dict[str, Any]:
        target, *others = cast.said
        pairs = [self.voices.similarity(cast.speakers[0], name) for name in cast.speakers[1:]] if self.voices else []
        turns = [[round(edge / SAMPLE_RATE, 6) for edge in span] for span in there.target]
        return {
            "id": f"{conditions.name}-{seed}-{index}",
            "seed": seed, "index": index, "split": self.split, "phase": conditions.phase, "seconds": conditions.seconds,
            "present": cast.present, "active_from_s": conditions.active_from_s, "active_to_s": conditions.active_to_s,
            "n_interferers": len(others), "noisy_enroll": cast.noisy, "noisy_enroll_prob": conditions.noisy_enroll_prob,
            "target_speaker": cast.speakers[0], "interferer_speakers": cast.speakers[1:],
            "target_utterance": "+".join(target.utterances), "interferer_utterances": ["+".join(said.utterances) for said in others],
            "target_start_s": target.start_s, "interferer_starts_s": [said.start_s for said in others],
            "target_speed": cast.speeds[0], "interferer_speeds": cast.speeds[1:],
            "activity": round(target.activity, 4), "noise": None, "noise_start_s": None,
            "turns": turns if conditions.turns else None, "enroll_as": conditions.enroll_as,
            "similarity": round(max(pairs), 4) if pairs else None,
        }  # fmt: skip


def _speech(params: Params) -> Corpus:
    made = partial(synthetic.make_speech, params.synthetic_speakers, params.synthetic_utterances, params.corpus_seed)
    return merged([load_corpus(made() if each == "synthetic" else each) for each in sources(params.corpus)])
