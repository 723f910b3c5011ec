"""Test room responses: alignment, analytically known reverberation times, the synthetic bank and measured rooms."""

import re

import numpy as np
import pytest
import torch
from scipy.fft import rfft
from scipy.signal import fftconvolve

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import sampling, synthetic
from hifitse.data.rendering import block_length, convolve


def decay(t60: float, seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Return noise that decays by 60 dB in ``t60`` seconds and begins with its largest value."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rir = np.random.default_rng(seed).standard_normal(len(time)) * 10 ** (-3 * time / t60)
    rir[0] = 5.0
    return rir.astype(np.float32)


@pytest.fixture(scope="module")
def bank(synthetic_sound):
    return synthetic.make_bank(5, seed=3)


@pytest.mark.parametrize("wanted", [0.15, 0.5, 0.9, 1.5])
def test_t60_of_an_exponential_decay_and_of_what_has_none(wanted):
    assert sampling.t60(decay(wanted)) == pytest.approx(wanted, rel=0.05)
    for rir in (np.eye(1, 1_000, 10)[0], decay(3.0, seconds=0.2)[:50]):
        with pytest.raises(HifitseError, match="25 dB"):
            sampling.t60(rir)


def test_align_puts_the_direct_path_first():
    rir = np.zeros(5_000, np.float32)
    rir[:40] = 0.01  # what precedes the direct path in a measured response
    rir[700], rir[701], rir[900] = -0.5, -0.2, 0.9  # the strongest reflection exceeds the direct path
    aligned = sampling.align(rir)
    assert aligned[0] == 1 and aligned[1] == pytest.approx(0.4) and aligned[200] == pytest.approx(-1.8)
    assert len(aligned) == 5_000 - 700


@pytest.mark.parametrize("bad", [np.zeros(100), np.zeros(0), np.full(100, np.nan), np.ones((2, 100))])
def test_unusable_responses_are_refused(bad):
    for use in (sampling.align, sampling.t60):
        with pytest.raises(HifitseError, match="not usable"):
            use(bad)


def test_bank_responses_begin_with_their_direct_path_and_treble_decays_faster(bank):
    rirs = {path.name: audio.read(path) for path in sorted(bank.glob("*.flac"))}
    assert list(rirs) == [f"room_{room:03d}_{position}.flac" for room in range(5) for position in range(4)]
    for rir in rirs.values():
        assert sampling.direct_path(rir) == 0 and np.abs(rir).max() == pytest.approx(0.9, abs=1e-3)
        assert 0.05 < sampling.t60(rir) < 1.0
        assert np.isfinite(rir).all() and audio.level_db(rir[-48:]) < -60  # faded out
    rir = max(rirs.values(), key=len)
    spectra = [np.abs(np.fft.rfft(rir[start : start + 4_800])) ** 2 for start in (480, 9_600)]
    hertz = np.fft.rfftfreq(4_800, 1 / SAMPLE_RATE)
    low, high = (hertz > 500) & (hertz < 2_000), (hertz > 12_000) & (hertz < 18_000)
    early, late = (10 * np.log10(power[high].mean() / power[low].mean()) for power in spectra)
    assert late < early - 6


def test_halls_reverberate_longer_and_their_talkers_are_farther():
    """A longest T60 of 3 s instead of 0.9 s gives, with the same draws, longer tails and a smaller share of energy within 50 ms."""
    t60s, early_db = {}, {}
    for longest in (0.9, 3.0):
        rirs = [rir for number in range(8) for rir in synthetic.make_room(np.random.default_rng([7, number]), longest)]
        t60s[longest] = [sampling.t60(rir) for rir in rirs]
        energies = [(np.square(rir[:2_400]).sum(), np.square(rir[2_400:]).sum()) for rir in rirs]
        early_db[longest] = [10 * np.log10(first / rest) for first, rest in energies]
    assert 1.5 < max(t60s[3.0]) < 3.0 and np.median(t60s[3.0]) > 2 * np.median(t60s[0.9])
    assert min(early_db[3.0]) < 4 and np.median(early_db[3.0]) < np.median(early_db[0.9]) - 3


def test_a_bank_is_made_once_and_the_same_again(bank, tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_CACHE", str(tmp_path))
    again = synthetic.make_bank(2, seed=3)
    for path in again.glob("*.flac"):  # equal to the first rooms of a larger bank
        np.testing.assert_array_equal(audio.read(path), audio.read(bank / path.name))
    assert synthetic.make_bank(1, seed=3, t60_s=2.0) != synthetic.make_bank(1, seed=3)
    monkeypatch.setattr(synthetic, "make_room", lambda *_: pytest.fail("made twice"))
    assert synthetic.make_bank(2, seed=3) == again


def test_measured_rooms(hifitse_data):
    """Compare with the reverberation times stated with the recordings, which were also measured from -5 to -25 dB."""
    stated = dict(re.findall(r"^(\S+\.flac)\tT60 ([\d.]+) s", (hifitse_data / "rir" / "ATTRIBUTION.txt").read_text(encoding="utf-8"), re.M))
    assert len(stated) >= 10
    for name, seconds in stated.items():
        rir = audio.read(hifitse_data / "rir" / name)
        assert sampling.t60(rir) == pytest.approx(float(seconds), rel=0.1), name
        aligned = sampling.align(rir)
        assert aligned[0] == 1 and sampling.direct_path(aligned) == 0
        assert len(rir) - len(aligned) < 0.01 * SAMPLE_RATE, name  # the files begin 1 ms before the onset


def made(rows: int, samples: int, response: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    dry = rng.standard_normal((rows, samples)).astype(np.float32)
    rirs = rng.standard_normal((rows, response)).astype(np.float32)
    size = block_length(samples, response)
    return dry, rirs, [rfft(rir, size) for rir in rirs]


SIZES = [(1, 1, 1), (3, 4_799, 700), (2, 7, 7), (1, 70_001, 3), (4, 96_000, 50_000), (2, 200_000, 9_000), (2, 192_000, 30_000)]


@pytest.mark.parametrize(("rows", "samples", "response"), SIZES)
def test_convolution_by_kept_spectra_is_a_librarys_cut_to_length(rows, samples, response):
    dry, rirs, spectra = made(rows, samples, response)
    wanted = np.stack([fftconvolve(one.astype(float), other)[:samples] for one, other in zip(dry, rirs, strict=True)])
    wet = convolve(dry, spectra, response)
    assert wet.shape == dry.shape and wet.dtype == np.float32
    assert np.abs(wet - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_the_number_of_threads_changes_no_bit_and_stays_what_it_was():
    """A single long transform that is split among threads would round differently."""
    dry, _, spectra = made(1, 190_000, 40_000)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(convolve(dry, spectra, 40_000))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
