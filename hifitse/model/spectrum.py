"""The STFT and its inverse, with a mask on the way back."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hifitse.model import kernels


class Spectrum(nn.Module):
    """STFT and its inverse with a Hann window, exact for any length of at least one sample.

    The signal is padded with ``n_fft`` zeros on both sides, not reflected, so that a signal shorter than the window works
    and every sample lies under full windows.

    Shape: (..., T) -> complex (..., F, L) with F = n_fft // 2 + 1. In memory the bins of a frame are neighbours.
    """

    def __init__(self, n_fft: int, win_length: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        batch = audio.shape[:-1]
        padded = F.pad(audio.reshape(-1, audio.shape[-1]), (self.n_fft // 2, self.n_fft // 2 + self.hop_length))
        spec = torch.stft(padded, self.n_fft, self.hop_length, self.win_length, self.window, center=False, return_complex=True)
        return spec.reshape(*batch, *spec.shape[-2:])

    def inverse(self, spec: Tensor, samples: int, mask: Tensor | None = None, mix_index: Tensor | None = None) -> Tensor:
        """The signal (B, T) of M spectra ``spec`` (M, F, L), or of their products with masks (B, F, L); ``samples`` is T.

        ``mix_index`` (B,) int64 says which of the M spectra a mask is for; ``None``: each its own, M = B.
        """
        if kernels.fast():
            rows = torch.arange(len(spec), device=spec.device) if mix_index is None else mix_index
            frames = spec.transpose(1, 2), None if mask is None else mask.transpose(1, 2)  # (M, L, F), (B, L, F)
            return kernels.Inverse.apply(*frames, rows, self.window, self.n_fft, self.hop_length, samples)
        spec = spec if mix_index is None else spec[mix_index]
        spec = spec if mask is None else spec * mask
        return torch.istft(spec, self.n_fft, self.hop_length, self.win_length, self.window, center=True, length=samples)
