"""SpecAugment: bands of frequencies and stretches of time that the network does not see (Park et al., Interspeech 2019)."""

import torch
from torch import Tensor
from torchaudio.functional import mask_along_axis_iid

from hifitse import HifitseError


def masks(shape: tuple[int, int, int], largest: float, count: int, seed: int) -> Tensor:
    """Masks to multiply spectra with: 0 in ``count`` bands and in ``count`` stretches of each item, 1 elsewhere.

    Each band or stretch has a width drawn evenly from 0 up to ``largest`` of its axis, and lies anywhere; they may overlap. A pure function
    of its arguments, on the CPU, which leaves the global random state as it was.

    Args:
        shape: (B, F, L), each 1 or more.
        largest: 0 to 1, share of the axis; of less than one bin or frame nothing is masked.
        count: masks an axis, 0 or more.
        seed: 0 to 2^63 - 1.

    Returns:
        (B, F, L) float32.

    Raises:
        HifitseError: an argument out of its range.

    Shape: a mask along an axis is (B, F, 1) or (B, 1, L) until they are multiplied.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise HifitseError(f"shape is {tuple(shape)}, expected (B, F, L) with 1 or more each")
    if not 0 <= largest <= 1 or count < 0 or not 0 <= seed < 2**63:
        raise HifitseError(f"largest, count and seed are {largest}, {count} and {seed}, expected 0 to 1, 0 or more, 0 to 2^63 - 1")
    items, bins, frames = shape
    bands, stretches = torch.ones(items, bins, 1), torch.ones(items, 1, frames)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        for _ in range(count):
            bands = mask_along_axis_iid(bands, round(largest * bins), 0.0, axis=1)
            stretches = mask_along_axis_iid(stretches, round(largest * frames), 0.0, axis=2)
    return bands * stretches
