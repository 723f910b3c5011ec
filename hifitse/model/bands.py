"""From a waveform to features of overlapping bands, and from features back to a mask over bins."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.config import ExtractorConfig

REGION_EDGES_HZ = (0, 1_000, 8_000, 24_000)
"""Borders of the fine, medium and coarse bands."""


class Spectrum(nn.Module):
    """STFT and its inverse with a Hann window, exact for any length of at least one sample.

    The signal is padded with ``n_fft`` zeros on both sides, not reflected, so that a signal shorter than the window works
    and every sample lies under full windows.

    Shape:
        forward: (..., T) -> complex (..., F, L) with F = n_fft // 2 + 1; ``inverse``: the way back, with the length T given.
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

    def inverse(self, spec: Tensor, samples: int) -> Tensor:
        batch = spec.shape[:-2]
        flat = spec.reshape(-1, *spec.shape[-2:])
        # center=True of torch.istft drops the first n_fft // 2 samples: those that forward() padded
        audio = torch.istft(flat, self.n_fft, self.hop_length, self.win_length, self.window, center=True, length=samples)
        return audio.reshape(*batch, samples)


def band_layout(config: ExtractorConfig) -> list[list[tuple[int, int]]]:
    """Bands of the three regions of ``REGION_EDGES_HZ``: first bin and one past the last bin of each, in rising order.

    In each region the bands are equally wide to a bin; each then reaches into both neighbours by ``band_overlap`` of its
    width, rounded up. Together they cover all bins.
    """
    n_bins = config.n_fft // 2 + 1
    counts = (config.bands_fine, config.bands_medium, config.bands_coarse)
    edges = [round(hz * config.n_fft / SAMPLE_RATE) for hz in REGION_EDGES_HZ[:-1]] + [n_bins]
    layout = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        if count > high - low:
            bins = f"{high - low} bins of a region at n_fft {config.n_fft}"
            raise HifitseError(f"{count} bands share the {bins}, allowed is at most one band a bin")
        borders = [low + (high - low) * i // count for i in range(count + 1)]
        region = []
        for first, last in zip(borders[:-1], borders[1:], strict=True):
            reach = math.ceil((last - first) * config.band_overlap)
            region.append((max(0, first - reach), min(n_bins, last + reach)))
        layout.append(region)
    return layout


class _Region(nn.Module):
    """Index tables of neighbouring bands of about one width, as rows of equal length W, short ones padded.

    ``bins`` (K, W) is the bin at each place of each band; ``rows`` (K, W) its place in the flat list of all band places,
    where the place past the end stands for padding. One gather and one batched product then do the work of K small
    layers. Padding points at bin 0 with a weight of zero.
    """

    def __init__(self, bands: list[tuple[int, int]]) -> None:
        super().__init__()
        self.n_bands, self.places = len(bands), sum(last - first for first, last in bands)
        self.width = max(last - first for first, last in bands)
        bins = torch.zeros(self.n_bands, self.width, dtype=torch.long)
        rows = torch.full((self.n_bands, self.width), self.places)
        place = 0
        for band, (first, last) in enumerate(bands):
            size = last - first
            bins[band, :size] = torch.arange(first, last)
            rows[band, :size] = torch.arange(place, place + size)
            place += size
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("valid", rows < self.places, persistent=False)

    def padded(self, flat: Tensor) -> Tensor:
        """(places, C, ...) -> (K, W * C, ...), zero where a band has no bin."""
        return torch.cat([flat, flat.new_zeros(1, *flat.shape[1:])])[self.rows].flatten(1, 2)


class _SplitRegion(_Region):
    """Normalisation and linear layer of each band of a region."""

    def __init__(self, bands: list[tuple[int, int]], channels: int, features: int) -> None:
        super().__init__(bands)
        self.channels = channels
        self.gain = nn.Parameter(torch.ones(self.places, channels))
        self.offset = nn.Parameter(torch.zeros(self.places, channels))
        fan_in = (self.valid.sum(1, keepdim=True) * channels).expand_as(self.bins)[self.valid]
        bound = fan_in.float().rsqrt()[:, None, None]
        self.weight = nn.Parameter((torch.rand(self.places, channels, features) * 2 - 1) * bound)
        self.bias = nn.Parameter(torch.zeros(self.n_bands, features))

    def forward(self, x: Tensor, sums: Tensor) -> Tensor:
        """(F, C, B, L), and the sums of its values and of their squares over C and L (2, F, B) -> (K, B, L, D)."""
        _, C, B, L = x.shape
        # statistics of a band over its places, channels and frames, for each item
        n = self.valid.sum(1)[:, None] * (C * L)
        mean, power = (sums[:, self.bins] * self.valid[:, :, None]).sum(2) / n  # (K, B) each
        scale = ((power - mean.square()).clamp_min(0) + 1e-5).rsqrt()[:, :, None, None]
        # W (g (x - m) s + o) + b = s (W g) x - s m sum(W g) + W o + b: the large input is touched once, by the product
        weight = self.padded(self.weight)  # (K, W * C, D)
        gained = weight * self.padded(self.gain)[..., None]
        rows = x[self.bins].view(self.n_bands, self.width * C, B * L)  # (K, W, C, B, L) -> (K, W * C, B * L)
        z = torch.bmm(rows.transpose(1, 2), gained).view(self.n_bands, B, L, -1)  # (K, B, L, D)
        constant = (weight * self.padded(self.offset)[..., None]).sum(1) + self.bias  # (K, D)
        shift = constant[:, None, None] - scale * mean[:, :, None, None] * gained.sum(1)[:, None, None]  # (K, B, 1, D)
        return torch.addcmul(shift, z, scale)


class BandSplit(nn.Module):
    """Spectrum -> features: each band normalised over its bins and frames, then its own linear layer (BSRNN, Luo & Yu 2023).

    Inputs of a bin are with ``phase_input`` real and imaginary part, the magnitude raised to ``input_power``; without it that
    magnitude alone; and with ``magnitude_input`` the magnitude's logarithm as well.

    Shape:
        complex (B, F, L) -> (B, K, L, D)
    """

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__()
        self.power, self.magnitude, self.phase = config.input_power, config.magnitude_input, config.phase_input
        self.regions = nn.ModuleList(_SplitRegion(bands, 1 + self.phase + self.magnitude, config.features) for bands in band_layout(config))
        self.n_bands = sum(region.n_bands for region in self.regions)

    def forward(self, spec: Tensor) -> Tensor:
        with torch.autocast(spec.device.type, enabled=False):  # products of half precision lose quiet bins beside loud ones
            parts = torch.view_as_real(spec).permute(1, 3, 0, 2).contiguous()  # (F, 2, B, L), so that all that follows is
            if not self.phase or self.power != 1 or self.magnitude:
                # not a sum over the axis of two, which is short and slow
                magnitude = (parts[:, :1].square() + parts[:, 1:].square() + 1e-12).sqrt()  # (F, 1, B, L)
                if not self.phase:
                    parts = magnitude.pow(self.power)
                elif self.power != 1:
                    parts = parts * magnitude.pow(self.power - 1)
                if self.magnitude:
                    parts = torch.cat([parts, torch.log(magnitude + 1e-4)], 1)
            return self.layers(parts)

    def layers(self, x: Tensor) -> Tensor:
        """Inputs of all bins -> features: (F, C, B, L) -> (B, K, L, D)."""
        sums = torch.stack([x.sum((1, 3)), x.square().sum((1, 3))])  # (2, F, B), of which every region takes its bins
        return torch.cat([region(x, sums) for region in self.regions]).transpose(0, 1)


class _MergeRegion(_Region):
    """Linear layer of each band of a region, to real and imaginary part of the mask at its places."""

    def __init__(self, bands: list[tuple[int, int]], features: int) -> None:
        super().__init__(bands)
        self.weight = nn.Parameter((torch.rand(self.places, 2, features) * 2 - 1) * 0.1 * features**-0.5)
        # mask 1 + 0j at the start: the mixture itself, whose SI-SDR improvement is 0, not noise
        self.bias = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(self.places, 1))

    def forward(self, z: Tensor) -> Tensor:
        """(K, D, B * L) -> (K * W, 2, B * L)."""
        places = torch.baddbmm(self.padded(self.bias)[..., None], self.padded(self.weight), z)  # (K, W * 2, B * L)
        return places.view(self.n_bands * self.width, 2, -1)


class BandMerge(nn.Module):
    """Features -> complex ratio mask: a linear layer a band, overlapping bands averaged, identity at the start.

    Shape:
        (B, K, L, D) -> (B, F, L, 2), real and imaginary part
    """

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__()
        self.n_bins = config.n_fft // 2 + 1
        self.regions = nn.ModuleList(_MergeRegion(bands, config.features) for bands in band_layout(config))
        cover = torch.zeros(self.n_bins)
        for region in self.regions:
            cover.index_add_(0, region.bins[region.valid], torch.ones(region.places))
        self.register_buffer("cover", cover, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        B, K, L, D = z.shape
        rows = z.permute(1, 3, 0, 2).reshape(K, D, B * L)
        counts = [region.n_bands for region in self.regions]
        places = [region(part) for region, part in zip(self.regions, rows.split(counts), strict=True)]
        return self.overlap(places).view(self.n_bins, 2, B, L).permute(2, 0, 3, 1)  # (B, F, L, 2)

    def overlap(self, places: list[Tensor]) -> Tensor:
        """Average the values that bands give for the same bin: for each region (K * W, 2, B * L) -> (F, 2, B * L)."""
        total = places[0].new_zeros(self.n_bins, *places[0].shape[1:])
        for region, values in zip(self.regions, places, strict=True):
            total.index_add_(0, region.bins.flatten(), values)
        return total / self.cover[:, None, None]
