"""Arms of an experiment: train and evaluate each once, and measure it again on other mixtures where a question needs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from hifitse.evaluation.evaluate import LISTS, evaluate
from hifitse.evaluation.rows import BASELINE, METRICS, compare, mean, of_list, summarise
from hifitse.machine import pick_device
from hifitse.params import Params
from hifitse.training.run import Run
from hifitse.training.train import train

__all__ = ["BASELINE", "METRICS", "PUBLISHED", "PUBLISHED_SOURCE", "Arm", "compare", "declared_diff", "mean", "measure", "of_list"]
__all__ += ["run_arm", "summarise"]

PUBLISHED = {"si_sdri_db": 4.18, "si_sdr_db": -1.71, "pesq": 1.14, "stoi": 0.489, "absent_suppression_db": 11.4}
"""The plan's own results for its baseline."""
PUBLISHED_SOURCE = "the plan's baseline after 1.5 million steps, on 200 mixtures of its own recordings, which are not public"


@dataclass(frozen=True)
class Arm:
    """One variant, trained and evaluated.

    Attributes:
        name: ``baseline``, or the variant's.
        params: of the training with the first seed.
        run: the training with the first seed.
        rows: of all seeds, each row with the seed of its training under ``"seed"``.
        evaluation: parameters that decide the mixtures of the rows: those of the baseline, or ``params`` itself.
        others: the trainings with the further seeds.
    """

    name: str
    params: Params
    run: Run
    rows: list[dict[str, Any]]
    evaluation: Params
    others: tuple[Run, ...] = ()


def run_arm(
    name: str, params: Params, *, evaluation: Params | None = None, seeds: Sequence[int] = (), progress: bool = True, others: int = 0
) -> Arm:
    """Train and evaluate a variant, or take from its run's folder what is there.

    Args:
        name: of the arm.
        params: of the training.
        evaluation: parameters that decide the mixtures, where the variant changes what would change them (its curriculum,
            its corpus): give the baseline's. ``None`` takes ``params``.
        seeds: of the trainings; none takes ``params.seed`` alone.
        progress: show progress bars.
        others: trainings that come after this arm's; only for what is said.

    Raises:
        HifitseError: as training and evaluation do.
    """
    each = [params.model_copy(update={"seed": seed}) for seed in seeds or (params.seed,)]
    runs = [train(one, progress, others + len(each) - number) for number, one in enumerate(each, start=1)]
    arm = Arm(name, runs[0].params, runs[0], [], evaluation or runs[0].params, tuple(runs[1:]))
    return replace(arm, rows=measure(arm, progress=progress))


def measure(
    arm: Arm,
    evaluation: Params | None = None,
    lists: Sequence[str] = LISTS,
    *,
    change: Callable[[nn.Module], nn.Module] | None = None,
    split: Literal["test", "valid", "train"] = "test",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Rows of an arm's trainings on other mixtures, other lists, or with another use of the extractor; kept in the runs' folders.

    Args:
        arm: trained.
        evaluation: parameters that decide the mixtures; ``None`` takes ``arm.evaluation``.
        lists: some of :data:`hifitse.evaluation.evaluate.LISTS`.
        change: what to make of the extractor before it is measured, such as :class:`hifitse.model.AveragedEstimates`; ``None``: nothing.
        split: whose speakers, rooms and noises, as in :func:`hifitse.evaluation.evaluate.evaluate`.
        progress: show progress bars.
    """
    rows: list[dict[str, Any]] = []
    for run in (arm.run, *arm.others):
        extractor = run.extractor() if change is None else change(run.extractor())
        extractor = extractor.to(pick_device(arm.params.device))
        measured = evaluate(extractor, evaluation or arm.evaluation, run.folder, progress, split=split, lists=lists)
        rows += [row | {"seed": run.params.seed} for row in measured]
    return rows


def declared_diff(params: Params, baseline: Params) -> dict[str, tuple[Any, Any]]:
    """Parameters that differ: name -> (the baseline's value, this one's)."""
    before, after = baseline.model_dump(), params.model_dump()
    return {name: (before[name], after[name]) for name in after if before[name] != after[name]}
