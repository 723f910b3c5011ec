"""Test costs: counts against counts by hand and against a real training pass; times of paired rounds."""

from functools import partial

import numpy as np
import pytest
import torch
from test_model import FAST, TINY
from torch.autograd.graph import saved_tensors_hooks

from hifitse.evaluation import cost
from hifitse.evaluation.cost import costs, gflops_per_second, parameters, ratios, step_seconds, training_bytes
from hifitse.model import Extractor, ExtractorConfig
from hifitse.model.bands import band_layout
from hifitse.params import Params, resolve
from hifitse.training.train import new_state

LSTM = ExtractorConfig(**TINY)
SMOKE = resolve("smoke", device="cpu", threads=1)


def by_hand(config: ExtractorConfig, seconds: int, enroll_seconds: int, enrollments: int) -> int:
    """Return the multiply-adds of the LSTM model with attention band by band, for one mixture."""
    D, H = config.features, config.lstm_hidden
    L, one = (s * 48_000 // config.hop_length + 2 for s in (seconds, enroll_seconds))
    S = enrollments * one
    padded = [len(region) * max(last - first for first, last in region) for region in band_layout(config)]  # padded to equal width
    K = sum(len(region) for region in band_layout(config))
    split, merge = sum(padded) * 2 * D * (L + S), sum(padded) * 2 * (D + 1) * L  # the decoder's biases are weights of a constant feature 1
    lstm = K * L * (2 * 4 * H * (D + H) + 2 * H * D)
    own = K * (4 * D * D * L + 2 * L * L * D)  # query, key, value, out; scores and weighted sum
    cross = K * (2 * D * D * (L + S) + 2 * L * S * D)
    return split + merge + K * 2 * D * D + cross + config.blocks * (2 * lstm + own + cross)


def test_counting_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    parameters(LSTM), gflops_per_second(LSTM), training_bytes(SMOKE), step_seconds({"a": SMOKE}, 1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("blocks", "seconds", "enroll_seconds", "enrollments"), [(1, 1, 1, 1), (3, 3, 1, 1), (2, 2, 1, 3)])
def test_macs_are_those_counted_by_hand(blocks, seconds, enroll_seconds, enrollments):
    config = ExtractorConfig(**TINY | {"blocks": blocks})
    counted = gflops_per_second(config, seconds, enroll_seconds, enrollments) * seconds
    assert counted == pytest.approx(2e-9 * by_hand(config, seconds, enroll_seconds, enrollments), rel=1e-9)


@pytest.mark.parametrize("changes", [
    {}, {"batch_size": 3, "seconds": 2.0}, {"enrollments": 2}, {"loss_phase": 0.0, "loss_amplitude": 0.0},
], ids=str)  # fmt: skip
def test_training_bytes_without_lstm_are_those_of_a_real_pass_and_with_bf16_fewer(changes):
    small = FAST | {"frame_attention": True, "precision": "float32", "enroll_dropout": 0.0}
    params = SMOKE.model_copy(update=small | changes)
    state, batch, kept = new_state(params), cost.made_up_batch(params), {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    state.model.train()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        est = state.model(batch["mix"], batch["enroll"])
        state.objective(est, batch["target"], batch["mix"], batch["present"], batch, state.model)
    for tensor in (est, batch["mix"], batch["target"], batch["enroll"]):
        pack(tensor)
    weights = {p.untyped_storage().data_ptr() for p in state.model.parameters()}
    real = sum(storage.nbytes() for place, storage in kept.items() if place not in weights)
    counted = training_bytes(params)
    assert counted == pytest.approx(real + 4 * 5 * parameters(params), rel=0.02)
    assert 0.5 * counted < training_bytes(params.model_copy(update={"precision": "bf16"})) < counted


def test_an_lstm_keeps_input_output_gates_and_cells_and_its_optimizer_two_moments():
    given = TINY | {"seconds": 1.0, "enroll_seconds": 1.0, "batch_size": 1, "precision": "float32", "checkpointing": False, "device": "cpu"}
    one, two = (training_bytes(Params(**given | {"lstm_hidden": H})) for H in (8, 9))
    weights = parameters(ExtractorConfig(**TINY | {"lstm_hidden": 9})) - parameters(LSTM)
    cells = 13 * 102  # bands x frames of 1 s
    assert two - one == 4 * (4 * cells * (2 + 2 * 5) + 5 * weights)  # float32; four LSTMs; per direction an output, four gates and a cell
    named = Extractor(LSTM).named_parameters()
    matrices = sum(p.numel() for name, p in named if p.dim() == 2 and name.rpartition(".")[2].startswith("weight"))
    assert one - training_bytes(Params(**given | {"optimizer": "muon"})) == 4 * matrices, "of a matrix one"


def test_steps_are_timed_in_turn_forth_and_back(monkeypatch):
    order, clock = [], iter(range(100))
    monkeypatch.setattr(cost, "train_step", lambda state, batches: order.append((state.params.lr, len(batches), torch.get_num_threads())))
    monkeypatch.setattr(cost, "turns", partial(cost.turns, clock=lambda: next(clock)))
    before = torch.get_num_threads()
    arms = {"baseline": SMOKE, "other": SMOKE.model_copy(update={"lr": 0.5, "accumulation": 3, "threads": 2})}
    times = step_seconds(arms, repeats=2)
    assert order == [(0.5, 1, 2), (SMOKE.lr, 1, 1), (SMOKE.lr, 1, 1), (0.5, 1, 2), (0.5, 1, 2), (SMOKE.lr, 1, 1)]
    assert {name: len(each) for name, each in times.items()} == {"baseline": 2, "other": 2}
    assert times["other"] == times["baseline"] == [1, 1]
    assert torch.get_num_threads() == before


def test_ratios_hold_though_the_machine_is_slow_for_a_while():
    busy = np.array([1.0, 1.0, 7.0, 1.0, 30.0])
    found = ratios({"baseline": 2 * busy, "twice": 4 * busy, "spiky": 2 * busy * [1, 1.1, 0.9, 9, 1]})
    assert (found["twice"].mean, found["twice"].low, found["twice"].high, found["twice"].n) == (2, 2, 2, 5)
    assert found["baseline"].mean == 1
    assert found["spiky"].mean == 1 and found["spiky"].low < 1 < found["spiky"].high
    assert ratios({"a": [1.0], "b": [3.0]}, to="b")["a"].mean == pytest.approx(1 / 3)
    assert np.isnan(ratios({"a": [1.0], "b": [3.0]}, to="b")["a"].low)


def test_costs_at_each_arms_own_batch_and_length():
    long = SMOKE.model_copy(update={"seconds": 2.0, "batch_size": 1})
    found = costs({"baseline": SMOKE, "long": long}, repeats=0)
    assert found["baseline"].parameters == found["long"].parameters == parameters(SMOKE)
    assert found["long"].gflops_per_second == gflops_per_second(SMOKE, 2, 1)
    assert found["baseline"].training_mb == training_bytes(SMOKE) / 1e6
    assert found["long"].step_seconds is None and found["long"].step_ratio is None
    again = costs({"baseline": SMOKE.model_copy(update={"checkpointing": True})}, repeats=0)["baseline"]
    assert again.training_mb is None, "not counted with checkpointing"
    timed = costs({"baseline": SMOKE}, repeats=1)["baseline"]
    assert timed.step_seconds > 0 and timed.step_ratio.mean == 1


def test_a_frozen_verifier_keeps_nothing_but_its_weights_and_as_a_loss_keeps_more():
    none, there, heard = (cost.training_bytes(resolve("smoke", **each)) for each in
                          ({}, {"verifier": True}, {"verifier": True, "loss_verifier": 1.0}))  # fmt: skip
    assert none < there < none + 3 * 4 * 1_600_000 < heard
