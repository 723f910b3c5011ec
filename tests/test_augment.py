import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from sounds import small

from hifitse import SAMPLE_RATE
from hifitse.audio import change_speed, level_db
from hifitse.data.augment import CHANGES, CUTOFFS_HZ, PITCHES, changed, draw_change, restore_formants, specaug_mask
from hifitse.data.corpus import CorpusError
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions, evaluation_conditions

PLAIN = Conditions("test", 1.0, 0.0, 1, 2, -5.0, 15.0)
PARTS = ("mix", "target", "interferers", "noise")


@pytest.fixture(scope="module")
def voice():
    """Return 1.5 s of pink noise that swells and fades, as loud as the talkers' segments, with peaks far above 1."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(72000))
    spectrum /= np.maximum(np.fft.rfftfreq(72000, 1 / SAMPLE_RATE), 100) ** 0.5
    noise = np.fft.irfft(spectrum) * (1.1 + np.sin(np.arange(72000) / SAMPLE_RATE * 2 * np.pi * 3))
    return (3 * noise / np.abs(noise).max()).astype(np.float32)


def made(name, signal, rng):
    return changed(signal, draw_change(rng, name))


def gains_db(after, before, edges):
    """Return the change of power in dB, one value per band."""
    powers = [np.abs(np.fft.rfft(signal)) ** 2 for signal in (after, before)]
    hertz = np.fft.rfftfreq(len(before), 1 / SAMPLE_RATE)
    bands = [(hertz >= low) & (hertz < high) for low, high in zip(edges, edges[1:], strict=False)]
    return [10 * np.log10(powers[0][band].sum() / powers[1][band].sum()) for band in bands]


def lag(after, before):
    cross = np.fft.irfft(np.fft.rfft(after, 2 * len(before)) * np.conj(np.fft.rfft(before, 2 * len(before))))
    return (int(np.argmax(cross)) + len(before)) % (2 * len(before)) - len(before)


@pytest.mark.parametrize("name", CHANGES)
def test_length_type_time_and_sound_stay_and_the_generator_given_alone_decides(name, voice):
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    before, made_of = voice.copy(), [made(name, voice, np.random.default_rng(seed)) for seed in range(4)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # noqa: NPY002
    for each in made_of:
        assert each.shape == voice.shape and each.dtype == np.float32 and np.isfinite(each).all()
        assert abs(lag(each, voice)) <= (0 if name == "codec" else 40)  # a filter shifts the signal by less than 1 ms
        assert not np.allclose(each, voice, atol=0.01) and abs(level_db(each) - level_db(voice)) < 15
        assert np.abs(each).max() > 1.1  # nothing was clipped to -1..1
    random.seed(6)
    assert np.array_equal(made(name, voice, np.random.default_rng(1)), made_of[1])
    assert not np.array_equal(made_of[1], made_of[2]) and np.array_equal(voice, before)


def test_band_limits_keep_the_middle_and_devices_lose_the_bass(voice):
    cut = set()
    for seed in range(12):
        limited, device = (made(name, voice, np.random.default_rng(seed)) for name in ("band", "device"))
        middle, treble, bass = (gains_db(limited, voice, edges)[0] for edges in ((600, 2500), (20000, 24000), (0, 25)))
        assert abs(middle) < 1.5 and treble < -40 and bass < -6
        cut.add(sum(gains_db(limited, voice, (0.95 * edge, edge))[0] > -6 for edge in CUTOFFS_HZ))
        assert gains_db(device, voice, (20, 60, 500))[0] < max(gains_db(device, voice, (400, 800, 1600, 3200, 6400))) - 12
    assert len(cut) >= 3  # several cutoffs were drawn


def test_codec_is_lossy_and_in_time_at_any_length(voice):
    for samples in (72000, 71999, 48017, 5000):
        changed = made("codec", voice[:samples], np.random.default_rng(samples))
        assert len(changed) == samples and abs(lag(changed, voice[:samples])) == 0
    ratios = [level_db(voice) - level_db(made("codec", voice, np.random.default_rng(seed)) - voice) for seed in range(6)]
    assert min(ratios) > 3 and max(ratios) < 40


def test_silence_stays_silent_and_each_change_is_drawn(voice):
    silent, rng = np.zeros(9600, np.float32), np.random.default_rng(0)
    assert all(not made(name, silent, rng).any() for name in CHANGES)
    assert {draw_change(rng).name for _ in range(60)} == set(CHANGES)
    assert draw_change(np.random.default_rng(3)) == draw_change(np.random.default_rng(3))


def test_augmentation_changes_the_enrolments_alone(sources):
    mixer = Mixer(small(sources, enrollments=2), "train")
    names = set()
    for index in range(8):
        plain = mixer.mixture(0, index, PLAIN, wrong_enroll=True)
        changed = mixer.mixture(0, index, replace(PLAIN, enroll_augment_prob=1.0), wrong_enroll=True)
        assert all(np.array_equal(getattr(plain, part), getattr(changed, part)) for part in PARTS)
        free = ("enroll_changed", "wrong_enroll_changed", "enroll_level_db", "wrong_enroll_level_db")
        assert {k: v for k, v in plain.metadata.items() if k not in free} == {k: v for k, v in changed.metadata.items() if k not in free}
        assert plain.metadata["enroll_changed"] == plain.metadata["wrong_enroll_changed"] == [None, None]
        for side in ("enroll", "wrong_enroll"):
            names |= set(changed.metadata[f"{side}_changed"])
            rows = zip(getattr(changed, side), getattr(plain, side), changed.metadata[f"{side}_level_db"], strict=True)
            for one, other, level in rows:
                assert not np.allclose(one, other, atol=1e-3)
                assert level_db(one) == pytest.approx(level, abs=0.01)
                assert np.abs(one).max() <= 0.9901
    assert names == set(CHANGES)


def test_enrolments_are_asked_for_in_one_way_and_nothing_else_changes(sources):
    values = {"enrollments": 2, "noisy_enroll_prob": [0.6], "phase_starts": [0.0], "absent_prob": [0.0]}
    ways = {}
    for how in ("drawn", "eq", "noisy", "reverberant", "band", "codec", "pitch"):
        params = small(sources, eval_enroll=how, **values)
        mixer = Mixer(params, "test")
        conditions = evaluation_conditions(params)["test"]
        assert {each.enroll_as for each in conditions} == {how}
        ways[how] = [mixer.mixture(42, index, each, wrong_enroll=True) for index, each in enumerate(conditions[:12])]
    assert len({mixture.metadata["noisy_enroll"] for mixture in ways["drawn"]}) == 2
    for how, mixtures in ways.items():
        for mixture, drawn in zip(mixtures, ways["drawn"], strict=True):
            meta = mixture.metadata
            assert all(np.array_equal(getattr(mixture, part), getattr(drawn, part)) for part in PARTS)
            assert meta["enroll_as"] == how
            assert meta["enroll_utterances"] == drawn.metadata["enroll_utterances"] or how == "pitch"  # takes more or fewer of them
            for side in ("enroll", "wrong_enroll"):
                noisy, rooms, changed = ([*meta[f"{side}_{key}"]] for key in ("snr_db", "room", "changed"))
                if how not in ("drawn", "pitch"):
                    assert [value is not None for value in noisy] == [how == "noisy"] * 2
                    assert [value is not None for value in rooms] == [how == "reverberant"] * 2
                    assert changed == [how if how in CHANGES else None] * 2
                if how != "drawn":
                    assert not np.array_equal(getattr(mixture, side), getattr(drawn, side))


def test_noise_and_rooms_are_loaded_where_the_asked_enrolment_needs_them(sources):
    dry = {"noise_prob": 0.0, "reverb_prob": 0.0, "noisy_enroll_prob": [0.0]}
    plain = Mixer(small(sources, **dry), "test")
    assert plain.acoustics.noises is None and plain.acoustics.rooms is None
    for how, loaded, other in (("noisy", "noises", "rooms"), ("reverberant", "rooms", "noises")):
        mixer, training = (Mixer(small(sources, eval_enroll=how, **dry), side) for side in ("test", "train"))
        assert getattr(mixer.acoustics, loaded) is not None and getattr(mixer.acoustics, other) is None
        assert getattr(training.acoustics, loaded) is None  # training does not need it
        asked, drawn = (maker.mixture(0, 0, replace(PLAIN, enroll_as=how if maker is mixer else "drawn")) for maker in (mixer, plain))
        assert all(np.array_equal(getattr(asked, part), getattr(drawn, part)) for part in PARTS)
        assert asked.metadata["room"] is None and asked.metadata["snr_db"] is None
        with pytest.raises(CorpusError, match="needed but none"):
            plain.mixture(0, 0, replace(PLAIN, enroll_as=how))


def vowel(pitch_hz, formants_hz):
    """Return 2 s of a vowel, pulses filtered by resonances, (96000,) float32."""
    sound = np.diff(np.floor(np.arange(2 * SAMPLE_RATE) * pitch_hz / SAMPLE_RATE), prepend=0)
    for hertz in formants_hz:
        radius = np.exp(-np.pi * 80 / SAMPLE_RATE)
        sound = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * hertz / SAMPLE_RATE), radius**2], sound)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def envelope_db(sound):
    """Return the highest level in dB near each frequency from 200 to 4000 Hz, in steps of 50 Hz."""
    spectrum = 20 * np.log10(np.abs(np.fft.rfft(sound[20_000:60_000] * np.hanning(40_000))) + 1e-9)
    hertz = np.fft.rfftfreq(40_000, 1 / SAMPLE_RATE)
    return np.array([spectrum[np.abs(hertz - centre) < 130].max() for centre in range(200, 4000, 50)])


@pytest.mark.parametrize("factor", [0.8, 1.25])
@pytest.mark.parametrize("formants_hz", [(700, 1220, 2600), (300, 2300, 3000)])
def test_restored_formants_are_where_they_had_been_and_the_pitch_is_not(factor, formants_hz):
    sound = vowel(120.0, formants_hz)
    faster = change_speed(sound, factor)
    restored = restore_formants(torch.from_numpy(faster)[None], [factor])[0].numpy()
    assert restored.shape == faster.shape and restored.dtype == np.float32
    wrong, left = (np.std(envelope_db(each) - envelope_db(sound)) for each in (faster, restored))
    assert left < 0.4 * wrong
    size = 40_000
    cepstrum = np.fft.irfft(np.log(np.abs(np.fft.rfft(restored[20_000 : 20_000 + size] * np.hanning(size))) + 1e-6))
    period = 200 + np.argmax(cepstrum[200:800])  # 60 to 240 Hz
    assert SAMPLE_RATE / period == pytest.approx(120 * factor, rel=0.02)
    assert torch.allclose(restore_formants(torch.from_numpy(sound)[None], [1.0])[0], torch.from_numpy(sound), atol=1e-5)


def test_training_enrolments_have_another_pitch_as_often_as_asked_and_nothing_else_changes(sources):
    mixers = [Mixer(small(sources, pitch_prob=prob, speed_min=0.5), "train") for prob in (0.0, 0.5)]
    pitches = []
    for index in range(40):
        plain, other = (mixer.mixture(3, index, PLAIN, wrong_enroll=True) for mixer in mixers)
        assert all(np.array_equal(getattr(plain, part), getattr(other, part)) for part in PARTS)
        for side in ("enroll", "wrong_enroll"):
            (factor,) = other.metadata[f"{side}_pitch"]
            assert plain.metadata[f"{side}_pitch"] == [1.0]
            assert np.array_equal(getattr(plain, side), getattr(other, side)) == (factor == 1)
            pitches.append(factor)
    changed = [factor for factor in pitches if factor != 1]
    assert 25 < len(changed) < 55 and min(changed) < 0.9 and max(changed) > 1.1
    assert all(PITCHES[0] / 100 - 0.02 < factor < PITCHES[1] / 100 + 0.02 for factor in changed)
    tested = Mixer(mixers[1].params, "test").mixture(3, 0, PLAIN)
    assert tested.metadata["enroll_pitch"] == [1.0]


def runs(hidden):
    """Return the number of runs of True in (L,)."""
    return int(hidden[0]) + int((hidden[1:] & ~hidden[:-1]).sum())


@given(st.floats(0, 0.5), st.integers(0, 4), st.integers(0, 2**63 - 1))
def test_ones_and_zeros_in_whole_bands_and_stretches(largest, count, seed):
    mask = specaug_mask((3, 40, 30), largest, count, seed)
    assert mask.shape == (3, 40, 30) and mask.dtype == torch.float32 and not (mask * (1 - mask)).any()
    for item in mask.bool():
        bins, frames = ~item.any(dim=1), ~item.any(dim=0)
        assert torch.equal(~item, bins[:, None] | frames[None, :])  # only whole rows and columns
        if item.any():
            assert runs(bins) <= count and runs(frames) <= count
            assert bins.sum() <= count * round(largest * 40) and frames.sum() <= count * round(largest * 30)


def test_masks_are_a_pure_function_that_leaves_the_global_state_alone_and_items_and_seeds_differ():
    shape, state = (16, 120, 90), torch.get_rng_state()
    mask = specaug_mask(shape, 0.3, 2, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(10)
    assert torch.equal(specaug_mask(shape, 0.3, 2, 7), mask) and not torch.equal(specaug_mask(shape, 0.3, 2, 8), mask)
    assert len({item.numpy().tobytes() for item in mask}) == 16
    assert specaug_mask(shape, 0.0, 2, 0).all() and specaug_mask(shape, 0.3, 0, 0).all() and specaug_mask((1, 3, 3), 0.1, 2, 0).all()
