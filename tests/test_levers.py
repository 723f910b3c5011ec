"""Shares of the gradient: a term whose gradient is known, what they depend on, their figures. Test mixtures by how alike voices are."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from arms import made_up_arm

from hifitse.data.similarity import Voices
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.cost import made_up_batch
from hifitse.losses import TERMS as LOSS_TERMS
from hifitse.losses.objective import Objective
from hifitse.params import resolve
from hifitse.report.figures import training
from hifitse.studies import levers
from hifitse.studies.levers import gradient_norms, gradient_shares
from hifitse.training.train import train

ALL = {"loss_snr": 0.25, "loss_multires": 0.5, "loss_speaker": 0.3, "loss_identity": 0.3, "loss_weighting": "uncertainty"}
SHORT = {"seconds": 0.5, "enroll_seconds": 0.5, "valid_mixtures": 1, "threads": 1, "steps": 2}


class Half(torch.nn.Module):
    """An extractor that hands out half of the mixture."""

    def forward(self, mix, enroll):
        return 0.5 * mix


def snr_gradient(est, target):
    """Of the negative SNR in dB of one item, written out."""
    error = est - target
    ratio = error.square().mean() / (target.square().mean() + 1e-10) + 1e-6
    return 20 / torch.log(torch.tensor(10.0)) * error / len(est) / (target.square().mean() + 1e-10) / ratio


def test_the_norm_is_that_of_the_gradient_at_the_mixtures_level():
    params = resolve("smoke", loss_si_sdr=0.0, loss_snr=0.5, loss_phase=0.0, loss_amplitude=0.0, loss_absent=0.0, **SHORT)
    batch = made_up_batch(params)
    found = gradient_norms(Objective(params), Half(), batch)
    items = [snr_gradient(0.5 * m, t) * m.square().mean().sqrt() * 0.5 / 2 for m, t in zip(batch["mix"], batch["target"], strict=True)]
    assert found == {"snr": pytest.approx(float(torch.cat(items).norm()), rel=1e-4)}


def test_louder_mixtures_and_other_weights_of_all_terms_change_no_share():
    """But for the terms' floors."""
    base = resolve("smoke", loss_phase=0.0, loss_amplitude=0.0, loss_snr=0.5, **SHORT)
    batch = made_up_batch(base) | {"present": torch.tensor([True, False])}
    loud = batch | {name: 4 * batch[name] for name in ("mix", "target")}
    twice = base.model_copy(update={"loss_si_sdr": 2.0, "loss_snr": 1.0, "loss_absent": 2.0})
    norms = [gradient_norms(Objective(params), Half(), each) for params, each in ((base, batch), (base, loud), (twice, batch))]
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
    assert set(found) == set(LOSS_TERMS) - {"verifier"} and sum(found.values()) == pytest.approx(1) and min(found.values()) >= 0
    assert found["si_sdr"] > 0 and found["speaker"] > 0 and gradient_shares(run) == found


# ---- what is shown


def test_each_arm_s_terms_have_weight_and_share_a_new_one_too(run):
    """Whoever adds a loss opens two files; the report is none of them."""
    arms = Comparison(made_up_arm(params=run.params), {"learned": replace(made_up_arm(params=run.params), name="learned")})
    for arm, last in zip(arms.all.values(), ({}, {"weight_si_sdr": 0.25, "weight_loudness": 2.0}), strict=True):
        arm.run.objective = lambda last=last: SimpleNamespace(
            weights={"si_sdr": 1.0, "loudness": 0.5}, learned_weights=lambda: last, uncertainty=last or None
        )
        arm.run.history = [{"step": step} | last for step in (1, 2)]
    shown = levers.share_table(arms, {name: {"si_sdr": 0.7, "loudness": 0.3} for name in arms.all}).data
    assert "loudness" in shown and "1; 70 %" in shown and "1 → 0.250; 70 %" in shown and "0.5 → 2.000; 30 %" in shown
    assert levers.weights(arms).alt == "Learned weights over the training steps of learned"


def test_curves_of_a_training_leave_the_learned_weights_out(run):
    titles = [axis.get_title(loc="left") for axis in training(run.history, run.validation).axes]
    assert "term 'multires', dB" in titles and not any("weight" in title for title in titles)


# ---- alike voices

HZ = {"low": 100.0, "lower": 90.0, "high": 220.0, "middle": 160.0}


def voices() -> Voices:
    rng = np.random.default_rng(0)
    return Voices(list(HZ), np.column_stack([rng.standard_normal((4, 5)), np.log2(list(HZ.values()))]))


def row(index: int, target: str, *others: str, **more) -> dict:
    told = {"target_speaker": target, "target_speed": 1.0, "interferer_speakers": list(others), "n_interferers": len(others)}
    return {"list": "test", "index": index, "present": True} | told | more


def test_thirds_by_likeness_hold_each_mixture_with_both_once_and_the_same_for_all_arms():
    known, names = voices(), list(HZ)
    pairs = [(a, b) for a in names for b in names if a != b]
    rows = [row(i, *pair) for i, pair in enumerate(pairs)]
    left_out = [row(90, "low"), row(91, "low", "high", present=False), row(92, "low", "high", list="long")]
    arms = {name: SimpleNamespace(rows=[dict(each, arm=name) for each in rows + left_out]) for name in ("baseline", "other")}
    found = levers.by_likeness(arms, known)
    assert list(found) == list(levers.THIRDS)
    sizes = [len(condition["baseline"]) for condition in found.values()]
    assert sum(sizes) == len(rows) and min(sizes) >= 2
    alike = []
    for condition in found.values():
        assert list(condition["baseline"]["index"]) == list(condition["other"]["index"])
        alike.append([known.similarity(*pairs[index]) for index in condition["baseline"]["index"]])
    assert max(alike[0]) < min(alike[1]) and max(alike[1]) < min(alike[2])


def test_likeness_is_that_of_the_interferer_most_like_the_target():
    known = voices()
    assert levers.likeness(row(0, "low", "lower", "high"), known) == max(known.similarity("low", each) for each in ("lower", "high"))
