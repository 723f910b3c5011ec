"""Recordings below one root, decoded once if memory allows."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from hifitse import SAMPLE_RATE, audio
from hifitse.data.manifest import Utterance
from hifitse.data.scene import File

KEPT_S = 60.0  # of a longer recording only the requested piece is read, however much memory there is
PCM_16 = 2**15  # steps from 0 to full scale of a 16-bit recording
Recording = Utterance | File


class Recent:
    """A least-recently-used cache, limited in bytes; each process has its own."""

    def __init__(self, limit: int = 64 * 2**20) -> None:
        self.limit = limit
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """Return the value kept under ``key``, or else that of ``make()``, which returns it with its size in bytes."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value, size = make()
        self._kept[key] = (value, size)
        self.bytes += size
        while self.bytes > self.limit:
            self.bytes -= self._kept.popitem(last=False)[1][1]
        return value


class Reader:
    """Reads stretches of recordings, (T,) float32 at 48 kHz. Whole recordings are kept as decoded, 16-bit ones in half the memory.

    Args:
        root: folder to which paths are relative.
        limit: bytes to keep; 0 keeps nothing. A recording longer than the limit or than 60 s is never kept.
        whole_s: s: a file of another rate, or an MP3, is always decoded whole up to this length; if longer, always only the stretch read.
            The last bit of a sample depends on it."""

    def __init__(self, root: Path, limit: int = 0, whole_s: float = 0.0) -> None:
        self.root, self.whole_s = root, whole_s
        self._kept = Recent(limit)
        self._fresh: dict[str, tuple[int, float, np.ndarray]] = {}  # by path: first sample, end, and the sound

    @property
    def bytes(self) -> int:
        return self._kept.bytes

    def holds(self, samples: int) -> bool:
        """Return whether a recording of this length, as float32, could be kept."""
        return 0 < 4 * samples <= self._kept.limit and samples <= KEPT_S * SAMPLE_RATE

    def read(self, file: Recording, start: int, samples: int) -> np.ndarray:
        """Read samples ``start`` to ``start + samples`` of a recording, fewer at its end; see :func:`hifitse.audio.read`."""
        first, last, known = self._fresh.get(file.path, (0, 0, None))
        if known is not None and first <= start and start + samples <= last:
            return known[start - first : start - first + samples]
        exact, whole = _exact(file), file.samples <= self.whole_s * SAMPLE_RATE
        if self.holds(file.samples) and (exact or whole):
            kept = self._kept.get(file.path, partial(self._packed, file))[start : start + samples]
            return kept.astype(np.float32) / np.float32(PCM_16) if kept.dtype == np.int16 else kept.copy()
        if whole and not exact:
            return self.whole(file)[start : start + samples]
        return audio.read(self.root / file.path, start, samples)

    def whole(self, file: Recording) -> np.ndarray:
        return audio.read(self.root / file.path)

    def _packed(self, file: Recording) -> tuple[np.ndarray, int]:
        """Return a recording (T,) in the form in which it is kept, and its size in bytes including overhead."""
        signal = self.whole(file)
        kept = signal if (small := as_int16(signal)) is None else small
        return kept, kept.nbytes + 400

    def look(self, file: Recording, start: int, samples: int) -> np.ndarray:
        """Like :meth:`read`, but keep the result until :meth:`forget`, so that sound that is analysed and then used is decoded once."""
        sound = self.read(file, start, samples)
        if _exact(file):  # others are read alone, looked at before or not
            self._fresh[file.path] = start, inf if start + samples >= file.samples else start + samples, sound
        return sound

    def forget(self) -> None:
        self._fresh.clear()


def _exact(file: Recording) -> bool:
    """Return whether a stretch is to the last bit the same read alone or with the whole file, unlike that of resampled files and MP3s."""
    return file.sample_rate == SAMPLE_RATE and ".mp" not in file.path.lower()


def as_int16(signal: np.ndarray) -> np.ndarray | None:
    """Return a signal (T,) as 16-bit integers if that is exact, else ``None``."""
    scaled = signal * np.float32(PCM_16)  # exact: a power of two
    inside = len(signal) and scaled.min() >= -PCM_16 and scaled.max() < PCM_16
    return small if inside and np.array_equal(small := scaled.astype(np.int16), scaled) else None
