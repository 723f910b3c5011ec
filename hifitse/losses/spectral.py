"""Spectral terms on compressed spectra (Ephrat et al. 2018; exponent 0.3): what SI-SDR, ruled by the loudest bins, neglects."""

import torch
from torch import Tensor

N_FFT, HOP = 2048, 480
POWER = 0.3


def _compressed(audio: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Compressed magnitude and compressed complex spectrum of ``audio / level``: (B, T) -> (B, F, L) each."""
    window = torch.hann_window(N_FFT, dtype=audio.dtype, device=audio.device)
    spec = torch.stft(audio / level, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    # the floor keeps the slope of the root finite where a bin is empty
    magnitude = (spec.real.square() + spec.imag.square() + 1e-4).sqrt()
    compressed = magnitude.pow(POWER)
    return compressed, spec * (compressed / magnitude)


def spectral_distances(est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Phase-sensitive and amplitude distance, both means over bins of compressed spectra at the target's level.

    Args:
        est: (B, T), 48 kHz.
        target: (B, T), not silent: the distances are relative to its level.

    Returns:
        ``(phase, amplitude)``, (B,) each: mean |E^c - T^c| of the complex and of the magnitude spectra.
    """
    level = (target.square().mean(-1, keepdim=True) + 1e-10).sqrt()
    est_magnitude, est_spec = _compressed(est, level)
    target_magnitude, target_spec = _compressed(target, level)
    difference = est_spec - target_spec
    phase = (difference.real.square() + difference.imag.square() + 1e-8).sqrt().mean((1, 2))
    amplitude = (est_magnitude - target_magnitude).abs().mean((1, 2))
    return phase, amplitude
