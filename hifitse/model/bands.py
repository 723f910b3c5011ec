"""From a waveform to its spectrum and features of overlapping bands, and from features back to a mask, and the waveform."""

import math
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.config import ExtractorConfig
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

    def inverse(self, spec: Tensor, samples: int, mask: Tensor, mix_index: Tensor | None = None) -> Tensor:
        """The signal (B, T) of the products of M spectra ``spec`` (M, F, L) with masks (B, F, L); ``samples`` is T.

        ``mix_index`` (B,) int64 says which of the M spectra a mask is for; ``None``: each its own, M = B.
        """
        if kernels.fast() and not spec.requires_grad:
            rows = torch.arange(len(spec), device=spec.device) if mix_index is None else mix_index
            frames = spec.transpose(1, 2), mask.transpose(1, 2)  # (M, L, F), (B, L, F)
            return kernels.Inverse.apply(*frames, rows, self.window, self.n_fft, self.hop_length, samples)
        masked = (spec if mix_index is None else spec[mix_index]) * mask
        return torch.istft(masked, self.n_fft, self.hop_length, self.win_length, self.window, center=True, length=samples)


REGION_EDGES_HZ = (0, 1_000, 8_000, 24_000)  # borders of the fine, medium and coarse bands


def band_layout(config: ExtractorConfig) -> list[list[tuple[int, int]]]:
    """Bands of the three regions, first bin and one past the last bin of each: equally wide in a region to a bin, and each then reaches
    into both neighbours by ``band_overlap`` of its width, rounded up. Raises HifitseError: more bands than bins."""
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
    """Neighbouring bands of about one width W; their weights are one flat list of places. ``slices`` are each band's bins and places,
    ``rows`` (K, W) the place of each bin of each band, that past the end for padding; ``channels`` numbers of a bin are neighbours.
    """

    def __init__(self, bands: list[tuple[int, int]], channels: int) -> None:
        super().__init__()
        self.bands, self.channels = bands, channels
        self.spans = [(first * channels, last * channels) for first, last in bands]
        self.n_bands, self.places = len(bands), sum(last - first for first, last in bands)
        self.width = max(last - first for first, last in bands)
        self.slices: list[tuple[slice, slice]] = []
        rows = torch.full((self.n_bands, self.width), self.places)
        place = 0
        for band, (first, last) in enumerate(bands):
            rows[band, : last - first] = torch.arange(place, place + last - first)
            self.slices.append((slice(first, last), slice(place, place + last - first)))
            place += last - first
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("sizes", torch.tensor([last - first for first, last in bands]), persistent=False)


class _SplitRegion(_Region):
    """Normalisation and linear layer of each band of a region."""

    def __init__(self, bands: list[tuple[int, int]], channels: int, features: int) -> None:
        super().__init__(bands, channels)
        self.gain = nn.Parameter(torch.ones(self.places, channels))
        self.offset = nn.Parameter(torch.zeros(self.places, channels))
        fan_in = (self.sizes * channels).repeat_interleave(self.sizes)  # (places,)
        bound = fan_in.float().rsqrt()[:, None, None]
        self.weight = nn.Parameter((torch.rand(self.places, channels, features) * 2 - 1) * bound)
        self.bias = nn.Parameter(torch.zeros(self.n_bands, features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, F, C) -> (K, B, L, D): each band at mean 0 and variance 1 over its bins and frames, then its layer."""
        found = []
        for band, (bins, places) in enumerate(self.slices):
            gain, offset, weight = (value[places].flatten(0, 1) for value in (self.gain, self.offset, self.weight))
            part = x[:, :, bins].flatten(2)  # (B, L, W * C)
            part = F.layer_norm(part, part.shape[1:]) * gain + offset
            found.append(part @ weight + self.bias[band])
        return torch.stack(found)


class BandSplit(nn.Module):
    """Spectrum -> features: each band normalised over its bins and frames, then its own linear layer (BSRNN, Luo & Yu 2023).

    Inputs as ``phase_input``, ``input_power`` and ``magnitude_input`` say.
    Shape: complex (B, F, L), scale (B,) by which the spectrum is multiplied, ``None``: 1 -> (B, K, L, D)
    """

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__()
        self.power, self.magnitude, self.phase = config.input_power, config.magnitude_input, config.phase_input
        self.regions = nn.ModuleList(_SplitRegion(bands, 1 + self.phase + self.magnitude, config.features) for bands in band_layout(config))
        self.n_bands = sum(region.n_bands for region in self.regions)

    def forward(self, spec: Tensor, scale: Tensor | None = None) -> Tensor:
        with torch.autocast(spec.device.type, enabled=False):  # products of half precision lose quiet bins beside loud ones
            scale = spec.real.new_ones(len(spec)) if scale is None else scale
            return self.layers(self._inputs(torch.view_as_real(spec.transpose(1, 2).contiguous()), scale[:, None, None, None]))

    def _inputs(self, parts: Tensor, scale: Tensor) -> Tensor:
        """What the network is told of each bin: (B, L, F, 2), (B, 1, 1, 1) -> (B, L, F, C)."""
        if self.phase and self.power == 1 and not self.magnitude:
            return parts * scale
        # not a sum over the axis of two, which is short and slow
        energy = torch.addcmul(parts[..., :1].square(), parts[..., 1:], parts[..., 1:]) * scale.square() + 1e-12  # (B, L, F, 1)
        if not self.phase:
            told = _power(energy, self.power / 2)
        else:
            told = parts * (scale if self.power == 1 else _power(energy, (self.power - 1) / 2) * scale)
        return torch.cat([told, torch.log(energy.sqrt() + 1e-4)], -1) if self.magnitude else told

    def layers(self, x: Tensor) -> Tensor:
        """Inputs of all bins -> features: (B, L, F, C) -> (B, K, L, D)."""
        if not kernels.fast():
            return torch.cat([region(x) for region in self.regions]).transpose(0, 1)
        sums = torch.stack([x.sum(1), x.square().sum(1)]).sum(-1)  # (2, B, F), of which every region takes its bins
        return torch.cat([kernels.split_region(region, x.flatten(2), sums) for region in self.regions]).transpose(0, 1)


def _power(x: Tensor, exponent: float) -> Tensor:
    """``x.pow(exponent)`` of positive numbers, in half the time on a CPU."""
    return x.log2().mul_(exponent).exp2_()


class _MergeRegion(_Region):
    """Linear layer of each band of a region, to real and imaginary part of the mask at its places."""

    def __init__(self, bands: list[tuple[int, int]], features: int) -> None:
        super().__init__(bands, 2)
        self.weight = nn.Parameter((torch.rand(self.places, 2, features) * 2 - 1) * 0.1 * features**-0.5)
        # mask 1 + 0j at the start: the mixture itself, whose SI-SDR improvement is 0, not noise
        self.bias = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(self.places, 1))

    def forward(self, z: Tensor, mask: Tensor) -> None:
        """Add the masks of the bands: z (B, K, L, D), mask (B, L, F, 2)."""
        for band, (bins, places) in enumerate(self.slices):
            mask[:, :, bins] += torch.einsum("bld,pcd->blpc", z[:, band], self.weight[places]) + self.bias[places]


class BandMerge(nn.Module):
    """Features -> complex ratio mask: a linear layer a band, overlapping bands averaged, identity at the start.
    Shape: (B, K, L, D) -> (B, F, L, 2), real and imaginary part; in memory as the frames of :class:`hifitse.model.bands.Spectrum`"""

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
