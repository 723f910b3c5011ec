"""Changes of an enrolment recording: another device, channel or file format, the same voice.

Each takes and gives (T,) float32 at 48 kHz, keeps the length, the time and, within a few dB, the level, and does not clip. ``CHANGES`` has
them by name.
"""

import contextlib
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import soundfile
from scipy.signal import fftconvolve

from hifitse import SAMPLE_RATE, HifitseError, audio

EQ_GAIN_DB = 12.0
"""dB: largest boost or cut of one of the equaliser's seven bands."""
CUTOFFS_HZ = (3400.0, 4000.0, 5500.0, 8000.0, 11000.0)
"""Hz: upper edges of a telephone, and of recordings at 8, 11.025, 16 and 22.05 kHz."""
HIGH_PASS_HZ = (50.0, 300.0)
CODED_RATES = (16_000, 24_000, 32_000, 48_000)
"""Hz: rates at which a recording is coded."""
COMPRESSION = (0.5, 0.99)
"""libsndfile's 0 (best) to 1 (smallest): about 26 to 80 kbit/s over the rates."""
BODY_S = 0.004
"""s: how long the body of a device rings."""

Drawn = dict[str, Any]
"""What a change draws: plain values."""


@dataclass(frozen=True)
class Change:
    """A change in two halves: what it draws, and what it does with that."""

    draw: Callable[[np.random.Generator], Drawn]
    apply: Callable[..., np.ndarray]

    def __call__(self, enroll: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A changed recording (T,), float32.

        Args:
            enroll: (T,), finite.
            rng: drawn from.

        Raises:
            HifitseError: not (T,) with finite values.
        """
        return self.changed(enroll, self.draw(rng))

    def changed(self, enroll: np.ndarray, drawn: Drawn) -> np.ndarray:
        """The same with what was drawn before."""
        enroll = np.asarray(enroll, np.float32)
        if enroll.ndim != 1 or not len(enroll) or not np.isfinite(enroll).all():
            raise HifitseError(f"enrolment of shape {enroll.shape} cannot be changed, expected (T,) with finite values")
        return self.apply(enroll, **drawn)


def _seeds(rng: np.random.Generator) -> Drawn:
    return {"seeds": [int(rng.integers(2**63)), int(rng.integers(2**32))]}


def equalised(enroll: np.ndarray, seeds: list[int]) -> np.ndarray:
    """Seven bands boosted or cut by up to 12 dB each (audiomentations' ``SevenBandParametricEQ``)."""
    with _seeded(seeds):
        return _equaliser()(enroll, SAMPLE_RATE)


def _draw_band(rng: np.random.Generator) -> Drawn:
    seeds = _seeds(rng)
    return {"cutoff_hz": CUTOFFS_HZ[rng.integers(len(CUTOFFS_HZ))]} | seeds


def band_limited(enroll: np.ndarray, cutoff_hz: float, seeds: list[int]) -> np.ndarray:
    """A low-pass at one of ``CUTOFFS_HZ`` with 72 to 96 dB an octave, and a high-pass at 50 to 300 Hz with 12 to 24."""
    with _seeded(seeds):
        return _band(cutoff_hz)(enroll, SAMPLE_RATE)


def _draw_coding(rng: np.random.Generator) -> Drawn:
    return {"rate": CODED_RATES[rng.integers(len(CODED_RATES))], "compression": rng.uniform(*COMPRESSION)}


def coded(enroll: np.ndarray, rate: int, compression: float) -> np.ndarray:
    """MP3 of about 26 to 80 kbit/s and back, at one of ``CODED_RATES``; the codec's delay is taken out."""
    peak = float(np.abs(enroll).max())
    if peak == 0:
        return enroll.copy()
    signal = audio.resample(enroll * np.float32(0.5 / peak), SAMPLE_RATE, rate)
    file = io.BytesIO()
    # Variable rate: only there libsndfile writes the header from which its decoder knows the encoder's delay.
    options = {"bitrate_mode": "VARIABLE", "compression_level": compression}
    with soundfile.SoundFile(file, "w", rate, 1, format="MP3", subtype="MPEG_LAYER_III", **options) as encoder:
        encoder.write(signal)
    file.seek(0)
    decoded = audio.resample(soundfile.read(file, dtype="float32")[0], rate, SAMPLE_RATE)
    return audio.crop_or_pad(decoded, len(enroll)) * np.float32(2 * peak)


def _draw_device(rng: np.random.Generator) -> Drawn:
    # The direct sound, and behind it noise that decays by 60 dB and has up to half of its energy.
    body = rng.standard_normal(round(BODY_S * SAMPLE_RATE)) * 10 ** np.linspace(0, -3, round(BODY_S * SAMPLE_RATE))
    body *= rng.uniform(0.2, 0.7) / np.sqrt(np.sum(body**2))
    body[0] = 1
    return {"body": body.tolist()} | _seeds(rng)


def played(enroll: np.ndarray, body: list[float], seeds: list[int]) -> np.ndarray:
    """The response of a small device, as a telephone's microphone or loudspeaker: no bass, three resonances, less treble, and a body
    that rings for 4 ms."""
    with _seeded(seeds):
        return _device()(fftconvolve(enroll, np.array(body))[: len(enroll)].astype(np.float32), SAMPLE_RATE)


CHANGES: dict[str, Change] = {
    "eq": Change(_seeds, equalised),
    "band": Change(_draw_band, band_limited),
    "codec": Change(_draw_coding, coded),
    "device": Change(_draw_device, played),
}
"""Changes by the name that stands in the metadata."""


def draw_change(rng: np.random.Generator) -> tuple[str, Drawn]:
    """One of the ``CHANGES`` with equal chances: its name, and what it draws."""
    name = list(CHANGES)[rng.integers(len(CHANGES))]
    return name, CHANGES[name].draw(rng)


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


# audiomentations takes seconds to import and is needed by few runs, so each transform imports it when first used. A transform draws
# its parameters again at each call, and keeps nothing else.


@cache
def _equaliser() -> Any:
    from audiomentations import SevenBandParametricEQ

    return SevenBandParametricEQ(-EQ_GAIN_DB, EQ_GAIN_DB, p=1.0)


@cache
def _band(cutoff_hz: float) -> Any:
    from audiomentations import Compose, HighPassFilter, LowPassFilter

    low, high = HIGH_PASS_HZ
    return Compose(
        [
            LowPassFilter(cutoff_hz, cutoff_hz, min_rolloff=72, max_rolloff=96, p=1.0),
            HighPassFilter(low, high, min_rolloff=12, max_rolloff=24, p=1.0),
        ]
    )


@cache
def _device() -> Any:
    from audiomentations import Compose, HighPassFilter, LowPassFilter, PeakingFilter

    peaks = [
        PeakingFilter(low, high, min_gain_db=-6, max_gain_db=12, min_q=1, max_q=6, p=1.0)
        for low, high in ((400, 1200), (1200, 3000), (3000, 8000))
    ]
    return Compose(
        [
            HighPassFilter(150, 500, min_rolloff=12, max_rolloff=12, p=1.0),
            *peaks,
            LowPassFilter(6000, 16000, min_rolloff=12, max_rolloff=24, p=1.0),
        ]
    )
