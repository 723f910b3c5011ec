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


class Convolver:
    """Convolves rows with responses; not for several threads at once.

    What it computes in is kept from call to call, some 15 MB for three talkers of 4 s: memory that is taken anew each time must be
    cleared by the system, which took a third as long as the transforms.
    """

    def __init__(self) -> None:
        self._real, self._complex = torch.empty(0), torch.empty(0, dtype=torch.complex64)

    def convolve(self, dry: np.ndarray, spectra: Sequence[np.ndarray]) -> np.ndarray:
        """Each row convolved with its response, what rings on beyond the end cut: (S, T) float32.

        Args:
            dry: (S, T) float32.
            spectra: of each of the S responses the ``rfft``, (N // 2 + 1,) complex64, of one even N: at least T and the longest response
                together, or the end would come back at the beginning.
        """
        rows, samples = dry.shape
        bins = len(spectra[0])
        size = 2 * (bins - 1)
        padded, spectrum = self._buffers(rows, size, bins)
        padded[:, :samples] = torch.from_numpy(dry)
        padded[:, samples:] = 0
        with threads(1):  # a transform divided among threads rounds differently: mixtures would depend on the process's threads
            torch.fft.rfft(padded, out=spectrum)
            for row, response in zip(spectrum, spectra, strict=True):
                row.mul_(torch.from_numpy(response))
            torch.fft.irfft(spectrum, size, out=padded)
        return padded[:, :samples].numpy().copy()

    def _buffers(self, rows: int, size: int, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, size) real and (rows, bins) complex numbers to compute in, of any values."""
        if len(self._real) < rows * size:
            self._real = torch.empty(rows * size)
        if len(self._complex) < rows * bins:
            self._complex = torch.empty(rows * bins, dtype=torch.complex64)
        return self._real[: rows * size].view(rows, size), self._complex[: rows * bins].view(rows, bins)
