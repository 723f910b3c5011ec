"""Which resampler and which convolution: time against error, time against length."""

import time
from collections.abc import Callable

import numpy as np
import soxr
import torch
from scipy import fft
from scipy.signal import fftconvolve, oaconvolve

from hifitse import SAMPLE_RATE, audio
from hifitse.data.convolver import Convolver, transform_length
from hifitse.studies import old_path

FACTORS = (0.9, 0.97, 1.03, 1.1)
LENGTHS_S = (0.1, 0.25, 0.5, 1.0, 2.0)
EDGE = SAMPLE_RATE // 10
"""Samples at either end that are left out of the error: there each resampler meets silence in its own way."""
TONES_HZ = np.geomspace(80, 18_000, 60)
"""Below the band edge of the slowest factor, where a resampler must fade."""


def cpu_ms(run: Callable[[], object], rounds: int) -> float:
    """Least CPU time of a call after one to warm up, ms."""
    run()
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return 1e3 * min(times)


def tones(samples: int, factor: float = 1.0) -> np.ndarray:
    """A sum of sines, (samples,) float64, as if played ``factor`` times as fast: what a faultless resampler would give."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(TONES_HZ))
    moments = np.arange(samples) * factor / SAMPLE_RATE
    wave = np.zeros(samples)
    for frequency, phase in zip(TONES_HZ, phases, strict=True):
        wave += np.sin(2 * np.pi * frequency * moments + phase)
    return wave / len(TONES_HZ)


RESAMPLERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "scipy.signal.resample": old_path.change_speed,
    "torchaudio, kept filter": audio.change_speed,
    "soxr HQ": lambda signal, factor: soxr.resample(signal, factor * SAMPLE_RATE, SAMPLE_RATE, quality="HQ"),
    "soxr VHQ": lambda signal, factor: soxr.resample(signal, factor * SAMPLE_RATE, SAMPLE_RATE, quality="VHQ"),
}


def resamplers(seconds: float, rounds: int) -> dict[str, tuple[float, float]]:
    """By name: mean CPU ms over the factors for a signal of ``seconds``, and largest error on tones of 80 Hz to 18 kHz, dB."""
    signal = tones(round(seconds * SAMPLE_RATE)).astype(np.float32)
    found = {}
    for name, run in RESAMPLERS.items():
        spent, errors = [], []
        for factor in FACTORS:
            spent.append(cpu_ms(lambda run=run, factor=factor: run(signal, factor), rounds))
            out = run(signal, factor)[EDGE:-EDGE]
            want = tones(len(out) + EDGE, factor)[EDGE:]
            errors.append(10 * np.log10(np.mean((out - want) ** 2) / np.mean(want**2)))
        found[name] = (float(np.mean(spent)), float(max(errors)))
    return found


def convolutions(seconds: float, rounds: int, rows: int = 3, batch: int = 4) -> dict[str, dict[float, float]]:
    """By name and length of the response in s: CPU ms to put ``rows`` talkers into a room, on one thread.

    "batch, torch" convolves ``batch`` mixtures at once, as an accelerator would be asked to, and is divided by their number.
    """
    samples = round(seconds * SAMPLE_RATE)
    rng = np.random.default_rng(0)
    dry = rng.standard_normal((rows, samples)).astype(np.float32)
    many = torch.from_numpy(np.stack([dry] * batch))
    convolver = Convolver()
    found: dict[str, dict[float, float]] = {}
    for length in LENGTHS_S:
        rir = rng.standard_normal((rows, round(length * SAMPLE_RATE))).astype(np.float32)
        size = transform_length(samples + min(rir.shape[-1], samples))
        spectra = fft.rfft(rir[:, :samples], size)
        kept = torch.from_numpy(spectra)
        ways = {
            "fftconvolve": lambda rir=rir: [fftconvolve(one, other)[:samples] for one, other in zip(dry, rir, strict=True)],
            "oaconvolve": lambda rir=rir: [oaconvolve(one, other)[:samples] for one, other in zip(dry, rir, strict=True)],
            "kept spectra, scipy": lambda size=size, spectra=spectra: fft.irfft(fft.rfft(dry, size) * spectra, size),
            "kept spectra, torch (present)": lambda spectra=spectra: convolver.convolve(dry, spectra),
            "batch, torch": lambda size=size, kept=kept: torch.fft.irfft(torch.fft.rfft(many, size) * kept, size),
        }
        for name, run in ways.items():
            spent = cpu_ms(run, rounds)
            found.setdefault(name, {})[length] = spent / batch if name == "batch, torch" else spent
    return found
