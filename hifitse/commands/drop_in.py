"""Files that a reader drops into a page or names: -> audio, or one sentence that says what is wrong with them."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hifitse import SAMPLE_RATE, audio
from hifitse.audio import AudioError
from hifitse.decode import SUFFIXES

LONGEST_S = 30.0
"""s: what is used of a longer file, so that an extraction stays a matter of seconds."""
SILENT_DB = -80.0
"""dBFS: below, there is no voice in a file."""
ACCEPTED = ",".join(sorted(SUFFIXES))


def read(path: Path, name: str) -> np.ndarray:
    """The first 30 s of an audio or video file, ``(T,)`` at 48 kHz, its channels mixed down.

    Args:
        path: of the file.
        name: as its owner calls it, for the words of an error.

    Raises:
        AudioError: it is not audio, shorter than 0.1 s, silent, or not finite.
    """
    try:
        signal = audio.read(path, samples=round(LONGEST_S * SAMPLE_RATE))
    except AudioError as error:
        raise AudioError(str(error).replace(repr(str(path)), repr(name))) from None
    if len(signal) < SAMPLE_RATE // 10:
        raise AudioError(f"file {name!r} lasts {len(signal) / SAMPLE_RATE:.3f} s, expected at least 0.1 s")
    if audio.level_db(signal) < SILENT_DB:
        raise AudioError(f"file {name!r} is silent ({audio.level_db(signal):.0f} dBFS), expected a file with a voice in it")
    return signal


def decode(name: str, content: bytes) -> np.ndarray:
    """As :func:`read`, of a file's content."""
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", name)
    with tempfile.TemporaryDirectory(prefix="hifitse-") as folder:
        path = Path(folder) / f"file{found[0] if found else ''}"
        path.write_bytes(content)
        return read(path, name)


def decode_upload(upload: Mapping[str, Any]) -> np.ndarray:
    """As :func:`decode`, of an item of the value of ``ipywidgets.FileUpload``."""
    return decode(str(upload["name"]), bytes(upload["content"]))
