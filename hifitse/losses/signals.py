"""Terms that compare sounds: SI-SDR and SNR, the output's level where the target is absent, distances and SI-SDR of spectra.

SI-SDR and SNR are functions of four sums over time. By themselves, with their gradients, they went through the signals two dozen times.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hifitse.metrics import SI_SDR_LIMIT_DB, SILENCE_MEAN_SQUARE, si_sdr

ABSENT_FLOOR_DBFS = -30.0  # level below which :func:`absent_floor` asks for nothing more
N_FFT, HOP, POWER = 2048, 480, 0.3
RESOLUTIONS = (512, 1024, 2048)  # samples: 10.7, 21.3 and 42.7 ms at 48 kHz; frames overlap by half
FLOOR = 1e-4  # added to squared magnitudes of sounds at a level of 1: it keeps the slope of the root finite where a bin is empty


class Sums(NamedTuple):
    """What SI-SDR and SNR need of an estimate and its target: energies and inner product over ``samples`` values, (B,) each."""

    est: Tensor
    target: Tensor  # has no gradient
    product: Tensor
    residual: Tensor  # energy of the estimate without its projection on the target
    samples: int

    @classmethod
    def of(cls, est: Tensor, target: Tensor) -> "Sums":
        """(B, T), (B, T) float32; gradients flow to ``est`` alone."""
        est_energy, product, residual, target_energy = _Sums.apply(est, target)
        return cls(est_energy, target_energy, product, residual, est.shape[-1])

    @property
    def error(self) -> Tensor:
        """Energy of the difference: that across the target, and that along it."""
        present = self.target.clamp_min(SILENCE_MEAN_SQUARE * self.samples)
        along = torch.where(self.target > 0, (self.product - self.target).square() / present, 0.0)
        return self.residual + along


class _Sums(torch.autograd.Function):
    """The sums of :class:`Sums`; the gradients of all are multiples of the estimate and of the target.

    In float32 the gradient of the residual is right to 0.1 % up to an SI-SDR of 60 dB, which is more than any extraction reaches.
    """

    @staticmethod
    def forward(ctx: Any, est: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        target_energy, product = torch.linalg.vecdot(target, target), torch.linalg.vecdot(est, target)
        scale = product / target_energy.clamp_min(SILENCE_MEAN_SQUARE * est.shape[-1])
        rest = torch.addcmul(est, target, scale[:, None], value=-1)  # not E - A^2 / T, which loses all digits where the two are alike
        ctx.save_for_backward(est, target, scale)
        ctx.mark_non_differentiable(target_energy)
        return torch.linalg.vecdot(est, est), product, torch.linalg.vecdot(rest, rest), target_energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_est: Tensor, to_product: Tensor, to_residual: Tensor, _: Tensor) -> tuple[Tensor, None]:
        est, target, scale = ctx.saved_tensors
        # the residual is least at this scale, so that it has no gradient by way of it
        gradient = target * (to_product - 2 * scale * to_residual)[:, None]
        return gradient.addcmul_(est, 2 * (to_est + to_residual)[:, None]), None


def negative_si_sdr(est: Tensor, target: Tensor, sums: Sums | None = None) -> Tensor:
    """Negative SI-SDR in dB, that of :func:`hifitse.metrics.si_sdr`, (B, T), (B, T) -> (B,); ``sums`` are taken where they are at hand."""
    sums = sums or Sums.of(est, target)
    silence, limit = SILENCE_MEAN_SQUARE * sums.samples, 10 ** (-SI_SDR_LIMIT_DB / 10)
    floor = limit * sums.est.clamp_min(silence)
    along = sums.product.square() / sums.target.clamp_min(silence)
    value = 10 * torch.log10((along + floor) / (sums.residual + floor + (silence - sums.est).clamp_min(0)))
    return torch.where(sums.target <= silence, torch.nan, -value)


def negative_snr(est: Tensor, target: Tensor, sums: Sums | None = None) -> Tensor:
    """Negative signal-to-noise ratio in dB, (B, T), (B, T) -> (B,), above -60 dB; unlike SI-SDR it holds the level. ``sums`` as above."""
    sums = sums or Sums.of(est, target)
    energy = sums.target / sums.samples + 1e-10
    return 10 * torch.log10(sums.error / sums.samples / energy + 1e-6)


def absent_level(est: Tensor, mix: Tensor) -> Tensor:
    """Level of the output relative to the mixture in dB, (B, T), (B, T) -> (B,), above -60: quiet mixtures ask for as much."""
    energy = mix.square().mean(-1) + 1e-10
    return 10 * torch.log10(est.square().mean(-1) / energy + 1e-6)


def absent_floor(est: Tensor) -> Tensor:
    """Level of the output in dBFS, never below -30: (B, T) -> (B,): the published baseline's term, as far as it is known.
    Below -30 dBFS it has no gradient, so that a quiet mixture may come out as it went in: :func:`absent_level` mends that."""
    return (10 * torch.log10(est.square().mean(-1) + 1e-10)).clamp(min=ABSENT_FLOOR_DBFS)


def audible(target: Tensor) -> Tensor:
    """Which targets are not silent, so that their SI-SDR is defined: (B, T) -> (B,) bool."""
    return target.square().sum(-1) > SILENCE_MEAN_SQUARE * target.shape[-1]


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
