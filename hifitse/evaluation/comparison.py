"""Compare a baseline with its variants: the same parameters except for a few declared changes, evaluated on the same mixtures."""

from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from hifitse import HifitseError
from hifitse.data.manifest import missing, sources
from hifitse.evaluation.experiment import Arm, Extract, OwnModel, declared_diff, measure, run_arm
from hifitse.evaluation.rows import BASELINE, Rows, compare, difference, of_list, only_list
from hifitse.losses.objective import Objective
from hifitse.machine import set_threads
from hifitse.params import PHASED, Params
from hifitse.training.abreast import train_abreast
from hifitse.training.run import Run

Changes = Mapping[str, Any]  # parameter -> value: every difference of a variant from the baseline
Expected = tuple[float, float]  # lowest and highest gain in SI-SDRi that the plan expects, dB
DRY = {"reverb_prob": 0.0, "noise_prob": 0.0, "noisy_enroll_prob": [0.0], "eval_absent_share": 0.0, "eval_pesq": False}
ELSEWHERE = {"train_only": "vctk_", "test_share": 0.49, "valid_share": 0.2, "similarity": [0.0]}
"""Parameters for a corpus that no training uses: put as many of its speakers as possible in the test split."""
UNSEEN = "unseen sources"
"""Name of the list made from :attr:`hifitse.params.Params.eval_unseen`: equally many mixtures per source, without rooms and noise."""
declare_only: ContextVar[bool] = ContextVar("declare_only", default=False)


class Declared(Exception):  # noqa: N818 (no error: it ends a notebook that is only asked for its arms)
    """Raised by :func:`run_all` in place of any training while ``declare_only`` is set. Its argument: arm -> parameters."""


@dataclass(frozen=True)
class Comparison:
    """A baseline and its variants, trained and evaluated in the same way."""

    baseline: Arm
    arms: dict[str, Arm]
    expected: dict[str, Expected] = field(default_factory=dict)  # variants without an entry are not in the plan
    skipped: Sequence[str] = ()  # variants left out by ``skip_arms``

    @property
    def all(self) -> dict[str, Arm]:
        """All arms by name, the baseline first."""
        return {self.baseline.name: self.baseline} | self.arms

    def changes(self, name: str) -> dict[str, tuple[Any, Any]]:
        """Return the changes of a variant: parameter -> (value of the baseline, value of the variant)."""
        return declared_diff(self.arms[name].params, self.baseline.params)

    def results(self, metrics: Sequence[str] = ("si_sdri_db",)) -> list[dict[str, Any]]:
        """Compare each variant with the baseline by each metric, and by SI-SDRi on unseen sources; rows as returned by :func:`compare`."""
        found = self.against(BASELINE, list(self.arms), metrics)
        elsewhere = {name: of_list(arm.rows, UNSEEN) for name, arm in self.all.items()}
        return found + (by_condition({UNSEEN: elsewhere}) if len(elsewhere[BASELINE]) else [])

    def against(self, control: str, names: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
        """Compare the named variants with the arm ``control`` by each metric, as far as they were trained; rows as in :meth:`results`."""
        pairs = [(name, self.arms[name].rows, self.all[control].rows) for name in names if {name, control} <= set(self.all)]
        wanted = {"si_sdri_db": self.expected}
        return [compare(*pair, metric, wanted.get(metric, {}).get(pair[0])) | {"baseline": control} for metric in metrics for pair in pairs]


def by_condition(conditions: Mapping[str, Mapping[str, Rows]]) -> list[dict[str, Any]]:
    """Compare the arms' SI-SDRi with the baseline's. Takes condition -> arm -> rows of one list; results name the condition as ``list``."""
    return [
        compare(name, rows, arms[BASELINE], list_name=only_list(rows)) | {"list": condition}
        for condition, arms in conditions.items()
        for name, rows in arms.items()
        if name != BASELINE
    ]


def vary(params: Params, changes: Changes) -> Params:
    """Return the changed parameters. Raises HifitseError: a change is not allowed, or the changes do not affect training."""
    changed = Params(**(params.model_dump() | dict(changes)))
    if changed.seed != params.seed:
        raise HifitseError(f"changes are {dict(changes)}, expected no seed: all arms share theirs, and arm_seeds trains them with several")
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
    """Train and evaluate the baseline and its variants, reusing finished runs and cached rows.

    Args:
        params: parameters of the baseline, which also determine the test mixtures of all arms.
        changes: variant -> its changes, or a custom model as in :func:`hifitse.evaluation.experiment.run_arm`.
        split: "valid" evaluates on the speakers, rooms and noises of the validation split, for model selection.

    Raises HifitseError: from training or evaluation; if a change is not allowed, before anything starts.
    """
    variants = {name: each if callable(each) else vary(params, each) for name, each in changes.items()}
    if BASELINE in variants:
        raise HifitseError(f"a variant is called {BASELINE!r}, expected any other name")
    unknown = set(expected or {}) - set(changes)
    if unknown:
        raise HifitseError(f"expected names {', '.join(sorted(unknown))}, expected one of the variants: {', '.join(changes)}")
    skipped = [name for name in variants if name in params.skip_arms]
    wanted = {BASELINE: params} | {name: each for name, each in variants.items() if name not in skipped}
    trained = {name: each for name, each in wanted.items() if isinstance(each, Params)}
    for each in trained.values():
        Objective(each)  # so that a mistake in a new loss term shows before the first training
    if declare_only.get():
        raise Declared(trained)
    arms = completed(params, wanted, progress, split)
    return Comparison(arms.pop(BASELINE), arms, {name: gain for name, gain in (expected or {}).items() if name in wanted}, skipped)


def completed(
    params: Params, wanted: Mapping[str, Params | Extract], progress: bool = True, split: Literal["test", "valid"] = "test"
) -> dict[str, Arm]:
    """Train and evaluate the baseline, which has the parameters ``params``, and all other arms, each with the seeds it should have.

    With ``arm_seeds_within`` above 0, arms whose interval ends more than this many dB below 0 get no further seeds.
    """
    seeds = range(params.seed, params.seed + params.arm_seeds)
    arms = _run(wanted, params, seeds[:1] if params.arm_seeds_within else seeds, progress, split)
    if params.arm_seeds_within and len(seeds) > 1:
        worse = {name for name, arm in arms.items() if difference(arm.rows, arms[BASELINE].rows).high < -params.arm_seeds_within}
        again = {name: wanted[name] for name, arm in arms.items() if name not in worse and not isinstance(arm.run, OwnModel)}
        for name, more in _run(again, params, seeds[1:], progress, split).items():
            rows = pd.concat([arms[name].rows, more.rows], ignore_index=True)
            arms[name] = replace(arms[name], rows=rows, others=(more.run, *more.others))
    return arms


def _run(wanted: Mapping[str, Params | Extract], params: Params, seeds: Sequence[int], progress: bool, split: str) -> dict[str, Arm]:
    """Train arms with these seeds and evaluate them on the baseline's lists. Return them by name."""
    ours = {name: each for name, each in wanted.items() if isinstance(each, Params)}
    trainings = [(name, each.model_copy(update={"seed": seed})) for name, each in ours.items() for seed in seeds]
    arms, later = {}, [name for name, each in trainings if not Run.of(each).finished]
    together = params.arms_together > 1
    if together:
        train_abreast([each for _, each in trainings], params.arms_together, progress, params)
        set_threads(params.threads)  # for the evaluation
    for name, each in wanted.items():
        later = [other for other in later if other != name]
        how = {"seeds": seeds, "progress": progress, "others": len(later), "trained": together, "split": split}
        arm = run_arm(name, each, evaluation=params, **how)
        arms[name] = replace(arm, rows=pd.concat([arm.rows, *unseen(arm, progress)], ignore_index=True))
    return arms


def unseen(arm: Arm, progress: bool = True) -> Iterator[pd.DataFrame]:
    """Yield the rows of an arm on each source of ``eval_unseen`` that is available, all as parts of the one list :data:`UNSEEN`."""
    texts = sources(arm.evaluation.eval_unseen)
    count = max(4, arm.evaluation.eval_mixtures // max(1, len(texts)))
    for number, text in enumerate(texts):
        changes = DRY | ELSEWHERE | {"corpus": text, "eval_mixtures": count, "eval_unseen": "", "eval_list": ""}
        asked = Params(**(arm.evaluation.model_dump() | changes))
        if not missing(text):
            rows = measure(arm, asked, ("test",), progress=progress)
            yield rows.assign(list=UNSEEN, index=rows["index"] + number * count)


def equal_seconds(params: Params, seconds: float) -> dict[str, Any]:
    """Return changes to mixtures of ``seconds``, with as many updates and, up to whole mixtures, as much audio in each.

    They adjust ``batch_size`` if there is no accumulation, else ``accumulation``: then longer mixtures take more memory in a forward pass.
    """
    items = params.batch_size * params.accumulation * params.seconds / seconds
    if params.accumulation == 1:
        return {"seconds": seconds, "batch_size": max(1, round(items))}
    accumulation = max(1, round(items / params.batch_size))
    steps, warmup = (round(n * accumulation / params.accumulation) for n in (params.steps, params.warmup_steps))
    return {"seconds": seconds, "accumulation": accumulation, "steps": max(1, steps), "warmup_steps": warmup}


def with_phase(params: Params, start: float, **values: Any) -> dict[str, Any]:
    """Return changes that add a phase to the curriculum, with ``values`` by parameter from the fraction ``start`` of the steps on.

    Other parameters keep their values of the last phase. Raises HifitseError: a name is not a curriculum parameter.
    """
    for name in values:
        if name not in PHASED:
            raise HifitseError(f"{name} is not a curriculum parameter, expected {', '.join(PHASED)}")
    phases = len(params.phase_starts)
    changes: dict[str, Any] = {"phase_starts": [*params.phase_starts, start]}
    for name in PHASED:
        before = [params.at_phase(name, phase) for phase in range(phases)]
        if name in values or len(getattr(params, name)) > 1:
            changes[name] = [*before, values.get(name, before[-1])]
    return changes
