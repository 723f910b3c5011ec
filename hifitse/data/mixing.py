"""One mixture, a pure function of parameters, split, seed, index and conditions: its scene is drawn, then rendered.

Every number is drawn from ``default_rng([seed, index, split, stream])``, with a separate stream for each purpose. So neither the order of
the calls nor the draws for one part change another part: with another enrolment, without the target or without the room, a mixture is
otherwise the same. Drawing analyses sound only to find speech and to avoid silence and pauses in noise.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from enum import IntEnum
from functools import partial
from itertools import chain, islice
from math import ceil
from typing import Any, Literal

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.augment import PITCHES, draw_change, draw_elsewhere
from hifitse.data.corpus import Clips, load_clips, load_corpus, merged, merged_clips
from hifitse.data.manifest import SIDES, Utterance, sources
from hifitse.data.reader import Reader
from hifitse.data.rendering import Mixture, Renderer
from hifitse.data.sampling import WHOLE_S, Acoustics, SpeechSampler
from hifitse.data.scene import Conditions, Elsewhere, Enrollment, Scene, Segment, Spans, Talker, length, presence
from hifitse.data.similarity import Voices
from hifitse.data.synthetic import source_folders
from hifitse.machine import keep_freed_memory
from hifitse.params import Params

__all__ = ["Mixer", "Mixture"]

ENROLL_LEVEL_DB = (-32.0, -20.0)  # dBFS, RMS
ENROLL_SNR_DB = (0.0, 20.0)  # of noisy enrolments
Stream = IntEnum("Stream", "CAST SPEECH ROOM NOISE LEVEL ENROLL WRONG TURNS CHANGE WRONG_CHANGE SOURCE ACOUSTICS PITCH", start=0)
"""Purposes that draw independently of each other; add new ones at the end."""
Split = Literal["train", "valid", "test"]


class Mixer:
    """Mixtures of one split.
    Keeps lists of files, at most 64 MB of activity masks, and up to ``cache_mb`` each of decoded speech, of decoded noise and of spectra of
    room responses (of these at least 64 MB).
    The parameters give sources, levels and shares; the curriculum comes with the conditions. Raises HifitseError if a source is missing,
    unusable or too small to be split into "train", "valid" and "test"."""

    def __init__(self, params: Params, split: Split) -> None:
        if split not in SIDES:
            raise HifitseError(f"split is {split!r}, expected one of {', '.join(SIDES)}")
        keep_freed_memory()
        self.params, self.split = params, split
        kept = [each.strip() for each in params.train_only.split(",") if each.strip()]
        speech = merged([load_corpus(each) for each in source_folders(params, "corpus")])
        self.corpus = speech.split(params.valid_share, params.test_share, params.corpus_seed, kept)[split]
        self.acoustics = _acoustics(params, split)
        self.speakers = list(self.corpus.speakers)
        self.origins = [(said[0].group, said[0].origin) for said in self.corpus.speakers.values()]
        self.reader = Reader(self.corpus.root, limit := params.cache_mb * 2**20, WHOLE_S)
        self.sampler = SpeechSampler(self.reader)
        self.voices = Voices.of(self.corpus) if max(params.similarity) > 0 else None
        rooms = self.acoustics.rooms
        self.renderer = Renderer(self.reader, self.acoustics.reader, rooms.root if rooms else None, limit)

    def mixture(self, seed: int, index: int, conditions: Conditions, wrong_enroll: bool = False) -> Mixture:
        """Draw and render mixture ``index`` of ``seed``; arguments and errors as in :meth:`draw`."""
        return self.renderer.mixture(self.draw(seed, index, conditions, wrong_enroll))

    def draw(self, seed: int, index: int, conditions: Conditions, wrong_enroll: bool = False) -> Scene:
        """Draw scene ``index`` of ``seed``, both 0 or more; ``wrong_enroll``: also enrolments of the first interferer.

        If the split has fewer speakers than the conditions ask for, there are fewer interferers. A mixture without target and noise has at
        least one interferer, and so has one with turns.

        Raises:
            HifitseError: all recordings of a speaker or of the noise turn out silent or broken, or the conditions ask for similar voices,
                noise or rooms that the parameters do not provide."""
        for reader in filter(None, (self.reader, self.acoustics.reader)):
            reader.forget()  # drops the sound that the last scene was drawn with
        rng = partial(self._rng, seed, index)
        there, chance, level = presence(conditions, rng(Stream.TURNS)), rng(Stream.NOISE), rng(Stream.LEVEL)
        has_noise = self.acoustics.noises is not None and chance.random() < self.params.noise_prob
        present, noisy, cast = self._cast(rng, conditions, has_noise, there)
        room, responses = self.acoustics.room(rng(Stream.ROOM), len(cast), self.params.reverb_prob)
        talkers = tuple(
            Talker(name, said, there[min(number, 1)], responses[number] if room else None, self._elsewhere(seed, index, number))
            for number, (name, said) in enumerate(cast)
        )
        noise = self.acoustics.noise(chance, conditions.samples) if has_noise else None
        sir = np.sort(level.uniform(self.params.sir_min_db, self.params.sir_max_db, size=8)[: len(cast) - 1])
        snr = level.uniform(conditions.snr_min_db, conditions.snr_max_db)
        enrolled = [self._enroll(seed, index, conditions, cast, number, noisy) for number in range(min(len(cast), 1 + wrong_enroll))]
        pairs = [self.voices.similarity(cast[0][0], name) for name, _ in cast[1:]] if self.voices else []
        return Scene(
            conditions, self.split, seed, index, present, noisy, talkers, *enrolled,
            room=room, noise=noise, sir_db=tuple(sir.tolist()), snr_db=snr,
            level_db=level.uniform(self.params.level_min_db, self.params.level_max_db), similarity=max(pairs, default=None),
        )  # fmt: skip

    def look(self, most: int = 5000, workers: int = 0) -> None:
        """Find the speech in up to ``most`` utterances, decoding each whole once, as a first pass over them would."""
        self.sampler.look(list(islice(chain.from_iterable(self.corpus.speakers.values()), most)), workers)

    def _rng(self, seed: int, index: int, stream: int, *part: int) -> np.random.Generator:
        return np.random.default_rng(self._key(seed, index, stream, *part))

    def _key(self, seed: int, index: int, *stream: int) -> tuple[int, ...]:
        return seed, index, SIDES.index(self.split), *stream

    def _cast(
        self, rng_of: Callable[..., np.random.Generator], conditions: Conditions, has_noise: bool, there: tuple[Spans, Spans]
    ) -> tuple[bool, bool, list[tuple[str, Segment]]]:
        """Draw whether the target is present, whether enrolments are noisy, and who says what, the target first."""
        rng = rng_of(Stream.CAST)
        chance = rng.random(3)
        present = bool(chance[0] >= conditions.absent_prob)
        span = conditions.interferers_max - conditions.interferers_min + 1
        wanted = int(conditions.interferers_min + int(chance[2] * span))
        least = 1 if conditions.turns or not (present or has_noise) else 0
        count = min(max(wanted, least), len(self.speakers) - 1)
        target, *others = rng.permutation(len(self.speakers)).tolist()
        if self.params.corpus != "synthetic":
            own = rng_of(Stream.SOURCE).random(2)
            count = 0 if self.split == "train" and own[1] < self.params.lone_prob and not least else count
            others = self._company(target, others, count, own[0] < self.params.same_source_prob)
        names = self._names(target, others, count, conditions.similarity)
        low, high = round(100 * self.params.speed_min), round(100 * self.params.speed_max)
        speeds = rng.integers(low, high + 1, size=9)[: len(names)] / 100  # fewer where the target's group leaves fewer
        cast = []
        for number, (name, speed) in enumerate(zip(names, speeds.tolist(), strict=True)):
            own = rng_of(Stream.SPEECH, number)
            said = self.corpus.speakers[name]
            order = own.permutation(len(said))
            first, left = ordered(said, order[:-1]), ordered(said, order[-1:])  # one utterance is left for the enrolment
            wanted = length(there[min(number, 1)]), speed, self.params.min_activity, self.params.untrimmed_s
            cast.append((name, self.sampler.draw(own, first, left, *wanted)))
        return present, bool(chance[1] < conditions.noisy_enroll_prob), cast

    def _company(self, target: int, others: list[int], count: int, same_source: bool) -> list[int]:
        """Return possible interferers, outside the target's group if there are any, and from its source if wanted and there are enough."""
        group, source = self.origins[target]
        others = [other for other in others if self.origins[other][0] != group] or others
        near = [other for other in others if self.origins[other][1] == source]
        return near if same_source and len(near) >= count else others

    def _names(self, target: int, others: list[int], count: int, similarity: float) -> list[str]:
        """Return the target and the first ``count`` of the others, in their random order, that are similar enough."""
        names = [self.speakers[other] for other in (others if similarity > 0 else others[:count])]
        if similarity > 0:
            if not self.voices:
                raise HifitseError(f"similarity of a mixture is {similarity}, expected 0 where the parameters' similarity is 0")
            nearest = set(self.voices.nearest(self.speakers[target], names)[: max(count, ceil((1 - similarity) * len(names)))])
            names = [name for name in names if name in nearest]
        return [self.speakers[target], *names[:count]]

    def _elsewhere(self, seed: int, index: int, number: int) -> Elsewhere | None:
        """Draw how a talker in training is recorded elsewhere, with probability ``acoustics_prob``."""
        prob = self.params.acoustics_prob if self.split == "train" else 0.0
        return draw_elsewhere(self._key(seed, index, Stream.ACOUSTICS, number), prob)

    def _pitch(self, seed: int, index: int, number: int, row: int, how: str) -> float:
        """Draw the factor by which a talker speaks higher and faster in an enrolment; in training with probability ``pitch_prob``."""
        prob = 1.0 if how == "pitch" else self.params.pitch_prob if self.split == "train" else 0.0
        if not prob:
            return 1.0
        rng = self._rng(seed, index, Stream.PITCH, number, row)
        return rng.integers(PITCHES[0], PITCHES[1] + 1) / 100 if rng.random() < prob else 1.0

    def _enroll(
        self, seed: int, index: int, conditions: Conditions, cast: list[tuple[str, Segment]], number: int, noisy: bool
    ) -> tuple[Enrollment, ...]:
        """Draw the enrolments of a talker, if possible from utterances that the mixture does not use. An interferer's are disturbed as
        often as the target's; otherwise they could be told apart without listening to the voice."""
        streams = (Stream.WRONG, Stream.WRONG_CHANGE) if number else (Stream.ENROLL, Stream.CHANGE)
        rng, change = (self._rng(seed, index, stream) for stream in streams)
        name, heard = cast[number]
        speed = heard.speed if self.params.enroll_speed == "matched" else 1.0
        samples = round(self.params.enroll_seconds * SAMPLE_RATE)

        def noise(rng: np.random.Generator) -> dict[str, Any]:
            return {"noise": self.acoustics.noise(rng, samples), "snr_db": rng.uniform(*ENROLL_SNR_DB)}

        def room(rng: np.random.Generator, prob: float | None = None) -> dict[str, Any]:
            found, responses = self.acoustics.room(rng, 1, prob)
            return {"room": found, "response": responses[0] if responses else None}

        said, used, taken = self.corpus.speakers[name], set(heard.utterances), set[str]()
        enrolled = []
        for row in range(self.params.enrollments):
            order = rng.permutation(len(said))
            faster = min(max(0.5, round(speed * self._pitch(seed, index, number, row, conditions.enroll_as), 2)), 2.0)
            segment = self.sampler.draw(rng, others(said, order, used, frozenset(taken)), ordered(said, order), samples, faster)
            segment = replace(segment, pitch=faster / speed)
            taken |= set(segment.utterances)
            values = room(rng) | noise(rng) if noisy and self.acoustics.noises is not None else {}
            if (how := conditions.enroll_as) not in ("drawn", "pitch"):
                # the clean enrolment is disturbed; the values above are dropped, but drawing them keeps rng in step
                asked = {"noisy": partial(noise, change), "reverberant": partial(room, change, 1.0)}
                values = asked[how]() if how in asked else {"changes": (draw_change(change, how),)}
            if conditions.enroll_augment_prob > 0 and change.random() < conditions.enroll_augment_prob:
                values["changes"] = (*values.get("changes", ()), draw_change(change))
            values["elsewhere"] = self._elsewhere(seed, index, 100 + 10 * number + row)
            enrolled.append(Enrollment(segment, level_db=rng.uniform(*ENROLL_LEVEL_DB), **values))
        return tuple(enrolled)


def _acoustics(params: Params, split: Split) -> Acoustics:
    """Load noises and rooms; what only the evaluation's enrolments need (``eval_enroll``) is not loaded for the training."""
    def held(kind: Literal["noise", "rooms"]) -> Clips:
        alone = kind == "rooms" and split == "test" and params.eval_rooms
        lists = merged_clips([load_clips(each, kind) for each in (sources(alone) if alone else source_folders(params, kind))])
        return lists if alone else lists.split(params.valid_share, params.test_share, params.corpus_seed)[split]

    asked = params.eval_enroll if split != "train" else "drawn"
    noisy = params.noise_prob > 0 or max(params.noisy_enroll_prob) > 0 or asked == "noisy"
    noises = held("noise") if noisy else None
    rooms = held("rooms") if params.reverb_prob > 0 or asked == "reverberant" else None
    return Acoustics(noises, rooms, params.reverb_prob, params.cache_mb * 2**20)


def ordered(said: Sequence[Utterance], order: np.ndarray) -> Iterator[Utterance]:
    """Yield utterances in the order of their numbers, reading only those needed: a speaker of a large corpus has thousands on disk."""
    return (said[int(number)] for number in order)


def others(said: Sequence[Utterance], order: np.ndarray, used: Set[str], taken: Set[str]) -> Iterator[Utterance]:
    """Yield first the utterances neither used nor taken, then those taken, in the given order; if all are used, all in this order."""
    free = (each for each in ordered(said, order) if each.utterance not in used and each.utterance not in taken)
    again = (each for each in ordered(said, order[: len(order) * bool(taken)]) if each.utterance in taken and each.utterance not in used)
    rest = chain(free, again)
    first = next(rest, None)
    return ordered(said, order) if first is None else chain([first], rest)
