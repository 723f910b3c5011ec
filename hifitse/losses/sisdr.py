"""Waveform terms: SI-SDR and SNR where the target speaks, output level where it does not."""

import torch
from torch import Tensor

from hifitse.metrics import si_sdr


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
