"""Learned weights: their optimum, terms in dB, terms that do not apply, exact resumption."""

import math

import pytest
import torch
from processes import cut, losses, same, weights

from hifitse.losses.objective import LEAST, WELL_DB, Objective, Uncertainty, positive
from hifitse.params import resolve
from hifitse.training.run import Run
from hifitse.training.train import train

UNCERTAIN = {"loss_weighting": "uncertainty", "loss_snr": 0.25}


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


def batch(present):
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(len(present), 4800, generator=generator)
    present = torch.tensor(present)
    return 0.7 * mix + 0.1, torch.where(present[:, None], 0.5 * mix.roll(1, -1) + 0.5 * mix, 0.0), mix, present


def test_a_term_that_applies_to_no_item_learns_nothing():
    """Or its log-variance would fall for ever in a phase without absent targets."""
    objective = Objective(resolve("smoke", loss_weighting="uncertainty"))
    logged = objective(*batch([True, True]))
    logged.total.backward()
    gradient = dict(zip(objective.uncertainty.names, objective.uncertainty.tenths.grad.tolist(), strict=True))
    assert gradient["absent"] == 0 and all(gradient[name] != 0 for name in ("si_sdr", "phase", "amplitude"))
    assert "absent" not in logged.terms and logged.terms["weight_absent"] == 1.0
    half = objective(*batch([True, False])).total
    assert half.isfinite()


def test_a_cut_run_resumes_exactly_and_logs_its_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "cut"))
    values = dict(steps=5, checkpoint_every=1, threads=1, seconds=0.5, enroll_seconds=0.5, valid_mixtures=1, validate_every=5)
    params = resolve("smoke", **values, **UNCERTAIN, loss_multires=0.5, loss_speaker=0.5, optimizer="muon", both_talkers=True)
    cut(params, 3, monkeypatch)
    resumed = train(params, progress=False)
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "whole"))
    whole = train(params, progress=False)
    assert same(weights(resumed), weights(whole)) and losses(resumed) == losses(whole)
    names = ("si_sdr", "snr", "phase", "amplitude", "absent", "multires", "speaker")
    assert all({f"weight_{name}" for name in names} <= set(row) for row in whole.history)
    assert whole.history[0]["weight_snr"] == 0.25 and whole.history[-1]["weight_snr"] != 0.25
    learned = Run.of(params).objective().learned_weights()
    assert learned["weight_snr"] == pytest.approx(whole.history[-1]["weight_snr"], rel=0.1) and learned["weight_snr"] != 0.25
