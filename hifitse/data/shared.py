"""Items of a batch that ask for several voices of one mixture, or for one voice in several mixtures: each is encoded once."""

from typing import NamedTuple

import torch
from torch import Tensor


class Shared(NamedTuple):
    """Which rows of a batch of B items differ; all int64."""

    unique_mix: Tensor  # items that bring a mixture of their own
    mix_index: Tensor  # (B,): for each item, which of unique_mix its mixture is
    unique_enroll: Tensor  # items that bring an enrolment of their own
    enroll_index: Tensor  # (B,): for each item, which of unique_enroll its enrolment is

    def to(self, device: torch.device) -> "Shared":
        """The same on a device. Rows of a GPU's tensors that are picked by indices of the CPU make it wait each time."""
        return Shared(*(each.to(device, non_blocking=True) for each in self))
