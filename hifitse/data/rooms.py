"""Room responses: a synthetic bank, what is needed to use any response, synthetic or measured, and the convolution with them.

A synthetic response is a shoebox room by the image-source method (``pyroomacoustics``) for the early part, with a
diffuse tail of decaying noise behind it, and with treble that decays faster, as air and furniture make it.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.signal import istft, stft

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.files import made_once
from hifitse.machine import threads

VERSION = 1  # raise it when the same arguments give other responses
POSITIONS = 4  # in each room, so that target and interferers can share one
SOUND_SPEED = 343.0  # m/s, as pyroomacoustics has it
IMAGE_ORDER = 25  # reflections of an image source at most; the tail takes over where higher ones would begin to lack
STEP = 32_768  # long transforms are multiples of this: responses of like length share one, and powers of 2, the fastest, are near
COSTS = {2**15: 0.58, 2**16: 0.65, 2**17: 0.74}  # time per sample relative to one long transform: short ones stay in the cache


class RoomError(HifitseError):
    """A room response that is silent, not finite, not one-dimensional or, for its T60, does not decay."""


def _checked(rir: np.ndarray) -> np.ndarray:
    rir = np.asarray(rir, np.float32)
    if rir.ndim != 1 or not np.isfinite(rir).all() or not rir.any():
        raise RoomError(f"room response of shape {rir.shape} is not usable, expected (T,) with finite values, not all 0")
    return rir


def direct_path(rir: np.ndarray) -> int:
    """Index of the direct path: the first peak that exceeds a third of the response's largest value."""
    size = np.abs(_checked(rir))
    first = int(np.argmax(size > size.max() / 3))
    return first + int(np.argmax(np.diff(size[first:], append=0) <= 0))  # to the top of the slope


def align(rir: np.ndarray) -> np.ndarray:
    """A response (T,) cut so that its direct path is sample 0, and scaled so that it is 1: (T',) float32.

    A signal convolved with it, cut to its own length, stays in time with the dry signal.
    """
    rir = _checked(rir)
    start = direct_path(rir)
    return rir[start:] / rir[start]


def t60(rir: np.ndarray) -> float:
    """Reverberation time of a response (T,) in s: three times the decay from -5 to -25 dB (T20) of Schroeder's backward integral."""
    rir = _checked(rir).astype(np.float64)
    energy = np.cumsum(np.square(rir[direct_path(rir) :])[::-1])[::-1]
    decay_db = 10 * np.log10(np.maximum(energy / energy[0], 1e-12))
    used = np.flatnonzero((decay_db <= -5) & (decay_db >= -25))
    if len(used) < 10 or decay_db[-1] > -25:
        raise RoomError(f"room response decays by {-decay_db[-1]:.0f} dB only or at once, expected a gradual decay by 25 dB or more")
    slope = np.polyfit(used / SAMPLE_RATE, decay_db[used], 1)[0]  # dB a second
    return float(-60 / slope)


def make_bank(rooms: int, seed: int) -> Path:
    """Folder of synthetic responses: ``room_<room>_<position>.flac`` (24 bit), 4 positions in each room.

    Rooms have 12 to 250 m3 and a T60 of 0.15 to 0.9 s, less in the treble; the source is 0.4 to 2.5 m from the microphone. Each response
    starts with its direct path; its largest value is 0.9. Made at the first call, then found in the cache.
    """
    return made_once(f"rooms-v{VERSION}-{rooms}-seed{seed}", partial(_make_bank, rooms, seed))


def _make_bank(rooms: int, seed: int, folder: Path) -> None:
    for room in range(rooms):
        for position, rir in enumerate(make_room(np.random.default_rng([seed, room, 6]))):
            audio.write(folder / f"room_{room:03d}_{position}.flac", rir * (0.9 / np.abs(rir).max()))


def make_room(rng: np.random.Generator) -> list[np.ndarray]:
    """Responses of ``POSITIONS`` sources to one microphone in a random room, each ``(T,)``, beginning with the direct path."""
    import pyroomacoustics  # slow to import, and needed only to make a bank

    size = np.array([rng.uniform(2.4, 9), rng.uniform(2.2, 7), rng.uniform(2.2, 4)])  # m
    wanted_t60 = rng.uniform(0.15, 0.9)
    try:
        absorption, order = pyroomacoustics.inverse_sabine(wanted_t60, size)
    except ValueError:  # even bare absorbers would leave a longer decay in so large a room
        absorption, order = 0.9, IMAGE_ORDER
    walls = pyroomacoustics.Material(absorption)
    room = pyroomacoustics.ShoeBox(size, fs=SAMPLE_RATE, materials=walls, max_order=min(order, IMAGE_ORDER))
    microphone = rng.uniform(0.3, 0.7, 3) * size
    room.add_microphone(microphone)
    for _ in range(POSITIONS):
        room.add_source(_source(rng, size, microphone))
    room.compute_rir()
    complete = IMAGE_ORDER * size.min() / SOUND_SPEED  # s: until here no image of a higher order would arrive
    return [_finish(align(rir), wanted_t60, complete, rng) for rir in room.rir[0]]


def _source(rng: np.random.Generator, size: np.ndarray, microphone: np.ndarray) -> np.ndarray:
    """A place 0.4 to 2.5 m from the microphone and 0.3 m or more from the walls.

    The distance is a whole number of samples: of a fractional delay's ringing on both sides ``align`` would cut off half.
    """
    step = SOUND_SPEED / SAMPLE_RATE
    while True:
        direction = rng.standard_normal(3)
        distance = round(rng.uniform(0.4, 2.5) / step) * step
        place = microphone + direction / np.linalg.norm(direction) * distance
        if (place > 0.3).all() and (place < size - 0.3).all():
            return place


def _finish(rir: np.ndarray, wanted_t60: float, complete: float, rng: np.random.Generator) -> np.ndarray:
    """Add the diffuse tail, damp the treble, and cut where 60 dB are gone."""
    length = round((wanted_t60 + 0.1) * SAMPLE_RATE)
    seconds = np.arange(length) / SAMPLE_RATE
    early = audio.crop_or_pad(rir, length).astype(np.float64)
    change = round(0.8 * complete * SAMPLE_RATE)
    if change < length:
        before = slice(change // 2, change)
        noise = rng.standard_normal(length) * np.exp(-np.log(1000) * seconds / wanted_t60)
        noise *= np.sqrt(np.square(early[before]).sum() / np.square(noise[before]).sum())
        fade = np.clip((seconds - seconds[change // 2]) / (seconds[change] - seconds[change // 2]), 0, 1)  # over the second half
        early = early * np.sqrt(1 - fade) + noise * np.sqrt(fade)
    hertz, times, spectrum = stft(early, SAMPLE_RATE, nperseg=256)  # (F, L)
    extra_db = 60 * (hertz[:, None] / 8000) ** 1.5 * times  # 60 dB/s at 8 kHz: air and soft furniture
    damped = istft(spectrum * 10 ** (-extra_db / 20), SAMPLE_RATE, nperseg=256)[1][:length]
    damped[-480:] *= np.linspace(1, 0, 480)
    return damped.astype(np.float32)


def transform_length(samples: int) -> int:
    """An even length of Fourier transform, ``samples`` or more, that is fast."""
    step = STEP if samples >= 2 * STEP else 2
    return step * int(next_fast_len(-(-samples // step), real=True))


def block_length(samples: int, response: int) -> int:
    """The length of transform with which ``samples`` samples are convolved with a response in the shortest time: in one, or in blocks."""
    whole = transform_length(samples + response)
    costs = {whole: float(whole)}
    costs |= {size: cost * size * blocks(samples, response, size) for size, cost in COSTS.items() if response < size < whole}
    return min(costs, key=costs.__getitem__)


def blocks(samples: int, response: int, size: int) -> int:
    """Blocks of ``size - response`` samples that a signal takes."""
    return -(-samples // (size - response))


class Convolver:
    """Convolves rows with responses; not for several threads at once.

    It keeps the memory that it computes in: the system took a third as long as the transforms to clear it each time.
    """

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def convolve(self, dry: np.ndarray, spectra: Sequence[np.ndarray], response: int) -> np.ndarray:
        """Each row convolved with its response, what rings on beyond the end cut: (S, T) -> (S, T) float32.

        ``spectra`` has the ``rfft`` of each, (N // 2 + 1,) complex64, of one even N above ``response``, the samples of the longest.
        """
        (rows, samples), bins = dry.shape, len(spectra[0])
        size = 2 * (bins - 1)
        count = blocks(samples, response, size)
        step = -(-samples // count)
        padded = self._of("real", (rows, count, size), torch.float32)
        spectrum = self._of("complex", (rows, count, bins), torch.complex64)
        padded.zero_()
        for number in range(count):
            part = torch.from_numpy(dry[:, number * step : (number + 1) * step])
            padded[:, number, : part.shape[1]] = part
        with threads(1):  # a transform divided among threads rounds differently: mixtures would depend on the process's threads
            torch.fft.rfft(padded, out=spectrum)
            for row, each in zip(spectrum, spectra, strict=True):
                row.mul_(torch.from_numpy(each))
            torch.fft.irfft(spectrum, size, out=padded)
        wet = padded[:, 0, :samples].numpy().copy() if count == 1 else np.zeros((rows, samples), np.float32)
        for number in range(count if count > 1 else 0):
            first = number * step
            wet[:, first : first + size] += padded[:, number, : samples - first].numpy()
        return wet

    def _of(self, name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
        """Memory of a shape, with any values in it."""
        needed = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < needed:
            self._kept[name] = torch.empty(needed, dtype=dtype)
        return self._kept[name][:needed].view(shape)
