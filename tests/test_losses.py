"""Test loss terms: formulas, minima, invariances, the items they apply to; learned weights; shares of the gradient."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from arms import made_up_arm

from hifitse import HifitseError
from hifitse.evaluation import comparison
from hifitse.evaluation.cost import made_up_batch
from hifitse.losses import formulas, item_terms, objective
from hifitse.losses.formulas import absent_level, negative_multires_si_sdr, spectral_distances, waveform_terms
from hifitse.losses.objective import LEAST, WELL_DB, Objective, Uncertainty, positive
from hifitse.metrics import si_sdr
from hifitse.params import resolve
from hifitse.studies import levers
from hifitse.studies.levers import gradient_norms, gradient_shares
from hifitse.training.train import train

T = 9_600
TERMS = ("si_sdr", "snr", "phase", "amplitude", "absent")
PRESENT = torch.tensor([True, True, False])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, T, generator=generator) * 0.1
    mix = target + torch.randn(3, T, generator=generator) * 0.1
    target[2] = 0
    est = (0.5 * mix + 0.1 * torch.randn(3, T, generator=generator)).requires_grad_()
    return est, target, mix


def weighted(weights):
    return resolve("full", **{f"loss_{name}": weight for name, weight in weights.items()})


def test_every_term_is_least_at_the_truth(batch):
    est, target, _ = batch
    for near, far in zip(waveform_terms(target[:2] + 1e-4 * est[:2], target[:2]), waveform_terms(est[:2], target[:2]), strict=True):
        assert (near < far - 20).all()
    for value, best in zip(spectral_distances(est, target), spectral_distances(target, target), strict=True):
        assert (best[:2] < 0.01 * value[:2]).all()
    assert (negative_multires_si_sdr(target[:2], target[:2]) < -60).all()


@pytest.mark.parametrize(("error", "digits"), [(1.0, 1e-3), (1e-2, 1e-3), (1e-4, 3e-2)])
def test_waveform_terms_and_their_gradients_are_those_of_the_definitions(error, digits):
    """From 0 to 80 dB, including a silent estimate and a silent target."""
    target = torch.randn(4, T) * 0.1
    est = 0.7 * target + error * torch.randn(4, T) * 0.1
    est[2], target[3] = 0, 0
    est.requires_grad_()
    snr = 10 * torch.log10((est - target).square().mean(-1) / (target.square().mean(-1) + 1e-10) + 1e-6)
    for found, expected in zip(waveform_terms(est, target), (-si_sdr(est, target), snr), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5, equal_nan=True)
        there = found.isfinite()  # the SI-SDR of a silent target is undefined
        one, other = (torch.autograd.grad(torch.where(there, each, 0.0).sum(), est, retain_graph=True)[0] for each in (found, expected))
        for mine, reference in zip(one, other, strict=True):
            assert (mine - reference).norm() <= digits * reference.norm()


def test_spectral_terms_ignore_the_level_and_the_amplitude_term_the_sign_too(batch):
    est, target, _ = batch
    phase, amplitude = spectral_distances(-target[:2], target[:2])
    assert (amplitude < 1e-4).all() and (phase > 0.5).all()
    for loud, quiet in zip(spectral_distances(est, target), spectral_distances(0.01 * est, 0.01 * target), strict=True):
        assert torch.allclose(loud[:2], quiet[:2], rtol=1e-3)


def written_out(est, target):
    """Return the multi-resolution term, computed frame by frame in numpy."""
    ratios = []
    for n_fft in formulas.RESOLUTIONS:
        vectors = []
        for sound in (est, target):
            sound = np.pad(sound / np.sqrt(np.mean(sound**2) + 1e-10), n_fft // 2)
            window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
            starts = range(0, len(sound) - n_fft + 1, n_fft // 2)
            power = [np.abs(np.fft.rfft(window * sound[start : start + n_fft])) ** 2 for start in starts]
            vectors.append(np.sqrt(np.array(power) + formulas.FLOOR).ravel())
        e, t = vectors
        scaled = e @ t / (t @ t) * t
        ratios.append(10 * np.log10((scaled @ scaled) / ((e - scaled) @ (e - scaled))))
    return -np.mean(ratios)


def test_multires_is_its_formula_ignores_level_and_sign_and_minds_a_delay_less_than_the_waveform(batch):
    est, target = (each[:2].detach() for each in batch[:2])
    expected = [written_out(e, t) for e, t in zip(est.double().numpy(), target.double().numpy(), strict=True)]
    assert negative_multires_si_sdr(est, target).tolist() == pytest.approx(expected, abs=1e-3)
    value = negative_multires_si_sdr(est, target)
    for changed in (30 * est, 0.01 * est, -est):
        assert torch.allclose(negative_multires_si_sdr(changed, target), value, atol=0.02)
    late = target.roll(8, -1)  # 0.17 ms
    assert (si_sdr(late, target) < -20).all() and (negative_multires_si_sdr(late, target) < -10).all()


def test_absent_term_is_relative_to_the_mixture_and_still_falls_far_below_minus_30_dbfs(batch):
    """The published baseline's term was flat below -30 dBFS, so the model stopped there."""
    _, _, mix = batch
    for gain in (1.0, 0.01):
        levels = [float(absent_level(mix * gain * 10 ** (-down / 20), mix * gain)[0]) for down in (0, 20, 40, 50)]
        assert levels == pytest.approx([0, -20, -40, -50], abs=0.5)
    quiet = (1e-3 * mix).requires_grad_()
    absent_level(quiet, mix).sum().backward()
    assert quiet.grad.abs().max() > 0


def test_total_is_the_weighted_sum_over_the_items_that_a_term_applies_to(batch):
    est, target, mix = batch
    weights = dict(si_sdr=1.0, snr=0.3, phase=0.5, amplitude=2.0, absent=0.1)
    loss = Objective(weighted(weights))(est, target, mix, PRESENT)
    terms = item_terms(est, target, mix, PRESENT, weighted(weights))
    assert list(terms) == list(weights)
    expected = sum(weights[n] * float(v.detach()[PRESENT if n != "absent" else ~PRESENT].sum()) / 3 for n, (v, _) in terms.items())
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)
    assert loss.terms["absent"] == pytest.approx(absent_level(est, mix)[2].item(), rel=1e-5)


@pytest.mark.parametrize("present", [[True] * 3, [False] * 3, [True, True, False]])
def test_gradients_are_finite_whoever_is_there_and_for_silence(batch, present):
    est, target, mix = batch
    present = torch.tensor(present)
    target = torch.where(present[:, None], mix * 0.3, 0.0)
    for estimate in (est, torch.zeros_like(est).requires_grad_()):
        loss = Objective(weighted(dict.fromkeys(TERMS, 1.0)))(estimate, target, mix, present)
        (gradient,) = torch.autograd.grad(loss.total, estimate)
        assert loss.total.isfinite() and gradient.isfinite().all()


def test_late_terms_and_learned_weights_count_from_the_middle_of_the_training(batch):
    more = {"loss_multires": 0.5, "loss_weighting": "uncertainty"}
    plain, full, late = (Objective(resolve("full", **each)) for each in ({}, more, more | {"loss_late": "multires, weighting"}))
    for progress, same in ((0.0, plain), (0.49, plain), (0.5, full), (1.0, full)):
        late.progress = progress
        found = late(*batch, PRESENT)
        assert found.total == same(*batch, PRESENT).total and ("multires" in found.terms) == (same is full)


@pytest.mark.parametrize(("value", "words"), [
    (None, "loss_made_up is a weight without a term, expected one in hifitse.losses.item_terms"),
    (lambda est: est.abs().mean(), r"term made_up of 2 items has shape \(\), expected \(2,\)"),
])  # fmt: skip
def test_a_mistake_in_a_new_term_of_an_arm_is_said_before_the_baseline_is_trained(value, words, monkeypatch):
    monkeypatch.setattr(objective, "TERMS", (*objective.TERMS, "made_up"))
    terms = objective.item_terms

    def more(est, target, mix, present, params):
        return terms(est, target, mix, present, params) | ({"made_up": (value(est), present)} if value and params.loss_made_up else {})

    monkeypatch.setattr(objective, "item_terms", more)
    monkeypatch.setattr(comparison, "vary", lambda params, changes: params.model_copy(update=dict(changes)))
    monkeypatch.setattr(comparison, "completed", None)  # it would train
    with pytest.raises(HifitseError, match=words):
        comparison.run_all(resolve("smoke").model_copy(update={"loss_made_up": 0.0}), {"mine": {"loss_made_up": 2.0}})
    if value:
        monkeypatch.setattr(objective, "TERMS", objective.TERMS[:-1])
        with pytest.raises(HifitseError, match="made_up is a term without a weight"):
            Objective(resolve("smoke").model_copy(update={"loss_made_up": 2.0}))


def test_terms_in_decibels_become_positive_and_keep_their_slope_where_there_is_something_to_gain():
    values = torch.tensor([40.0, 0.0, -20.0, -60.0, -100.0], requires_grad=True)
    found = positive("si_sdr", values)
    expected = [10 * math.log10(1 + 10 ** ((x + WELL_DB) / 10)) + LEAST for x in values.tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-5) and (found >= LEAST).all()
    (slope,) = torch.autograd.grad(found.sum(), values)
    assert slope.tolist() == pytest.approx([1, 0.999, 10 / 11, 0.001, 0], abs=1e-3)
    assert torch.equal(positive("phase", values), values + LEAST)


@pytest.mark.parametrize("weight", [0.2, 1.0, 50.0])
def test_the_best_factor_makes_a_term_count_one_whatever_its_weight(weight):
    term = Uncertainty(("phase", "si_sdr"))
    optimizer = torch.optim.LBFGS(term.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    values = {"phase": torch.tensor([0.3]), "si_sdr": torch.tensor([-12.0])}

    def closure():
        optimizer.zero_grad()
        total = sum(term(name, weight, value).sum() for name, value in values.items())
        total.backward()
        return total

    optimizer.step(closure)
    for name, scale in term.scales().items():
        assert scale * weight * float(positive(name, values[name])) == pytest.approx(1, rel=1e-2)


def test_a_term_that_applies_to_no_item_learns_nothing(batch):
    """Otherwise its log-variance would fall for ever in a phase without absent targets."""
    objective = Objective(resolve("smoke", loss_weighting="uncertainty"))
    logged = objective(*(each[:2] for each in (*batch, PRESENT)))
    logged.total.backward()
    gradient = dict(zip(objective.uncertainty.names, objective.uncertainty.tenths.grad.tolist(), strict=True))
    assert gradient["absent"] == 0 and all(gradient[name] != 0 for name in ("si_sdr", "phase", "amplitude"))
    assert "absent" not in logged.terms and logged.terms["weight_absent"] == 1.0
    assert objective(*batch, PRESENT).total.isfinite()


ALL = {"loss_snr": 0.25, "loss_multires": 0.5, "loss_speaker": 0.3, "loss_identity": 0.3, "loss_weighting": "uncertainty"}
SHORT = {"seconds": 0.5, "enroll_seconds": 0.5, "valid_mixtures": 1, "threads": 1, "steps": 2}


def half(mix, enroll):
    return 0.5 * mix


def snr_gradient(est, target):
    """Return the gradient of one item's negative SNR in dB, written out."""
    error = est - target
    ratio = error.square().mean() / (target.square().mean() + 1e-10) + 1e-6
    return 20 / torch.log(torch.tensor(10.0)) * error / len(est) / (target.square().mean() + 1e-10) / ratio


def test_the_norm_is_that_of_the_gradient_at_the_mixtures_level():
    params = resolve("smoke", loss_si_sdr=0.0, loss_snr=0.5, loss_phase=0.0, loss_amplitude=0.0, loss_absent=0.0, **SHORT)
    batch = made_up_batch(params)
    found = gradient_norms(Objective(params), half, batch)
    pairs = zip(batch["mix"], batch["target"], strict=True)
    items = [snr_gradient(0.5 * mix, target) * mix.square().mean().sqrt() * 0.5 / 2 for mix, target in pairs]
    assert found == {"snr": pytest.approx(float(torch.cat(items).norm()), rel=1e-4)}


def test_louder_mixtures_and_other_weights_of_all_terms_change_no_share():
    """Apart from the terms' floors."""
    base = resolve("smoke", loss_phase=0.0, loss_amplitude=0.0, loss_snr=0.5, **SHORT)
    batch = made_up_batch(base) | {"present": torch.tensor([True, False])}
    loud = batch | {name: 4 * batch[name] for name in ("mix", "target")}
    twice = base.model_copy(update={"loss_si_sdr": 2.0, "loss_snr": 1.0, "loss_absent": 2.0})
    norms = [gradient_norms(Objective(params), half, each) for params, each in ((base, batch), (base, loud), (twice, batch))]
    assert set(norms[0]) == {"si_sdr", "snr", "absent"} and all(norms[0].values())
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert norms[2] == pytest.approx({name: 2 * norm for name, norm in norms[0].items()}, rel=1e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield train(resolve("smoke", **SHORT, **ALL), progress=False)


def test_shares_of_a_run_add_up_to_one_and_are_the_same_again(run):
    found = gradient_shares(run)
    assert set(found) == set(run.objective().weights)
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) >= 0
    assert found["si_sdr"] > 0 and found["speaker"] > 0 and gradient_shares(run) == found


def test_each_arm_s_terms_have_weight_and_share_a_new_one_too(run):
    """Adding a loss term takes changes in two files, and the report is not one of them."""
    plain, learned = (replace(made_up_arm(params=run.params), name=name) for name in ("baseline", "learned"))
    arms = comparison.Comparison(plain, {"learned": learned})
    for arm, last in zip(arms.all.values(), ({}, {"weight_si_sdr": 0.25, "weight_loudness": 2.0}), strict=True):
        arm.run.objective = lambda last=last: SimpleNamespace(
            weights={"si_sdr": 1.0, "loudness": 0.5}, learned_weights=lambda: last, uncertainty=last or None
        )
        arm.run.history = [{"step": step} | last for step in (1, 2)]
    shown = levers.share_table(arms, {name: {"si_sdr": 0.7, "loudness": 0.3} for name in arms.all}).data
    assert "loudness" in shown and "1; 70 %" in shown and "1 → 0.250; 70 %" in shown and "0.5 → 2.000; 30 %" in shown
    assert levers.weights(arms).alt == "Learned weights over the training steps of learned"
