"""Test the contrastive terms: the estimate's voice against others, and enrolments against clean speech of others.

Test the pretrained verifier beside the pooled embedding: frozen, of unit length, and as a loss.
"""

import math

import numpy as np
import pytest
import torch

from hifitse import HifitseError
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.evaluation.cost import made_up_batch
from hifitse.losses.formulas import identity_contrast, speaker_contrast, voice
from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.model.verifier import Likeness, Verifier
from hifitse.params import resolve
from hifitse.training.state import new_optimizers, new_state
from hifitse.training.train import train

SHORT = resolve("smoke", device="cpu", threads=1, seconds=0.5, enroll_seconds=0.5)
TALKERS = SHORT.model_copy(update=dict(both_talkers=True, batch_size=4, loss_speaker=1.0, noisy_enroll_prob=[0.0]))


def meta(target, *interferers, **more):
    return {"target_speaker": target, "interferer_speakers": list(interferers)} | more


def recording(*numbers):
    """Return embeddings that stand in for recordings, (B, 1, E)."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


def contrast(est, batch, temperature=0.5):
    """Return the contrast of recordings that are embeddings already; those of enrolments are averaged over N."""
    return speaker_contrast(lambda x: x.mean(1) if x.dim() == 3 else x, torch.tensor(est, dtype=torch.float32), batch, temperature)


def infonce(own, *others, temperature=0.5):
    return -math.log(math.exp(own / temperature) / sum(math.exp(c / temperature) for c in (own, *others)))


def test_it_is_the_formula_with_interferers_and_the_batchs_other_voices_as_negatives():
    metadata = [meta("a", "x"), meta("b", "y")]
    batch = {"enroll": recording((1, 0, 0), (0, 1, 0)), "wrong_enroll": recording((0, 0, 1), (1, 0, 1)), "metadata": metadata}
    found = contrast([(3, 4, 0), (0, 0, 2)], batch)
    r = math.sqrt(0.5)
    assert found.tolist() == pytest.approx([infonce(0.6, 0.8, 0, 0.6 * r), infonce(0, 0, 1, r)], abs=1e-5)


def test_the_same_speaker_is_no_negative_at_any_speed():
    """Items 0 and 1 ask for the same speaker; item 2 has that speaker as its interferer, and item 0 has the speaker of item 2."""
    metadata = [meta("a", "b", target_speed=1.0), meta("a", "c", target_speed=0.9), meta("b", "a", interferer_speeds=[1.1])]
    batch = {"enroll": recording((1, 0), (0, 1), (1, 1)), "wrong_enroll": recording((5, 1), (1, -1), (7, 7)), "metadata": metadata}
    found = contrast([(1, 0)] * 3, batch)
    r = math.sqrt(0.5)
    # negatives: for "a" the voices b (enrolment of item 2) and c; for "b" the two recordings of "a" and that of "c"
    assert found.tolist() == pytest.approx([infonce(1, r, r), infonce(0, r, r), infonce(r, 1, 0, r)], abs=1e-5)


def test_interferers_without_their_recordings_are_one_sentence():
    with pytest.raises(HifitseError, match="no wrong_enroll, expected"):
        contrast([(0, 1)], {"enroll": recording((1, 0)), "metadata": [meta("a", "b")]})


def test_batches_hold_interferers_enrolments_where_the_contrast_needs_them_and_are_else_the_same():
    one = TALKERS.model_copy(update={"both_talkers": False})
    both = (one, one.model_copy(update={"loss_speaker": 0.0}))
    batches = [next(iter(training_loader(each, Mixer(each, "train"), 0, 4))) for each in both]
    assert "wrong_enroll" in batches[0] and "wrong_enroll" not in batches[1]
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in ("mix", "target", "enroll"))


def test_an_item_without_its_target_is_left_out():
    batch = next(iter(training_loader(TALKERS, Mixer(TALKERS, "train"), 0, 4)))
    present, model = torch.tensor([True, False, True, True]), new_state(TALKERS).model
    est = batch["mix"].clone().requires_grad_()
    alone = TALKERS.model_copy(update=dict(loss_si_sdr=0.0, loss_phase=0.0, loss_amplitude=0.0, loss_absent=0.0))
    objective = Objective(alone)
    loss = objective(est, batch["target"], batch["mix"], present, batch, model)
    values, applies = objective.terms(est, batch["target"], batch["mix"], present, batch, model)["speaker"]
    assert list(loss.terms) == ["speaker"]
    assert float(loss.total.detach()) == pytest.approx(float(values[present].detach().sum()) / 4, rel=1e-5)
    assert torch.equal(applies, present)
    loss.total.backward()
    assert [bool(gradient.any()) for gradient in est.grad] == present.tolist()


def reference(enrolled: np.ndarray, spoken: np.ndarray, voices: list, present: list[bool], t: float) -> np.ndarray:
    """Compute the definition in plain numpy: each of an item's two recordings against the other one and those of other voices."""
    recordings, whose = np.concatenate([enrolled, spoken]), [*voices, *voices]
    unit = recordings / np.linalg.norm(recordings, axis=1, keepdims=True)
    likeness = np.exp(unit @ unit.T / t)
    others = np.array([[a != b for b in whose] for a in whose]) * ([True] * len(voices) + present)
    pair = np.exp((unit * np.roll(unit, len(voices), 0)).sum(1) / t)
    views = -np.log(pair / (pair + (likeness * others).sum(1)))
    return views.reshape(2, -1).mean(0)


@pytest.mark.parametrize("voices", ["abcd", "abad", "aaaa", [("a", 1.0), ("a", 1.1), ("b", 1.0), ("a", 1.0)]])
@pytest.mark.parametrize("present", [[True] * 4, [True, False, True, True]])
def test_identity_against_its_definition_in_numpy(voices, present):
    """Neither the same voice nor an absent target is ever a negative; without any other voice the term is 0."""
    enrolled, spoken = np.random.default_rng(0).standard_normal((2, 4, 5))
    values = identity_contrast(torch.tensor(enrolled), torch.tensor(spoken), voices, torch.tensor(present), 0.2)
    expected = reference(enrolled, spoken, voices, present, 0.2)
    np.testing.assert_allclose(values.numpy()[present], expected[present], rtol=1e-4, atol=1e-6)


def test_voices_of_a_batch():
    drawn = {"target_speaker": "a", "target_speed": 1.0, "interferer_speakers": ["b", "c"], "interferer_speeds": [0.9, 1.1]}
    assert voice(drawn) == ("a", 1.0)
    assert voice(drawn | {"swapped": True}) == ("b", 0.9)
    assert voice(drawn) != voice(drawn | {"target_speed": 1.05}), "another speed is another voice"


def test_it_teaches_the_encoder_alone_and_needs_no_estimate():
    params = SHORT.model_copy(update={"batch_size": 3, "loss_identity": 1.0})
    batch, model = made_up_batch(params), new_state(params).model
    given = torch.zeros_like(batch["mix"]), batch["target"], batch["mix"], batch["present"], batch, model
    values, applies = Objective(params).terms(*given)["identity"]
    assert applies.all() and values.shape == (3,)
    values.sum().backward()
    taught = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"split", "speaker_blocks", "pooling"}


@pytest.fixture(autouse=True)
def seeded(runs):
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
