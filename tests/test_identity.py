"""The loss on the speaker embedding: its formula, voices that are the same, targets that are not there, its gradient in a training step."""

import numpy as np
import pytest
import torch

from hifitse import HifitseError
from hifitse.evaluation.cost import made_up_batch
from hifitse.losses.objective import Objective
from hifitse.losses.speaker import identity_contrast, voice
from hifitse.params import resolve
from hifitse.training.train import new_state

PARAMS = resolve("smoke", device="cpu", threads=1, seconds=0.5, enroll_seconds=0.5, batch_size=3, loss_identity=1.0)


def reference(enrolled: np.ndarray, spoken: np.ndarray, voices: list, present: list[bool], t: float) -> np.ndarray:
    """The definition, pair by pair, in plain numpy."""
    B = len(enrolled)
    recordings = [(i, enrolled[i], True) for i in range(B)] + [(i, spoken[i], present[i]) for i in range(B)]

    def likeness(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / t))

    values = []
    for i in range(B):
        views = []
        for anchor in (enrolled[i], spoken[i]):
            pair = likeness(enrolled[i], spoken[i])
            others = sum(likeness(anchor, x) for j, x, there in recordings if there and voices[j] != voices[i])
            views.append(-np.log(pair / (pair + others)))
        values.append(np.mean(views))
    return np.array(values)


@pytest.mark.parametrize("voices", [["a", "b", "c", "d"], ["a", "b", "a", "d"], [("a", 1.0), ("a", 1.1), ("b", 1.0), ("a", 1.0)]])
@pytest.mark.parametrize("present", [[True] * 4, [True, False, True, True]])
def test_against_its_definition_in_numpy(voices, present):
    enrolled, spoken = np.random.default_rng(0).standard_normal((2, 4, 5))
    values = identity_contrast(torch.tensor(enrolled), torch.tensor(spoken), voices, torch.tensor(present), 0.2)
    expected = reference(enrolled, spoken, voices, present, 0.2)
    np.testing.assert_allclose(values.numpy()[present], expected[present], rtol=1e-4)


def test_the_same_voice_is_never_a_negative():
    enrolled, spoken = torch.randn(2, 3, 5)
    present = torch.ones(3, dtype=torch.bool)
    assert not identity_contrast(enrolled, spoken, ["a", "a", "a"], present, 0.1).any(), "there is no other voice to be told from"
    changed = spoken.clone()
    changed[1] += 1
    before, after = (identity_contrast(enrolled, each, ["a", "a", "b"], present, 0.1) for each in (spoken, changed))
    assert before[0] == after[0] and before[2] != after[2], "item 1 is of item 0's voice, but not of item 2's"


def test_a_target_that_is_not_there_is_nobodys_negative():
    enrolled, spoken = torch.randn(2, 3, 5)
    present = torch.tensor([True, False, True])
    changed = spoken.clone()
    changed[1] = torch.randn(5)
    before, after = (identity_contrast(enrolled, each, ["a", "b", "c"], present, 0.1) for each in (spoken, changed))
    assert torch.equal(before[present], after[present])


def test_voices_of_a_batch():
    drawn = {"target_speaker": "a", "target_speed": 1.0, "interferer_speakers": ["b", "c"], "interferer_speeds": [0.9, 1.1]}
    assert voice(drawn) == ("a", 1.0)
    assert voice(drawn | {"swapped": True}) == ("b", 0.9)
    assert voice(drawn) != voice(drawn | {"target_speed": 1.05}), "another speed is another voice"


def test_it_teaches_the_encoder_alone_and_needs_no_estimate():
    state = new_state(PARAMS)
    batch = made_up_batch(PARAMS)
    found = Objective(PARAMS).terms(torch.zeros_like(batch["mix"]), batch["target"], batch["mix"], batch["present"], batch, state.model)
    values, applies = found["identity"]
    assert applies.all() and values.shape == (3,)
    values.sum().backward()
    taught = {name.partition(".")[0] for name, p in state.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"split", "speaker_blocks", "pooling"}


def test_without_an_embedding_it_is_refused():
    with pytest.raises(HifitseError, match="loss_identity is 1.0, expected 0 where speaker_blocks is 0"):
        resolve("smoke", loss_identity=1.0, speaker_blocks=0)
