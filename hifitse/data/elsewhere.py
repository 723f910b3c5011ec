"""Talkers as if recorded elsewhere: each with a colour, a band edge and a noise floor of their own.

Recordings of one source share these. Where sources are mixed, a network could tell the talkers apart by them and never listen to the voice.
"""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from hifitse import SAMPLE_RATE

RATES = (44_100, 32_000, 24_000, 22_050, 16_000)  # Hz: of recordings before they came to 48 kHz
ROLL_OFF = (0.9, 1.0)  # share of half of that rate at which such a recording ends, as resamplers have it
LIMITED_PROB = 0.5
COLOUR_HZ = (80, 250, 800, 2_500, 8_000, 20_000)
COLOUR_DB = 6.0  # largest boost or cut at each of COLOUR_HZ, straight lines over log frequency between them
FLOOR_PROB = 0.7
FLOOR_DB = (-60.0, -30.0)  # of the noise floor, relative to the speech
FLOOR_SLOPE = (0.0, 0.8)  # exponent by which the floor's amplitude falls above 100 Hz: from white to nearly brown
SLOPE = 0.02  # share of the edge's frequency, below it, over which the gain falls from 1 to 0
TABLE = 2**19  # complex normal numbers of which floors are cut: drawing new ones for each took longer than all else here


class Elsewhere(NamedTuple):
    """What is drawn for a talker."""

    level: float  # of the floor, as a factor of the speech's RMS; 0: none
    slope: float
    start: int  # of the floor in the table
    colour: tuple[float, ...]  # dB at COLOUR_HZ
    edge: float  # Hz; the sampling rate where the band has none


def drawn(key: Sequence[int], prob: float) -> Elsewhere | None:
    """What is drawn from a key, a seed of ``default_rng``, as often as ``prob`` says; else ``None``."""
    if not prob:
        return None
    rng = np.random.default_rng(key)
    if rng.random() >= prob:
        return None
    level = 10 ** (rng.uniform(*FLOOR_DB) / 20) if rng.random() < FLOOR_PROB else 0.0
    slope, start = rng.uniform(*FLOOR_SLOPE), int(rng.integers(TABLE))
    colour = tuple(rng.uniform(-COLOUR_DB, COLOUR_DB, len(COLOUR_HZ)).tolist())
    limited = rng.random() < LIMITED_PROB
    edge = RATES[rng.integers(len(RATES))] / 2 * rng.uniform(*ROLL_OFF)
    return Elsewhere(level, slope, start, colour, edge if limited else float(SAMPLE_RATE))


def recorded_elsewhere(speech: Tensor, told: Sequence[Elsewhere]) -> Tensor:
    """Rows of speech, (R, T) -> (R, T) float32 in time with it, each with a floor, a colour and perhaps a band edge, as it is told."""
    samples, size = speech.shape[1], next_fast_len(speech.shape[1], real=True)
    level, slope, edge = (speech.new_tensor([getattr(each, name) for each in told])[:, None] for name in ("level", "slope", "edge"))
    spec = torch.fft.rfft(speech, size)
    hertz, hats = _frequencies(size, speech.device)
    start = torch.tensor([each.start for each in told], device=speech.device)[:, None]
    floor = _table(speech.device)[(start + torch.arange(len(hertz), device=speech.device)) % TABLE]
    floor *= (-slope * hertz.clamp_min(100).log()).exp_()
    floor *= level * (_norm(spec) / _norm(floor).clamp_min(1e-9))
    gain = torch.exp(speech.new_tensor([each.colour for each in told]) @ hats * (math.log(10) / 20))
    gain *= band_edge(hertz, edge)
    return torch.fft.irfft(spec.add_(floor).mul_(gain), size)[:, :samples]


def band_edge(hertz: Tensor, edge: Tensor | float) -> Tensor:
    """Gain at frequencies of a recording whose band ends at ``edge`` Hz: 1, and from a little below it 0."""
    return ((edge - hertz) / (SLOPE * edge)).clamp_(0, 1)


def _norm(spec: Tensor) -> Tensor:
    return torch.view_as_real(spec).flatten(1).square().sum(1, keepdim=True).sqrt_()


@cache
def _table(device: torch.device) -> Tensor:
    pairs = np.random.default_rng(0).standard_normal((TABLE, 2), np.float32)
    return torch.view_as_complex(torch.from_numpy(pairs)).to(device)


@lru_cache(8)
def _frequencies(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Hz of the bins (F,), and what each of ``COLOUR_HZ`` adds to each bin (6, F): straight lines over log frequency."""
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    at = np.log(np.maximum(hertz, 20))
    hats = np.stack([np.interp(at, np.log(COLOUR_HZ), row) for row in np.eye(len(COLOUR_HZ))])
    return tuple(torch.from_numpy(each.astype(np.float32)).to(device) for each in (hertz, hats))
