"""Decoded recordings that are kept in memory, up to a stated number of bytes."""

from collections.abc import Callable

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.data.recent import Recent

KEPT_S = 60.0
"""s: of a longer recording only the piece that is asked for is read, whatever memory there is."""
PCM_16 = 2**15
"""Steps from 0 to full scale of a 16 bit recording."""


class Segments:
    """Whole recordings as they were decoded; what was not asked for longest is dropped first. Each process has its own.

    A recording whose samples are all 16 bit numbers is kept as these, in half the memory, and comes back bit for bit.

    Args:
        limit: bytes; 0 keeps nothing. One that is longer than the limit, or than 60 s, is never kept.
    """

    def __init__(self, limit: int = 0) -> None:
        self._recent = Recent(limit)

    @property
    def limit(self) -> int:
        """Bytes that may be kept."""
        return self._recent.limit

    @property
    def bytes(self) -> int:
        """Bytes that are kept."""
        return self._recent.bytes

    def holds(self, samples: int) -> bool:
        """Whether a recording of this length, (T,) float32, could be kept."""
        return 0 < 4 * samples <= self.limit and samples <= KEPT_S * SAMPLE_RATE

    def read(self, key: str, start: int, samples: int, whole: Callable[[], np.ndarray]) -> np.ndarray:
        """Samples ``start`` to ``start + samples``, (T',) float32, of the recording ``whole()``, which is decoded where it is not kept."""
        kept = self._recent.get(key, lambda: _packed(whole()))
        part = kept[start : start + samples]
        return part.astype(np.float32) / np.float32(PCM_16) if part.dtype == np.int16 else part.copy()


def _packed(signal: np.ndarray) -> tuple[np.ndarray, int]:
    """A signal (T,) as 16 bit numbers where that loses nothing, and its bytes with what is around it."""
    scaled = signal * np.float32(PCM_16)  # exact: a power of two
    if len(signal) and scaled.min() >= -PCM_16 and scaled.max() < PCM_16:
        small = scaled.astype(np.int16)
        if np.array_equal(small, scaled) and not np.signbit(scaled[small == 0]).any():
            signal = small
    return signal, signal.nbytes + 400
