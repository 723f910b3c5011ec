"""Test metrics against analytic values, independent packages and known statistics."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from hifitse import SAMPLE_RATE
from hifitse.evaluation.perceptual import pesq_wb, scored, stoi
from hifitse.metrics import MetricError, bootstrap, level_db, log_spectral_distance, paired, si_sdr, suppression_db, unpaired


def speechlike(seed: int = 0, seconds: float = 3.0) -> np.ndarray:
    """Return low-pass noise in syllables, (T,), which PESQ and STOI accept as speech."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * SAMPLE_RATE)
    noise = np.convolve(rng.standard_normal(samples), np.hanning(24), mode="same")
    time = np.arange(samples) / SAMPLE_RATE
    return (0.03 * noise * np.clip(np.sin(2 * np.pi * 3 * time) + 0.3, 0, None)).astype(np.float32)


def target_and_orthogonal(shape: tuple[int, ...] = (2, 3, 24_000)) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two orthogonal signals of equal energy."""
    generator = torch.Generator().manual_seed(1)
    target, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    noise = noise - (noise * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True) * target
    return target, noise * (target.norm(dim=-1) / noise.norm(dim=-1))[..., None]


@pytest.mark.parametrize("ratio_db", [-60, -20, 0, 3, 30, 60])
def test_si_sdr_of_orthogonal_noise_is_its_ratio(ratio_db):
    target, noise = target_and_orthogonal()
    est = (target + 10 ** (-ratio_db / 20) * noise).float()
    value = si_sdr(est, target.float())
    assert value.shape == (2, 3)
    torch.testing.assert_close(value, torch.full((2, 3), float(ratio_db)), atol=1e-3, rtol=0)


def test_si_sdr_agrees_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.audio")
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(4, 48_000, generator=generator) + 0.3  # the mean must not be removed
    est = target + torch.tensor([0.01, 0.3, 1.0, 30.0])[:, None] * torch.randn(4, 48_000, generator=generator)
    reference = functional.scale_invariant_signal_distortion_ratio(est, target, zero_mean=False)
    torch.testing.assert_close(si_sdr(est, target), reference, atol=1e-3, rtol=0)


def test_si_sdr_where_it_is_undefined_or_without_bound():
    target, noise = (x[0, 0].float() for x in target_and_orthogonal())
    silence = torch.zeros_like(target)
    assert math.isnan(si_sdr(target, silence).item())
    assert math.isnan(si_sdr(silence, silence).item())
    assert si_sdr(silence, target).item() == pytest.approx(-100)
    assert si_sdr(noise, target).item() < -80


@pytest.mark.parametrize("est_scale, target_scale", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1e-7, 1.0)])
def test_gradient_of_si_sdr_is_finite_on_silence(est_scale, target_scale):
    target, noise = (x[0, 0].float() for x in target_and_orthogonal())
    est = (est_scale * (target + noise)).requires_grad_()
    si_sdr(est, target_scale * target).backward()
    assert torch.isfinite(est.grad).all()


def test_levels_of_known_signals_and_their_difference():
    tone = torch.sin(2 * torch.pi * 1_000 * torch.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert level_db(torch.stack([tone, 0.1 * tone, 0 * tone])).tolist() == pytest.approx([-3.0103, -23.0103, -120], abs=1e-3)
    mix = torch.randn(3, 1_000, generator=torch.Generator().manual_seed(0)) * 0.1
    torch.testing.assert_close(suppression_db(0.01 * mix, mix), torch.full((3,), 40.0), atol=1e-3, rtol=0)


def test_log_spectral_distance_of_a_gain_and_of_a_band():
    target = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * 0.1
    assert log_spectral_distance(target, target) == 0
    assert log_spectral_distance(0.5 * target, target) == pytest.approx(6.0206, abs=0.01)
    spectrum = np.fft.rfft(target)
    spectrum[np.fft.rfftfreq(len(target), 1 / SAMPLE_RATE) > 8_000] *= 0.1  # 20 dB less above 8 kHz
    dull = np.fft.irfft(spectrum)
    assert log_spectral_distance(dull, target, 100, 7_500) < 0.5
    assert log_spectral_distance(dull, target, 8_500, 24_000) == pytest.approx(20, abs=0.5)
    assert math.isnan(log_spectral_distance(target, 0 * target))


def test_pesq_and_stoi_agree_with_the_packages_at_their_own_rates():
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    target = speechlike()
    est = target + 0.5 * speechlike(seed=1)
    at_16k = [resample_poly(x, 1, 3).astype(np.float32) for x in (target, est)]
    at_10k = [resample_poly(x, 5, 24) for x in (target, est)]
    score, reason = scored(pesq_wb, est, target)
    assert reason is None and score == pytest.approx(pesq.pesq(16_000, *at_16k, "wb"), abs=0.03)
    score, reason = scored(stoi, est, target)
    assert reason is None and score == pytest.approx(pystoi.stoi(*at_10k, 10_000), abs=0.01)


@pytest.mark.parametrize("metric", [pesq_wb, stoi])
def test_pesq_and_stoi_say_why_there_is_no_score(metric):
    target = speechlike()
    short = target[: SAMPLE_RATE // 5]
    for est, reference, words in [
        (0 * target, target, "the estimate is silent"),
        (target, 0 * target, "the target is silent"),
        (np.nan * target, target, "the estimate is not finite"),
        (short, short, "second|frames"),
    ]:
        value, reason = scored(metric, est, reference)
        assert value is None and re.search(words, reason)


def test_interval_of_the_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    interval, half = bootstrap(values), 1.96 * values.std() / math.sqrt(400)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_too_few_values_have_no_interval():
    none, one = bootstrap([None, math.nan]), bootstrap([5.0])
    assert none.n == 0 and math.isnan(none.mean) and not none.excludes_zero
    assert (one.mean, one.n) == (5.0, 1) and math.isnan(one.low) and not one.excludes_zero


def test_several_seeds_widen_the_interval_by_what_they_differ():
    rng = np.random.default_rng(4)
    mixtures = rng.normal(0, 1, 200)
    alike = np.stack([mixtures, mixtures, mixtures])
    apart = alike + np.array([-1.0, 0.0, 1.0])[:, None]
    one, three, spread = bootstrap(mixtures), bootstrap(alike), bootstrap(apart)
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)  # runs that agree add no mixtures
    assert spread.high - spread.low > 3 * (one.high - one.low)
    assert spread.n == 200
    difference = paired(apart, alike)
    assert difference.low < -0.5 and difference.high > 0.5  # nor does pairing remove the spread of the seeds


def test_the_interval_widens_by_what_speakers_differ():
    rng = np.random.default_rng(5)
    means, speakers = rng.normal(0, 2, 50), np.repeat([f"speaker {number}" for number in range(50)], 20)
    values = np.repeat(means, 20) + rng.normal(0, 0.1, 1000)
    mixtures, people = bootstrap(values), bootstrap(values, speakers=speakers)
    assert people.high - people.low == pytest.approx(2 * 1.96 * means.std() / math.sqrt(50), rel=0.1)  # theory, for 50 means
    assert people.high - people.low > 4 * (mixtures.high - mixtures.low)
    assert (people.mean, people.n) == (mixtures.mean, 1000)
    assert bootstrap(values, speakers=np.arange(1000)) == bootstrap(values, speakers=["one"] * 1000) == mixtures
    apart = unpaired(values, values, speakers=(speakers, speakers))
    assert apart.high - apart.low == pytest.approx(math.sqrt(2) * (people.high - people.low), rel=0.1)


def test_bootstrap_refuses_what_is_not_mixtures():
    with pytest.raises(MetricError, match="axes"):
        bootstrap(np.zeros((2, 2, 2)))
    with pytest.raises(MetricError, match="3, 2 mixtures"):
        paired([1, 2, 3], [1, 2])
    with pytest.raises(MetricError, match="3 mixtures"):
        paired([1, 2, 3], [1, 2, 4], speakers=["a", "b"])
