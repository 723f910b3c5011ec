"""True bandwidth of a recording: up to which frequency it holds sound, whatever its sample rate says.

A file at 48 kHz that was made from one at 16 kHz has nothing above 8 kHz but the rounding of its samples. Two ends are looked for in the
long-term spectrum, and the lower one counts:

- where it last stands 10 dB above the rounding noise of the file's own format (for 16 bit a flat -101 dBFS in all, each sample being
  off by up to half a step), or above 110 dB below its loudest band, beyond which resamplers and codecs leave their own residue;
- a cliff: a fall by 25 dB or more within a fifth of its frequency, to a level that is not left again. The filter of a resampler or of a
  codec makes one; speech, which fades by some dB a kilohertz, does not, nor does a microphone's noise, which goes on to the end. A
  cliff is also found where noise or a resampler's residue lies above the rounding noise.

A steep resampler's end is found within some 5 %. A short filter leaves mirrored sound above the old end, by 25 % with torchaudio's default
settings, and linear interpolation leaves it everywhere: that is then the bandwidth.
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import rfft
from scipy.signal.windows import blackmanharris

N_FFT = 4096  # samples of a frame: 11.7 Hz a bin at 48 kHz
BAND_HZ = 200.0  # width of the bands in which the spectrum is averaged
ABOVE_DB = 10.0  # a band holds sound where it stands this far above the rounding noise
RANGE_DB = 110.0  # below the loudest band by more than this nothing counts as sound
CLIFF_DB = 25.0  # fall of the spectrum that a filter makes, and speech does not
CLIFF_WIDTH = 0.2  # a cliff falls within this share of its frequency: as slowly as common resamplers' filters do
FIRST_CLIFF = 5  # band above which a cliff is looked for: below 1 kHz speech itself may fall like that
BITS = {"PCM_S8": 8, "PCM_U8": 8, "ULAW": 13, "ALAW": 13, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Format of the samples as libsndfile names it -> bits; others, floats and codecs, round too finely to be heard."""


class Bandwidth(NamedTuple):
    """Where a spectrum ends: ``hertz``, 0 where there is no sound; ``cliff`` where it ends in a filter's edge."""

    hertz: float
    cliff: bool


class Spectrum:
    """Long-term power spectrum of a signal that comes in blocks; what does not fill a frame is used only where there is no other."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate, self.frames = sample_rate, 0
        self._power = np.zeros(N_FFT // 2 + 1)  # (F,)
        self._rest = np.zeros(0, np.float32)
        # what leaks from the loudest bins stays 92 dB below them at once, and more further away
        self._window = blackmanharris(N_FFT, sym=False).astype(np.float32)

    def add(self, block: np.ndarray) -> None:
        signal = np.concatenate([self._rest, block])
        count = len(signal) // N_FFT
        self._rest = signal[count * N_FFT :]
        for start in range(0, count, 64):  # some MB at a time
            frames = signal[start * N_FFT : min(start + 64, count) * N_FFT].reshape(-1, N_FFT)  # (L, N_FFT)
            spectra = rfft(frames * self._window)  # (L, F)
            self._power += np.einsum("lf,lf->f", spectra.real, spectra.real) + np.einsum("lf,lf->f", spectra.imag, spectra.imag)
        self.frames += count

    def density(self) -> np.ndarray:
        """Mean power of a bin, (F,), so scaled that white noise of power 1 has 1 in every bin."""
        if not self.frames:
            rest = self._rest * self._window[: len(self._rest)] if len(self._rest) else np.zeros(1)
            return np.square(np.abs(rfft(rest, N_FFT))) / max(np.square(self._window[: len(self._rest)]).sum(), 1e-20)
        return self._power / (self.frames * np.square(self._window).sum())

    def bandwidth(self, subtype: str = "FLOAT") -> Bandwidth:
        """Where the spectrum ends; ``subtype`` of the file, as libsndfile names it, decides the rounding noise."""
        density = self.density()
        width = max(1, round(BAND_HZ * N_FFT / self.sample_rate))
        bands = density[: len(density) // width * width].reshape(-1, width)
        # The median, so that a lone tone (a screen's whine, a pilot) makes no bandwidth; exact silence must have a logarithm.
        level_db = 10 * np.log10(np.maximum(np.median(bands, axis=1), 1e-30))  # (bands,)
        hertz = np.arange(1, len(level_db) + 1) * width * self.sample_rate / N_FFT  # upper edges
        floor_db = max(rounding_db(subtype) + ABOVE_DB, level_db.max() - RANGE_DB, -150.0)
        sounding = np.flatnonzero(level_db > floor_db)
        if not len(sounding):
            return Bandwidth(0.0, False)
        end = int(sounding[-1])
        edge = _cliff(np.maximum(level_db, floor_db - ABOVE_DB))
        if edge is not None and edge <= end + 1:
            return Bandwidth(float(hertz[min(edge, end)]), True)
        return Bandwidth(float(hertz[end]), False)


def rounding_db(subtype: str) -> float:
    """dBFS: power of the rounding noise of a format, a step's square over twelve."""
    return 10 * float(np.log10(4.0 ** (1 - BITS[subtype]) / 12)) if subtype in BITS else -200.0


def _cliff(level_db: np.ndarray) -> int | None:
    """Band in the middle of the lowest fall that is ``CLIFF_DB`` or more and below which all that follows stays."""
    rest = np.maximum.accumulate(level_db[::-1])[::-1]  # loudest band from here on
    best, place, last = CLIFF_DB, None, len(level_db)
    for band in range(FIRST_CLIFF, len(level_db)):
        foot = band + max(2, round(CLIFF_WIDTH * band))
        if band > last or foot >= len(level_db):
            break
        before = level_db[band - 2 : band + 1].mean()
        if before - rest[foot] > best:
            best = before - rest[foot]
            last = foot if place is None else last  # its steepest part begins before its foot
            place = band + int(np.flatnonzero(level_db[band : foot + 1] >= before - best / 2)[-1])
    return place
