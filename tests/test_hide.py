"""Band limits of training mixtures and enrolments."""

import pytest
import torch

from hifitse.data.shared import Shared
from hifitse.params import ParameterError, resolve
from hifitse.training.hide import RATES, hide_bands, low_pass

T = 24_000
LIMITED = resolve("smoke", band_limit_prob=0.5)


def sounds(items=40):
    generator = torch.Generator().manual_seed(0)
    mix, target = torch.randn(2, items, T, generator=generator)
    return mix, target, torch.randn(items, 2, T // 2, generator=generator)


def edges(audio):
    """Hz of the last bin that holds something, (B, T) -> (B,)."""
    size = torch.fft.rfft(audio.double()).abs()
    there = size > 1e-3 * size.mean(-1, keepdim=True)
    return (there * torch.arange(size.shape[-1])).amax(-1) * 48_000 / audio.shape[-1]


@pytest.mark.parametrize("rate", RATES)
def test_low_pass_keeps_what_is_below_its_slope_and_nothing_above_its_edge(rate):
    seconds = torch.arange(48_000, dtype=torch.float64) / 48_000
    tones = torch.stack([torch.sin(2 * torch.pi * round(hertz) * seconds) for hertz in (1000, 0.48 * rate, 0.51 * rate)]).float()
    passed = low_pass(tones[None].expand(2, -1, -1), torch.tensor([rate / 2, torch.inf]))
    torch.testing.assert_close(passed[0, :2], tones[:2], atol=1e-4, rtol=0)  # in phase, too
    assert passed[0, 2].abs().max() < 1e-4
    assert torch.equal(passed[1], tones)


def test_mixture_and_target_end_at_one_frequency_and_enrolments_at_their_own():
    mix, target, enroll = sounds()
    limited = hide_bands((mix, target, enroll), None, LIMITED, 3, 0)
    of_mix, of_target, of_enroll = (edges(each if each.dim() == 2 else each[:, 0]) for each in limited)
    torch.testing.assert_close(of_mix, of_target, atol=20, rtol=0)
    assert not torch.allclose(of_mix, of_enroll, atol=20)
    for given, found, there in zip((mix, target, enroll), limited, (of_mix, of_target, of_enroll), strict=True):
        assert 10 <= (there < 23_000).sum() <= 30, "half of them"
        assert len(there[there < 23_000].unique()) > 5 and there.min() > 7000, "at several frequencies"
        assert torch.equal(given[there > 23_000], found[there > 23_000]), "what is not limited is untouched"


def test_items_that_share_a_mixture_or_an_enrolment_go_on_sharing_it():
    mix, target, enroll = sounds(8)
    mix_index, enroll_index = torch.arange(4).repeat_interleave(2), torch.arange(4).repeat(2)
    shared = Shared(torch.arange(0, 8, 2), mix_index, torch.arange(4), enroll_index)
    mix, enroll = mix[shared.unique_mix][mix_index], enroll[shared.unique_enroll][enroll_index]
    for step in range(5):
        new_mix, _, new_enroll = hide_bands((mix, target, enroll), shared, LIMITED, step, 0)
        assert torch.equal(new_mix, new_mix[shared.unique_mix][mix_index])
        assert torch.equal(new_enroll, new_enroll[shared.unique_enroll][enroll_index])


def test_band_limits_depend_on_seed_and_step_only_and_none_are_there_without_a_share():
    given = sounds(8)
    once, again = (hide_bands(given, None, LIMITED, 1, 0) for _ in range(2))
    assert all(map(torch.equal, once, again))
    assert not torch.equal(once[0], hide_bands(given, None, LIMITED, 2, 0)[0])
    assert hide_bands(given, None, resolve("smoke"), 1, 0) is given
    with pytest.raises(ParameterError, match="band_limit_prob"):
        resolve("smoke", band_limit_prob=1.5)
