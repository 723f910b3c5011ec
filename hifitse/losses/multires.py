"""SI-SDR of magnitude spectrograms at several resolutions."""

import torch
from torch import Tensor

from hifitse.metrics import si_sdr

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
