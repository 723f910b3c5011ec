"""Convolution of talkers with room responses whose Fourier transforms are kept."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.fft import next_fast_len

from hifitse.machine import threads

STEP = 32_768
"""Samples: long transforms are multiples of this, so that responses of like length share one and powers of 2, the fastest, are near."""


def transform_length(samples: int) -> int:
    """An even length of Fourier transform, ``samples`` or more, that is fast."""
    step = STEP if samples >= 2 * STEP else 2
    return step * int(next_fast_len(-(-samples // step), real=True))


COSTS = {2**15: 0.58, 2**16: 0.65, 2**17: 0.74}
"""Time of a transform of this length per sample, relative to that of one long transform: short ones stay in the processor's cache."""


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

    What it computes in is kept from call to call, some 15 MB for three talkers of 4 s: memory that is taken again each time must be
    cleared by the system, which took a third as long as the transforms.
    """

    def __init__(self) -> None:
        self._real, self._complex = torch.empty(0), torch.empty(0, dtype=torch.complex64)

    def convolve(self, dry: np.ndarray, spectra: Sequence[np.ndarray], response: int) -> np.ndarray:
        """Each row convolved with its response, what rings on beyond the end cut: (S, T) float32.

        Args:
            dry: (S, T) float32.
            spectra: of each of the S responses the ``rfft``, (N // 2 + 1,) complex64, of one even N above ``response``.
            response: samples of the longest response.
        """
        rows, samples = dry.shape
        bins = len(spectra[0])
        size = 2 * (bins - 1)
        count = blocks(samples, response, size)
        step = -(-samples // count)
        padded, spectrum = self._buffers(rows, count, size, bins)
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

    def _buffers(self, rows: int, count: int, size: int, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, count, size) real and (rows, count, bins) complex numbers to compute in, of any values."""
        if len(self._real) < rows * count * size:
            self._real = torch.empty(rows * count * size)
        if len(self._complex) < rows * count * bins:
            self._complex = torch.empty(rows * count * bins, dtype=torch.complex64)
        return self._real[: rows * count * size].view(rows, count, size), self._complex[: rows * count * bins].view(rows, count, bins)
