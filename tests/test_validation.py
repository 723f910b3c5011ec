"""Batches and devices of the functions that run an extractor; the quick validation itself is tested beside the evaluation."""

import torch
from torch import nn

from hifitse.training.validation import batched, device_of


def test_batches_hold_equal_keys_and_lose_nothing():
    batches = list(batched([1, 2, 3, 5, 7, 9, 4, 11], lambda n: n % 2, size=3))
    assert sorted(n for batch in batches for n in batch) == [1, 2, 3, 4, 5, 7, 9, 11]
    assert all(len({n % 2 for n in batch}) == 1 and len(batch) <= 3 for batch in batches)


def test_an_extractor_runs_where_its_weights_are():
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
    assert device_of(lambda mix, enroll: mix) == device_of(nn.Identity()) == torch.device("cpu")
