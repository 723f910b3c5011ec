"""How near an estimate is to the target: SI-SDR, PESQ, STOI, levels, and the mean of many with its bootstrap interval.

The order of arguments is ``(est, target)`` everywhere, also where the library beneath has it the other way round.
SI-SDR, SI-SDRi, levels and suppression are for torch tensors of any leading shape and can be differentiated;
PESQ, STOI and the log-spectral distance are for one numpy signal at 48 kHz.
"""

import importlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE, HifitseError

SILENCE_MEAN_SQUARE = 1e-13
"""Mean square (-130 dBFS) at and below which a signal counts as digital silence."""
SI_SDR_LIMIT_DB = 100.0
"""dB: SI-SDR lies between minus and plus this value; a silent estimate has the lower limit."""
LEVEL_FLOOR_DB = -120.0
"""dBFS: the lowest level that is told apart, that of silence."""


class MetricError(HifitseError, ValueError):
    """Signals that cannot be compared: different shapes, empty, or not finite."""


def si_sdr(est: Tensor, target: Tensor) -> Tensor:
    r"""Scale-invariant signal-to-distortion ratio over the last axis, without removal of the mean.

    .. math:: 10 \log_{10} \|\alpha s\|^2 / \|\hat s - \alpha s\|^2, \quad \alpha = \langle \hat s, s \rangle / \|s\|^2

    The scale of either signal does not matter, down to silence (-130 dBFS). Half precision is raised to float32.

    Args:
        est: ``(..., T)``.
        target: ``(..., T)``, the same shape.

    Returns:
        ``(...)`` in dB, within -100 and 100. ``nan`` where the target is silent, for there the ratio is undefined: select
        the present targets *before* taking a mean. A silent estimate of a present target has -100. The gradient is finite
        in both cases.

    Raises:
        MetricError: shapes differ, or there are no samples.

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.

    Example:
        >>> si_sdr(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]))  # as much distortion as target
        tensor(0.)
    """
    _same_shape(est, target)
    est, target = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (est, target))
    silence = SILENCE_MEAN_SQUARE * est.shape[-1]
    limit = 10 ** (-SI_SDR_LIMIT_DB / 10)
    est_energy = est.square().sum(-1, keepdim=True)  # (..., 1)
    target_energy = target.square().sum(-1, keepdim=True)
    scaled = (est * target).sum(-1, keepdim=True) / target_energy.clamp(min=silence) * target
    # The limit is relative to the estimate, which keeps the ratio scale-invariant; what an estimate lacks to silence counts as distortion.
    floor = limit * est_energy.clamp(min=silence)
    lacking = (silence - est_energy).clamp(min=0)
    ratio = (scaled.square().sum(-1, keepdim=True) + floor) / ((est - scaled).square().sum(-1, keepdim=True) + floor + lacking)
    value = 10 * torch.log10(ratio)
    return torch.where(target_energy <= silence, torch.nan, value).squeeze(-1)


def si_sdri(est: Tensor, mix: Tensor, target: Tensor) -> Tensor:
    """SI-SDR of the estimate less that of the mixture: what the extraction gained.

    Args:
        est, mix, target: ``(..., T)``, all of one shape.

    Returns:
        ``(...)`` in dB, ``nan`` where the target is silent.
    """
    return si_sdr(est, target) - si_sdr(mix, target)


def _same_shape(*signals: Tensor | np.ndarray) -> None:
    shapes = [tuple(signal.shape) for signal in signals]
    if len(set(shapes)) > 1 or not shapes[0] or shapes[0][-1] == 0:
        raise MetricError(f"signals to compare have shapes {', '.join(map(str, shapes))}, allowed is one shape with at least one sample")
