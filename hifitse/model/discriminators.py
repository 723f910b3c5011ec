"""Discriminators of 48 kHz speech for training: HiFi-GAN's of periods and scales, and one of complex spectra at several resolutions.
Each gives the feature maps of all its layers; the last map of each part is its score, high for what it takes to be real."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from hifitse.params import Params

Maps = list[list[Tensor]]  # of each part of a discriminator the feature maps by layer, the last of them the score
PERIODS, SCALES = (2, 3, 5, 7, 11), 3
WINDOWS = (2048, 1024, 512)  # samples: Fourier transforms of the spectral discriminator, each with a hop of a quarter
EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # shares of 24 kHz between which a spectral band has weights of its own


class _Stack(nn.Module):
    """Convolutions with leaky rectifiers between them, and a last one that gives the score."""

    def __init__(self, layers: list[nn.Module], score: nn.Module) -> None:
        super().__init__()
        self.layers, self.score = nn.ModuleList(layers), score

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            maps.append(x)
        return [*maps, self.score(x)]


def _period(c: int) -> _Stack:
    """Kernels of 5 along the folded time, stride 3; widths 1, 4, 16, 32, 32 times ``c``."""
    widths = (1, c, 4 * c, 16 * c, 32 * c)
    layers = [weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0))) for a, b in zip(widths, widths[1:], strict=False)]
    layers.append(weight_norm(nn.Conv2d(32 * c, 32 * c, (5, 1), 1, (2, 0))))
    return _Stack(layers, weight_norm(nn.Conv2d(32 * c, 1, (3, 1), 1, (1, 0))))


def _scale(c: int, first: bool) -> _Stack:
    """Grouped kernels of 41 along time; the one that hears the sound as it is has spectral norm, the others weight norm."""
    norm = spectral_norm if first else weight_norm
    table = ((1, 4, 15, 1, 1), (4, 4, 41, 2, 4), (4, 8, 41, 2, 16), (8, 16, 41, 4, 16), (16, 32, 41, 4, 16), (32, 32, 41, 1, 16))
    layers = []
    for number, (a, b, kernel, stride, groups) in enumerate((*table, (32, 32, 5, 1, 1))):
        inside, outside = (a * c if number else 1), b * c
        groups = math.gcd(groups, inside, outside)  # the paper's where the width is
        layers.append(norm(nn.Conv1d(inside, outside, kernel, stride, kernel // 2, groups=groups)))
    return _Stack(layers, norm(nn.Conv1d(32 * c, 1, 3, 1, 1)))


class HiFiGAN(nn.Module):
    """Multi-period (2, 3, 5, 7, 11) and multi-scale (1, 1/2, 1/4) discriminators: audio (B, T), T of at least 11 -> maps of 8 parts.
    Width ``channels`` 32 is the paper's: Kong et al., "HiFi-GAN", NeurIPS 2020, section 2.3 and appendix A."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.periods = nn.ModuleList(_period(channels) for _ in PERIODS)
        self.scales = nn.ModuleList(_scale(channels, first=number == 0) for number in range(SCALES))

    def forward(self, audio: Tensor) -> Maps:
        maps = []
        for period, stack in zip(PERIODS, self.periods, strict=True):
            padded = F.pad(audio[:, None], (0, -audio.shape[-1] % period), "reflect")
            maps.append(stack(padded.unflatten(-1, (-1, period))))  # (B, 1, T / period, period)
        x = audio[:, None]  # (B, 1, T)
        for number, stack in enumerate(self.scales):
            x = F.avg_pool1d(x, 4, 2, 2) if number else x
            maps.append(stack(x))
        return maps


class _Resolution(nn.Module):
    """One resolution of :class:`Spectral`: five bands with weights of their own, then one score over all of them."""

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.cuts = [round(edge * (n_fft // 2 + 1)) for edge in EDGES]
        self.bands = nn.ModuleList(self._band(channels) for _ in EDGES[1:])
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, 1, 1))
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @staticmethod
    def _band(c: int) -> nn.ModuleList:
        halving = [nn.Conv2d(c, c, (3, 9), (1, 2), (1, 4)) for _ in range(3)]
        layers = [nn.Conv2d(2, c, (3, 9), 1, (1, 4)), *halving, nn.Conv2d(c, c, 3, 1, 1)]
        return nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, audio: Tensor) -> list[Tensor]:
        spec = torch.stft(audio, self.n_fft, self.n_fft // 4, window=self.window, pad_mode="constant", return_complex=True)
        x = torch.view_as_real(spec * self.window.square().sum().rsqrt()).permute(0, 3, 2, 1)  # (B, F, L, 2) -> (B, 2, L, F)
        maps, ends = [], []
        for low, high, band in zip(self.cuts, self.cuts[1:], self.bands, strict=False):
            y = x[..., low:high]
            for layer in band:
                y = F.leaky_relu(layer(y), 0.1)
                maps.append(y)
            ends.append(y)
        return [*maps, self.score(torch.cat(ends, -1))]


class Spectral(nn.Module):
    """Complex spectra at three resolutions in five bands of frequency: audio (B, T) -> maps of 3 parts. Width ``channels`` 32 is the
    paper's: Kumar et al., "High-fidelity audio compression with improved RVQGAN", NeurIPS 2023, section 3.4."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList(_Resolution(n_fft, channels) for n_fft in WINDOWS)

    def forward(self, audio: Tensor) -> Maps:
        return [resolution(audio) for resolution in self.resolutions]


def discriminators(params: Params) -> nn.Module:
    """What ``gan`` names, ``disc_channels`` wide."""
    return {"hifigan": HiFiGAN, "stft": Spectral}[params.gan](params.disc_channels)
