"""Items of a batch that ask for several voices of one mixture, or for one voice in several mixtures: each is encoded once."""

from typing import NamedTuple

from torch import Tensor


class Shared(NamedTuple):
    """Which rows of a batch of B items differ; all (any,) int64 but as said."""

    mix_rows: Tensor
    """Items that bring a mixture of their own."""
    mix_of: Tensor
    """(B,): for each item, which of ``mix_rows`` its mixture is."""
    enroll_rows: Tensor
    """Items that bring an enrolment of their own."""
    enroll_of: Tensor
    """(B,): for each item, which of ``enroll_rows`` its enrolment is."""
