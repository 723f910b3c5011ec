"""Spectral terms: distances of compressed spectra, which SI-SDR, ruled by the loudest bins, neglects; SI-SDR of spectrograms."""

import torch
from torch import Tensor

from hifitse.metrics import si_sdr

N_FFT, HOP, POWER = 2048, 480, 0.3
RESOLUTIONS = (512, 1024, 2048)  # samples: 10.7, 21.3 and 42.7 ms at 48 kHz; frames overlap by half
FLOOR = 1e-4  # added to squared magnitudes of sounds at a level of 1: it keeps the slope of the root finite where a bin is empty


def _spectrum(audio: Tensor, level: Tensor, n_fft: int, hop: int) -> tuple[Tensor, Tensor]:
    """Spectrum of ``audio / level`` and its magnitude: (B, T), (B, 1) -> (B, F, L) each."""
    window = torch.hann_window(n_fft, dtype=audio.dtype, device=audio.device)
    spec = torch.stft(audio / level, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    return spec, (spec.real.square() + spec.imag.square() + FLOOR).sqrt()


def _level(audio: Tensor) -> Tensor:
    return (audio.square().mean(-1, keepdim=True) + 1e-10).sqrt()


def spectral_distances(est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Phase-sensitive and amplitude distance of spectra compressed by 0.3 (Ephrat et al. 2018), relative to the target's level.

    Args:
        est, target: (B, T), 48 kHz; the target is not silent.

    Returns:
        ``(phase, amplitude)``, (B,) each: mean |E^c - T^c| of the complex and of the magnitude spectra.
    """
    level, compressed = _level(target), []
    for audio in (est, target):
        spec, magnitude = _spectrum(audio, level, N_FFT, HOP)
        small = magnitude.pow(POWER)
        compressed.append((small, spec * (small / magnitude)))
    (est_magnitude, est_spec), (target_magnitude, target_spec) = compressed
    difference = est_spec - target_spec
    phase = (difference.real.square() + difference.imag.square() + 1e-8).sqrt().mean((1, 2))
    return phase, (est_magnitude - target_magnitude).abs().mean((1, 2))


def negative_multires_si_sdr(est: Tensor, target: Tensor) -> Tensor:
    """Negative SI-SDR in dB between magnitude spectrograms, each as one vector, mean over :data:`RESOLUTIONS`. Lower is better.

    Magnitudes, because the SI-SDR of complex coefficients is by Parseval's theorem nearly that of the waveform. They do not see
    the phase: the term is no substitute for one that does. Two unrelated sounds have some -3 dB instead of -30.

    Shape: est (B, T), target (B, T), 48 kHz, not silent -> (B,), at least -100
    """

    def magnitudes(audio: Tensor, n_fft: int) -> Tensor:
        return _spectrum(audio, _level(audio.detach()), n_fft, n_fft // 2)[1].flatten(1)

    return torch.stack([-si_sdr(magnitudes(est, n_fft), magnitudes(target, n_fft)) for n_fft in RESOLUTIONS]).mean(0)
