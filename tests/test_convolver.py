"""Rooms by kept spectra, against a library's convolution."""

import numpy as np
import pytest
import torch
from scipy.fft import rfft
from scipy.signal import fftconvolve

from hifitse.data.rooms import Convolver, block_length, blocks, transform_length


def made(rows: int, samples: int, response: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    dry = rng.standard_normal((rows, samples)).astype(np.float32)
    rirs = rng.standard_normal((rows, response)).astype(np.float32)
    size = block_length(samples, response)
    return dry, rirs, [rfft(rir, size) for rir in rirs]


SIZES = [(1, 1, 1), (3, 4_799, 700), (2, 7, 7), (1, 70_001, 3), (4, 96_000, 50_000), (2, 200_000, 9_000), (2, 192_000, 30_000)]


@pytest.mark.parametrize(("rows", "samples", "response"), SIZES)
def test_it_is_the_linear_convolution_cut_to_length(rows, samples, response):
    dry, rirs, spectra = made(rows, samples, response)
    wanted = np.stack([fftconvolve(one.astype(float), other)[:samples] for one, other in zip(dry, rirs, strict=True)])
    wet = Convolver().convolve(dry, spectra, response)
    assert wet.shape == dry.shape and wet.dtype == np.float32
    assert np.abs(wet - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_what_an_earlier_call_left_does_not_come_back():
    convolver = Convolver()
    long, short = made(4, 9_000, 800), made(2, 5_000, 300, seed=1)
    first = convolver.convolve(long[0], long[2], 800)
    before = first.copy()
    assert np.array_equal(convolver.convolve(short[0], short[2], 300), Convolver().convolve(short[0], short[2], 300))
    assert np.array_equal(first, before)  # and a result is not overwritten
    assert np.array_equal(convolver.convolve(long[0], long[2], 800), before)


def test_the_number_of_threads_changes_no_bit_and_stays_what_it_was():
    """A single long transform that is divided among threads rounds differently."""
    dry, _, spectra = made(1, 190_000, 40_000)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(Convolver().convolve(dry, spectra, 40_000))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_blocks_are_taken_where_they_are_shorter_together():
    assert block_length(192_000, 9_000) == 2**16 and blocks(192_000, 9_000, 2**16) == 4
    assert block_length(192_000, 30_000) == 2**17 and block_length(192_000, 90_000) == transform_length(282_000)
    assert blocks(10, 3, block_length(10, 3)) == 1


def test_transforms_are_long_enough_even_and_few():
    lengths = {samples: transform_length(samples) for samples in range(1, 400_000, 997)}
    assert all(length >= samples and length % 2 == 0 for samples, length in lengths.items())
    assert all(length <= 1.5 * samples + 2 for samples, length in lengths.items())
    assert len({length for length in lengths.values() if length > 2**16}) <= 12
