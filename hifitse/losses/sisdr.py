"""Waveform terms: SI-SDR and SNR where the target speaks, output level where it does not."""

import torch
from torch import Tensor

from hifitse.metrics import SILENCE_MEAN_SQUARE, si_sdr

ABSENT_FLOOR_DBFS = -30.0
"""Level below which :func:`absent_floor` asks for nothing more."""


def negative_si_sdr(est: Tensor, target: Tensor) -> Tensor:
    """Negative SI-SDR in dB (Le Roux et al. 2019), (B, T), (B, T) -> (B,). Lower is better."""
    return -si_sdr(est, target)


def negative_snr(est: Tensor, target: Tensor) -> Tensor:
    """Negative signal-to-noise ratio in dB, (B, T), (B, T) -> (B,), above -60 dB. Lower is better.

    SI-SDR does not care how loud the estimate is, and trained alone the output drifts tens of dB away from the target. This
    term, which costs next to nothing, holds it there.
    """
    energy = target.square().mean(-1) + 1e-10
    return 10 * torch.log10((est - target).square().mean(-1) / energy + 1e-6)


def absent_level(est: Tensor, mix: Tensor) -> Tensor:
    """Level of the output relative to the mixture in dB, (B, T), (B, T) -> (B,). Lower is better.

    Relative, so that a quiet mixture asks for as much suppression as a loud one; it flattens only 60 dB below the mixture.
    """
    energy = mix.square().mean(-1) + 1e-10
    return 10 * torch.log10(est.square().mean(-1) / energy + 1e-6)


def absent_floor(est: Tensor) -> Tensor:
    """Level of the output in dBFS, but never below -30: (B, T) -> (B,). What :func:`absent_level` is there to mend.

    ``max(10 log10(mean(est^2)), -30)``: the published baseline's term, as far as it is known. It asks for a level, not for so much less
    than the mixture, and an output below -30 dBFS has no gradient, so that a quiet mixture may come out as it went in.
    """
    return (10 * torch.log10(est.square().mean(-1) + 1e-10)).clamp(min=ABSENT_FLOOR_DBFS)


def audible(target: Tensor) -> Tensor:
    """Which targets are not silent, so that their SI-SDR is defined: (B, T) -> (B,) bool."""
    return target.square().sum(-1) > SILENCE_MEAN_SQUARE * target.shape[-1]
