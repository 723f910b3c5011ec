"""48 kHz mono audio: reading, writing, resampling, levels.

Inside the library a signal is a float32 array ``(T,)`` at 48 kHz. Files of other rates are resampled when they are
read, and channels are averaged. Positions and lengths are always counted in samples at 48 kHz.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hifitse import SAMPLE_RATE, HifitseError

MARGIN_S = 0.05
"""s: what is read beyond each side of a stretch that is to be resampled, longer than the resampler's filter."""

RATES_HZ = (1_000, 1_000_000)
"""Hz: a header that names a rate outside is damaged; resampling what it says would fill the memory."""

FLOOR_DB = -120.0
"""dBFS: the level that silence is given."""

SUBTYPES = {".flac": ("FLAC", "PCM_24"), ".wav": ("WAV", "FLOAT")}
PLAYER_FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
MP3_OPTIONS = {"bitrate_mode": "VARIABLE", "compression_level": 0.2}
"""About 14 kB a second, and what lies below 18 kHz is kept; libsndfile's default cuts at 16."""


class AudioError(HifitseError):
    """An audio file or signal cannot be used."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    samples: int
    """Length at 48 kHz, whatever the file's own rate."""
    sample_rate: int
    """Hz: the file's own rate."""
    channels: int


def _open(path: str | Path) -> soundfile.SoundFile:
    path = Path(path)
    if not os.path.isfile(path):  # False, unlike Path.is_file, for a name that is too long for the file system
        reason = "is a folder" if os.path.isdir(path) else "does not exist"
        raise AudioError(f"audio file {str(path)!r} {reason}, allowed is a readable audio file")
    try:
        file = soundfile.SoundFile(os.fsencode(path))  # bytes, for soundfile refuses names that are not UTF-8
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a suffix .raw, which has no header
        reason = getattr(error, "error_string", error)
        raise AudioError(f"file {str(path)!r} is not readable as audio ({reason}), allowed are wav, flac, ogg and mp3") from None
    if file.frames <= 0 or not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
        file.close()
        said = f"holds {file.frames} samples at {file.samplerate} Hz"
        raise AudioError(f"audio file {str(path)!r} {said}, allowed is at least 1 at {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    return file


def _samples_at_48k(frames: int, sample_rate: int) -> int:
    return round(frames * SAMPLE_RATE / sample_rate)


def info(path: str | Path) -> AudioInfo:
    """Length, rate and channels of an audio file, from its header alone.

    Raises:
        AudioError: missing, unreadable or empty file.
    """
    with _open(path) as file:
        return AudioInfo(_samples_at_48k(file.frames, file.samplerate), file.samplerate, file.channels)


def read(path: str | Path, start: int = 0, samples: int | None = None) -> np.ndarray:
    """A stretch of an audio file, at 48 kHz, its channels averaged.

    Seeks to the stretch; no more of the file is decoded than the stretch and the resampler's margin. A wav or ogg file that was cut
    short is as long as what is left of it; one of another format is refused where the stretch is not all there.

    Args:
        path: an audio file that libsndfile reads (wav, flac, ogg, mp3 ...).
        start: first sample, counted at 48 kHz, 0 or more.
        samples: length, counted at 48 kHz; ``None``: to the end.

    Returns:
        ``(T,)`` float32; shorter than ``samples``, down to nothing, where the file ends.

    Raises:
        AudioError: missing, unreadable, truncated or empty file, values that are not finite, or ``start`` or
            ``samples`` below 0.
    """
    if start < 0 or (samples is not None and samples < 0):
        raise AudioError(f"start is {start} and samples is {samples}, allowed are 0 or more")
    with _open(path) as file:
        rate = file.samplerate
        total = _samples_at_48k(file.frames, rate)
        stop = total if samples is None else min(start + samples, total)
        if start >= stop:
            return np.zeros(0, np.float32)
        # The stretch read begins where both rates have a sample, so that the resampled grid is that of the whole file.
        step = rate // gcd(rate, SAMPLE_RATE)
        margin = 0 if rate == SAMPLE_RATE else round(MARGIN_S * rate)
        first = max(0, (start * rate // SAMPLE_RATE - margin) // step * step)
        last = min(file.frames, -(-stop * rate // SAMPLE_RATE) + margin)
        try:
            file.seek(first)
            audio = file.read(last - first, dtype="float32", always_2d=True)  # (T, channels)
        except (soundfile.LibsndfileError, MemoryError) as error:  # MemoryError: a damaged header that promises days of sound
            raise AudioError(f"audio file {str(path)!r} cannot be decoded at sample {first} ({error}), allowed is a whole file") from None
    if len(audio) < last - first:
        raise AudioError(f"audio file {str(path)!r} ends after {first + len(audio)} of its {last} samples, allowed is a whole file")
    if not np.isfinite(audio).all():
        raise AudioError(f"audio file {str(path)!r} holds NaN or infinite values, allowed are finite ones")
    audio = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1, dtype=np.float32)  # (T,)
    if rate != SAMPLE_RATE:
        audio = resample(audio, rate, SAMPLE_RATE)
        offset = start - first * SAMPLE_RATE // rate
        audio = crop_or_pad(audio[offset:], stop - start)  # the last sample may lie half a sample past the file's end
    return np.ascontiguousarray(audio)


def write(path: str | Path, audio: np.ndarray) -> None:
    """Write a signal as 24 bit ``.flac`` (values are clipped to -1..1) or float32 ``.wav``, whole or not at all.

    Args:
        path: ends in ``.flac`` or ``.wav``; missing folders are made.
        audio: ``(T,)`` at 48 kHz.

    Raises:
        AudioError: another suffix, a signal that is empty, not one-dimensional or not finite, or a folder or disk that cannot be
            written; what stood at ``path`` is untouched then.
    """
    path = Path(path)
    if path.suffix.lower() not in SUBTYPES:
        raise AudioError(f"cannot write {path.name!r}, allowed are the suffixes {' and '.join(SUBTYPES)}")
    file_format, subtype = SUBTYPES[path.suffix.lower()]
    _write_atomic(path, _checked(audio), file_format, subtype)


def _write_atomic(path: Path, audio: np.ndarray, file_format: str, subtype: str) -> None:
    name = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        soundfile.write(os.fsencode(name), audio, SAMPLE_RATE, format=file_format, subtype=subtype)
        os.chmod(name, 0o644)  # mkstemp gives 600
        os.replace(name, path)
    except (OSError, soundfile.LibsndfileError) as error:  # libsndfile says "System error." where the disk is full
        raise AudioError(f"cannot write {str(path)!r}: {error}; allowed is a place with room; what was there is untouched") from error
    finally:
        if name is not None:
            with contextlib.suppress(FileNotFoundError):  # it is at its place
                os.unlink(name)


def encode(audio: np.ndarray, format: str = "mp3") -> bytes:
    """A signal as the bytes of a file, for players.

    Args:
        audio: ``(T,)`` at 48 kHz; values are clipped to -1..1.
        format: ``"mp3"`` (variable rate), ``"flac"`` (16 bit) or ``"ogg"`` (Vorbis).

    Raises:
        AudioError: another format, or a signal that is empty, not one-dimensional or not finite.
    """
    if format not in PLAYER_FORMATS:
        raise AudioError(f"audio format is {format!r}, allowed are {', '.join(PLAYER_FORMATS)}")
    file_format, subtype = PLAYER_FORMATS[format]
    memory = io.BytesIO()
    options = MP3_OPTIONS if format == "mp3" else {}
    with soundfile.SoundFile(memory, "w", SAMPLE_RATE, 1, format=file_format, subtype=subtype, **options) as file:
        clipped = np.clip(_checked(audio), -1, 1)
        for start in range(0, len(clipped), SAMPLE_RATE):  # libsndfile's Vorbis encoder overflows its stack on long writes
            file.write(clipped[start : start + SAMPLE_RATE])
    return memory.getvalue()


def _checked(audio: np.ndarray) -> np.ndarray:
    audio = np.asarray(audio, dtype=np.float32)
    if audio.ndim != 1 or audio.size == 0:
        raise AudioError(f"audio has the shape {audio.shape}, allowed is (T,) with T of at least 1")
    if not np.isfinite(audio).all():
        raise AudioError("audio holds NaN or infinite values, allowed are finite ones")
    return audio


def resample(audio: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """A signal at another rate (soxr, its HQ setting, linear phase, no delay).

    Args:
        audio: ``(T,)``.
        from_rate: Hz, above 0.
        to_rate: Hz, above 0.

    Returns:
        ``(T * to_rate / from_rate,)`` float32, the length rounded.

    Raises:
        AudioError: a rate of 0 or below.
    """
    if not (from_rate > 0 and to_rate > 0):
        raise AudioError(f"rates are {from_rate} and {to_rate} Hz, allowed are rates above 0")
    if from_rate == to_rate:
        return np.asarray(audio, np.float32)
    return soxr.resample(np.asarray(audio, np.float32), from_rate, to_rate, quality="HQ")


def change_speed(audio: np.ndarray, factor: float) -> np.ndarray:
    """A signal played ``factor`` times as fast: pitch and formants rise by it, the length shrinks by it.

    Args:
        audio: ``(T,)``.
        factor: 0.5 to 2.0 in steps of 0.01. Any other ratio would cost a resampling filter of its own, of gigabytes
            at an unlucky one.

    Returns:
        ``(ceil(T / factor),)`` float32.

    Raises:
        AudioError: a factor off that grid.
    """
    percent = round(100 * factor)
    if not 50 <= percent <= 200 or abs(100 * factor - percent) > 1e-6:
        raise AudioError(f"speed factor is {factor}, allowed are 0.5 to 2.0 in steps of 0.01")
    if percent == 100:
        return np.asarray(audio, np.float32)
    import torch  # slow to import, and needed here alone

    signal = torch.from_numpy(np.array(audio, np.float32))  # a copy: torch dislikes read-only arrays
    return speed_changer(percent)(signal).numpy()


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
