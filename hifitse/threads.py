"""How many CPU threads torch computes with, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hifitse import HifitseError


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch computes with ``count`` CPU threads until the end of the context.

    Raises:
        HifitseError: a count below 1.
    """
    if count < 1:
        raise HifitseError(f"threads are {count}, allowed is at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
