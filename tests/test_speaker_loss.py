"""Test the contrastive terms: the estimate's voice against others, and enrolments against clean speech of others."""

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
from hifitse.params import resolve
from hifitse.training.train import new_state

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
