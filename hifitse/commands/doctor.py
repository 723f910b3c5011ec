"""What an enrolment is worth: seconds of speech, level, bandwidth, clipping; and what will harm the extraction."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import irfft, rfft

from hifitse import SAMPLE_RATE, audio
from hifitse.model.extract_files import FULL_SCALE
from hifitse.model.verifier import Verifier, change_of_voice
from hifitse.prepare.bandwidth import Spectrum

RATE, WINDOW, HOP = 16_000, 640, 320  # Hz and samples: frames of 40 ms each 20 ms
ACTIVE_DB = -35.0  # a frame is active above this, relative to the 95th percentile of frame levels
SHORT_S = 1.0
PITCH_HZ, VOICED = (60, 400), 0.5
DYNAMIC_DB, VOICED_SHARE = 12.0, 0.25
"""Speech changes its level by more than this (95th to 20th percentile of 20 ms frames), and more of its frames have a pitch.
Of 133 recordings of speech here none was taken for noise, and of 62 of noise 45 were."""
TWO_VOICES = 0.65
"""Cosine between what comes before and after a change of voice, below which there are two; see :func:`change_of_voice`.
Below are 4 % of 212 recordings of one person, of two in turn for 4 s each 78 %, in four turns 10 %, at once 14 %."""


class Diagnosis(NamedTuple):
    """Of one enrolment."""

    seconds: float
    active_s: float
    level_db: float  # dBFS of its active frames
    bandwidth_hz: float
    clipped: float  # share of its samples
    dynamic_db: float  # as the next, see ``DYNAMIC_DB``
    voiced: float
    change: float  # see ``TWO_VOICES``; 1 where the model has no verifier

    def __str__(self) -> str:
        clipped = f"{self.clipped:.1%} clipped" if self.clipped else "not clipped"
        return (
            f"{self.active_s:.1f} s of speech in {self.seconds:.1f} s, level {self.level_db:.0f} dBFS, "
            f"up to {self.bandwidth_hz / 1000:.1f} kHz, {clipped}"
        )

    def warnings(self) -> list[str]:
        """What will harm the extraction, in words; clipping is told by :class:`hifitse.model.extract_files.Survey`."""
        said = []
        if self.active_s < SHORT_S:
            said.append(f"it has {self.active_s:.1f} s of speech, expected at least {SHORT_S:g} s")
        if self.voiced < VOICED_SHARE or (self.seconds > 2 and self.dynamic_db < DYNAMIC_DB):  # a short piece may be one vowel
            said.append("it sounds like noise, or holds much of it, expected one voice alone")
        if self.change < TWO_VOICES:
            said.append("its voice changes, expected one person alone")
        return said


def examine(signal: np.ndarray, rate: int, verifier: Verifier | None = None) -> Diagnosis:
    """Examine an enrolment ``(T,)`` of at least 40 ms; ``verifier`` is that of the model."""
    spectrum = Spectrum(rate)
    spectrum.add(signal)
    high = np.abs(signal) >= FULL_SCALE
    clipped = float((high[1:] & high[:-1]).mean())
    narrow = audio.resample(signal, rate, RATE)
    narrow = np.pad(narrow, (0, max(0, WINDOW - len(narrow))))
    frames = np.lib.stride_tricks.sliding_window_view(narrow, WINDOW)[::HOP] * np.hanning(WINDOW)  # (L, W)
    power = np.square(frames, dtype=np.float64).mean(1) * 8 / 3  # of the frame without its window
    loud, quiet = np.percentile(power, [95, 20]) + 1e-12
    active = power > loud * 10 ** (ACTIVE_DB / 10)
    level = 10 * np.log10(max(float(power[active].mean()), 1e-12)) if active.any() else audio.FLOOR_DB
    dynamic = 10 * float(np.log10(loud / quiet))
    found = spectrum.bandwidth().hertz
    change = 1.0
    if verifier is not None:
        change = change_of_voice(verifier, torch.from_numpy(audio.resample(signal, rate, SAMPLE_RATE)).to(verifier.window.device))
    voiced = _voiced(frames[active])
    return Diagnosis(len(signal) / rate, active.sum() * HOP / RATE, float(level), found, clipped, dynamic, voiced, change)


def _voiced(frames: np.ndarray) -> float:
    """Share of frames (L, W) with a pitch, by the autocorrelation normalised by that of the window (Boersma 1993)."""
    if not len(frames):
        return 0.0
    spectra = np.square(np.abs(rfft(frames, 2 * WINDOW)))
    spectra[:, : PITCH_HZ[0] * 2 * WINDOW // RATE] = 0  # an offset would look like a pitch
    lags = slice(RATE // PITCH_HZ[1], RATE // PITCH_HZ[0])
    window = irfft(np.square(np.abs(rfft(np.hanning(WINDOW), 2 * WINDOW))))
    correlation = irfft(spectra)
    highest = (correlation[:, lags] / window[lags]).max(1) * window[0] / np.maximum(correlation[:, 0], 1e-12)
    return float((highest > VOICED).mean())
