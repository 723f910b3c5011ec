"""Running an extractor over mixtures, and the quick look at unseen speakers that training takes now and then."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hifitse import HifitseError
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import validation_conditions
from hifitse.metrics import si_sdr, si_sdri
from hifitse.params import Params

BATCH = 4  # mixtures in one forward pass
Enrolment = Literal["right", "wrong", "zero"]
"""Whose recording the extractor gets: the target's, that of an interferer in the mixture, or silence."""
Extract = Callable[[Tensor, Tensor], Tensor]
"""What is evaluated: ``(mix (B, T), enroll (B, N, T')) -> est (B, T)``. Usually an Extractor, any callable will do."""
Item = TypeVar("Item")
RIGHT = {name: Params.model_fields[name].default for name in ("enroll_speed", "min_activity", "untrimmed_s")}
"""Parameters by which a training's mixtures can be made wrong, with the values that are right: all arms are judged on correct mixtures."""


class EvaluationError(HifitseError):
    """An extractor returned something that is no estimate."""


def valid_seed(params: Params) -> int:
    """Seed of the validation mixtures, another than that of the test list."""
    return (params.eval_seed + 1) % 2**31


def validation_mixtures(params: Params) -> list[Mixture]:
    """``valid_mixtures`` mixtures of the validation speakers, rooms and noises, as :func:`hifitse.data.scene.validation_conditions`
    says, without single interferers and noise; kept for the next call with the same parameters."""
    return list(_kept(params.model_dump_json()))


@lru_cache(maxsize=1)
def _kept(parameters: str) -> tuple[Mixture, ...]:
    params = Params.model_validate_json(parameters).model_copy(update=RIGHT)
    mixer = Mixer(params, "valid")
    mixtures = (
        mixer.mixture(valid_seed(params), index, conditions, wrong_enroll=True)
        for index, conditions in enumerate(validation_conditions(params))
    )
    return tuple(replace(m, interferers=m.interferers[:0], noise=m.noise[:0]) for m in mixtures)


def quick_validate(extractor: Extract, mixtures: Iterable[Mixture], device: torch.device | str) -> dict[str, Any]:
    """Mean SI-SDRi in dB with the right and with a wrong enrolment, ``None`` where no mixture has a value. Errors as :func:`estimate`.

    To be paired with another training's: ``gains_db`` with the right one by mixture, and ``mix_db``, the mixtures' own mean SI-SDR.
    """
    gains: dict[str, list[float]] = {"si_sdri_db": [], "si_sdri_wrong_enroll_db": [], "mix_db": []}
    with evaluation_mode(extractor):
        for batch in batched(mixtures, lambda m: (m.mix.shape, m.enroll.shape, m.wrong_enroll is None)):
            mix, target = (stack(signals) for signals in ([m.mix for m in batch], [m.target for m in batch]))
            gains["si_sdri_db"] += si_sdri(estimate(extractor, batch, "right", device), mix, target).tolist()
            gains["mix_db"] += si_sdr(mix, target).tolist()
            if batch[0].wrong_enroll is not None:
                gains["si_sdri_wrong_enroll_db"] += si_sdri(estimate(extractor, batch, "wrong", device), mix, target).tolist()
    finite = {name: [value for value in values if np.isfinite(value)] for name, values in gains.items()}
    means = {name: float(np.mean(values)) if values else None for name, values in finite.items()}
    return means | {"gains_db": [round(value, 3) if np.isfinite(value) else None for value in gains["si_sdri_db"]]}


def estimate(extractor: Extract, batch: list[Mixture], enrolment: Enrolment, device: torch.device | str) -> Tensor:
    """Estimates ``(B, T)`` on the CPU for mixtures of one length, with the right, the wrong or a silent enrolment.
    Raises EvaluationError: an estimate is not finite or has another shape than the mixture."""
    mix = stack([m.mix for m in batch])
    enroll = stack([m.wrong_enroll if enrolment == "wrong" else m.enroll for m in batch])  # (B, N, T')
    enroll = torch.zeros_like(enroll) if enrolment == "zero" else enroll
    with torch.inference_mode():
        est = extractor(mix.to(device), enroll.to(device)).float().cpu()
    if est.shape != mix.shape:
        raise EvaluationError(f"the estimate has shape {tuple(est.shape)}, expected that of the mixture, {tuple(mix.shape)}")
    for mixture, finite in zip(batch, est.isfinite().all(-1).tolist(), strict=True):
        if not finite:
            name = mixture.metadata["id"]
            raise EvaluationError(f"the estimate of {name} ({enrolment} enrolment) holds NaN or infinity, expected finite samples")
    return est


def stack(signals: list[np.ndarray]) -> Tensor:
    """Numpy signals of one shape -> one float32 tensor with a batch axis in front."""
    return torch.from_numpy(np.stack(signals).astype(np.float32, copy=False))


def batched(items: Iterable[Item], key: Callable[[Item], object]) -> Iterator[list[Item]]:
    """Lists of at most ``BATCH`` items that agree in ``key``, in one pass and without holding more items than needed."""
    open_batches: dict[object, list[Item]] = {}
    for item in items:
        batch = open_batches.setdefault(key(item), [])
        batch.append(item)
        if len(batch) == BATCH:
            yield open_batches.pop(key(item))
    yield from open_batches.values()


def device_of(extractor: Extract) -> torch.device:
    """Where the extractor's weights are; the CPU for a callable without weights."""
    first = next(extractor.parameters(), None) if isinstance(extractor, nn.Module) else None
    return first.device if first is not None else torch.device("cpu")


@contextmanager
def evaluation_mode(extractor: Extract) -> Iterator[None]:
    """The extractor in evaluation mode, and afterwards in the mode it was in."""
    training = isinstance(extractor, nn.Module) and extractor.training
    if training:
        extractor.eval()
    try:
        yield
    finally:
        if training:
            extractor.train()
