"""SI-SDR of spectrograms: against a formula written out in numpy, what it sees and what it does not."""

import numpy as np
import pytest
import torch

from hifitse.losses.formulas import FLOOR, RESOLUTIONS, negative_multires_si_sdr
from hifitse.metrics import si_sdr

T = 9_600


@pytest.fixture
def sounds():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, T, generator=generator) * torch.linspace(0, 0.2, T)
    return target + 0.05 * torch.randn(2, T, generator=generator), target


def written_out(est, target):
    """The same in numpy, frame by frame."""
    ratios = []
    for n_fft in RESOLUTIONS:
        vectors = []
        for sound in (est, target):
            sound = np.pad(sound / np.sqrt(np.mean(sound**2) + 1e-10), n_fft // 2)
            window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
            starts = range(0, len(sound) - n_fft + 1, n_fft // 2)
            power = [np.abs(np.fft.rfft(window * sound[start : start + n_fft])) ** 2 for start in starts]
            vectors.append(np.sqrt(np.array(power) + FLOOR).ravel())
        e, t = vectors
        scaled = e @ t / (t @ t) * t
        ratios.append(10 * np.log10((scaled @ scaled) / ((e - scaled) @ (e - scaled))))
    return -np.mean(ratios)


def test_it_is_the_formula(sounds):
    est, target = sounds
    expected = [written_out(e, t) for e, t in zip(est.double().numpy(), target.double().numpy(), strict=True)]
    assert negative_multires_si_sdr(est, target).tolist() == pytest.approx(expected, abs=1e-3)


def test_neither_level_nor_sign_matters_and_a_delay_matters_less_than_to_the_waveform(sounds):
    est, target = sounds
    value = negative_multires_si_sdr(est, target)
    for changed in (30 * est, 0.01 * est, -est):
        assert torch.allclose(negative_multires_si_sdr(changed, target), value, atol=0.02)
    late = target.roll(8, -1)  # 0.17 ms
    assert (si_sdr(late, target) < -20).all() and (negative_multires_si_sdr(late, target) < -10).all()


def test_it_is_least_at_the_truth_and_its_gradient_leads_there(sounds):
    est, target = sounds
    assert (negative_multires_si_sdr(target, target) < -60).all()
    moving = est.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(negative_multires_si_sdr(moving, target).sum(), moving)
    better = negative_multires_si_sdr(est - 1e-3 * gradient / gradient.norm() * est.norm(), target)
    assert (better < negative_multires_si_sdr(est, target)).all()
