"""Arms of an experiment: train and evaluate each arm once, evaluate it again on other mixtures, measure its spectra."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
from torch import Tensor, nn

from hifitse import HifitseError
from hifitse.evaluation.evaluate import LISTS, conditions_of, evaluate, listed_items, measured
from hifitse.evaluation.rows import METRICS, frame, of_list, summarise
from hifitse.machine import pick_device, progress_bar
from hifitse.metrics import log_spectral_distance
from hifitse.params import Params
from hifitse.training.run import Run
from hifitse.training.train import train
from hifitse.training.validation import Extract, batched, estimate

__all__ = ["BANDS_HZ", "METRICS", "PUBLISHED", "Arm", "OwnModel", "declared_diff", "fidelity", "measure", "of_list"]
__all__ += ["run_arm", "summarise"]

PUBLISHED = {"si_sdri_db": 4.18, "si_sdr_db": -1.71, "pesq": 1.14, "stoi": 0.489, "absent_suppression_db": 11.4}
"""Results that the plan reports for its baseline."""
BANDS_HZ = {"lsd_low_db": (0.0, 8_000.0), "lsd_high_db": (8_000.0, 24_000.0)}  # column -> band limits, Hz
Fidelity = dict[str, list[dict[str, Any]]]
"""Arm -> one evaluation row per mixture and seed, with the columns of ``BANDS_HZ`` in dB."""


class _Wrapped(nn.Module):
    """Wraps any callable as a module, so that it can be moved to a device and its weights, if any, can be counted."""

    def __init__(self, call: Extract) -> None:
        super().__init__()
        self.call = call

    def forward(self, mix: Tensor, enroll: Tensor) -> Tensor:
        return self.call(mix, enroll)


@dataclass(frozen=True)
class OwnModel:
    """A custom model in place of a run. It has no history and no folder, so its rows are computed every time."""

    call: Extract
    params: Params  # of the evaluation
    folder: None = None
    step: int = 0
    seconds: float = 0.0
    seconds_per_step: float = 0.0
    finished: bool = True
    collapsed: str = ""
    device: str = "trained elsewhere"
    history: Sequence[dict[str, float]] = ()
    validation: Sequence[dict[str, float]] = ()

    def extractor(self) -> nn.Module:
        return _Wrapped(self.call).eval()


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison, trained and evaluated."""

    name: str
    params: Params  # of the run with the first seed
    run: Run | OwnModel
    rows: pd.DataFrame  # as :func:`hifitse.evaluation.evaluate.evaluate` returns them, with the ``seed`` of the training added
    evaluation: Params  # parameters that determine the mixtures of the rows
    others: tuple[Run, ...] = ()  # runs with further seeds

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", frame(self.rows))


def run_arm(
    name: str,
    params: Params | Extract,
    *,
    evaluation: Params | None = None,
    seeds: Sequence[int] = (),
    progress: bool = True,
    others: int = 0,
    trained: bool = False,
    split: Literal["test", "valid"] = "test",
) -> Arm:
    """Train and evaluate an arm, reusing what its run folders already hold.

    Args:
        params: parameters of the training; or any callable ``(mix (B, T), enroll (B, N, T')) -> est (B, T)``, which is only evaluated.
        evaluation: parameters that determine the mixtures of evaluation and validation; ``None``: ``params``. A callable needs them.
        seeds: seeds of the trainings; empty: only ``params.seed``.
        others: number of trainings that follow this arm's; used in messages only.
        trained: take each run as it is, even if ``max_minutes`` cut it short.

    Raises HifitseError: from training or evaluation, or a callable without ``evaluation``.
    """
    runs: list[Run | OwnModel]
    if isinstance(params, Params):
        each = [params.model_copy(update={"seed": seed}) for seed in seeds or (params.seed,)]
        runs = [Run.of(one) if trained else train(one, progress, others + len(each) - n, evaluation) for n, one in enumerate(each, start=1)]
    elif evaluation is None:
        raise HifitseError("evaluation is None for a model of one's own, expected the parameters that decide its mixtures")
    else:
        runs = [OwnModel(params, evaluation)]
    arm = Arm(name, runs[0].params, runs[0], pd.DataFrame(), evaluation or runs[0].params, tuple(runs[1:]))
    return replace(arm, rows=measure(arm, split=split, progress=progress))


def measure(
    arm: Arm,
    evaluation: Params | None = None,
    lists: Sequence[str] = LISTS,
    *,
    change: Callable[[nn.Module], nn.Module] | None = None,
    split: Literal["test", "valid", "train"] = "test",
    progress: bool = True,
) -> pd.DataFrame:
    """Evaluate an arm's runs, by default on the mixtures of ``arm.evaluation``. Rows are cached in the run folders.

    ``lists, split``: as in :func:`hifitse.evaluation.evaluate.evaluate`. ``change``: applied to the extractor first, for example
    :class:`hifitse.model.AveragedEstimates`; rows of custom modules are not cached.
    """
    parts = []
    for run in (arm.run, *arm.others):
        extractor = run.extractor() if change is None else change(run.extractor())
        extractor = extractor.to(pick_device(arm.params.device))
        tested = evaluate(extractor, evaluation or arm.evaluation, run.folder, progress, split=split, lists=lists)
        parts.append(pd.DataFrame(tested).assign(seed=run.params.seed))
    return pd.concat(parts, ignore_index=True)


def fidelity(arms: Mapping[str, Arm], params: Params, split: Literal["test", "valid"] = "test", *, progress: bool = True) -> Fidelity:
    """Measure each arm's :func:`hifitse.metrics.log_spectral_distance` in two bands, with the SI-SDRi of the same estimates, on those
    mixtures of the list "test" of ``params`` that contain the target; ``split`` selects test or validation speakers."""
    device = pick_device(params.device)
    runs = [(name, run.params.seed, run.extractor().to(device)) for name, arm in arms.items() for run in (arm.run, *arm.others)]
    items = (item for item in listed_items(params, split, conditions_of(params, ("test",))) if item.present)
    found: Fidelity = {name: [] for name in arms}
    bar = progress_bar(items, desc=f"spectra, {split}", unit="mixture", disable=not progress)
    for batch in batched(bar, lambda item: item.shape):
        for name, seed, extractor in runs:
            ests = estimate(extractor, [item.mixture for item in batch], "right", device)  # (B, T)
            for item, est in zip(batch, ests, strict=True):
                lsd = {key: log_spectral_distance(est.numpy(), item.mixture.target, *band) for key, band in BANDS_HZ.items()}
                found[name].append(measured(item, {"right": est}) | lsd | {"seed": seed})
    return found


def declared_diff(params: Params, baseline: Params) -> dict[str, tuple[Any, Any]]:
    """Return the parameters that differ: name -> (value in the baseline, value in ``params``)."""
    before, after = baseline.model_dump(), params.model_dump()
    return {name: (before[name], after[name]) for name in after if before[name] != after[name]}
