"""Run an extractor on mixtures, and validate quickly on held-out speakers during training."""

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
"""The enrolment that the extractor gets: the target's, that of an interferer in the mixture, or silence."""
Extract = Callable[[Tensor, Tensor], Tensor]
"""The system under evaluation, ``(mix (B, T), enroll (B, N, T')) -> est (B, T)``: usually an Extractor, but any callable works."""
Item = TypeVar("Item")
RIGHT = {name: Params.model_fields[name].default for name in ("enroll_speed", "min_activity", "untrimmed_s")}
"""Correct values of the parameters with which an arm can train on faulty mixtures. All arms are validated on correct mixtures."""


class EvaluationError(HifitseError):
    """An extractor returned something that is not a valid estimate."""


def valid_seed(params: Params) -> int:
    """Return the seed of the validation mixtures, which differs from that of the test list."""
    return (params.eval_seed + 1) % 2**31


def validation_mixtures(params: Params) -> list[Mixture]:
    """Return ``valid_mixtures`` mixtures of the validation speakers, rooms and noises, with the conditions of
    :func:`hifitse.data.scene.validation_conditions`; the separate interferer and noise signals are dropped. The last result is cached."""
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
    """Return the mean SI-SDRi in dB with the right and with a wrong enrolment, ``None`` if no mixture has a value.

    Also returned, for a paired comparison with another training: ``gains_db``, the SI-SDRi of each mixture with the right enrolment, and
    ``mix_db``, the mean SI-SDR of the mixtures themselves. Raises the errors of :func:`estimate`."""
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
    """Extract from mixtures of equal length with the right, a wrong or a silent enrolment. Return estimates ``(B, T)`` on the CPU.
    Raises EvaluationError: an estimate is not finite, or its shape differs from the mixture's."""
    mix = stack([m.mix for m in batch])
    enroll = stack([m.wrong_enroll if enrolment == "wrong" else m.enroll for m in batch])  # (B, N, T')
    enroll = torch.zeros_like(enroll) if enrolment == "zero" else enroll
    with torch.inference_mode():
        est = torch.as_tensor(extractor(mix.to(device), enroll.to(device))).float().cpu()
    if est.shape != mix.shape:
        raise EvaluationError(f"the estimate has shape {tuple(est.shape)}, expected that of the mixture, {tuple(mix.shape)}")
    for mixture, finite in zip(batch, est.isfinite().all(-1).tolist(), strict=True):
        if not finite:
            name = mixture.metadata["id"]
            raise EvaluationError(f"the estimate of {name} ({enrolment} enrolment) holds NaN or infinity, expected finite samples")
    return est


def stack(signals: list[np.ndarray]) -> Tensor:
    """Stack NumPy signals of equal shape into one float32 tensor with a leading batch axis."""
    return torch.from_numpy(np.stack(signals).astype(np.float32, copy=False))


def batched(items: Iterable[Item], key: Callable[[Item], object]) -> Iterator[list[Item]]:
    """Yield lists of at most ``BATCH`` items with equal ``key``, in one pass, holding only incomplete batches."""
    open_batches: dict[object, list[Item]] = {}
    for item in items:
        batch = open_batches.setdefault(key(item), [])
        batch.append(item)
        if len(batch) == BATCH:
            yield open_batches.pop(key(item))
    yield from open_batches.values()


def device_of(extractor: Extract) -> torch.device:
    """Return the device of the extractor's weights; the CPU for a callable without weights."""
    first = next(extractor.parameters(), None) if isinstance(extractor, nn.Module) else None
    return first.device if first is not None else torch.device("cpu")


@contextmanager
def evaluation_mode(extractor: Extract) -> Iterator[None]:
    """Put the extractor in evaluation mode for the duration of the block."""
    training = isinstance(extractor, nn.Module) and extractor.training
    if training:
        extractor.eval()
    try:
        yield
    finally:
        if training:
            extractor.train()
