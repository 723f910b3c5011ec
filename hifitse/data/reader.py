"""Recordings, decoded once where memory allows: below one root for the CPU, or in pages on a device."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE, audio
from hifitse.data.manifest import Utterance
from hifitse.data.scene import File

KEPT_S = 60.0  # of a longer recording only the piece that is asked for is read, whatever memory there is
PCM_16 = 2**15  # steps from 0 to full scale of a 16 bit recording
PAGE = 8_192  # samples: recordings need no stretch of memory in one piece
FINE = 2**16  # steps of the second layer in one of the first
THREADS = 8  # recordings that are decoded at a time
Recording = Utterance | File


class Recent:
    """What was computed last, up to a number of bytes; each process has its own."""

    def __init__(self, limit: int = 64 * 2**20) -> None:
        self.limit = limit
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value kept under ``key``, or that of ``make()``, which returns it with its size in bytes."""
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
    """Stretches of recordings, (T,) float32 at 48 kHz. Whole ones are kept as they were decoded, those of 16 bit in half the memory.

    Args:
        root: folder that paths are relative to.
        limit: bytes; 0 keeps nothing. A recording longer than the limit, or than 60 s, is never kept.
        whole_s: s: a file of another rate and up to this length is always resampled whole, a longer one always only where it is read: the
            last bit of a sample depends on it."""

    def __init__(self, root: Path, limit: int = 0, whole_s: float = 0.0) -> None:
        self.root, self.whole_s = root, whole_s
        self._kept = Recent(limit)
        self._fresh: dict[str, tuple[int, float, np.ndarray]] = {}  # by path: from which sample to which, and the sound

    @property
    def bytes(self) -> int:
        return self._kept.bytes

    def holds(self, samples: int) -> bool:
        """Whether a recording of this length, as float32, could be kept."""
        return 0 < 4 * samples <= self._kept.limit and samples <= KEPT_S * SAMPLE_RATE

    def read(self, file: Recording, start: int, samples: int) -> np.ndarray:
        """Samples ``start`` to ``start + samples`` of a recording, fewer where it ends; see :func:`hifitse.audio.read`."""
        first, last, known = self._fresh.get(file.path, (0, 0, None))
        if known is not None and first <= start and start + samples <= last:
            return known[start - first : start - first + samples]
        own_rate = file.sample_rate == SAMPLE_RATE
        whole = file.samples <= self.whole_s * SAMPLE_RATE
        if self.holds(file.samples) and (own_rate or whole):
            kept = self._kept.get(file.path, partial(self._packed, file))[start : start + samples]
            return kept.astype(np.float32) / np.float32(PCM_16) if kept.dtype == np.int16 else kept.copy()
        if whole and not own_rate:
            return self.whole(file)[start : start + samples]
        return audio.read(self.root / file.path, start, samples)

    def whole(self, file: Recording) -> np.ndarray:
        return audio.read(self.root / file.path)

    def _packed(self, file: Recording) -> tuple[np.ndarray, int]:
        """A recording (T,) as it is kept, and its bytes with what is around it."""
        signal = self.whole(file)
        kept = signal if (small := as_int16(signal)) is None else small
        return kept, kept.nbytes + 400

    def look(self, file: Recording, start: int, samples: int) -> np.ndarray:
        """As :meth:`read`, and what is read is at hand until :meth:`forget`: it is then not decoded twice to be looked at and heard."""
        sound = self.read(file, start, samples)
        # Of a resampled file a part read alone may differ in the last bit: then it is always read alone, looked at before or not.
        if file.sample_rate == SAMPLE_RATE:
            self._fresh[file.path] = start, inf if start + samples >= file.samples else start + samples, sound
        return sound

    def forget(self) -> None:
        self._fresh.clear()


def as_int16(signal: np.ndarray) -> np.ndarray | None:
    """A signal (T,) in steps of 16 bit, where all of it is."""
    scaled = signal * np.float32(PCM_16)  # exact: a power of two
    inside = len(signal) and scaled.min() >= -PCM_16 and scaled.max() < PCM_16
    return small if inside and np.array_equal(small := scaled.astype(np.int16), scaled) else None


# ---- on a device


class Part(NamedTuple):
    """Samples ``start`` to ``start + samples`` of a recording, times ``gain``, at sample ``at`` of a row; ``load`` decodes it whole."""

    key: tuple
    start: int
    samples: int
    at: int
    gain: float
    load: Callable[[], np.ndarray] | None = None  # not needed where it is kept


class _Kept(NamedTuple):
    samples: int
    pages: np.ndarray  # (layers, P)
    scale: float  # of a step of the first layer


class DeviceStore:
    """Recordings on a device, up to ``limit`` bytes; what one call needs is kept whatever it takes.
    One whose samples are all 16 bit numbers is kept as these. Another is kept in two layers of them, to 2^-31 of its peak.
    """

    def __init__(self, device: torch.device | str, limit: int) -> None:
        self.device, self.limit = torch.device(device), limit
        self._pool = torch.zeros(0, PAGE, dtype=torch.int16, device=self.device)
        self._free: list[int] = []
        self._kept: OrderedDict[tuple, _Kept] = OrderedDict()

    @property
    def bytes(self) -> int:
        return 2 * self._pool.numel()

    def require(self, wanted: Mapping[tuple, Callable[[], np.ndarray]]) -> None:
        """Have these recordings at hand until the next call; each value decodes one, (T,) float32."""
        for key in wanted.keys() & self._kept.keys():
            self._kept.move_to_end(key)
        if not (missing := [key for key in wanted if key not in self._kept]):
            return
        with ThreadPoolExecutor(THREADS) as pool:  # decoding lets go of Python's lock
            sounds = list(pool.map(lambda key: _layers(wanted[key]()), missing))
        places = self._take(sum(layers.size // PAGE for _, layers, _ in sounds), wanted)
        data = np.concatenate([layers.reshape(-1, PAGE) for _, layers, _ in sounds])
        self._pool[torch.from_numpy(places).to(self.device)] = torch.from_numpy(data).to(self.device)
        for key, (samples, layers, scale) in zip(missing, sounds, strict=True):
            count = layers.size // PAGE
            self._kept[key] = _Kept(samples, places[:count].reshape(len(layers), -1), scale)
            places = places[count:]

    def _take(self, count: int, wanted: Mapping[tuple, object]) -> np.ndarray:
        """Numbers of free pages: of what is not wanted now the oldest is dropped, or the pool grows."""
        most = max(0, self.limit // (2 * PAGE) - len(self._pool))
        if count > len(self._free) and most:
            self._grow(min(most, max(count, len(self._pool) // 2)))
        for key in [key for key in self._kept if key not in wanted] if count > len(self._free) else ():
            self._free += self._kept.pop(key).pages.ravel().tolist()
            if count <= len(self._free):
                break
        if count > len(self._free):
            self._grow(count - len(self._free))
        taken, self._free = self._free[:count], self._free[count:]
        return np.array(taken, np.int64)

    def _grow(self, pages: int) -> None:
        self._free += range(len(self._pool), len(self._pool) + pages)
        self._pool = torch.cat([self._pool, self._pool.new_zeros(pages, PAGE)])

    def rows(self, rows: Sequence[Sequence[Part]], samples: int) -> Tensor:
        """Rows (R, T) float32 made of parts of recordings, which do not overlap; 0 elsewhere."""
        self.require({part.key: part.load for row in rows for part in row})
        parts = [(number, part, self._kept[part.key]) for number, row in enumerate(rows) for part in sorted(row, key=lambda part: part.at)]
        out = self._layer(parts, len(rows), samples, 0)
        fine = [each for each in parts if len(each[2].pages) > 1]
        return out + self._layer(fine, len(rows), samples, 1) if fine else out

    def _layer(self, parts: Sequence[tuple[int, Part, _Kept]], count: int, samples: int, layer: int) -> Tensor:
        """One gather: runs of consecutive samples of the pool, with the place of the first and a gain for each, 0 between parts."""
        numbers = [(row, p.at, p.start, min(p.samples, kept.samples - p.start, samples - p.at)) for row, p, kept in parts]
        numbers = np.array([*numbers, (count, 0, 0, 0)], np.int64)  # the last stands for the end
        row, at, start, length = numbers.T
        length = length.clip(min=0)
        first, last = start // PAGE, -(-(start + length) // PAGE)
        pages = [kept.pages[layer][a:b] for (_, _, kept), a, b in zip(parts, first.tolist(), last.tolist(), strict=False)]
        of = np.repeat(np.arange(len(parts)), last[:-1] - first[:-1])  # the part that a page is of
        page = first[of] + np.arange(len(of)) - np.searchsorted(of, of)
        begin, end = np.maximum(page * PAGE, start[of]), np.minimum((page + 1) * PAGE, (start + length)[of])
        target = row * samples + at  # where a part begins in all rows, one after the other
        # before the pages of each part stands the gap that it leaves
        gaps = target - np.concatenate([[0], (target + length)[:-1]])
        place = np.concatenate([*pages, np.zeros(0, np.int64)]) * PAGE + begin % PAGE - (target[of] + begin - start[of])
        scale = np.array([p.gain * kept.scale / (FINE if layer else 1) for _, p, kept in parts], np.float32)
        before = np.searchsorted(of, np.arange(len(numbers)))
        lengths, shifts, gains = (
            np.insert(values, before, gap) for values, gap in ((end - begin, gaps), (place, 0), (scale[of], np.float32(0)))
        )
        total = count * samples
        runs = torch.from_numpy(lengths).to(self.device)
        index = torch.int32 if self._pool.numel() < 2**31 > total else torch.int64
        places = torch.repeat_interleave(torch.from_numpy(shifts).to(self.device, index), runs, output_size=total)
        places += torch.arange(total, device=self.device, dtype=index)
        places.clamp_(0, max(0, self._pool.numel() - 1))
        sound = self._pool.view(-1).index_select(0, places).float()
        return (sound * torch.repeat_interleave(torch.from_numpy(gains).to(self.device), runs, output_size=total)).view(count, samples)


def _layers(signal: np.ndarray) -> tuple[int, np.ndarray, float]:
    """A signal's length, its layers (1 or 2, T') int16 with zeros up to a whole page, and the step of the first."""
    small, scale = as_int16(signal), 1 / PCM_16
    if small is not None:
        layers = small[None]
    else:
        scale = max(float(np.abs(signal).max(initial=0)), 1e-20) / (PCM_16 - 1)
        fine = signal.astype(np.float64) / scale
        coarse = np.rint(fine)
        layers = np.stack([coarse, np.clip(np.rint((fine - coarse) * FINE), -PCM_16, PCM_16 - 1)]).astype(np.int16)
    padded = -(-max(1, len(signal)) // PAGE) * PAGE
    return len(signal), np.pad(layers, ((0, 0), (0, padded - len(signal)))), scale
