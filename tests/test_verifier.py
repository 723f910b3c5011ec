"""The pretrained verifier beside the pooled embedding: frozen, of unit length, taken from a package that may be absent."""

import sys

import numpy as np
import pytest
import torch

from hifitse import HifitseError
from hifitse.model.verifier import Likeness, Verifier
from hifitse.params import resolve
from hifitse.training.state import new_optimizers, new_state
from hifitse.training.train import train

VALUES = {"verifier": True, "steps": 3, "checkpoint_every": 1, "threads": 1}


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """An installed ``resemblyzer``, with weights of its shapes and one more, as the real file has."""
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "site" / "resemblyzer"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    torch.manual_seed(7)
    state = Verifier().state_dict()
    torch.save({"model_state": state | {"similarity_weight": torch.ones(1)}}, folder / "pretrained.pt")
    monkeypatch.syspath_prepend(str(folder.parent))
    return state


@pytest.mark.parametrize("samples", [480, 130_000])
def test_embeddings_have_unit_length_and_follow_the_voice_not_its_level(samples):
    verifier, enroll = Verifier().eval(), 0.02 * torch.randn(2, 3, samples)  # below -30 dBFS, to which both are raised
    enroll[1] = 0.02 * torch.sin(0.02 * torch.arange(samples))
    for weight in verifier.parameters():  # fresh ones hardly follow what they hear
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


def test_frozen_weights_come_from_the_package_and_no_optimiser_has_them(package):
    params = resolve("smoke", optimizer="muon", **VALUES)
    state = new_state(params)
    frozen = {id(weight) for weight in state.model.verifier.parameters()}
    learnt = {id(w) for o in new_optimizers(state.model, params) for g in o.param_groups for w in g["params"]}
    assert frozen and not frozen & learnt
    run = train(params, progress=False)
    for name, value in run.extractor().verifier.state_dict().items():
        assert torch.equal(value, package[name])


def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site" not in path or "packages" in path])
    with pytest.raises(HifitseError, match="expected the package resemblyzer .pip install --no-deps resemblyzer., got none"):
        train(resolve("smoke", **VALUES), progress=False)
