"""Convert waveforms to spectra and to features of overlapping bands, and features back to a mask and a waveform."""

import math
from itertools import accumulate, chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.config import ExtractorConfig
from hifitse.model import kernels


class Spectrum(nn.Module):
    """STFT with a Hann window, and its inverse. The round trip is exact for any length of at least one sample.

    The signal is padded with zeros, ``n_fft // 2`` before it and one hop more after it, instead of being reflected. Signals
    shorter than the window therefore work, and every sample is fully covered by windows.

    Shape: (..., T) -> complex (..., F, L) with F = n_fft // 2 + 1. The bins of a frame are contiguous in memory.
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

    def inverse(self, spec: Tensor, samples: int, mask: Tensor, mix_index: Tensor | None = None) -> Tensor:
        """Apply masks (B, F, L) to the spectra ``spec`` (M, F, L) and return the signals (B, T); ``samples`` is T.

        ``mix_index`` (B,) int64 gives the spectrum of each mask. With ``None`` each mask has its own spectrum, and M = B.
        """
        if kernels.fast() and not spec.requires_grad:
            rows = torch.arange(len(spec), device=spec.device) if mix_index is None else mix_index
            frames = spec.transpose(1, 2), mask.transpose(1, 2)  # (M, L, F), (B, L, F)
            return kernels.Inverse.apply(*frames, rows, self.window, self.n_fft, self.hop_length, samples)
        masked = (spec if mix_index is None else spec[mix_index]) * mask
        return torch.istft(masked, self.n_fft, self.hop_length, self.win_length, self.window, center=True, length=samples)


REGION_EDGES_HZ = (0, 1_000, 8_000, 24_000)  # edges of the fine, medium and coarse regions


def band_layout(config: ExtractorConfig) -> list[list[tuple[int, int]]]:
    """Return the bands of each of the three regions as (first bin, last bin + 1). The bands of a region are equally wide, give or take
    a bin, then extended into both neighbours by ``band_overlap`` of their width, rounded up. Raises HifitseError: more bands than bins."""
    n_bins = config.n_fft // 2 + 1
    counts = (config.bands_fine, config.bands_medium, config.bands_coarse)
    edges = [round(hz * config.n_fft / SAMPLE_RATE) for hz in REGION_EDGES_HZ[:-1]] + [n_bins]
    layout = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        if count > high - low:
            bins = f"{high - low} bins of a region at n_fft {config.n_fft}"
            raise HifitseError(f"{count} bands share the {bins}, expected at most one band per bin")
        borders = [low + (high - low) * i // count for i in range(count + 1)]
        region = []
        for first, last in zip(borders[:-1], borders[1:], strict=True):
            reach = math.ceil((last - first) * config.band_overlap)
            region.append((max(0, first - reach), min(n_bins, last + reach)))
        layout.append(region)
    return layout


class _Region(nn.Module):
    """Adjacent bands of about equal width, at most W. Their weights form one flat list of places, one per bin of each band: ``slices``
    has the bins and places of each band, ``rows`` (K, W) the place of each bin, padded with ``places``. A bin has ``channels`` values.
    """

    def __init__(self, bands: list[tuple[int, int]], channels: int) -> None:
        super().__init__()
        self.bands, self.channels = bands, channels
        self.spans = [(first * channels, last * channels) for first, last in bands]
        sizes = [last - first for first, last in bands]
        ends = list(accumulate(sizes))
        self.n_bands, self.places, self.width = len(bands), ends[-1], max(sizes)
        self.slices = [(slice(*bins), slice(end - size, end)) for bins, size, end in zip(bands, sizes, ends, strict=True)]
        rows = [[*range(end - size, end), *[self.places] * (self.width - size)] for size, end in zip(sizes, ends, strict=True)]
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)


class _SplitRegion(_Region):
    """Normalise each band of a region and apply its linear layer."""

    def __init__(self, bands: list[tuple[int, int]], channels: int, features: int) -> None:
        super().__init__(bands, channels)
        self.gain = nn.Parameter(torch.ones(self.places, channels))
        self.offset = nn.Parameter(torch.zeros(self.places, channels))
        fan_in = (self.sizes * channels).repeat_interleave(self.sizes)  # (places,)
        bound = fan_in.float().rsqrt()[:, None, None]
        self.weight = nn.Parameter((torch.rand(self.places, channels, features) * 2 - 1) * bound)
        self.bias = nn.Parameter(torch.zeros(self.n_bands, features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each band to mean 0 and variance 1 over its bins and frames, then apply its layer: (B, L, F, C) -> (K, B, L, D)."""
        found = []
        for band, (bins, places) in enumerate(self.slices):
            gain, offset, weight = (value[places].flatten(0, 1) for value in (self.gain, self.offset, self.weight))
            part = x[:, :, bins].flatten(2)  # (B, L, W * C)
            part = F.layer_norm(part, part.shape[1:]) * gain + offset
            found.append(part @ weight + self.bias[band])
        return torch.stack(found)


class BandSplit(nn.Module):
    """Spectrum -> features: normalise each band over its bins and frames, then apply its own linear layer (BSRNN, Luo & Yu 2023).

    ``phase_input``, ``input_power`` and ``magnitude_input`` select the inputs.
    Shape: spectrum (B, F, L) complex, factor ``scale`` (B,) applied to it (``None``: 1) -> (B, K, L, D)
    """

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__()
        self.power, self.magnitude, self.phase = config.input_power, config.magnitude_input, config.phase_input
        self.regions = nn.ModuleList(_SplitRegion(bands, 1 + self.phase + self.magnitude, config.features) for bands in band_layout(config))
        self.n_bands = sum(region.n_bands for region in self.regions)

    def forward(self, spec: Tensor, scale: Tensor | None = None) -> Tensor:
        with torch.autocast(spec.device.type, enabled=False):  # half precision would lose quiet bins next to loud ones
            scale = spec.real.new_ones(len(spec)) if scale is None else scale
            return self.layers(self._inputs(torch.view_as_real(spec.transpose(1, 2).contiguous()), scale[:, None, None, None]))

    def _inputs(self, parts: Tensor, scale: Tensor) -> Tensor:
        """Return the network's inputs for each bin: (B, L, F, 2), (B, 1, 1, 1) -> (B, L, F, C)."""
        if self.phase and self.power == 1 and not self.magnitude:
            return parts * scale
        # addcmul, because a sum over an axis of length 2 is slow
        energy = torch.addcmul(parts[..., :1].square(), parts[..., 1:], parts[..., 1:]) * scale.square() + 1e-12  # (B, L, F, 1)
        if not self.phase:
            told = _power(energy, self.power / 2)
        else:
            told = parts * (scale if self.power == 1 else _power(energy, (self.power - 1) / 2) * scale)
        return torch.cat([told, torch.log(energy.sqrt() + 1e-4)], -1) if self.magnitude else told

    def layers(self, x: Tensor) -> Tensor:
        """Map the inputs of all bins to features: (B, L, F, C) -> (B, K, L, D)."""
        if not kernels.fast():
            return torch.cat([region(x) for region in self.regions]).transpose(0, 1)
        sums = torch.stack([x.sum(1), x.square().sum(1)]).sum(-1)  # (2, B, F); each region uses its own bins
        return torch.cat([kernels.split_region(region, x.flatten(2), sums) for region in self.regions]).transpose(0, 1)


def _power(x: Tensor, exponent: float) -> Tensor:
    """Return ``x.pow(exponent)`` for positive ``x``, twice as fast on a CPU."""
    return x.log2().mul_(exponent).exp2_()


class _MergeRegion(_Region):
    """Linear layer of each band of a region, giving the real and imaginary part of the mask at its places."""

    def __init__(self, bands: list[tuple[int, int]], features: int) -> None:
        super().__init__(bands, 2)
        self.weight = nn.Parameter((torch.rand(self.places, 2, features) * 2 - 1) * 0.1 * features**-0.5)
        # The mask starts near 1 + 0j, so that the first estimate is the mixture itself (SI-SDRi 0 dB), not noise.
        self.bias = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(self.places, 1))

    def forward(self, z: Tensor, mask: Tensor) -> None:
        """Add the bands' masks to ``mask`` (B, L, F, 2) in place; z is (B, K, L, D)."""
        for band, (bins, places) in enumerate(self.slices):
            mask[:, :, bins] += torch.einsum("bld,pcd->blpc", z[:, band], self.weight[places]) + self.bias[places]


class BandMerge(nn.Module):
    """Features -> complex ratio mask: one linear layer per band, averaged where bands overlap. Starts close to the identity.
    Shape: (B, K, L, D) -> (B, F, L, 2), real and imaginary part; in memory (B, L, F, 2), as in :class:`hifitse.model.bands.Spectrum`"""

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__()
        self.n_bins = config.n_fft // 2 + 1
        self.regions = nn.ModuleList(_MergeRegion(bands, config.features) for bands in band_layout(config))
        cover = torch.zeros(self.n_bins)
        for first, last in chain(*(region.bands for region in self.regions)):
            cover[first:last] += 1
        self.register_buffer("cover", cover, persistent=False)
        for region in self.regions:
            share = 1 / torch.cat([cover[first:last] for first, last in region.bands])
            region.register_buffer("share", share, persistent=False)  # (places,)

    def forward(self, z: Tensor) -> Tensor:
        if kernels.fast():
            return kernels.merge_regions(self.regions, z, self.n_bins)
        mask = z.new_zeros(z.shape[0], z.shape[2], self.n_bins, 2)
        for region, part in zip(self.regions, z.split([region.n_bands for region in self.regions], 1), strict=True):
            region(part, mask)
        return (mask / self.cover[:, None]).transpose(1, 2)
