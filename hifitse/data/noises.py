"""Synthetic noise: coloured, modulated, hum, clicks, rain and babble, each a function of a random generator."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.signal import fftconvolve

from hifitse import SAMPLE_RATE, audio
from hifitse.data.speakers import BABBLE_VARIANTS, ENGLISH, speak, speaker, words

LEVEL_DB = -26.0
"""dBFS: RMS level of a clip, unless its peaks (clicks) call for a lower one."""


def coloured(rng: np.random.Generator, samples: int, slope_db: float) -> np.ndarray:
    """Gaussian noise whose spectrum has a slope in dB an octave (0 white, -3 pink, -6 brown), flat below 40 Hz; ``(T,)``."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 40) / 1000)
    spectrum[0] = 0  # no constant part
    return np.fft.irfft(spectrum * 10 ** (slope_db * octaves / 20), samples)


def modulated(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Coloured noise that swells and sinks by up to 20 dB, at 0.3 to 6 Hz."""
    seconds = np.arange(samples) / SAMPLE_RATE
    waves = [np.sin(2 * np.pi * (rate * seconds + rng.random())) for rate in rng.uniform(0.3, 6, 3)]
    swell_db = rng.uniform(5, 10) * np.mean(waves, axis=0)
    return coloured(rng, samples, rng.uniform(-6, 0)) * 10 ** (swell_db / 20)


def hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Mains or machine hum: a fundamental of 45 to 130 Hz, 60 harmonics, and faint pink noise."""
    harmonics = np.arange(1, 61)
    fundamental = rng.choice([50, 60, rng.integers(45, 131)])  # Hz, whole, so that one second repeats without a seam
    second = np.zeros(SAMPLE_RATE // 2 + 1, complex)
    gains = harmonics ** -rng.uniform(0.6, 1.4) * rng.uniform(0.2, 1, len(harmonics))
    second[harmonics * fundamental] = gains * np.exp(2j * np.pi * rng.random(len(harmonics)))
    total = np.resize(np.fft.irfft(second), samples)
    floor = coloured(rng, samples, -3)
    return total + floor * (0.05 * total.std() / floor.std())


def clicks(rng: np.random.Generator, samples: int) -> np.ndarray:
    """2 to 12 short ringing knocks a second over a floor of pink noise."""
    floor = coloured(rng, samples, -3)
    total = 0.02 * floor / floor.std()
    for start in rng.integers(0, samples, round(rng.uniform(2, 12) * samples / SAMPLE_RATE)):
        seconds = np.arange(min(samples - start, SAMPLE_RATE // 5)) / SAMPLE_RATE
        ring = np.sin(2 * np.pi * rng.uniform(300, 9000) * seconds) + 0.3 * rng.standard_normal(len(seconds))
        total[start : start + len(seconds)] += rng.uniform(0.2, 1) * ring * np.exp(-seconds / rng.uniform(0.002, 0.03))
    return total


def rain(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Hundreds to thousands of drops a second, of uneven strength, on one surface."""
    drops = np.zeros(samples)
    places = rng.integers(0, samples, round(rng.uniform(300, 4000) * samples / SAMPLE_RATE))
    np.add.at(drops, places, rng.lognormal(0, 1, len(places)) * rng.choice([-1, 1], len(places)))
    seconds = np.arange(SAMPLE_RATE // 50) / SAMPLE_RATE
    surface = coloured(rng, len(seconds), rng.uniform(-4, 0)) * np.exp(-seconds / rng.uniform(0.0005, 0.004))
    return fftconvolve(drops, surface)[:samples]


def babble(rng: np.random.Generator, samples: int) -> np.ndarray:
    """4 to 8 synthetic voices at once, of variants that the speech corpus does not use."""
    total = np.zeros(samples)
    for variant in rng.permutation(BABBLE_VARIANTS)[: rng.integers(4, 9)]:
        who = replace(speaker(int(rng.integers(2**31)), 0), variant=str(variant))
        texts = [words(rng, who.accent in ENGLISH) for _ in range(-(-samples // (4 * SAMPLE_RATE)))]
        speech = np.concatenate(speak(who, texts, int(rng.integers(2**24))))
        total += 10 ** (rng.uniform(-6, 0) / 20) * np.roll(np.resize(speech, samples), rng.integers(samples))
    return total


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "white": lambda rng, samples: coloured(rng, samples, 0),
    "pink": lambda rng, samples: coloured(rng, samples, -3),
    "brown": lambda rng, samples: coloured(rng, samples, -6),
    "tilted": lambda rng, samples: coloured(rng, samples, rng.uniform(-8, 2)),
    "modulated": modulated,
    "hum": hum,
    "clicks": clicks,
    "rain": rain,
    "babble": babble,
}
"""Kinds of noise by the name that their files begin with."""


def make(kind: str, rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise of one of the ``KINDS``: ``(T,)`` float32 at 48 kHz, at most 0.89 high, at -26 dBFS where its peaks allow."""
    noise = audio.set_level(KINDS[kind](rng, samples), LEVEL_DB)
    return noise * np.float32(min(1.0, 0.89 / np.abs(noise).max()))
