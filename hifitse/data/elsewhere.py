"""A talker as if recorded elsewhere: with a colour, a band edge and a noise floor of their own.

Recordings of one source share these. Where sources are mixed, a network could tell the talkers apart by them and never listen to the voice.
"""

from collections.abc import Sequence

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from hifitse import SAMPLE_RATE

RATES = (44_100, 32_000, 24_000, 22_050, 16_000)
"""Hz: sampling rates that recordings had before they came to 48 kHz."""
ROLL_OFF = (0.9, 1.0)
"""Share of half of that rate at which such a recording ends, as resamplers have it."""
LIMITED_PROB = 0.5
COLOUR_HZ = (80, 250, 800, 2_500, 8_000, 20_000)
COLOUR_DB = 6.0
"""dB: largest boost or cut at each of ``COLOUR_HZ``, straight lines over log frequency between them."""
FLOOR_PROB = 0.7
FLOOR_DB = (-60.0, -30.0)
"""dB relative to the speech: level of the noise floor."""
FLOOR_SLOPE = (0.0, 0.8)
"""Exponent by which the floor's amplitude falls with frequency above 100 Hz: from white to nearly brown."""
SLOPE = 0.02
"""Share of the edge's frequency, below it, over which the gain falls from 1 to 0."""

Key = Sequence[int]
"""Seed of ``default_rng``: of all that is drawn for one talker."""


def is_elsewhere(key: Key, prob: float) -> bool:
    """Whether the talker of a key is recorded elsewhere, as often as ``prob`` says."""
    return bool(prob) and np.random.default_rng(key).random() < prob


def recorded_elsewhere(speech: np.ndarray, key: Key) -> np.ndarray:
    """Speech (T,) float32 with a floor, a colour and perhaps a band edge, all drawn from the key; (T,) float32 in time with it."""
    samples = len(speech)
    size = next_fast_len(samples, real=True)
    spec = rfft(speech, size)
    gain, floor, level = colour(size, key)
    if floor is not None:
        spec += floor * np.float32(level * np.linalg.norm(spec) / max(float(np.linalg.norm(floor)), 1e-9))
    return irfft(spec * gain, size)[:samples].astype(np.float32, copy=False)


def colour(size: int, key: Key) -> tuple[np.ndarray, np.ndarray | None, float]:
    """What a key draws for a transform of ``size`` samples: the gain (F,), a floor's spectrum (F,) or ``None``, and its amplitude relative
    to the speech."""
    rng = np.random.default_rng(key)
    rng.random()  # which :func:`is_elsewhere` took
    hertz = rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    floor, level = None, 0.0
    if rng.random() < FLOOR_PROB:
        floor = rng.standard_normal(2 * len(hertz), np.float32).view(np.complex64)
        floor *= np.maximum(hertz, 100) ** np.float32(-rng.uniform(*FLOOR_SLOPE))
        level = 10 ** (rng.uniform(*FLOOR_DB) / 20)
    curve = np.interp(np.log(np.maximum(hertz, 20)), np.log(COLOUR_HZ), rng.uniform(-COLOUR_DB, COLOUR_DB, len(COLOUR_HZ)))
    gain = (10 ** (curve / 20)).astype(np.float32)
    if rng.random() < LIMITED_PROB:
        edge = RATES[rng.integers(len(RATES))] / 2 * rng.uniform(*ROLL_OFF)
        gain *= np.clip((edge - hertz) / (SLOPE * edge), 0, 1)
    return gain, floor, level
