"""A mixture before rendering, as plain data that any device can render. Conditions say how hard it is: the curriculum of the training,
the fixed lists of the evaluation. A scene says who says what from which file, where and how loud. Paths are relative to the roots of
the corpus, noise and rooms that the parameters name.
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

from hifitse import SAMPLE_RATE
from hifitse.params import Params

PARTIAL_SECONDS = 8.0
PARTIAL_ACTIVE_S = (2.0, 5.5)
LONG_SECONDS = (5.0, 8.0)
TURNS_SECONDS = (8.0, 12.0)
TURN_S = (1.5, 3.0)  # length of a turn, before all turns are fitted to the mixture's length
OVERLAP_S = (0.3, 0.5)  # overlap of consecutive turns
TURN_STEP_S = 1.85  # mean distance between the starts of consecutive turns: 2.25 s of speech less 0.4 s of overlap
LISTS = ("test", "partial", "long", "turns")
EnrollAs = Params.model_fields["eval_enroll"].annotation
Count, Share, Seconds = Annotated[int, Field(ge=0, le=8)], Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(gt=0)]

Spans = tuple[tuple[int, int], ...]  # first sample and end (exclusive) of each span, in order, without overlap


def length(spans: Spans) -> int:
    """Return the number of samples in all spans together."""
    return sum(stop - start for start, stop in spans)


@dataclass(frozen=True)
class Conditions:
    """What a mixture is drawn from, besides the parameters of the run; ranges are checked when it is read from a list."""

    name: str  # list or stage that the mixture belongs to; first part of its id
    seconds: Seconds
    absent_prob: Share = 0.0  # share of mixtures without the target; 0 or 1 decides it
    interferers_min: Count = 1
    interferers_max: Count = 1
    snr_min_db: float = 0.0  # target-to-noise ratio
    snr_max_db: float = 0.0
    noisy_enroll_prob: Share = 0.0
    active_from_s: float | None = None  # the target is present only from here to active_to_s; None: from the start, or to the end
    active_to_s: float | None = None
    phase: int = 0  # of the curriculum, from 0
    similarity: Share = 0.0  # interferers come from the share 1 - similarity of the other speakers most similar to the target
    enroll_augment_prob: Share = 0.0  # share of enrolments with one of the changes of hifitse.data.augment
    enroll_as: EnrollAs = "drawn"  # drawn: noisy with probability noisy_enroll_prob; else the one way in which every enrolment is disturbed
    turns: Annotated[int, Field(ge=0)] = 0  # 0, or at least 2: taken alternately by the target, who begins, and at least one interferer

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    @property
    def absent(self) -> bool:
        return self.absent_prob >= 1


def _inside(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError(f"path {path!r} leaves its root")
    return path


@dataclass(frozen=True, slots=True)
class File:
    """A recording: ``path`` relative to its root, ``samples`` at 48 kHz, ``sample_rate`` of the file itself in Hz."""

    path: Annotated[str, AfterValidator(_inside)]
    samples: int
    sample_rate: int = SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples ``start`` to ``start + samples`` of a recording, times ``gain``, at sample ``at`` of a crop."""

    file: File
    start: int
    samples: int
    at: int = 0
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class Segment:
    """Speech of one speaker."""

    utterances: tuple[str, ...]  # names of the utterances used, in order
    pieces: tuple[Piece, ...]
    crop: int  # samples before the change of speed
    samples: int  # samples after it, cropped or zero-padded
    speed: float = 1.0  # factor of hifitse.audio.change_speed
    start_s: float = 0.0  # where the crop begins in the joined utterances, before the change of speed
    activity: float = 1.0  # share of active frames
    pitch: float = 1.0  # part of the speed that changes only pitch and tempo: formants are restored

    @property
    def said(self) -> str:
        return "+".join(self.utterances)


@dataclass(frozen=True, slots=True)
class Noise:
    """A piece of a noise recording from sample ``start`` on, looped if that is shorter; ``gain`` for parts summed without scaling."""

    file: File
    start: int
    gain: float = 1.0


class Elsewhere(NamedTuple):
    """How a talker is recorded elsewhere; see :func:`hifitse.data.augment.draw_elsewhere`."""

    level: float  # of the noise floor relative to the speech's RMS; 0: no floor
    slope: float
    start: int  # of the floor in the table of noise
    colour: tuple[float, ...]  # dB at COLOUR_HZ
    edge: float  # Hz; the sample rate if the band is not limited


@dataclass(frozen=True, slots=True)
class Talker:
    """Who says what and when; ``response`` is that of the room, ``elsewhere`` how they are recorded elsewhere, if at all."""

    speaker: str
    segment: Segment
    spans: Spans
    response: File | None = None
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One of :data:`hifitse.data.augment.CHANGES` and what was drawn for it."""

    name: str
    drawn: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Enrollment:
    """An enrolment: speech, optionally in a room, in noise, changed, at an RMS level in dBFS (``None``: unscaled), recorded elsewhere."""

    segment: Segment
    room: str | None = None
    response: File | None = None
    noise: Noise | None = None
    snr_db: float | None = None
    changes: tuple[Change, ...] = ()
    level_db: float | None = None
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class Scene:
    """A mixture as drawn; split, seed and index as in :meth:`hifitse.data.mixing.Mixer.draw`."""

    conditions: Conditions  # including the length
    split: str
    seed: int
    index: int
    present: bool  # whether the target is present
    noisy: bool  # whether "drawn" enrolments are noisy
    talkers: tuple[Talker, ...]  # the target, then the interferers, the loudest first
    enroll: tuple[Enrollment, ...]  # of the target
    wrong_enroll: tuple[Enrollment, ...] = ()  # of the first interferer; empty if not requested
    room: str | None = None
    noise: Noise | None = None
    sir_db: tuple[float, ...] = ()  # of each interferer
    snr_db: float | None = None  # without noise, what it would have been
    level_db: float | None = None  # dBFS, RMS of the mixture; None: the parts are summed without scaling, but with their pieces' gains
    similarity: float | None = None  # cosine of the target's voice and the most similar interferer's, if known
    name: Annotated[str, Field(pattern=r"^[^/\\]*$")] = ""  # of an imported entry, and of its files; empty: list, seed and index

    @property
    def samples(self) -> int:
        return self.conditions.samples

    @property
    def id(self) -> str:
        return self.name or f"{self.conditions.name}-{self.seed}-{self.index}"

    def metadata(self) -> dict[str, Any]:
        """Return what is known before rendering, flat and JSON-serialisable: who, what, where, positions in s."""
        target, *others = self.talkers
        conditions, noise = self.conditions, self.noise
        spans = [[round(edge / SAMPLE_RATE, 6) for edge in span] for span in target.spans]
        known = {
            "id": self.id,
            "seed": self.seed, "index": self.index, "split": self.split, "phase": conditions.phase, "seconds": conditions.seconds,
            "present": self.present, "active_from_s": conditions.active_from_s, "active_to_s": conditions.active_to_s,
            "n_interferers": len(others), "noisy_enroll": self.noisy, "noisy_enroll_prob": conditions.noisy_enroll_prob,
            "target_speaker": target.speaker, "interferer_speakers": [each.speaker for each in others],
            "target_utterance": target.segment.said, "interferer_utterances": [each.segment.said for each in others],
            "target_start_s": target.segment.start_s, "interferer_starts_s": [each.segment.start_s for each in others],
            "target_speed": target.segment.speed, "interferer_speeds": [each.segment.speed for each in others],
            "activity": round(target.segment.activity, 4),
            "noise": noise and noise.file.path, "noise_start_s": noise and noise.start / SAMPLE_RATE,
            "turns": spans if conditions.turns else None, "enroll_as": conditions.enroll_as,
            "similarity": None if self.similarity is None else round(self.similarity, 4),
            "room": self.room, "room_responses": [each.response.path for each in self.talkers if each.response],
            "sir_db": [round(each, 4) for each in self.sir_db],
            "snr_db": round(self.snr_db, 4) if noise and self.snr_db is not None else None,
        }  # fmt: skip
        for side in ("enroll", "wrong_enroll"):
            some = getattr(self, side)
            known |= {
                f"{side}_utterances": [each.segment.said for each in some],
                f"{side}_pitch": [round(each.segment.pitch, 4) for each in some],
                f"{side}_snr_db": [None if each.snr_db is None else round(each.snr_db, 4) for each in some],
                f"{side}_noise": [each.noise and each.noise.file.path for each in some],
                f"{side}_room": [each.room for each in some],
                f"{side}_changed": [each.changes[-1].name if each.changes else None for each in some],
            } if some else {f"{side}_{key}": None for key in ("utterances", "pitch", "snr_db", "noise", "room", "changed")}  # fmt: skip
        return known


# ---- the curriculum and the lists


def _of_phase(params: Params, phase: int, name: str, seconds: float, **changes: object) -> Conditions:
    names = ("absent_prob", "interferers_min", "interferers_max", "snr_min_db", "snr_max_db", "noisy_enroll_prob", "similarity")
    values: dict[str, object] = {each: params.at_phase(each, phase) for each in names}
    return Conditions(name=name, seconds=seconds, phase=phase, **(values | changes))


def training_conditions(params: Params, index: int) -> Conditions:
    """Return the conditions of training mixture ``index``, by the share of the run's mixtures that precede it.
    ``noisy_enroll_prob`` rises or falls linearly over a phase to that phase's value, from that of the phase before (0 before the first; a
    fine-tuning starts with the value of its first phase). Everything else changes at once where a phase starts."""
    progress = min(1.0, index / (params.steps * params.batch_size))
    phase = bisect_right(params.phase_starts, progress) - 1
    start, stop = (*params.phase_starts, 1.0)[phase : phase + 2]
    goal = params.at_phase("noisy_enroll_prob", phase)
    before = params.at_phase("noisy_enroll_prob", phase - 1) if phase else goal if params.start_from else 0.0
    noisy = before + (goal - before) * (progress - start) / (stop - start)
    return _of_phase(params, phase, "train", params.seconds, noisy_enroll_prob=noisy, enroll_augment_prob=params.enroll_augment_prob)


def validation_conditions(params: Params) -> list[Conditions]:
    """Return ``params.valid_mixtures`` conditions of the training's length and the last phase's difficulty, the target always present."""
    last = len(params.phase_starts) - 1
    return [_of_phase(params, last, "valid", params.seconds, absent_prob=0.0)] * params.valid_mixtures


def evaluation_conditions(params: Params) -> dict[str, list[Conditions]]:
    """Return the fixed lists of the evaluation, all at the last phase's difficulty; item i is drawn with ``(params.eval_seed, i)``.
    "test": ``eval_mixtures`` of ``eval_seconds``, ``eval_absent_share`` of them without the target, evenly spread.
    "partial": ``eval_partial`` of 8 s with the target from 2.0 to 5.5 s. "long": ``eval_long`` of 5 to 8 s.
    "turns": ``eval_turns`` of 8 to 12 s, in which the target and at least one interferer take turns.
    If ``eval_list`` names a list of scenes, return their conditions instead. Enrolments are as ``eval_enroll`` says."""
    if params.eval_list:
        from hifitse.data.lists import by_list  # here, because it imports this module

        scenes = by_list(params.eval_list)
        return {name: [scene.conditions for scene in scenes.get(name, [])] for name in LISTS}

    def one(name: str, seconds: float, **changes: object) -> Conditions:
        return _of_phase(params, last, name, seconds, enroll_as=params.eval_enroll, **({"absent_prob": 0.0} | changes))

    def evenly(span: tuple[float, float], count: int) -> list[float]:  # lengths in s, to 1 ms
        return [round(span[0] + i * ((span[1] - span[0]) / max(1, count - 1)), 3) for i in range(count)]

    last = len(params.phase_starts) - 1
    (start, stop), count = PARTIAL_ACTIVE_S, params.eval_mixtures
    absent = round(params.eval_absent_share * count)  # item i is absent if i * absent / count passes a whole number there
    gone = [(i + 1) * absent // count > i * absent // count for i in range(count)]
    return {
        "test": [one("test", params.eval_seconds, absent_prob=float(each)) for each in gone],
        "partial": [one("partial", PARTIAL_SECONDS, active_from_s=start, active_to_s=stop)] * params.eval_partial,
        "long": [one("long", seconds) for seconds in evenly(LONG_SECONDS, params.eval_long)],
        "turns": [one("turns", seconds, turns=round(seconds / TURN_STEP_S)) for seconds in evenly(TURNS_SECONDS, params.eval_turns)],
    }


def presence(conditions: Conditions, rng: np.random.Generator) -> tuple[Spans, Spans]:
    """Return the spans of the target and those of each interferer; ``rng`` is used only for turns."""
    if conditions.turns:
        spans = turns(conditions.samples, conditions.turns, rng)
        return spans[::2], spans[1::2]
    start = round((conditions.active_from_s or 0.0) * SAMPLE_RATE)
    stop = conditions.samples if conditions.active_to_s is None else round(conditions.active_to_s * SAMPLE_RATE)
    return ((start, stop),), ((0, conditions.samples),)


def turns(samples: int, count: int, rng: np.random.Generator) -> Spans:
    """Return ``count`` turns that fill ``samples`` samples, each overlapping the next.
    Lengths and overlaps are drawn from ``TURN_S`` and ``OVERLAP_S``, then all scaled by one factor so that the last turn ends with the
    mixture. A turn is longer than its two overlaps, so that nobody overlaps with themselves."""
    lengths, overlaps = rng.uniform(*TURN_S, size=count), rng.uniform(*OVERLAP_S, size=count - 1)
    starts = np.concatenate([[0.0], np.cumsum(lengths[:-1] - overlaps)])
    edges = np.stack([starts, starts + lengths], axis=1)  # (count, 2)
    return tuple((start, stop) for start, stop in np.rint(edges * samples / edges[-1, 1]).astype(int).tolist())
