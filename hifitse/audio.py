"""48 kHz mono audio: reading, writing, resampling, levels. A signal is a float32 array ``(T,)``; files of other rates are resampled and
channels mixed down when they are read. Positions and lengths are always counted in samples at 48 kHz.
"""

import io
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from hifitse import SAMPLE_RATE
from hifitse.decode import AudioError, Sound
from hifitse.files import write_atomic

MARGIN_S = 0.05  # s: what is read beyond each side of a stretch that is to be resampled, longer than the resampler's filter
PHASES = 10  # of a change of speed that are computed together: few taps of a longer group are used by all
FLOOR_DB = -120.0  # dBFS: the level that silence is given
SUBTYPES = {".flac": ("FLAC", "PCM_24"), ".wav": ("WAV", "FLOAT")}
MP3_OPTIONS = {"bitrate_mode": "VARIABLE", "compression_level": 0.2}  # 14 kB per second, up to 18 kHz; the default cuts at 16
CANCELLED_DB = -20.0  # level of a mix of channels relative to the loudest of them below which they cancel each other
_FRONT, _REAR = (0.5, 0.5, 0.5**0.5), 0.5**1.5
SURROUND = {5: (*_FRONT, _REAR, _REAR)} | {count: (*_FRONT, 0, *[_REAR] * (count - 4)) for count in (6, 7, 8)}
"""Weights of left, right, centre, low frequencies and the rest, as ITU-R BS.775 has them, by the number of channels: speech is in the
centre of a film, and the mean of six channels would make it 15 dB weaker."""


class AudioInfo(NamedTuple):
    """What a file's header says: length at 48 kHz, whatever the file's own rate in Hz, and its channels."""

    samples: int
    sample_rate: int
    channels: int


def _samples_at_48k(frames: int, sample_rate: int) -> int:
    return round(frames * SAMPLE_RATE / sample_rate)


def info(path: str | Path) -> AudioInfo:
    """Length, rate and channels of an audio file, from its header alone. Raises AudioError: missing, unreadable or empty file."""
    with Sound(path) as file:
        return AudioInfo(_samples_at_48k(file.frames, file.sample_rate), file.sample_rate, file.channels)


def downmix(audio: np.ndarray) -> np.ndarray:
    """Channels ``(T, C)`` as one ``(T,)``: their mean, of five to eight channels as :data:`SURROUND` weighs them."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    if audio.shape[1] in SURROUND:
        return audio @ np.array(SURROUND[audio.shape[1]], np.float32)
    return audio.mean(axis=1, dtype=np.float32)


def cancelled(power: np.ndarray, mixed: float) -> int | None:
    """The loudest channel where the power ``mixed`` of the channels' mix lies more than 20 dB below its own of ``power`` (C,)."""
    loudest = int(np.argmax(power))
    return loudest if len(power) > 1 and mixed < power[loudest] * 10 ** (CANCELLED_DB / 10) else None


def read(path: str | Path, start: int = 0, samples: int | None = None) -> np.ndarray:
    """A stretch of an audio or video file, at 48 kHz, its channels mixed down; no more is decoded than it needs, where libsndfile reads
    the file. Of a file that was cut short, what is there is used, with a warning that says how much is missing.

    Args:
        start: first sample, counted at 48 kHz, 0 or more.
        samples: length, counted at 48 kHz; ``None``: to the end.

    Returns:
        ``(T,)`` float32; shorter than ``samples``, down to nothing, where the file ends.

    Raises AudioError: missing, unreadable or empty file, or values that are not finite.
    """
    with Sound(path) as file:
        rate = file.sample_rate
        total = _samples_at_48k(file.frames, rate)
        stop = total if samples is None else min(start + samples, total)
        if start >= stop:
            return np.zeros(0, np.float32)
        # The stretch read begins where both rates have a sample, so that the resampled grid is that of the whole file.
        step = rate // gcd(rate, SAMPLE_RATE)
        margin = 0 if rate == SAMPLE_RATE else round(MARGIN_S * rate)
        first = max(0, (start * rate // SAMPLE_RATE - margin) // step * step)
        last = min(file.frames, -(-stop * rate // SAMPLE_RATE) + margin)
        audio = file.read(first, last)  # (T, channels)
        if file.missing:
            warnings.warn(f"audio file {str(path)!r}: {file.missing}", stacklevel=2)
    if len(audio) < last - first:
        stop = max(start, min(stop, _samples_at_48k(first + len(audio), rate)))
    if not np.isfinite(audio).all():
        raise AudioError(f"audio file {str(path)!r} holds NaN or infinite values, expected finite ones")
    audio = downmix(audio)  # (T,)
    if rate != SAMPLE_RATE:
        audio = resample(audio, rate, SAMPLE_RATE)
        offset = start - first * SAMPLE_RATE // rate
        audio = crop_or_pad(audio[offset:], stop - start)  # the last sample may lie half a sample past the file's end
    return np.ascontiguousarray(audio)


def write(path: str | Path, audio: np.ndarray) -> None:
    """Write a signal ``(T,)`` at 48 kHz as 24 bit ``.flac`` (clipped to -1..1) or float32 ``.wav``, whole or not at all.

    Raises AudioError: another suffix, or a signal that is empty, not one-dimensional or not finite; errors of :func:`write_atomic`.
    """
    path = Path(path)
    if path.suffix.lower() not in SUBTYPES:
        raise AudioError(f"cannot write {path.name!r}, expected one of the suffixes {' or '.join(SUBTYPES)}")
    file_format, subtype = SUBTYPES[path.suffix.lower()]
    audio = _checked(audio)

    def save(temporary: Path) -> None:
        try:
            soundfile.write(os.fsencode(temporary), audio, SAMPLE_RATE, format=file_format, subtype=subtype)
        except soundfile.LibsndfileError as error:  # it says "System error." where the disk is full
            raise OSError(str(error)) from None

    write_atomic(path, save)


def encode(audio: np.ndarray) -> bytes:
    """A signal ``(T,)`` at 48 kHz, clipped to -1..1, as the bytes of an MP3 file of variable rate, for players.
    Raises AudioError as :func:`write`."""
    memory = io.BytesIO()
    soundfile.write(memory, np.clip(_checked(audio), -1, 1), SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III", **MP3_OPTIONS)
    return memory.getvalue()


def _checked(audio: np.ndarray) -> np.ndarray:
    audio = np.asarray(audio, dtype=np.float32)
    if audio.ndim != 1 or audio.size == 0:
        raise AudioError(f"audio has the shape {audio.shape}, expected (T,) with T of at least 1")
    if not np.isfinite(audio).all():
        raise AudioError("audio holds NaN or infinite values, expected finite ones")
    return audio


def resample(audio: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """A signal ``(T,)`` at another rate (soxr HQ, linear phase, no delay): ``(T * to_rate / from_rate,)`` float32, the length rounded."""
    if from_rate == to_rate:
        return np.asarray(audio, np.float32)
    return soxr.resample(np.asarray(audio, np.float32), from_rate, to_rate, quality="HQ")


def change_speed(audio: np.ndarray, factor: float) -> np.ndarray:
    """A signal ``(T,)`` played ``factor`` times as fast, ``(ceil(T / factor),)`` float32: pitch and formants rise, the length shrinks.
    Raises AudioError: a factor off the grid 0.5 to 2.0 in steps of 0.01; other ratios would need filters of gigabytes."""
    percent = round(100 * factor)
    if not 50 <= percent <= 200 or abs(100 * factor - percent) > 1e-6:
        raise AudioError(f"speed factor is {factor}, expected 0.5 to 2.0 in steps of 0.01")
    if percent == 100:
        return np.asarray(audio, np.float32)
    step, phases, width, filters = _speed_filters(percent)
    padded = np.zeros(len(audio) + 2 * width + step, np.float32)
    padded[width : width + len(audio)] = audio
    # Overlapping windows, (L, 2 * width + step) without a copy; every one gives a sample of each phase.
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + step)[::step]
    faster = np.empty((len(windows), phases), np.float32)
    for phase, first, taps in filters:
        np.matmul(windows[:, first : first + len(taps)], taps, out=faster[:, phase : phase + taps.shape[1]])
    return faster.reshape(-1)[: -(-phases * len(audio) // step)]


@lru_cache(maxsize=151)
def _speed_filters(percent: int) -> tuple[int, int, int, list[tuple[int, int, np.ndarray]]]:
    """Step between windows, phases, margin, and by group of phases the first of them, the first tap, and the taps (taps, phases):
    torchaudio's own, without the nine tenths that are 0."""
    changer = speed_changer(percent)
    kernel = changer.kernel[:, 0].numpy()
    filters = []
    for phase in range(0, len(kernel), PHASES):
        taps = np.flatnonzero((np.abs(kernel[phase : phase + PHASES]) > 1e-8).any(0))
        used = kernel[phase : phase + PHASES, taps[0] : taps[-1] + 1]
        filters.append((phase, int(taps[0]), np.ascontiguousarray(used.T)))
    return changer.orig_freq // changer.gcd, len(kernel), changer.width, filters


@lru_cache(maxsize=151)
def speed_changer(percent: int) -> Callable:
    """The resampler of a factor on the grid, with its filter: to make that takes as long as to use it on 2 s."""
    from torchaudio.transforms import Resample

    divisor = gcd(100, percent)
    return Resample(percent // divisor, 100 // divisor)


def level_db(audio: np.ndarray) -> float:
    """RMS level of a signal in dBFS (a sine of peak 1 has -3.01); at least -120, which silence and nothing have."""
    audio = np.asarray(audio)
    power = float(np.mean(np.square(audio, dtype=np.float64))) if audio.size else 0.0
    return max(10 * float(np.log10(power)), FLOOR_DB) if power > 0 else FLOOR_DB


def set_level(audio: np.ndarray, dbfs: float) -> np.ndarray:
    """A signal scaled to an RMS level in dBFS; what is silent (-120 dBFS or below) stays as it is."""
    level = level_db(audio)
    gain = 10 ** ((dbfs - level) / 20) if level > FLOOR_DB else 1.0
    return np.asarray(audio, np.float32) * np.float32(gain)


def crop_or_pad(audio: np.ndarray, samples: int) -> np.ndarray:
    """The first ``samples`` samples of a signal, with zeros behind it where it is shorter."""
    if len(audio) >= samples:
        return audio[:samples]
    return np.concatenate([audio, np.zeros(samples - len(audio), audio.dtype)])
