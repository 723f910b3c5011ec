"""Changes of an enrolment recording (another device, channel or file format, the same voice), and masks of a spectrogram.

A change takes and gives (T,) float32 at 48 kHz, keeps the length, the time and, within a few dB, the level, and does not clip.
``CHANGES`` has them by name.
"""

import contextlib
import io
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import soundfile
import torch
from scipy.signal import fftconvolve

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.scene import Change

EQ_GAIN_DB = 12.0  # largest boost or cut of one of the equaliser's seven bands
CUTOFFS_HZ = (3400.0, 4000.0, 5500.0, 8000.0, 11000.0)  # edges of a telephone, and of recordings at 8, 11.025, 16 and 22.05 kHz
HIGH_PASS_HZ = (50.0, 300.0)
CODED_RATES = (16_000, 24_000, 32_000, 48_000)  # Hz
COMPRESSION = (0.5, 0.99)  # libsndfile's 0 (best) to 1 (smallest): about 26 to 80 kbit/s over the rates
BODY = round(0.004 * SAMPLE_RATE)  # samples that the body of a device rings

Drawn = dict[str, Any]


def draw_change(rng: np.random.Generator, name: str = "") -> Change:
    """A change, by default one of the ``CHANGES`` with equal chances, with plain values drawn for it."""
    name = name or list(CHANGES)[rng.integers(len(CHANGES))]
    return Change(name, CHANGES[name][0](rng))


def changed(enroll: np.ndarray, change: Change) -> np.ndarray:
    """A changed recording (T,), float32; HifitseError where ``enroll`` is not (T,) with finite values."""
    enroll = np.asarray(enroll, np.float32)
    if enroll.ndim != 1 or not len(enroll) or not np.isfinite(enroll).all():
        raise HifitseError(f"enrolment of shape {enroll.shape} cannot be changed, expected (T,) with finite values")
    return CHANGES[change.name][1](enroll, **change.drawn)


def _seeds(rng: np.random.Generator) -> Drawn:
    return {"seeds": [int(rng.integers(2**63)), int(rng.integers(2**32))]}


def _draw_band(rng: np.random.Generator) -> Drawn:
    seeds = _seeds(rng)
    return {"cutoff_hz": CUTOFFS_HZ[rng.integers(len(CUTOFFS_HZ))]} | seeds


def _draw_coding(rng: np.random.Generator) -> Drawn:
    return {"rate": CODED_RATES[rng.integers(len(CODED_RATES))], "compression": rng.uniform(*COMPRESSION)}


def coded(enroll: np.ndarray, rate: int, compression: float) -> np.ndarray:
    """MP3 of about 26 to 80 kbit/s and back, at one of ``CODED_RATES``; the codec's delay is taken out."""
    peak = float(np.abs(enroll).max())
    if peak == 0:
        return enroll.copy()
    file = io.BytesIO()
    # Variable rate: only there libsndfile writes the header from which its decoder knows the encoder's delay.
    options = {"bitrate_mode": "VARIABLE", "compression_level": compression}
    with soundfile.SoundFile(file, "w", rate, 1, format="MP3", subtype="MPEG_LAYER_III", **options) as encoder:
        encoder.write(audio.resample(enroll * np.float32(0.5 / peak), SAMPLE_RATE, rate))
    file.seek(0)
    decoded = audio.resample(soundfile.read(file, dtype="float32")[0], rate, SAMPLE_RATE)
    return audio.crop_or_pad(decoded, len(enroll)) * np.float32(2 * peak)


def _draw_device(rng: np.random.Generator) -> Drawn:
    # The direct sound, and behind it noise that decays by 60 dB and has up to half of its energy.
    body = rng.standard_normal(BODY) * 10 ** np.linspace(0, -3, BODY)
    body *= rng.uniform(0.2, 0.7) / np.sqrt(np.sum(body**2))
    body[0] = 1
    return {"body": body.tolist()} | _seeds(rng)


@cache
def _filters(name: str, cutoff_hz: float) -> Any:
    """Transforms of audiomentations, which draw their parameters at each call; imported here, for that takes seconds."""
    from audiomentations import Compose, HighPassFilter, LowPassFilter, PeakingFilter, SevenBandParametricEQ

    if name == "eq":
        return SevenBandParametricEQ(-EQ_GAIN_DB, EQ_GAIN_DB, p=1.0)
    if name == "band":
        low_pass = LowPassFilter(cutoff_hz, cutoff_hz, min_rolloff=72, max_rolloff=96, p=1.0)
        return Compose([low_pass, HighPassFilter(*HIGH_PASS_HZ, min_rolloff=12, max_rolloff=24, p=1.0)])
    edges = (400, 1200, 3000, 8000)
    shape = {"min_gain_db": -6, "max_gain_db": 12, "min_q": 1, "max_q": 6, "p": 1.0}
    peaks = [PeakingFilter(low, high, **shape) for low, high in zip(edges, edges[1:], strict=False)]
    low_pass = LowPassFilter(6000, 16000, min_rolloff=12, max_rolloff=24, p=1.0)
    return Compose([HighPassFilter(150, 500, min_rolloff=12, max_rolloff=12, p=1.0), *peaks, low_pass])


def filtered(enroll: np.ndarray, name: str, seeds: list[int], cutoff_hz: float = 0.0, body: Sequence[float] = ()) -> np.ndarray:
    """An equaliser, a band limit, or a small device: no bass, three resonances, less treble, and a body that rings for 4 ms."""
    if len(body):
        enroll = fftconvolve(enroll, np.array(body))[: len(enroll)].astype(np.float32)
    with _seeded(seeds):
        return _filters(name, cutoff_hz)(enroll, SAMPLE_RATE)


CHANGES: dict[str, tuple[Callable[[np.random.Generator], Drawn], Callable[..., np.ndarray]]] = {
    "eq": (_seeds, partial(filtered, name="eq")),
    "band": (_draw_band, partial(filtered, name="band")),
    "codec": (_draw_coding, coded),
    "device": (_draw_device, partial(filtered, name="device")),
}
"""By the name that stands in the metadata what a change draws, and what it does with that."""


@contextlib.contextmanager
def _seeded(seeds: list[int]) -> Iterator[None]:
    """Python's and numpy's global generators, which audiomentations draws from, at these seeds; then as they were before."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seeds[0])
    np.random.seed(seeds[1])  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


def specaug_mask(shape: tuple[int, int, int], largest: float, count: int, seed: int) -> torch.Tensor:
    """Masks to multiply spectra with: 0 in ``count`` bands and in ``count`` stretches of each item, 1 elsewhere; (B, F, L) float32.

    Each band or stretch has a width drawn evenly from 0 up to ``largest`` of its axis, and lies anywhere (SpecAugment, Park et al.,
    Interspeech 2019). A pure function of its arguments, on the CPU, which leaves the global random state as it was.
    """
    from torchaudio.functional import mask_along_axis_iid

    items, bins, frames = shape
    bands, stretches = torch.ones(items, bins, 1), torch.ones(items, 1, frames)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        for _ in range(count):
            bands = mask_along_axis_iid(bands, round(largest * bins), 0.0, axis=1)
            stretches = mask_along_axis_iid(stretches, round(largest * frames), 0.0, axis=2)
    return bands * stretches
