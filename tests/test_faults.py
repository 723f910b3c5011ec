"""Test the faults of the plan's baseline and what training hides from the network: each switch changes what it should, and nothing else."""

import numpy as np
import pytest
import torch
from sounds import peak_hz, pitch, save, small

from hifitse import SAMPLE_RATE
from hifitse.data.augment import RATES, hide_bands, low_pass
from hifitse.data.dataset import Shared
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions
from hifitse.losses.formulas import absent_floor, audible
from hifitse.losses.objective import Objective
from hifitse.params import resolve
from hifitse.training.validation import RIGHT, validation_mixtures

ONE = Conditions("test", 1.0, 0.0, 1, 1, -5.0, 15.0, 0.0)


def test_target_and_enrolments_have_one_speed_unless_enrolments_keep_their_own_and_the_mixture_stays(sources):
    values, speeds = {"reverb_prob": 0.0, "enrollments": 2}, set()
    right, wrong = (Mixer(small(sources, **values, enroll_speed=kind), "train") for kind in ("matched", "own"))
    for index in range(12):
        one, other = (mixer.mixture(0, index, ONE, wrong_enroll=True) for mixer in (right, wrong))
        for name in ("mix", "target", "interferers", "noise"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
        meta = one.metadata
        speeds.add(speed := meta["target_speed"])
        target, interferer = (pitch(int(name[1:])) for name in (meta["target_speaker"], *meta["interferer_speakers"]))
        assert peak_hz(one.target) == pytest.approx(target * speed, rel=0.003)
        assert peak_hz(one.interferers[0]) == pytest.approx(interferer * meta["interferer_speeds"][0], rel=0.003)
        for matched, own in zip(one.enroll, other.enroll, strict=True):
            assert peak_hz(matched) == pytest.approx(target * speed, rel=0.003) and peak_hz(own) == pytest.approx(target, rel=0.003)
        assert peak_hz(other.wrong_enroll[0]) == pytest.approx(interferer, rel=0.003)
        assert len({meta["target_utterance"], *meta["enroll_utterances"]}) == 3
        assert meta["enroll_utterances"] == other.metadata["enroll_utterances"]
    assert len(speeds) > 3
    assert all(0.9 <= speed <= 1.1 and round(speed * 100) / 100 == speed for speed in speeds)


def test_crops_that_are_not_checked_may_be_silent_and_their_mixture_is_still_sound(sources, tmp_path):
    """The speakers talk for one second of six."""
    for speaker in range(9):
        for number in range(2):
            audio = np.zeros(6 * SAMPLE_RATE)
            audio[4 * SAMPLE_RATE : 5 * SAMPLE_RATE] = 0.3 * np.sin(np.arange(SAMPLE_RATE) * (0.05 + 0.01 * speaker))
            save(tmp_path / f"s{speaker}/{number}.wav", audio)
    sparse = sources | {"corpus": str(tmp_path), "reverb_prob": 0.0}
    checked, unchecked = (Mixer(small(sparse, min_activity=least), "train") for least in (0.4, 0.0))
    activities = [[mixer.mixture(0, index, ONE).metadata["activity"] for index in range(12)] for mixer in (checked, unchecked)]
    assert min(activities[0]) >= 0.4 and activities[1].count(0.0) >= 3
    silent = unchecked.mixture(0, activities[1].index(0.0), ONE)
    assert silent.metadata["present"] and not silent.target.any() and silent.enroll.any()
    assert np.isfinite(silent.mix).all() and silent.mix.any()
    assert np.allclose(silent.mix, silent.target + silent.interferers.sum(0) + silent.noise, rtol=0, atol=1e-6)


def test_silence_around_utterances_is_where_a_crop_may_fall_only_if_it_is_not_checked(sources):
    values = {"reverb_prob": 0.0, "untrimmed_s": 1.5}
    checked, unchecked = (Mixer(small(sources, **values, min_activity=least), "train") for least in (0.4, 0.0))
    activities = [[mixer.mixture(0, index, ONE).metadata["activity"] for index in range(20)] for mixer in (checked, unchecked)]
    assert min(activities[0]) >= 0.4 > min(activities[1]) and max(activities[1]) > 0.5
    mixture = unchecked.mixture(0, int(np.argmin(activities[1])), ONE)
    frames = mixture.target[: 50 * 960].reshape(50, 960).any(1)
    assert frames.mean() == pytest.approx(min(activities[1]), abs=0.1)


def test_validation_is_on_right_mixtures_whatever_the_training_does(sources):
    params = small(sources, valid_mixtures=2, min_activity=0.0, untrimmed_s=2.0, enroll_speed="own")
    for one, other in zip(validation_mixtures(params), validation_mixtures(params.model_copy(update=RIGHT)), strict=True):
        assert np.array_equal(one.mix, other.mix) and np.array_equal(one.enroll, other.enroll)


def test_floor_term_is_the_output_level_down_to_minus_30_dbfs_and_blind_below():
    """The formula written out: max(10 log10(mean square), -30), whatever the mixture."""
    wave = torch.randn(1, 48_000, generator=torch.Generator().manual_seed(0))
    for level in (-10.0, -25.0, -29.0, -31.0, -60.0):
        est = (wave / wave.square().mean().sqrt() * 10 ** (level / 20)).requires_grad_()
        value = absent_floor(est)
        assert value.item() == pytest.approx(max(level, -30.0), abs=1e-3)
        value.sum().backward()
        assert bool(est.grad.abs().max() > 0) == (level > -30)


def test_a_silent_present_target_has_no_si_sdr_and_harms_no_gradient():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 4800, generator=generator) * 0.1
    mix = target + torch.randn(2, 4800, generator=generator) * 0.1
    target[1] = 0
    assert audible(target).tolist() == [True, False]
    for present in ([True, True], [False, True]):
        est = (0.5 * mix).requires_grad_()
        loss = Objective(resolve("demo", loss_phase=0.5, loss_amplitude=1.0))(est, target, mix, torch.tensor(present))
        loss.total.backward()
        assert loss.total.isfinite() and est.grad.isfinite().all()
        assert ("si_sdr" in loss.terms) == present[0]
    est = torch.full_like(mix, torch.nan)
    assert Objective(resolve("demo"))(est, target, mix, torch.tensor([True, True])).total.isnan(), "NaN is never hidden"


T = 24_000
LIMITED = resolve("smoke", band_limit_prob=0.5)


def sounds(items=40):
    generator = torch.Generator().manual_seed(0)
    mix, target = torch.randn(2, items, T, generator=generator)
    return mix, target, torch.randn(items, 2, T // 2, generator=generator)


def edges(audio):
    """Return the frequency in Hz of the highest bin that is not empty, (B, T) -> (B,)."""
    size = torch.fft.rfft(audio.double()).abs()
    there = size > 1e-3 * size.mean(-1, keepdim=True)
    return (there * torch.arange(size.shape[-1])).amax(-1) * 48_000 / audio.shape[-1]


@pytest.mark.parametrize("rate", RATES)
def test_low_pass_keeps_what_is_below_its_slope_and_nothing_above_its_edge(rate):
    seconds = torch.arange(48_000, dtype=torch.float64) / 48_000
    tones = torch.stack([torch.sin(2 * torch.pi * round(hertz) * seconds) for hertz in (1000, 0.48 * rate, 0.51 * rate)]).float()
    passed = low_pass(tones[None].expand(2, -1, -1), torch.tensor([rate / 2, torch.inf]))
    torch.testing.assert_close(passed[0, :2], tones[:2], atol=1e-4, rtol=0)  # the phase, too
    assert passed[0, 2].abs().max() < 1e-4
    assert torch.equal(passed[1], tones)


def test_mixture_and_target_end_at_one_frequency_enrolments_at_their_own_by_seed_and_step_alone():
    mix, target, enroll = given = sounds()
    limited, again, other = (hide_bands(given, None, LIMITED, step, 0) for step in (3, 3, 2))
    assert all(map(torch.equal, limited, again)) and not torch.equal(limited[0], other[0])
    assert hide_bands(given, None, resolve("smoke"), 3, 0) is given, "none without a share"
    of_mix, of_target, of_enroll = (edges(each if each.dim() == 2 else each[:, 0]) for each in limited)
    torch.testing.assert_close(of_mix, of_target, atol=20, rtol=0)
    assert not torch.allclose(of_mix, of_enroll, atol=20)
    for before, found, there in zip(given, limited, (of_mix, of_target, of_enroll), strict=True):
        assert 10 <= (there < 23_000).sum() <= 30, "half of them"
        assert len(there[there < 23_000].unique()) > 5 and there.min() > 7000, "at several frequencies"
        assert torch.equal(before[there > 23_000], found[there > 23_000]), "what is not limited is untouched"


def test_items_that_share_a_mixture_or_an_enrolment_go_on_sharing_it():
    mix, target, enroll = sounds(8)
    mix_index, enroll_index = torch.arange(4).repeat_interleave(2), torch.arange(4).repeat(2)
    shared = Shared(torch.arange(0, 8, 2), mix_index, torch.arange(4), enroll_index)
    mix, enroll = mix[shared.unique_mix][mix_index], enroll[shared.unique_enroll][enroll_index]
    for step in range(5):
        new_mix, _, new_enroll = hide_bands((mix, target, enroll), shared, LIMITED, step, 0)
        assert torch.equal(new_mix, new_mix[shared.unique_mix][mix_index])
        assert torch.equal(new_enroll, new_enroll[shared.unique_enroll][enroll_index])
