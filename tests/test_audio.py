"""Test reading, writing, resampling and levels with tones of known frequency and level, and with broken files."""

from math import ceil
from unittest import mock

import numpy as np
import pytest
import soundfile
import soxr
from sounds import noise, peak_hz, tone

from hifitse import SAMPLE_RATE, audio
from hifitse.audio import AudioError


def test_a_stretch_reads_no_more_than_it_needs(tmp_path):
    path, file = tmp_path / "long.flac", soundfile.SoundFile
    soundfile.write(path, noise(20 * 44_100), 44_100)
    with mock.patch.object(file, "read", autospec=True, side_effect=file.read) as read:
        audio.read(path, 10 * SAMPLE_RATE, SAMPLE_RATE)
    assert 44_100 <= sum(call.args[1] for call in read.call_args_list) < 1.3 * 44_100


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    signal, path = noise(2_000), tmp_path / "bad.wav"
    signal[1_500] = value
    soundfile.write(path, signal, SAMPLE_RATE, subtype="FLOAT")
    for use, *given in ((audio.read, path), (audio.write, tmp_path / "out.wav", signal), (audio.encode, signal)):
        with pytest.raises(AudioError, match="NaN or infinite"):
            use(*given)
    assert len(audio.read(path, 0, 1_000)) == 1_000  # only the samples that are read count


def test_resampling_keeps_a_tone_and_stops_what_would_fold():
    low, high = tone(5_000), tone(20_000)
    down = audio.resample(low + high, SAMPLE_RATE, 16_000)
    assert len(down) == 16_000
    wanted = tone(5_000, rate=16_000)[500:-500]
    assert audio.level_db(down[500:-500] - wanted) < audio.level_db(wanted) - 60  # 20 kHz would alias to 4 kHz
    np.testing.assert_allclose(audio.resample(low, 48_000, 44_100), soxr.resample(low, 48_000, 44_100), atol=1e-6)
    np.testing.assert_array_equal(audio.resample(low, 48_000, 48_000), low)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.97, 1.0, 1.1, 1.37, 2.0])
def test_speed_moves_a_tone_and_the_length_by_its_factor(factor):
    signal = tone(1_000)
    fast = audio.change_speed(signal, factor)
    assert len(fast) == ceil(len(signal) / factor)
    middle = fast[2_000:-2_000]
    assert peak_hz(middle) == pytest.approx(1_000 * factor, abs=1)
    assert audio.level_db(middle) == pytest.approx(audio.level_db(signal), abs=0.1)


@pytest.mark.parametrize("factor", [0.955, 0.49, 2.01, 1.0001, 0.0, -1.0])
def test_speeds_off_the_grid_are_refused(factor):
    with pytest.raises(AudioError, match=rf"speed factor is {factor}, expected 0.5 to 2.0 in steps of 0.01"):
        audio.change_speed(noise(100), factor)


def test_level_of_a_full_sine_is_minus_3_db():
    assert audio.level_db(tone(1_000, peak=1.0)) == pytest.approx(-3.0103, abs=1e-3)
    assert audio.level_db(np.zeros(100)) == -120
    assert audio.level_db(np.zeros(0)) == -120
    assert audio.level_db(np.full(100, 1e-9)) == -120
    np.testing.assert_array_equal(audio.set_level(np.zeros(10), -20), np.zeros(10))
