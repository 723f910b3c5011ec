"""Spectral terms on compressed spectra (Ephrat et al. 2018; exponent 0.3): what SI-SDR, ruled by the loudest bins, neglects."""

import torch
from torch import Tensor

from hifitse.metrics import si_sdr

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


RESOLUTIONS = (512, 1024, 2048)
"""Samples: lengths of the transforms, 10.7, 21.3 and 42.7 ms at 48 kHz; frames overlap by half."""
FLOOR = 1e-4
"""Added to the squared magnitudes, some 65 dB below their mean: it keeps the slope of the root finite where a bin is empty."""


def negative_multires_si_sdr(est: Tensor, target: Tensor) -> Tensor:
    """Negative SI-SDR in dB between magnitude spectrograms, mean over :data:`RESOLUTIONS`. Lower is better, least is -100.

    A spectrogram is taken as one vector over its bins and frames, and its SI-SDR is that of Le Roux et al. 2019. The magnitudes
    and not the complex numbers: by Parseval's theorem the SI-SDR of complex coefficients is, but for the overlap of the windows,
    that of the waveform at any resolution, and would add nothing to it. Magnitudes do not see the phase, so the term rewards the
    right energy at the right place where the waveform is still out of phase, and how finely a place is known in time and in
    frequency depends on the resolution. It is no substitute for a term that sees the phase.

    Args:
        est: (B, T), 48 kHz; neither its level nor its sign matters.
        target: (B, T), not silent.

    Returns:
        (B,) in dB. As magnitudes are never negative, two unrelated sounds have an SI-SDR of some -3 dB instead of -30.
    """
    return torch.stack([-si_sdr(_magnitudes(est, n_fft), _magnitudes(target, n_fft)) for n_fft in RESOLUTIONS]).mean(0)


def _magnitudes(audio: Tensor, n_fft: int) -> Tensor:
    """Magnitudes at an RMS level of 1: (B, T) -> (B, F * L)."""
    level = (audio.detach().square().mean(-1, keepdim=True) + 1e-10).sqrt()
    window = torch.hann_window(n_fft, device=audio.device)
    spec = torch.stft(audio / level, n_fft, n_fft // 2, window=window, pad_mode="constant", return_complex=True)
    return (spec.real.square() + spec.imag.square() + FLOOR).sqrt().flatten(1)
