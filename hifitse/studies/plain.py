"""The extractor written the obvious way, with the same weights: one small layer for each band, one head after the other.

:mod:`hifitse.model` does in a few large products what this does in many small ones, as the published implementations of BSRNN and
TF-GridNet do. It is the reference that outputs and gradients are tested against, and what notebook 11 takes the model's gain from.
LSTMs and perceptrons are the same library calls in both.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hifitse.data.shared import Shared
from hifitse.model import Extractor
from hifitse.model.bands import BandMerge, BandSplit
from hifitse.model.gridnet import GatedConv
from hifitse.model.spectrum import Spectrum
from hifitse.model.usef import BandAttention, FullBandAttention

Bands = list[tuple[int, slice, slice]]
"""Of each band of a region: its number, its bins, its rows in the region's weights."""


def plain(model: Extractor) -> Extractor:
    """Make a model compute plainly, in place; its weights and their names stay.

    What items of a batch share is computed for each of them again.

    Args:
        model: any extractor.

    Returns:
        The same object.
    """
    for module in model.modules():
        if isinstance(module, BandSplit):
            module.layers = partial(_split, [(region, _bands(region)) for region in module.regions])
        elif isinstance(module, BandMerge):
            module.forward = partial(_merge, module, [(region, _bands(region)) for region in module.regions])
        elif isinstance(module, BandAttention):
            module.forward = partial(_attend, module, False)
        elif isinstance(module, FullBandAttention):
            module.forward = partial(_attend, module, True)
        elif isinstance(module, GatedConv):
            module.forward = partial(_convolve, module)
    model.spectrum.inverse = partial(_inverse, model.spectrum)
    model.forward = partial(_alone, model)
    return model


def _alone(model: Extractor, mix: Tensor, enroll: Tensor, seen: Tensor | None = None, shared: Shared | None = None) -> Tensor:
    return type(model).forward(model, mix, enroll, seen)


def _bands(region: torch.nn.Module) -> Bands:
    found, row = [], 0
    for number, (first, last) in enumerate(region.bands):
        found.append((number, slice(first, last), slice(row, row + last - first)))
        row += last - first
    return found


def _split(regions: list[tuple[torch.nn.Module, Bands]], x: Tensor) -> Tensor:
    """(B, L, F, C) -> (B, K, L, D)."""
    layers = []
    for region, bands in regions:
        for number, bins, rows in bands:
            band = x[:, :, bins].flatten(2)  # (B, L, W, C) -> (B, L, W * C)
            gain, offset, weight = (value[rows].flatten(0, 1) for value in (region.gain, region.offset, region.weight))
            band = F.layer_norm(band, band.shape[1:]) * gain + offset
            layers.append(F.linear(band, weight.T, region.bias[number]))
    return torch.stack(layers, 1)


def _merge(merge: BandMerge, regions: list[tuple[torch.nn.Module, Bands]], z: Tensor) -> Tensor:
    """(B, K, L, D) -> (B, F, L, 2)."""
    total, done = z.new_zeros(z.shape[0], merge.n_bins, z.shape[2], 2), 0
    for region, bands in regions:
        for number, bins, rows in bands:
            places = F.linear(z[:, done + number], region.weight[rows].flatten(0, 1), region.bias[rows].flatten())  # (B, L, W * 2)
            total[:, bins] += places.unflatten(-1, (-1, 2)).transpose(1, 2)  # (B, W, L, 2)
        done += len(bands)
    return total / merge.cover[:, None, None]


def _inverse(spectrum: Spectrum, spec: Tensor, samples: int, mask: Tensor | None = None, mix_index: Tensor | None = None) -> Tensor:
    """(M, F, L), (B, F, L), (B,) -> (B, T)."""
    spec = spec if mix_index is None else spec[mix_index]
    spec = spec if mask is None else spec * mask
    return torch.istft(spec, spectrum.n_fft, spectrum.hop_length, spectrum.win_length, spectrum.window, center=True, length=samples)


def _attend(
    layer: BandAttention | FullBandAttention, frames: bool, z: Tensor, context: Tensor | None = None, spk_emb: Tensor | None = None
) -> Tensor:
    """(B, K, L, D) -> (B, K, L, D); with ``frames`` a token is a whole frame, else a frame of one band."""
    x = layer.norm(z, spk_emb)
    source, found = x if context is None else context, []
    for head in range(layer.heads):
        q, k, v = (_head(linear, head, layer.heads, y) for linear, y in ((layer.query, x), (layer.key, source), (layer.value, source)))
        if frames:
            q, k, v = (y.transpose(1, 2).flatten(2) for y in (q, k, v))  # (B, K, L, d) -> (B, L, K * d)
        weight = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)  # (..., L, S)
        found.append((weight @ v).unflatten(-1, (z.shape[1], -1)).transpose(1, 2) if frames else weight @ v)
    return z + layer.out(torch.cat(found, -1))


def _head(linear: torch.nn.Linear, head: int, heads: int, x: Tensor) -> Tensor:
    """The part of a projection that belongs to one head."""
    size = linear.out_features // heads
    rows = slice(head * size, (head + 1) * size)
    return F.linear(x, linear.weight[rows], linear.bias[rows])


def _convolve(layer: GatedConv, x: Tensor, spk_emb: Tensor | None = None) -> Tensor:
    """(G, L, D) -> (G, L, D)."""
    kernel = layer.taps.weight.unflatten(1, (3, -1)).transpose(1, 2)  # (2 H, 3 D) -> (2 H, D, 3)
    y = F.conv1d(layer.norm(x, spk_emb).transpose(1, 2), kernel, layer.taps.bias, padding=layer.dilation, dilation=layer.dilation)
    return x + layer.out(F.glu(y, 1).transpose(1, 2))
