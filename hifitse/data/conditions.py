"""How hard one mixture is: the curriculum of the training and the fixed lists of the evaluation."""

from bisect import bisect_right
from dataclasses import dataclass

from hifitse import HifitseError
from hifitse.params import Params

PARTIAL_SECONDS = 8.0
PARTIAL_ACTIVE_S = (2.0, 5.5)
LONG_SECONDS = (5.0, 8.0)


@dataclass(frozen=True)
class Conditions:
    """What a mixture is drawn from, beside the parameters of the run.

    Attributes:
        name: list or stage that the mixture belongs to; the first part of its id.
        seconds: length, s, above 0.
        absent_prob: share of mixtures without the target; 0 or 1 decides it.
        interferers_min, interferers_max: number of interferers, 0 to 8.
        snr_min_db, snr_max_db: target-to-noise ratio, dB.
        noisy_enroll_prob: share of noisy enrolments.
        active_from_s, active_to_s: the target is there in this stretch only; ``None``: from the start, to the end.
        phase: number of the curriculum's phase, from 0.
    """

    name: str
    seconds: float
    absent_prob: float = 0.0
    interferers_min: int = 1
    interferers_max: int = 1
    snr_min_db: float = 0.0
    snr_max_db: float = 0.0
    noisy_enroll_prob: float = 0.0
    active_from_s: float | None = None
    active_to_s: float | None = None
    phase: int = 0

    @property
    def absent(self) -> bool:
        """Whether the target is absent for certain."""
        return self.absent_prob >= 1

    def __post_init__(self) -> None:
        start, stop = self.active_from_s or 0.0, self.seconds if self.active_to_s is None else self.active_to_s
        if not 0 <= start < stop <= self.seconds:
            raise HifitseError(f"the target is active from {start} to {stop} s, allowed is a stretch inside the mixture's {self.seconds} s")
        if not 0 <= self.interferers_min <= self.interferers_max <= 8:
            raise HifitseError(f"interferers are {self.interferers_min} to {self.interferers_max}, allowed are rising numbers from 0 to 8")


def _phase_conditions(params: Params, phase: int, name: str, seconds: float, **changes: object) -> Conditions:
    values = {
        "absent_prob": params.at_phase("absent_prob", phase),
        "interferers_min": int(params.at_phase("interferers_min", phase)),
        "interferers_max": int(params.at_phase("interferers_max", phase)),
        "snr_min_db": params.at_phase("snr_min_db", phase),
        "snr_max_db": params.at_phase("snr_max_db", phase),
        "noisy_enroll_prob": params.at_phase("noisy_enroll_prob", phase),
    }
    return Conditions(name=name, seconds=seconds, phase=phase, **(values | changes))


def training_conditions(params: Params, index: int) -> Conditions:
    """Conditions of training mixture ``index``, by the share of the run's mixtures that precede it.

    ``noisy_enroll_prob`` of a phase is reached in a straight line over the phase, from that of the phase before (0 before the first).
    All else changes at once where a phase starts.
    """
    progress = min(1.0, index / (params.steps * params.batch_size * params.accumulation))
    phase = bisect_right(params.phase_starts, progress) - 1
    start, stop = (*params.phase_starts, 1.0)[phase : phase + 2]
    before = params.at_phase("noisy_enroll_prob", phase - 1) if phase else 0.0
    goal = params.at_phase("noisy_enroll_prob", phase)
    noisy = before + (goal - before) * (progress - start) / (stop - start)
    return _phase_conditions(params, phase, "train", params.seconds, noisy_enroll_prob=noisy)


def validation_conditions(params: Params) -> list[Conditions]:
    """``params.valid_mixtures`` conditions of the training's length and the last phase's difficulty, the target always there."""
    last = len(params.phase_starts) - 1
    return [_phase_conditions(params, last, "valid", params.seconds, absent_prob=0.0)] * params.valid_mixtures


def evaluation_conditions(params: Params) -> dict[str, list[Conditions]]:
    """The fixed lists of the evaluation, all of the last phase's difficulty; item i is drawn with ``(params.eval_seed, i)``.

    "test": ``eval_mixtures`` of ``eval_seconds``, ``eval_absent_share`` of them without the target, spread evenly.
    "partial": ``eval_partial`` of 8 s, the target from 2.0 to 5.5 s.  "long": ``eval_long`` of 5 to 8 s.
    """
    last = len(params.phase_starts) - 1
    count, absent = params.eval_mixtures, round(params.eval_absent_share * params.eval_mixtures)
    # Item i is absent where the running count i * absent / count passes a whole number.
    gone = [(i + 1) * absent // count > i * absent // count for i in range(count)]
    test = [_phase_conditions(params, last, "test", params.eval_seconds, absent_prob=float(each)) for each in gone]
    start, stop = PARTIAL_ACTIVE_S
    one = _phase_conditions(params, last, "partial", PARTIAL_SECONDS, absent_prob=0.0, active_from_s=start, active_to_s=stop)
    low, high = LONG_SECONDS
    step = (high - low) / max(1, params.eval_long - 1)
    longs = [_phase_conditions(params, last, "long", round(low + i * step, 3), absent_prob=0.0) for i in range(params.eval_long)]
    return {"test": test, "partial": [one] * params.eval_partial, "long": longs}
