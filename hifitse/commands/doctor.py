"""Check the quality of an enrolment: seconds of speech, level, bandwidth, and what will harm the extraction."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import irfft, rfft

from hifitse import SAMPLE_RATE, audio
from hifitse.model import Extractor
from hifitse.model.extraction import taken_db, without_rumble
from hifitse.prepare.recording import bandwidth, density

RATE, WINDOW, HOP = 16_000, 640, 320  # Hz and samples: 40 ms frames every 20 ms
ACTIVE_DB = -35.0  # a frame is active above this, relative to the 95th percentile of frame levels
SHORT_S = 1.0
NARROW_HZ = 5_000.0  # telephone speech ends at 4 kHz, that of 100 validation enrolments at 6.8 kHz or more
PITCH_HZ, VOICED = (60, 400), 0.5
DYNAMIC_DB, VOICED_SHARE = 12.0, 0.25
"""Speech varies in level by more than this (95th to 20th percentile of 40 ms frames), and a larger share of its frames is voiced.
None of 133 recordings of speech was taken for noise, and 45 of 62 recordings of noise were."""
UNITY = 0.838
"""A voice is said to change if the mean embedding of its pieces has a smaller norm: in 5 % of 140 recordings of 65 validation speakers.
With two people in turn it is 70 % (four turns of 1 to 3 s), 93 % (4 and 4 s) or 88 % (6 and 2 s). For two at once see ``taken_db``."""
SAME = 0.65
"""Two recordings whose embeddings have a smaller cosine are said to be of two people: 1 of 100 pairs of one person's were, and
93 % of 9,900 pairs of two people's (81 % within one source of recordings)."""
HEARD_S = 8.0  # seconds of speech, without pauses, that verifier and extractor hear


class Diagnosis(NamedTuple):
    """Measurements of one enrolment."""

    seconds: float
    active_s: float
    level_db: float  # dBFS of the active frames
    bandwidth_hz: float
    dynamic_db: float  # see ``DYNAMIC_DB``
    voiced: float  # share of the active frames
    voice: np.ndarray | None  # (256,) mean embedding of the pieces, of which ``UNITY`` tells; ``None`` if too short or without a verifier
    taken_db: float  # by how many dB the model removes more than from 95 % of single voices; -inf if unknown

    def __str__(self) -> str:
        speech = f"{self.active_s:.1f} s of speech in {self.seconds:.1f} s"
        return f"{speech}, level {self.level_db:.0f} dBFS, up to {self.bandwidth_hz / 1000:.1f} kHz"

    def warnings(self) -> list[str]:
        """Describe what will harm the extraction, except clipping, which :class:`hifitse.model.extract_files.Survey` reports."""
        said = []
        if self.active_s < SHORT_S:
            said.append(f"it has {self.active_s:.2f} s of speech, expected at least {SHORT_S:g} s")
        if self.bandwidth_hz < NARROW_HZ:  # 24 validation mixtures: 4.4 instead of 7.1 dB from 8 kHz, 6.5 from 11 kHz, 6.8 from 16 kHz
            said.append(f"it has nothing above {self.bandwidth_hz / 1000:.1f} kHz, like a telephone: expect about 3 dB less")
        steady = self.seconds > 2 and self.dynamic_db < DYNAMIC_DB  # a short recording may be a single vowel
        if self.voiced < VOICED_SHARE or (steady and self.taken_db <= 0):
            said.append("it sounds like noise, or holds much of it, expected one voice alone")
        elif self.taken_db > 0:
            said.append("it seems to hold two voices at once, expected one person alone")
        if self.voice is not None and np.linalg.norm(self.voice) < UNITY:
            said.append("its voice changes, expected one person alone")
        return said

    def is_alike(self, other: "Diagnosis") -> bool:
        """Return whether both may be of one person, also where that is not known."""
        if self.voice is None or other.voice is None:
            return True
        return self.voice @ other.voice >= SAME * np.linalg.norm(self.voice) * np.linalg.norm(other.voice)


def examine(signal: np.ndarray, rate: int, extractor: Extractor) -> Diagnosis:
    """Examine an enrolment ``(T,)`` of at least 0.2 s for this model."""
    heard = without_rumble(torch.from_numpy(audio.resample(signal, rate, SAMPLE_RATE))).numpy()
    narrow = audio.resample(heard, SAMPLE_RATE, RATE)
    frames = np.lib.stride_tricks.sliding_window_view(narrow, WINDOW)[::HOP] * np.hanning(WINDOW)  # (L, W)
    power = np.square(frames, dtype=np.float64).mean(1) * 8 / 3  # of the frame before windowing
    loud, quiet = np.percentile(power, [95, 20]) + 1e-12
    active = power > loud * 10 ** (ACTIVE_DB / 10)
    level = 10 * np.log10(max(float(power[active].mean()), 1e-12)) if active.any() else audio.FLOOR_DB
    dynamic = 10 * float(np.log10(loud / quiet))
    found, _ = bandwidth(density(signal), rate)
    several = _several(_spoken(heard, active), extractor)
    return Diagnosis(len(signal) / rate, active.sum() * HOP / RATE, float(level), found, dynamic, _voiced(frames[active]), *several)


def _spoken(signal: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Shorten pauses in a signal (T,) at 48 kHz to about 0.2 s, and return its first ``HEARD_S`` s; ``active`` (L,) marks speech frames."""
    step = SAMPLE_RATE * HOP // RATE
    near = np.convolve(active, np.ones(9), "same") > 0
    return audio.crop_or_pad(signal, len(active) * step).reshape(-1, step)[near].ravel()[: round(HEARD_S * SAMPLE_RATE)]


def _several(spoken: np.ndarray, extractor: Extractor) -> tuple[np.ndarray | None, float]:
    """Return ``voice`` and ``taken_db`` of a :class:`Diagnosis`."""
    voice, taken = None, -np.inf
    if len(spoken) >= SAMPLE_RATE // 2 and extractor.verifier is not None:
        pieces = extractor.verifier.pieces(torch.from_numpy(spoken)[None].to(next(extractor.parameters()).device))[0]
        voice = pieces.mean(0).cpu().numpy()
        if (limit := extractor.origin.metrics.get("presence", {}).get("two_voices_db")) is not None:
            taken = taken_db(extractor, spoken) - limit
    return voice, taken


def _voiced(frames: np.ndarray) -> float:
    """Return the share of voiced frames (L, W), by autocorrelation normalised by that of the window (Boersma 1993)."""
    if not len(frames):
        return 0.0
    spectra = np.square(np.abs(rfft(frames, 2 * WINDOW)))
    spectra[:, : PITCH_HZ[0] * 2 * WINDOW // RATE] = 0  # hum would look like a pitch
    lags = slice(RATE // PITCH_HZ[1], RATE // PITCH_HZ[0])
    window = irfft(np.square(np.abs(rfft(np.hanning(WINDOW), 2 * WINDOW))))
    correlation = irfft(spectra)
    highest = (correlation[:, lags] / window[lags]).max(1) * window[0] / np.maximum(correlation[:, 0], 1e-12)
    return float((highest > VOICED).mean())
