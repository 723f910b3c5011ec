import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sounds import hum, peak_hz, pitch, save, small, speech_folder
from test_scene import HARD

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.audio import level_db
from hifitse.data.corpus import CorpusError
from hifitse.data.mixing import Mixer


@pytest.fixture(scope="module")
def mixer(sources):
    return Mixer(small(sources, test_share=0.34), "test")


def test_sir_snr_and_level_are_those_drawn_and_nothing_clips(sources, mixer):
    for index in range(6):
        mixture, meta = mixer.mixture(0, index, HARD), mixer.mixture(0, index, HARD).metadata
        assert meta["sir_db"] == sorted(meta["sir_db"]) and all(-5 <= value <= 5 for value in meta["sir_db"]) and -5 <= meta["snr_db"] <= 15
        ratios = [level_db(mixture.target) - level_db(each) for each in mixture.interferers]
        assert ratios == pytest.approx(meta["sir_db"], abs=0.01)
        assert level_db(mixture.target) - level_db(mixture.noise) == pytest.approx(meta["snr_db"], abs=0.01)
        assert meta["clip_gain_db"] == 0 and -32 <= meta["level_db"] <= -18
        assert level_db(mixture.mix) == pytest.approx(meta["level_db"], abs=0.01)
    loud = Mixer(small(sources, test_share=0.34, level_min_db=-3, level_max_db=-3), "test").mixture(0, 1, HARD)
    assert max(np.abs(part).max() for part in (loud.mix, loud.target, loud.noise, *loud.interferers)) == pytest.approx(0.99, abs=1e-4)
    assert level_db(loud.mix) == pytest.approx(loud.metadata["level_db"], abs=0.01)
    assert loud.metadata["level_db"] == pytest.approx(-3 + loud.metadata["clip_gain_db"]) and loud.metadata["clip_gain_db"] < 0


def test_splits_share_no_speaker_room_or_noise(sources):
    params = small(sources, test_share=0.34)
    seen = [set(), set(), set()]
    for split, names in zip(("train", "valid", "test"), seen, strict=True):
        mixer = Mixer(params, split)
        for index in range(30):
            meta = mixer.mixture(0, index, replace(HARD, noisy_enroll_prob=1.0)).metadata
            names |= {meta["target_speaker"], *meta["interferer_speakers"], meta["room"], meta["noise"]}
            names |= {*meta["enroll_noise"], *meta["enroll_room"]}
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    with pytest.raises(HifitseError, match="split is 'dev'"):
        Mixer(params, "dev")


def test_absent_target_is_the_same_mixture_without_it(mixer):
    for index in range(4):
        there = mixer.mixture(0, index, HARD)
        gone = mixer.mixture(0, index, replace(HARD, absent_prob=1.0))
        assert not gone.target.any() and not gone.metadata["present"]
        assert np.array_equal(gone.interferers, there.interferers) and np.array_equal(gone.noise, there.noise)
        assert np.array_equal(gone.enroll, there.enroll)
        assert gone.metadata["target_speaker"] not in gone.metadata["interferer_speakers"]
        assert np.allclose(gone.mix, there.mix - there.target, atol=1e-6)


def test_wrong_enrolment_is_of_the_loudest_interferer_and_changes_nothing_else(sources):
    mixer = Mixer(small(sources, test_share=0.34), "test")
    for index in range(6):
        plain, swapped = mixer.mixture(0, index, HARD), mixer.mixture(0, index, HARD, wrong_enroll=True)
        assert plain.wrong_enroll is None
        for name in ("mix", "target", "interferers", "noise", "enroll"):
            assert np.array_equal(getattr(plain, name), getattr(swapped, name))
        meta = swapped.metadata
        assert plain.metadata == meta | {name: None for name in meta if name.startswith("wrong_enroll_")}
        wanted = pitch(int(meta["interferer_speakers"][0][1:])) * meta["interferer_speeds"][0]
        assert peak_hz(swapped.wrong_enroll[0]) == pytest.approx(wanted, rel=0.003)
        assert level_db(swapped.interferers[0]) >= level_db(swapped.interferers[1])
        assert not set(meta["wrong_enroll_utterances"]) & set(meta["interferer_utterances"][0].split("+"))
    alone = mixer.mixture(0, 0, replace(HARD, interferers_min=0, interferers_max=0), wrong_enroll=True)
    assert alone.wrong_enroll is None


def test_direct_path_of_the_reverberant_target_is_that_of_the_dry_one(sources):
    values = {"test_share": 0.34, "noise_prob": 0.0}
    wet = Mixer(small(sources, reverb_prob=1.0, **values), "test")
    dry = Mixer(small(sources, reverb_prob=0.0, **values), "test")
    for index in range(4):
        one, other = wet.mixture(0, index, HARD), dry.mixture(0, index, HARD)
        assert one.metadata["room"] and other.metadata["room"] is None
        responses = one.metadata["room_responses"]
        assert len(set(responses)) == 3  # one position per talker
        assert len({name.split("_")[0] for name in responses}) == 1  # all in one room
        # whitened, because the tone's period would hide the lag
        cross = np.fft.rfft(one.target, 2 * SAMPLE_RATE) * np.conj(np.fft.rfft(other.target, 2 * SAMPLE_RATE))
        assert np.argmax(np.fft.irfft(cross / (np.abs(cross) + 1e-12))) == 0
        assert not np.allclose(one.target, other.target, atol=1e-3)


def test_partial_presence(mixer):
    partial = replace(HARD, seconds=3.0, active_from_s=1.0, active_to_s=2.0)
    mixture = mixer.mixture(0, 0, partial)
    there = slice(SAMPLE_RATE, 2 * SAMPLE_RATE)
    assert not mixture.target[: there.start].any() and not mixture.target[there.stop :].any()
    begin = mixture.target[there.start : there.start + 10]
    assert np.abs(begin).max() < 0.05 * np.abs(mixture.target).max()  # the target fades in
    for each, sir in zip(mixture.interferers, mixture.metadata["sir_db"], strict=True):
        assert level_db(mixture.target[there]) - level_db(each) == pytest.approx(sir, abs=0.01)  # within its stretch


def test_short_utterances_are_joined(sources, tmp_path):
    corpus = speech_folder(tmp_path / "short", seconds=0.4)
    mixture = Mixer(small(sources | {"corpus": str(corpus)}, reverb_prob=0.0), "train").mixture(0, 0, HARD)
    assert len(mixture.metadata["target_utterance"].split("+")) >= 2
    frames = mixture.target[: 50 * 960].reshape(50, 960).std(1)
    assert np.mean(frames > 0.05 * frames.max()) > 0.5  # the gaps are short
    assert 1 <= np.sum(frames < 0.01 * frames.max()) <= 30


def test_silent_and_broken_files_are_passed_over_and_counted(sources, tmp_path):
    corpus = speech_folder(tmp_path)
    for speaker in range(9):
        save(corpus / f"s{speaker:02d}/u0.flac", np.zeros(72000))
        whole = (corpus / f"s{speaker:02d}/u1.flac").read_bytes()
        (corpus / f"s{speaker:02d}/u1.flac").write_bytes(whole[:500])
    mixer = Mixer(small(sources | {"corpus": str(corpus)}), "train")
    for index in range(20):
        mixture = mixer.mixture(0, index, HARD)
        assert not {"u0", "u1"} & {mixture.metadata["target_utterance"], *mixture.metadata["enroll_utterances"]}
        assert mixture.target.any() and np.isfinite(mixture.mix).all()


@pytest.mark.parametrize("kind", ["long and broken", "mp3"])
def test_a_mixture_does_not_depend_on_those_before(kind, sources, tmp_path):
    for speaker, number in itertools.product(range(7), range(3)):
        broken = kind != "mp3" and number == 2
        sound = hum(pitch(speaker), 21 if broken else 1.5, number)
        sound[:: 1000 if broken else len(sound)] = np.nan if broken else 0
        (tmp_path / f"s{speaker}").mkdir(exist_ok=True)
        options = {"format": "MP3"} if kind == "mp3" else {"subtype": "FLOAT"}
        soundfile.write(tmp_path / f"s{speaker}/u{number}.{'mp3' if kind == 'mp3' else 'wav'}", sound, SAMPLE_RATE, **options)
    params = small(sources | {"corpus": str(tmp_path)}, reverb_prob=0.0)
    mixer = Mixer(params, "train")
    for index in range(4):
        assert np.array_equal(mixer.mixture(0, index, HARD).mix, Mixer(params, "train").mixture(0, index, HARD).mix)


@settings(max_examples=12, deadline=None)
@given(floor_db=st.floats(-110, -60), noise_db=st.floats(-60, -10), seconds=st.floats(0.5, 5.5), at=st.sampled_from(["first", "last"]))
@example(floor_db=-95.0, noise_db=-25.0, seconds=2.0, at="last")  # mostly dither
@example(floor_db=-70.0, noise_db=-20.0, seconds=1.0, at="first")
def test_a_crop_of_noise_is_no_dither_and_no_pause_by_the_level_of_its_own_file(sources, floor_db, noise_db, seconds, at):
    """Such a crop would be amplified to the level of noise. A faint file counts as noise down to -80 dBFS."""
    rng = np.random.default_rng(0)
    floor, noise = (10 ** (db / 20) * rng.standard_normal(6 * SAMPLE_RATE) for db in (floor_db, max(noise_db, floor_db)))
    samples = round(seconds * SAMPLE_RATE)
    floor[:samples] = noise[:samples]
    sound = floor[:: 1 if at == "first" else -1]
    with tempfile.TemporaryDirectory() as folder:
        for name in "abcd":
            save(Path(folder) / f"{name}.wav", sound, subtype="FLOAT")
        acoustics = Mixer(small(sources | {"noise": folder}), "train").acoustics
        starts = [acoustics.noise(np.random.default_rng(seed), SAMPLE_RATE).start for seed in range(20)]
    crops = np.array([level_db(sound[start : start + SAMPLE_RATE]) for start in starts])
    assert crops.min() > -80.1 and crops.min() > min(-50, level_db(sound) - 40) - 0.5


def test_a_folder_of_nothing_but_dither_is_refused(sources, tmp_path):
    for name in "abcd":
        save(tmp_path / f"{name}.wav", 2e-5 * np.random.default_rng(0).standard_normal(96_000), subtype="PCM_24")
    with pytest.raises(CorpusError, match="gave no sound in 100 draws: every piece drawn was silent"):
        Mixer(small(sources | {"noise": str(tmp_path)}), "train").acoustics.noise(np.random.default_rng(0), SAMPLE_RATE)


def test_without_noise_and_target_there_is_an_interferer(sources):
    mixer = Mixer(small(sources, noise_prob=0.0), "train")
    mixture = mixer.mixture(0, 0, replace(HARD, absent_prob=1.0, interferers_min=0, interferers_max=0))
    assert len(mixture.interferers) == 1 and mixture.mix.any() and mixture.metadata["snr_db"] is None
    assert not mixture.noise.any()
    few = Mixer(small(sources), "valid").mixture(0, 0, replace(HARD, interferers_min=3, interferers_max=3))
    assert few.metadata["n_interferers"] == 1  # there are fewer speakers than asked for


def test_enrolments_are_noisy_as_asked_the_wrong_one_as_often_as_the_right_one_and_drawn_apart(sources):
    mixer = Mixer(small(sources, reverb_prob=0.0), "train")
    heard = set()
    for index in range(12):
        meta = mixer.mixture(0, index, HARD, wrong_enroll=True).metadata
        right, wrong = meta["enroll_snr_db"][0], meta["wrong_enroll_snr_db"][0]
        assert (right is not None) == (wrong is not None) == meta["noisy_enroll"]
        assert right is None or (right != wrong and 0 <= min(right, wrong) <= max(right, wrong) <= 20)
        heard.add(right is not None)
    assert heard == {True, False}
    clean, noisy = (mixer.mixture(0, 0, replace(HARD, noisy_enroll_prob=share), wrong_enroll=True) for share in (0.0, 1.0))
    assert np.array_equal(clean.mix, noisy.mix) and clean.metadata["enroll_snr_db"] == [None]
    for side in ("enroll", "wrong_enroll"):
        assert clean.metadata[f"{side}_utterances"] == noisy.metadata[f"{side}_utterances"]
        one, other = (getattr(mixture, side)[0].astype(np.float64) for mixture in (clean, noisy))
        scale = one @ other / (one @ one)  # the level is drawn after the noise, so the clean enrolment is fitted to the noisy one
        found = level_db(scale * one) - level_db(other - scale * one)
        assert found == pytest.approx(noisy.metadata[f"{side}_snr_db"][0], abs=0.3)
        assert -32.01 <= level_db(other) <= -19.99
