"""Arms of an experiment: train and evaluate each once, measure it again on other mixtures, measure its spectra."""

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
"""The plan's own results for its baseline."""
BANDS_HZ = {"lsd_low_db": (0.0, 8_000.0), "lsd_high_db": (8_000.0, 24_000.0)}
"""Column -> the band's limits in Hz."""
Fidelity = dict[str, list[dict[str, Any]]]
"""Arm -> a row per mixture and seed, as of an evaluation, and in dB the columns of ``BANDS_HZ``."""


class _Wrapped(nn.Module):
    """Any callable as a module, so that it can be moved and its weights, if it has some, be counted."""

    def __init__(self, call: Extract) -> None:
        super().__init__()
        self.call = call

    def forward(self, mix: Tensor, enroll: Tensor) -> Tensor:
        return self.call(mix, enroll)


@dataclass(frozen=True)
class OwnModel:
    """A model of one's own in the place of a training: without history and folder, so its rows are measured each time.

    Attributes:
        call: ``(mix (B, T), enroll (B, N, T')) -> est (B, T)`` at 48 kHz.
        params: of the evaluation.
    """

    call: Extract
    params: Params
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
    """One variant, trained and evaluated.

    Attributes:
        name: ``baseline``, or the variant's.
        params: of the training with the first seed.
        run: that training, or a model of one's own.
        rows: as :func:`hifitse.evaluation.evaluate.evaluate` makes them, with the training's ``seed``.
        evaluation: parameters that decide the mixtures of the rows.
        others: the trainings with the further seeds.
    """

    name: str
    params: Params
    run: Run | OwnModel
    rows: pd.DataFrame
    evaluation: Params
    others: tuple[Run, ...] = ()

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
    """Train and evaluate a variant, or take from its run's folder what is there.

    Args:
        name: of the arm.
        params: of the training; or any callable ``(mix (B, T), enroll (B, N, T')) -> est (B, T)``, which is only evaluated.
        evaluation: parameters that decide the mixtures, of validation too: the baseline's, or ``params`` themselves. A callable needs them.
        seeds: of the trainings; none takes ``params.seed`` alone.
        progress: show progress bars.
        others: trainings that come after this arm's; only for what is said.
        trained: take each training as it is, also one that ``max_minutes`` cut.
        split: of the rows, as in :func:`measure`.

    Raises:
        HifitseError: as training and evaluation do, or a callable without ``evaluation``.
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
    """Rows of an arm's trainings on other mixtures or with another use of the extractor; kept in the runs' folders.

    Args:
        arm: trained.
        evaluation: parameters that decide the mixtures; ``None`` takes ``arm.evaluation``.
        lists, split: as in :func:`hifitse.evaluation.evaluate.evaluate`.
        change: what to make of the extractor first, such as :class:`hifitse.model.AveragedEstimates`.
        progress: show progress bars.
    """
    parts = []
    for run in (arm.run, *arm.others):
        extractor = run.extractor() if change is None else change(run.extractor())
        extractor = extractor.to(pick_device(arm.params.device))
        tested = evaluate(extractor, evaluation or arm.evaluation, run.folder, progress, split=split, lists=lists)
        parts.append(pd.DataFrame(tested).assign(seed=run.params.seed))
    return pd.concat(parts, ignore_index=True)


def fidelity(arms: Mapping[str, Arm], params: Params, split: Literal["test", "valid"] = "test", *, progress: bool = True) -> Fidelity:
    """:func:`hifitse.metrics.log_spectral_distance` of each arm's estimates in two bands, with the SI-SDRi of the same estimates, on the
    mixtures of the list "test" of ``params`` with the target present; by ``split`` of test or of validation speakers."""
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
    """Parameters that differ: name -> (the baseline's value, this one's)."""
    before, after = baseline.model_dump(), params.model_dump()
    return {name: (before[name], after[name]) for name in after if before[name] != after[name]}
