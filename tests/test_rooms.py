"""Room responses: alignment, reverberation times known analytically, the synthetic bank and measured rooms."""

import re

import numpy as np
import pytest
import torch
from scipy.fft import rfft
from scipy.signal import fftconvolve

from hifitse import SAMPLE_RATE, audio
from hifitse.data import rooms
from hifitse.data.rooms import Convolver, RoomError, block_length, blocks, transform_length


def decay(t60: float, seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Noise whose level falls by 60 dB in ``t60`` seconds, beginning with its largest value."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rir = np.random.default_rng(seed).standard_normal(len(time)) * 10 ** (-3 * time / t60)
    rir[0] = 5.0
    return rir.astype(np.float32)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield rooms.make_bank(5, seed=3)


@pytest.mark.parametrize("wanted", [0.15, 0.5, 0.9, 1.5])
def test_t60_of_an_exponential_decay(wanted):
    assert rooms.t60(decay(wanted)) == pytest.approx(wanted, rel=0.05)


def test_t60_does_not_depend_on_gain_or_delay():
    rir = decay(0.4)
    delayed = np.concatenate([np.zeros(3_000, np.float32), -0.01 * rir])
    assert rooms.t60(delayed) == pytest.approx(rooms.t60(rir), rel=1e-3)


def test_t60_refuses_what_has_no_decay():
    single = np.zeros(1_000, np.float32)
    single[10] = 1
    for rir in (single, decay(3.0, seconds=0.2)[:50]):
        with pytest.raises(RoomError, match="25 dB"):
            rooms.t60(rir)


def test_align_puts_the_direct_path_first():
    rir = np.zeros(5_000, np.float32)
    rir[:40] = 0.01  # what comes before the direct path in a measured response
    rir[700], rir[701], rir[900] = -0.5, -0.2, 0.9  # the strongest reflection is above the direct path
    aligned = rooms.align(rir)
    assert aligned[0] == 1 and aligned[1] == pytest.approx(0.4) and aligned[200] == pytest.approx(-1.8)
    assert len(aligned) == 5_000 - 700


def test_an_aligned_response_does_not_delay():
    dry = np.random.default_rng(0).standard_normal(4_800)
    rir = np.concatenate([np.zeros(123), decay(0.2, 0.3) * np.r_[1, np.full(14_399, 0.05)]])
    wet = np.convolve(dry, rooms.align(rir))[: len(dry)]
    lags = np.correlate(wet, dry, "full")
    assert np.argmax(np.abs(lags)) == len(dry) - 1  # lag 0


@pytest.mark.parametrize("bad", [np.zeros(100), np.zeros(0), np.full(100, np.nan), np.ones((2, 100))])
def test_unusable_responses_are_refused(bad):
    for use in (rooms.align, rooms.t60):
        with pytest.raises(RoomError, match="not usable"):
            use(bad)


def test_bank_has_rooms_with_several_positions(bank):
    files = sorted(path.name for path in bank.glob("*.flac"))
    assert files == [f"room_{room:03d}_{position}.flac" for room in range(5) for position in range(4)]


def test_bank_responses_begin_with_their_direct_path(bank):
    for path in bank.glob("*.flac"):
        rir = audio.read(path)
        assert audio.info(path).sample_rate == SAMPLE_RATE
        assert rooms.direct_path(rir) == 0
        assert np.abs(rir).max() == pytest.approx(0.9, abs=1e-3)
        assert 0.05 < rooms.t60(rir) < 1.0
        assert np.isfinite(rir).all() and audio.level_db(rir[-48:]) < -60  # faded out


def test_positions_of_a_room_share_its_reverberation(bank):
    times = np.array([[rooms.t60(audio.read(bank / f"room_{room:03d}_{position}.flac")) for position in range(4)] for room in range(5)])
    assert times.mean(axis=1).std() > 2 * times.std(axis=1).mean()


def test_treble_decays_faster(bank):
    rir = max((audio.read(path) for path in bank.glob("*.flac")), key=len)
    spectra = [np.abs(np.fft.rfft(rir[start : start + 4_800])) ** 2 for start in (480, 9_600)]
    hertz = np.fft.rfftfreq(4_800, 1 / SAMPLE_RATE)
    low, high = (hertz > 500) & (hertz < 2_000), (hertz > 12_000) & (hertz < 18_000)
    early, late = (10 * np.log10(power[high].mean() / power[low].mean()) for power in spectra)
    assert late < early - 6


def test_a_bank_is_made_once_and_the_same_again(bank, tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_CACHE", str(tmp_path))
    again = rooms.make_bank(2, seed=3)
    for path in again.glob("*.flac"):  # the first rooms of a larger bank
        np.testing.assert_array_equal(audio.read(path), audio.read(bank / path.name))
    monkeypatch.setattr(rooms, "make_room", lambda _rng: pytest.fail("made twice"))
    assert rooms.make_bank(2, seed=3) == again


def test_measured_rooms(hifitse_data):
    """The reverberation times stated with the recordings, measured from -5 to -25 dB as well."""
    stated = dict(re.findall(r"^(\S+\.flac)\tT60 ([\d.]+) s", (hifitse_data / "rir" / "ATTRIBUTION.txt").read_text(encoding="utf-8"), re.M))
    assert len(stated) >= 10
    for name, seconds in stated.items():
        rir = audio.read(hifitse_data / "rir" / name)
        assert rooms.t60(rir) == pytest.approx(float(seconds), rel=0.1), name
        aligned = rooms.align(rir)
        assert aligned[0] == 1 and rooms.direct_path(aligned) == 0
        assert len(rir) - len(aligned) < 0.01 * SAMPLE_RATE, name  # the files begin 1 ms before the onset


# ---- convolution by kept spectra, against a library's


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
