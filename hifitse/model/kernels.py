"""Hand-written fast paths of the model, and the switch that turns them off.

``bands.py`` defines what is computed. These versions give the same result up to rounding, in less time on a CPU: they use one matrix
product per region, copy and add bands in long contiguous runs, and keep an item's frames in the cache for the inverse STFT.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAST_WEIGHT = 1e-11  # sum of squared windows below which a sample counts as uncovered, as in ``torch.istft``
Spans = Sequence[tuple[int, int]]  # (first, last + 1) column of each piece
_switch = {"fast": True}


def fast() -> bool:
    """Return whether the fast paths are used (the default)."""
    return _switch["fast"]


@contextmanager
def plain(use: bool = True) -> Iterator[None]:
    """Turn the fast paths off for all models inside this context; ``use=False`` changes nothing."""
    before, _switch["fast"] = _switch["fast"], not use and _switch["fast"]
    try:
        yield
    finally:
        _switch["fast"] = before


def cut(rows: Tensor, spans: Spans, width: int) -> Tensor:
    """Cut rows into overlapping pieces of columns, padding short ones with zeros: (M, P) -> (K, M, width)."""
    return torch.stack([F.pad(rows[:, first:last], (0, width - (last - first))) for first, last in spans])


def overlap(pieces: Sequence[Tensor], spans: Sequence[Spans]) -> Tensor:
    """Overlap-add pieces that together cover all columns: each (K, M, W) -> (M, columns).

    Columns under the same pieces are added at once and then joined: adding each piece to a whole output would copy that output each time.
    """
    placed = list(zip(chain(*pieces), chain(*spans), strict=True))
    joined = []
    for low, high in pairwise(sorted({edge for _, span in placed for edge in span})):
        here = [piece[:, low - first : high - first] for piece, (first, last) in placed if first <= low and high <= last]
        joined.append(sum(here[1:], here[0]))
    return torch.cat(joined, 1)


def split_region(region: nn.Module, x: Tensor, sums: Tensor) -> Tensor:
    """Normalise a region's bands and apply their linear layers in one product that reads the large input once.

    ``W (g (x - m) s + o) + b = s (W g) x - s m sum(W g) + W o + b``

    Shape: x (B, L, F * C), the inputs of all bins; sums (2, B, F) of the inputs and of their squares over channels and frames
        -> (K, B, L, D)
    """
    B, L, _ = x.shape
    n = region.sizes[:, None] * (region.channels * L)
    mean, power = torch.stack([sums[..., first:last].sum(-1) for first, last in region.bands], 1) / n  # (K, B) each
    scale = ((power - mean.square()).clamp_min(0) + 1e-5).rsqrt()[:, :, None, None]
    weight = padded(region, region.weight)  # (K, W * C, D)
    gained = weight * padded(region, region.gain)[..., None]
    rows = cut(x.flatten(0, 1), region.spans, region.width * region.channels)  # (K, B * L, W * C)
    z = torch.bmm(rows, gained).view(region.n_bands, B, L, -1)
    constant = (weight * padded(region, region.offset)[..., None]).sum(1) + region.bias  # (K, D)
    shift = constant[:, None, None] - scale * mean[:, :, None, None] * gained.sum(1)[:, None, None]  # (K, B, 1, D)
    return torch.addcmul(shift, z, scale)


def merge_regions(regions: Sequence[nn.Module], z: Tensor, n_bins: int) -> Tensor:
    """Apply the linear layers of all bands and average where bands overlap: (B, K, L, D) -> (B, F, L, 2)."""
    B, K, L, D = z.shape
    rows = F.pad(z.transpose(0, 1).reshape(K, B * L, D), (0, 1), value=1.0)  # a constant feature 1, whose weight is the bias
    pieces = []
    for region, part in zip(regions, rows.split([region.n_bands for region in regions]), strict=True):
        weight = torch.cat([region.weight, region.bias[..., None]], -1)  # (places, 2, D + 1)
        # dividing the weights by the number of bands per bin is cheaper than dividing the mask
        pieces.append(torch.bmm(part, padded(region, weight * region.share[:, None, None]).transpose(1, 2)))
    mask = overlap(pieces, [region.spans for region in regions])  # (B * L, F * 2)
    return mask.view(B, L, n_bins, 2).transpose(1, 2)


def padded(region: nn.Module, flat: Tensor) -> Tensor:
    """Arrange values per place by band, padding short bands with zeros: (places, C, ...) -> (K, W * C, ...)."""
    return torch.cat([flat, flat.new_zeros(1, *flat.shape[1:])])[region.rows].flatten(1, 2)


class Inverse(torch.autograd.Function):
    """Masked inverse STFT: product, inverse transform, window, overlap-add, division by the sum of the squared windows.
    The gradient flows to the masks only.

    Shape: spec (M, L, F) complex, mask (B, L, F) complex, rows (B,) indices into spec, window (W), n_fft = N, hop, samples = T
        -> (B, T), starting at the centre of the first frame
    """

    @staticmethod
    def forward(ctx: Any, spec: Tensor, mask: Tensor, rows: Tensor, window: Tensor, n_fft: int, hop: int, samples: int) -> Tensor:
        L, places = spec.shape[1], -(-len(window) // hop)
        audio, weight = window.new_empty(len(rows), samples), window.new_zeros(L - 1 + places, hop)
        first = n_fft // 2 - (n_fft - len(window)) // 2  # samples from the start of the first window to the centre of its frame
        ctx.part = slice(first, first + samples)
        for number, _, part in _pieces(window, n_fft, hop):
            weight[number : number + L, : len(part)] += part.square()
        weight.clamp_min_(LEAST_WEIGHT)
        for items in _together(rows):
            frames = torch.fft.irfft(spec[rows[items]].mul_(mask[items]), n_fft)  # (b, L, N)
            waves = window.new_zeros(len(frames), *weight.shape)
            for number, place, part in _pieces(window, n_fft, hop):
                waves[:, number : number + L, : len(part)].addcmul_(frames[..., place], part)
            audio[items] = waves.div_(weight).flatten(1)[:, ctx.part]
        ctx.n_fft, ctx.hop = n_fft, hop
        ctx.save_for_backward(spec, rows, window, weight)
        return audio

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spec, rows, window, weight = ctx.saved_tensors
        L, scaled = spec.shape[1], window * (2 / ctx.n_fft)
        mask_gradient = spec.new_empty(len(rows), *spec.shape[1:])
        for items in _together(rows):
            waves = window.new_zeros(len(rows[items]), *weight.shape)
            waves.flatten(1)[:, ctx.part] = gradient[items]
            waves /= weight
            frames = waves.new_zeros(len(waves), L, ctx.n_fft)
            for number, place, part in _pieces(scaled, ctx.n_fft, ctx.hop):
                frames[..., place] = waves[:, number : number + L, : len(part)] * part
            bins = torch.fft.rfft(frames)  # (b, L, F)
            bins[..., 0] *= 0.5  # the inverse counts bin 0 and, for even n_fft, the last bin once, all others twice
            if ctx.n_fft % 2 == 0:
                bins[..., -1] *= 0.5
            torch.mul(bins, spec[rows[items]].conj_physical_(), out=mask_gradient[items])
        return None, mask_gradient, *[None] * 5


def _together(rows: Tensor) -> Iterator[slice]:
    """Yield slices of items to compute together: one item at a time on a CPU, all at once elsewhere."""
    count = 1 if rows.device.type == "cpu" else max(1, len(rows))
    return (slice(first, first + count) for first in range(0, len(rows), count))


def _pieces(window: Tensor, size: int, hop: int) -> Iterator[tuple[int, slice, Tensor]]:
    """Cut a window into pieces of one hop: index, place in a frame of ``size`` samples, values. The last may be shorter."""
    margin = (size - len(window)) // 2
    starts = range(0, len(window), hop)
    return ((number, slice(margin + at, margin + min(at + hop, len(window))), window[at : at + hop]) for number, at in enumerate(starts))
