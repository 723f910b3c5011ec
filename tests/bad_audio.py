"""Bad audio files and what comes of them: one row a case, run by test_robust.py."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from bad_case import Case, on_full_disk, raw
from sounds import hum

from hifitse import SAMPLE_RATE, audio
from hifitse.audio import AudioError
from hifitse.files import CheckpointError

TONE = hum(440, 0.5, 0).astype(np.float32)


def sound(name: str, signal: np.ndarray = TONE, rate: int = SAMPLE_RATE, **form: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        soundfile.write(folder / name, signal, rate, **form)
        return folder / name

    return make


def close(to: np.ndarray, by: float) -> Callable[[np.ndarray], bool]:
    return lambda got: got.shape == to.shape and float(np.abs(got - to).max()) <= by


def missing(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name


def old_file(name: str) -> Callable[[Path], Path]:
    """A file of an earlier time, which a failed write must leave alone."""
    return sound(name, TONE[:100])


LONG = np.tile(TONE, 4)
saved = partial(audio.write, audio=TONE)
saved_full = on_full_disk(partial(audio.write, audio=LONG), 9_000)
AUDIO = [
    Case("missing", missing("none.wav"), audio.read, AudioError, ("none.wav", "does not exist")),
    Case("a folder", lambda folder: folder, audio.read, AudioError, ("is a folder", "readable audio file")),
    Case("8 kHz is resampled", sound("a.wav", TONE[::6], 8_000), audio.read, check=lambda got: got.shape == TONE.shape),
    Case("192 kHz is resampled", sound("a.wav", np.repeat(TONE, 4), 192_000), audio.read, check=close(TONE, 0.05)),
    Case("4 channels are averaged", sound("a.wav", np.outer(TONE, np.arange(4) / 1.5)), audio.read, check=close(TONE, 1e-4)),
    Case("silence has the lowest level", sound("a.wav", 0 * TONE), lambda path: audio.level_db(audio.read(path)), check=(-120.0).__eq__),
    Case("longest name", missing("a" * 251 + ".wav"), saved),
    Case("name too long to write", missing("a" * 300 + ".wav"), saved, CheckpointError, ("cannot write",)),
    Case("folder is a file", lambda f: raw("x", b"1")(f) / "a.wav", saved, CheckpointError, ("cannot write", "a.wav")),
    Case("disk full, wav", old_file("a.wav"), saved_full, CheckpointError, ("a.wav", "untouched")),
    Case("disk full, flac", old_file("a.flac"), saved_full, CheckpointError, ("a.flac", "untouched")),
]
