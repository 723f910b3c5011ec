"""Items of a batch that ask for several voices of one mixture, or for one voice in several mixtures: each is encoded once."""

from typing import NamedTuple

from torch import Tensor


class Shared(NamedTuple):
    """Which rows of a batch of B items differ; all (any,) int64 but as said."""

    unique_mix: Tensor
    """Items that bring a mixture of their own."""
    mix_index: Tensor
    """(B,): for each item, which of ``unique_mix`` its mixture is."""
    unique_enroll: Tensor
    """Items that bring an enrolment of their own."""
    enroll_index: Tensor
    """(B,): for each item, which of ``unique_enroll`` its enrolment is."""
