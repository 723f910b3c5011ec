"""A baseline and its variants: the same parameters with a few declared changes, evaluated on the same mixtures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hifitse import HifitseError
from hifitse.evaluation.experiment import Arm, Extract, declared_diff, run_arm
from hifitse.evaluation.rows import BASELINE, Rows, compare, only_list
from hifitse.machine import set_threads
from hifitse.params import PHASED, Params
from hifitse.training.abreast import train_abreast
from hifitse.training.run import Run

Changes = Mapping[str, Any]
"""Parameter -> value: all in which a variant differs from the baseline."""
Expected = tuple[float, float]
"""dB of SI-SDRi: lowest and highest gain that the plan expects."""


@dataclass(frozen=True)
class Comparison:
    """Arms that were trained and evaluated alike.

    Attributes:
        baseline: the arm that all others are compared with.
        arms: the variants by name.
        expected: what the plan expects of a variant, where it does.
    """

    baseline: Arm
    arms: dict[str, Arm]
    expected: dict[str, Expected] = field(default_factory=dict)

    @property
    def all(self) -> dict[str, Arm]:
        """The baseline first, then the variants."""
        return {self.baseline.name: self.baseline} | self.arms

    def changes(self, name: str) -> dict[str, tuple[Any, Any]]:
        """Parameter -> (the baseline's value, the variant's)."""
        return declared_diff(self.arms[name].params, self.baseline.params)

    def results(self, metrics: Sequence[str] = ("si_sdri_db",)) -> list[dict[str, Any]]:
        """Each variant against the baseline by each metric, as :func:`hifitse.evaluation.rows.compare` says it."""
        return [
            compare(name, arm.rows, self.baseline.rows, metric, self.expected.get(name) if metric == "si_sdri_db" else None)
            for metric in metrics
            for name, arm in self.arms.items()
        ]


def by_condition(conditions: Mapping[str, Mapping[str, Rows]], baseline: str = BASELINE) -> list[dict[str, Any]]:
    """Each arm's SI-SDRi against the baseline's under each condition, which is named as the ``list`` of the comparison.

    Args:
        conditions: condition -> arm -> rows of one list.
        baseline: the arm that the others are compared with.
    """
    return [
        compare(name, rows, arms[baseline], list_name=only_list(rows)) | {"list": condition}
        for condition, arms in conditions.items()
        for name, rows in arms.items()
        if name != baseline
    ]


def vary(params: Params, changes: Changes) -> Params:
    """The same parameters but for the changes.

    Raises:
        HifitseError: a change is not allowed, or they change nothing.
    """
    changed = Params(**(params.model_dump() | dict(changes)))
    if changed.run_id == params.run_id:
        raise HifitseError(f"changes are {dict(changes)}, which is the baseline itself; expected changes of the training")
    return changed


def run_all(
    params: Params,
    changes: Mapping[str, Changes | Extract],
    expected: Mapping[str, Expected] | None = None,
    *,
    progress: bool = True,
    split: Literal["test", "valid"] = "test",
) -> Comparison:
    """Train and evaluate the baseline and its variants, or take what is there.

    Args:
        params: of the baseline, which also decide everyone's test mixtures.
        changes: variant -> its changes, or a model of one's own as in :func:`hifitse.evaluation.experiment.run_arm`.
        expected: variant -> what the plan expects.
        progress: show progress bars.
        split: "valid" judges on speakers, rooms and noises of the validation, to choose by.

    Raises:
        HifitseError: as training and evaluation do; before anything starts, where a change is not allowed.
    """
    variants = {name: each if callable(each) else vary(params, each) for name, each in changes.items()}
    if BASELINE in variants:
        raise HifitseError(f"a variant is called {BASELINE!r}, expected any other name")
    unknown = set(expected or {}) - set(variants)
    if unknown:
        raise HifitseError(f"expected names {', '.join(sorted(unknown))}, expected one of the variants: {', '.join(variants)}")
    seeds = range(params.seed, params.seed + params.arm_seeds)
    wanted = {BASELINE: params} | variants
    ours = {name: each for name, each in wanted.items() if isinstance(each, Params)}
    trainings = [(name, each.model_copy(update={"seed": seed})) for name, each in ours.items() for seed in seeds]
    arms, later = {}, [name for name, each in trainings if not Run.of(each).finished]
    together = params.arms_together > 1
    if together:
        train_abreast([each for _, each in trainings], params.arms_together, progress)
        set_threads(params.threads)  # for the evaluation
    for name, each in wanted.items():
        later = [other for other in later if other != name]
        how = {"seeds": seeds, "progress": progress, "others": len(later), "trained": together, "split": split}
        arms[name] = run_arm(name, each, evaluation=params, **how)
    return Comparison(arms.pop(BASELINE), arms, dict(expected or {}))


def equal_seconds(params: Params, seconds: float) -> dict[str, Any]:
    """Changes to mixtures of another length: as many updates, of as many seconds of audio as whole mixtures allow.

    The batch gives where there is no accumulation, else the accumulation: one forward pass then has its full length in memory.
    """
    items = params.batch_size * params.accumulation * params.seconds / seconds
    if params.accumulation == 1:
        return {"seconds": seconds, "batch_size": max(1, round(items))}
    accumulation = max(1, round(items / params.batch_size))
    steps, warmup = (round(n * accumulation / params.accumulation) for n in (params.steps, params.warmup_steps))
    return {"seconds": seconds, "accumulation": accumulation, "steps": max(1, steps), "warmup_steps": warmup}


def with_phase(params: Params, start: float, **values: Any) -> dict[str, Any]:
    """Changes to a curriculum with one more phase: from a share ``start`` of the steps on, ``values`` hold by parameter.

    What is not named stays as in the last phase.

    Raises:
        HifitseError: a name is no parameter of the curriculum.
    """
    for name in values:
        if name not in PHASED:
            raise HifitseError(f"{name} is no parameter of a phase, expected {', '.join(PHASED)}")
    phases = len(params.phase_starts)
    changes: dict[str, Any] = {"phase_starts": [*params.phase_starts, start]}
    for name in PHASED:
        before = [params.at_phase(name, phase) for phase in range(phases)]
        if name in values or len(getattr(params, name)) > 1:
            changes[name] = [*before, values.get(name, before[-1])]
    return changes
