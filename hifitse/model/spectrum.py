"""The STFT and its inverse, with a mask on the way back.

The inverse is written out, forward and backward, because ``torch.istft`` and a complex product took a fifth of a small model's training
step: each of a dozen operations went through all frames of a batch in memory. On a CPU this goes item by item, and an item's frames stay
in the cache.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAST_WEIGHT = 1e-11
"""Sum of squared windows below which a sample lies under no window, as ``torch.istft`` has it."""


class Spectrum(nn.Module):
    """STFT and its inverse with a Hann window, exact for any length of at least one sample.

    The signal is padded with ``n_fft`` zeros on both sides, not reflected, so that a signal shorter than the window works
    and every sample lies under full windows.

    Shape:
        forward: (..., T) -> complex (..., F, L) with F = n_fft // 2 + 1. In memory the bins of a frame are neighbours.
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
        """The signal of a spectrum, or of its products with masks.

        Args:
            spec: (M, F, L) complex.
            samples: length T of the signal.
            mask: (B, F, L) complex; ``None``: 1.
            mix_index: (B,) int64, which of the M spectra a mask is for; ``None``: each its own, M = B.

        Returns:
            (B, T); the gradient is that of ``torch.istft(spec[mix_index] * mask)``.
        """
        rows = torch.arange(len(spec), device=spec.device) if mix_index is None else mix_index
        frames = spec.transpose(1, 2), None if mask is None else mask.transpose(1, 2)  # (M, L, F), (B, L, F)
        return Inverse.apply(*frames, rows, self.window, self.n_fft, self.hop_length, samples)


class Inverse(torch.autograd.Function):
    """Masked frames back to signals: product, inverse transform, window, overlapping sum, division by the sum of the squared windows.

    Shape:
        spec (M, L, F) complex, mask (B, L, F) complex or ``None``, rows (B,) into spec, window (W), n_fft = N, hop, samples = T -> (B, T),
        from the middle of the first frame on
    """

    @staticmethod
    def forward(ctx: Any, spec: Tensor, mask: Tensor | None, rows: Tensor, window: Tensor, n_fft: int, hop: int, samples: int) -> Tensor:
        L, places = spec.shape[1], -(-len(window) // hop)
        audio, weight = window.new_empty(len(rows), samples), window.new_zeros(L - 1 + places, hop)
        first = n_fft // 2 - (n_fft - len(window)) // 2  # the first window begins so many samples before the middle of its frame
        ctx.part = slice(first, first + samples)
        for number, _, part in _pieces(window, n_fft, hop):
            weight[number : number + L, : len(part)] += part.square()
        weight.clamp_min_(LEAST_WEIGHT)
        for items in _together(rows):
            masked = spec[rows[items]]
            frames = torch.fft.irfft(masked if mask is None else masked.mul_(mask[items]), n_fft)  # (b, L, N)
            waves = window.new_zeros(len(masked), *weight.shape)
            for number, place, part in _pieces(window, n_fft, hop):
                waves[:, number : number + L, : len(part)].addcmul_(frames[..., place], part)
            audio[items] = waves.div_(weight).flatten(1)[:, ctx.part]
        ctx.n_fft, ctx.hop = n_fft, hop
        ctx.save_for_backward(spec, mask if ctx.needs_input_grad[0] else None, rows, window, weight)
        ctx.masked = mask is not None
        return audio

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spec, mask, rows, window, weight = ctx.saved_tensors
        to_spec, to_mask = ctx.needs_input_grad[:2]
        L, scaled = spec.shape[1], window * (2 / ctx.n_fft)
        spec_gradient = torch.zeros_like(spec) if to_spec else None
        mask_gradient = spec.new_empty(len(rows), *spec.shape[1:]) if to_mask else None
        for items in _together(rows):
            waves = window.new_zeros(len(rows[items]), *weight.shape)
            waves.flatten(1)[:, ctx.part] = gradient[items]
            waves /= weight
            frames = waves.new_zeros(len(waves), L, ctx.n_fft)
            for number, place, part in _pieces(scaled, ctx.n_fft, ctx.hop):
                frames[..., place] = waves[:, number : number + L, : len(part)] * part
            bins = torch.fft.rfft(frames)  # (b, L, F)
            bins[..., 0] *= 0.5  # the two bins that the inverse takes once, and all others twice
            if ctx.n_fft % 2 == 0:
                bins[..., -1] *= 0.5
            if to_mask:
                torch.mul(bins, spec[rows[items]].conj_physical_(), out=mask_gradient[items])
            if to_spec:
                spec_gradient.index_add_(0, rows[items], bins * mask[items].conj() if ctx.masked else bins)
        return spec_gradient, mask_gradient, *[None] * 5


def _together(rows: Tensor) -> Iterator[slice]:
    """Items that are computed together: one after the other on a CPU, all at once elsewhere."""
    count = 1 if rows.device.type == "cpu" else max(1, len(rows))
    return (slice(first, first + count) for first in range(0, len(rows), count))


def _pieces(window: Tensor, size: int, hop: int) -> Iterator[tuple[int, slice, Tensor]]:
    """A window in pieces of a hop: number, place in a frame of ``size`` samples, values; the last may be shorter."""
    margin = (size - len(window)) // 2
    starts = range(0, len(window), hop)
    return ((number, slice(margin + at, margin + min(at + hop, len(window))), window[at : at + hop]) for number, at in enumerate(starts))
