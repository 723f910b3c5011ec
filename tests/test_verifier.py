"""Test the pretrained verifier beside the pooled embedding: frozen, of unit length, and as a loss."""

import numpy as np
import pytest
import torch

from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.model.verifier import Likeness, Verifier
from hifitse.params import resolve
from hifitse.training.state import new_optimizers, new_state
from hifitse.training.train import train


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "runs"))
    torch.manual_seed(7)


@pytest.mark.parametrize("samples", [480, 130_000])
def test_embeddings_have_unit_length_and_follow_the_voice_not_its_level(samples):
    verifier, enroll = Verifier().eval(), 0.02 * torch.randn(2, 3, samples)  # below -30 dBFS, to which both are raised
    enroll[1] = 0.02 * torch.sin(0.02 * torch.arange(samples))
    for weight in verifier.parameters():  # fresh weights hardly respond to the input
        torch.nn.init.normal_(weight, std=0.15)
    found = verifier(enroll)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(verifier(0.1 * enroll), found, atol=1e-3, rtol=0)
    assert not torch.allclose(found[0], found[1], atol=0.05)


@pytest.mark.parametrize("samples", [30_000, 76_800, 300_001])
def test_likeness_of_pieces_is_that_of_the_whole_and_of_each_window(samples):
    verifier = Verifier().eval()
    for weight in verifier.parameters():
        torch.nn.init.normal_(weight, std=0.15)
    sound, voice = 0.1 * torch.randn(samples) * torch.linspace(0.1, 1, samples), verifier(torch.randn(1, 1, 90_000))
    whole, pieces = Likeness(verifier, voice), Likeness(verifier, voice)
    whole.add(sound)
    assert torch.equal(torch.cat(list(pieces.through(torch.split(sound, 7_001)))), sound)
    steps = -(-samples // 4800)
    found = whole.curve(steps, 0.1)
    np.testing.assert_allclose(pieces.curve(steps, 0.1), found, atol=1e-5)
    for at, start in ((0, 0), (min(steps - 1, 12), 19_200 if samples > 96_000 else 0)):
        assert found[at] == pytest.approx(float(verifier(sound[None, None, start : start + 76_800])[0] @ voice[0]), abs=1e-5)
    assert found.min() >= 0 and found.max() <= 1.001 and np.isnan(Likeness(verifier, voice).curve(3, 0.1)).all()


def test_frozen_weights_come_from_the_model_inside_and_no_optimiser_has_them():
    params = resolve("smoke", optimizer="muon", verifier=True, loss_verifier=2.0, steps=3, threads=1)
    state = new_state(params)
    frozen = {id(weight) for weight in state.model.verifier.parameters()}
    learnt = {id(w) for o in new_optimizers(state.model, params) for g in o.param_groups for w in g["params"]}
    assert frozen and not frozen & learnt
    run, inside = train(params, progress=False), Extractor.from_pretrained().verifier.state_dict()
    for name, value in run.extractor().verifier.state_dict().items():
        assert torch.equal(value, inside[name])
    assert all(0 <= row["verifier"] <= 1 for row in run.history if "verifier" in row)


def test_its_cosine_as_a_loss_brings_an_estimate_nearer_to_the_voice():
    """The estimate holds the voice and another: a step down the gradient raises the cosine, and a perfect estimate costs nothing."""
    inside, time = Extractor.from_pretrained(), torch.arange(96_000) / 48_000
    buzz = [0.1 * torch.sign(torch.sin(2 * torch.pi * pitch * time)) * (1 + torch.sin(6 * time)) for pitch in (110.0, 230.0)]
    target, est = buzz[0][None], (buzz[0] + buzz[1])[None].requires_grad_()
    objective = Objective(resolve("smoke", verifier=True, loss_si_sdr=0, loss_phase=0, loss_amplitude=0, loss_verifier=1.0))
    given = target, target, torch.ones(1, dtype=torch.bool), None, inside
    inside.train()
    assert objective(target, *given).terms["verifier"] == pytest.approx(0, abs=1e-5)
    before = objective(est, *given).total
    (slope,) = torch.autograd.grad(before, est)
    assert before > 0.02 and objective(est - 0.01 * slope / slope.square().mean().sqrt(), *given).total < before
