"""48 kHz mono audio: reading, writing, resampling, levels. A signal is a float32 array ``(T,)``. Files are resampled and downmixed when
they are read. Positions and lengths are always in samples at 48 kHz.
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

MARGIN_S = 0.05  # s: extra audio read on each side of a section to be resampled, longer than the resampler's filter
PHASES = 10  # phases of a speed change that are computed together; larger groups would share fewer taps
FLOOR_DB = -120.0  # dBFS: the level reported for silence
SUBTYPES = {".flac": ("FLAC", "PCM_24"), ".wav": ("WAV", "FLOAT")}
MP3_OPTIONS = {"bitrate_mode": "VARIABLE", "compression_level": 0.2}  # 14 kB per second, up to 18 kHz; the default cuts off at 16 kHz
CANCELLED_DB = -20.0  # channels cancel each other if their mix is this far below the loudest channel
_FRONT, _REAR = (0.5, 0.5, 0.5**0.5), 0.5**1.5
SURROUND = {5: (*_FRONT, _REAR, _REAR)} | {count: (*_FRONT, 0, *[_REAR] * (count - 4)) for count in (6, 7, 8)}
"""Downmix weights (left, right, centre, LFE, rest) of ITU-R BS.775 by number of channels. Speech in films is in the centre channel, and
the mean of six channels would make it 15 dB weaker."""


class AudioInfo(NamedTuple):
    """Length at 48 kHz, the file's own sample rate in Hz, and number of channels."""

    samples: int
    sample_rate: int
    channels: int


def _samples_at_48k(frames: int, sample_rate: int) -> int:
    return round(frames * SAMPLE_RATE / sample_rate)


def info(path: str | Path) -> AudioInfo:
    """Return length, rate and channels of a file, from its header if possible. Raises AudioError: missing, unreadable or empty file."""
    with Sound(path) as file:
        return AudioInfo(_samples_at_48k(file.frames, file.sample_rate), file.sample_rate, file.channels)


def downmix(audio: np.ndarray) -> np.ndarray:
    """Mix channels ``(T, C)`` down to ``(T,)``: five to eight channels with the weights of :data:`SURROUND`, others by their mean."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    if audio.shape[1] in SURROUND:
        return audio @ np.array(SURROUND[audio.shape[1]], np.float32)
    return audio.mean(axis=1, dtype=np.float32)


def cancelled(power: np.ndarray, mixed: float) -> int | None:
    """Return the loudest channel of ``power`` (C,) if the power ``mixed`` of the downmix is more than 20 dB below it, else ``None``."""
    loudest = int(np.argmax(power))
    return loudest if len(power) > 1 and mixed < power[loudest] * 10 ** (CANCELLED_DB / 10) else None


def read(path: str | Path, start: int = 0, samples: int | None = None) -> np.ndarray:
    """Load a section of an audio or video file, resampled to 48 kHz and downmixed. If libsndfile can read the file, only the section is
    decoded. If the file is truncated, what is there is used, with a warning that says how much is missing.

    Args:
        start: first sample at 48 kHz, 0 or more.
        samples: length at 48 kHz; ``None``: to the end.

    Returns:
        ``(T,)`` float32; shorter than ``samples``, or even empty, if the file ends earlier.

    Raises AudioError: missing, unreadable or empty file, or values that are not finite.
    """
    with Sound(path) as file:
        rate = file.sample_rate
        total = _samples_at_48k(file.frames, rate)
        stop = total if samples is None else min(start + samples, total)
        if start >= stop:
            return np.zeros(0, np.float32)
        # Read from a position where both rates have a sample, so that the resampled grid matches that of the whole file.
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
        audio = crop_or_pad(audio[offset:], stop - start)  # the last sample may be half a sample past the end of the file
    return np.ascontiguousarray(audio)


def write(path: str | Path, audio: np.ndarray) -> None:
    """Write a signal ``(T,)`` at 48 kHz as 24-bit ``.flac`` (clipped to -1..1) or float32 ``.wav``, atomically.

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
        except soundfile.LibsndfileError as error:  # "System error." if the disk is full
            raise OSError(str(error)) from None

    write_atomic(path, save)


def encode(audio: np.ndarray) -> bytes:
    """Encode a signal ``(T,)`` at 48 kHz, clipped to -1..1, as an MP3 file with variable bit rate, for players. Errors as :func:`write`."""
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
    """Resample a signal ``(T,)`` (soxr HQ, linear phase, no delay) to ``(T * to_rate / from_rate,)`` float32, with rounded length."""
    if from_rate == to_rate:
        return np.asarray(audio, np.float32)
    return soxr.resample(np.asarray(audio, np.float32), from_rate, to_rate, quality="HQ")


def change_speed(audio: np.ndarray, factor: float) -> np.ndarray:
    """Play a signal ``(T,)`` ``factor`` times as fast, ``(ceil(T / factor),)`` float32. Pitch and formants scale with ``factor``.
    Raises AudioError: a factor off the grid 0.5 to 2.0 in steps of 0.01 (other ratios would need filters of gigabytes)."""
    percent = round(100 * factor)
    if not 50 <= percent <= 200 or abs(100 * factor - percent) > 1e-6:
        raise AudioError(f"speed factor is {factor}, expected 0.5 to 2.0 in steps of 0.01")
    if percent == 100:
        return np.asarray(audio, np.float32)
    step, phases, width, filters = _speed_filters(percent)
    padded = np.zeros(len(audio) + 2 * width + step, np.float32)
    padded[width : width + len(audio)] = audio
    # Overlapping windows (L, 2 * width + step), not copied. Each gives one sample of each phase.
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + step)[::step]
    faster = np.empty((len(windows), phases), np.float32)
    for phase, first, taps in filters:
        np.matmul(windows[:, first : first + len(taps)], taps, out=faster[:, phase : phase + taps.shape[1]])
    return faster.reshape(-1)[: -(-phases * len(audio) // step)]


@lru_cache(maxsize=151)
def _speed_filters(percent: int) -> tuple[int, int, int, list[tuple[int, int, np.ndarray]]]:
    """Return step between windows, number of phases, margin, and for each group of phases the first phase, the first tap, and the taps
    (taps, phases): torchaudio's filters, without the 90 % that are 0."""
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
    """Return the cached resampler for a speed in percent. Computing its filter takes as long as resampling 2 s."""
    from torchaudio.transforms import Resample

    divisor = gcd(100, percent)
    return Resample(percent // divisor, 100 // divisor)


def level_db(audio: np.ndarray) -> float:
    """Return the RMS level of a signal in dBFS (a sine of peak 1 has -3.01), at least -120, the level of silent and empty signals."""
    audio = np.asarray(audio)
    power = float(np.mean(np.square(audio, dtype=np.float64))) if audio.size else 0.0
    return max(10 * float(np.log10(power)), FLOOR_DB) if power > 0 else FLOOR_DB


def set_level(audio: np.ndarray, dbfs: float) -> np.ndarray:
    """Scale a signal to an RMS level in dBFS. Silence (-120 dBFS or below) is left unchanged."""
    level = level_db(audio)
    gain = 10 ** ((dbfs - level) / 20) if level > FLOOR_DB else 1.0
    return np.asarray(audio, np.float32) * np.float32(gain)


def crop_or_pad(audio: np.ndarray, samples: int) -> np.ndarray:
    """Crop a signal to its first ``samples`` samples, or pad it with zeros at the end."""
    if len(audio) >= samples:
        return audio[:samples]  # without a copy: every mixture passes here
    return np.pad(audio, (0, samples - len(audio)))
