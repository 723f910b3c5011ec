"""How hard one mixture is, and who is there when: the curriculum of the training and the fixed lists of the evaluation."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from hifitse import SAMPLE_RATE
from hifitse.params import Params

PARTIAL_SECONDS = 8.0
PARTIAL_ACTIVE_S = (2.0, 5.5)
LONG_SECONDS = (5.0, 8.0)
TURNS_SECONDS = (8.0, 12.0)
TURN_S = (1.5, 3.0)  # length of a turn, before all turns are fitted to the mixture's length
OVERLAP_S = (0.3, 0.5)  # how long two turns in succession overlap
TURN_STEP_S = 1.85  # from the start of a turn to that of the next in the mean: 2.25 s of speech less 0.4 s of overlap
LISTS = ("test", "partial", "long", "turns")
EnrollAs = Params.model_fields["eval_enroll"].annotation
Count, Share, Seconds = Annotated[int, Field(ge=0, le=8)], Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(gt=0)]

Spans = tuple[tuple[int, int], ...]  # first sample and the one after the last of each stretch, in order, without overlap


def length(spans: Spans) -> int:
    """Samples in all stretches together."""
    return sum(stop - start for start, stop in spans)


@dataclass(frozen=True)
class Conditions:
    """What a mixture is drawn from, beside the parameters of the run; the ranges are checked where it is read from a list."""

    name: str  # list or stage that the mixture belongs to; the first part of its id
    seconds: Seconds
    absent_prob: Share = 0.0  # share of mixtures without the target; 0 or 1 decides it
    interferers_min: Count = 1
    interferers_max: Count = 1
    snr_min_db: float = 0.0  # target-to-noise ratio
    snr_max_db: float = 0.0
    noisy_enroll_prob: Share = 0.0
    active_from_s: float | None = None  # the target is there in this stretch only; None: from the start, to the end
    active_to_s: float | None = None
    phase: int = 0  # of the curriculum, from 0
    similarity: Share = 0.0  # interferers are of the share 1 - similarity of the other speakers that is most like the target
    enroll_augment_prob: Share = 0.0  # share of enrolments changed in one of the ways of hifitse.data.augment
    enroll_as: EnrollAs = "drawn"  # noisy as often as noisy_enroll_prob says; else each is disturbed in this one way
    turns: Annotated[int, Field(ge=0)] = 0  # or 2 and more, which the target and at least one interferer take, the target first

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    @property
    def absent(self) -> bool:
        return self.absent_prob >= 1


def _of_phase(params: Params, phase: int, name: str, seconds: float, **changes: object) -> Conditions:
    names = ("absent_prob", "interferers_min", "interferers_max", "snr_min_db", "snr_max_db", "noisy_enroll_prob", "similarity")
    values: dict[str, object] = {each: params.at_phase(each, phase) for each in names}
    return Conditions(name=name, seconds=seconds, phase=phase, **(values | changes))


def training_conditions(params: Params, index: int) -> Conditions:
    """Conditions of training mixture ``index``, by the share of the run's mixtures that precede it.
    ``noisy_enroll_prob`` of a phase is reached in a straight line over the phase, from that of the phase before (0 before the first; a
    fine-tuning goes on with the value of its first phase). All else changes at once where a phase starts."""
    progress = min(1.0, index / (params.steps * params.batch_size))
    phase = bisect_right(params.phase_starts, progress) - 1
    start, stop = (*params.phase_starts, 1.0)[phase : phase + 2]
    goal = params.at_phase("noisy_enroll_prob", phase)
    before = params.at_phase("noisy_enroll_prob", phase - 1) if phase else goal if params.start_from else 0.0
    noisy = before + (goal - before) * (progress - start) / (stop - start)
    return _of_phase(params, phase, "train", params.seconds, noisy_enroll_prob=noisy, enroll_augment_prob=params.enroll_augment_prob)


def validation_conditions(params: Params) -> list[Conditions]:
    """``params.valid_mixtures`` conditions of the training's length and the last phase's difficulty, the target always there."""
    last = len(params.phase_starts) - 1
    return [_of_phase(params, last, "valid", params.seconds, absent_prob=0.0)] * params.valid_mixtures


def evaluation_conditions(params: Params) -> dict[str, list[Conditions]]:
    """The fixed lists of the evaluation, all of the last phase's difficulty; item i is drawn with ``(params.eval_seed, i)``.
    "test": ``eval_mixtures`` of ``eval_seconds``, ``eval_absent_share`` of them without the target, spread evenly.
    "partial": ``eval_partial`` of 8 s, the target from 2.0 to 5.5 s.  "long": ``eval_long`` of 5 to 8 s.
    "turns": ``eval_turns`` of 8 to 12 s, in which the target and the interferers, at least one, take turns.
    Where ``eval_list`` names a list of scenes, their conditions instead. Enrolments are as ``eval_enroll`` says."""
    if params.eval_list:
        from hifitse.data.lists import by_list  # which is made of conditions itself

        scenes = by_list(params.eval_list)
        return {name: [scene.conditions for scene in scenes.get(name, [])] for name in LISTS}

    def one(name: str, seconds: float, **changes: object) -> Conditions:
        return _of_phase(params, last, name, seconds, enroll_as=params.eval_enroll, **({"absent_prob": 0.0} | changes))

    last = len(params.phase_starts) - 1
    count, absent = params.eval_mixtures, round(params.eval_absent_share * params.eval_mixtures)
    # Item i is absent where the running count i * absent / count passes a whole number.
    gone = [(i + 1) * absent // count > i * absent // count for i in range(count)]
    start, stop = PARTIAL_ACTIVE_S
    return {
        "test": [one("test", params.eval_seconds, absent_prob=float(each)) for each in gone],
        "partial": [one("partial", PARTIAL_SECONDS, active_from_s=start, active_to_s=stop)] * params.eval_partial,
        "long": [one("long", seconds) for seconds in _evenly(LONG_SECONDS, params.eval_long)],
        "turns": [one("turns", seconds, turns=round(seconds / TURN_STEP_S)) for seconds in _evenly(TURNS_SECONDS, params.eval_turns)],
    }


def _evenly(span: tuple[float, float], count: int) -> list[float]:
    """``count`` lengths, s, from the first to the last, to 1 ms."""
    step = (span[1] - span[0]) / max(1, count - 1)
    return [round(span[0] + i * step, 3) for i in range(count)]


def presence(conditions: Conditions, rng: np.random.Generator) -> tuple[Spans, Spans]:
    """Where the target of a mixture is, and where each interferer; ``rng`` is drawn from for turns only."""
    if conditions.turns:
        spans = turns(conditions.samples, conditions.turns, rng)
        return spans[::2], spans[1::2]
    start = round((conditions.active_from_s or 0.0) * SAMPLE_RATE)
    stop = conditions.samples if conditions.active_to_s is None else round(conditions.active_to_s * SAMPLE_RATE)
    return ((start, stop),), ((0, conditions.samples),)


def turns(samples: int, count: int, rng: np.random.Generator) -> Spans:
    """``count`` turns that fill ``samples`` samples, each overlapping the next.
    Lengths and overlaps are drawn from ``TURN_S`` and ``OVERLAP_S``, and then all stretched by the one factor with which the last turn
    ends with the mixture. A turn is longer than its two overlaps, so that nobody meets themselves."""
    lengths, overlaps = rng.uniform(*TURN_S, size=count), rng.uniform(*OVERLAP_S, size=count - 1)
    starts = np.concatenate([[0.0], np.cumsum(lengths[:-1] - overlaps)])
    edges = np.stack([starts, starts + lengths], axis=1)  # (count, 2)
    return tuple((start, stop) for start, stop in np.rint(edges * samples / edges[-1, 1]).astype(int).tolist())
