import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hifitse.data.augment import specaug_mask as masks

SHAPE = (16, 120, 90)


def runs(hidden):
    """Number of stretches of True in (L,)."""
    return int(hidden[0]) + int((hidden[1:] & ~hidden[:-1]).sum())


@given(st.floats(0, 0.5), st.integers(0, 4), st.integers(0, 2**63 - 1))
def test_ones_and_zeros_in_whole_bands_and_stretches(largest, count, seed):
    mask = masks((3, 40, 30), largest, count, seed)
    assert mask.shape == (3, 40, 30) and mask.dtype == torch.float32 and not (mask * (1 - mask)).any()
    for item in mask.bool():
        bins, frames = ~item.any(dim=1), ~item.any(dim=0)
        assert torch.equal(~item, bins[:, None] | frames[None, :])  # nothing but whole rows and columns
        if item.any():
            assert runs(bins) <= count and runs(frames) <= count
            assert bins.sum() <= count * round(largest * 40) and frames.sum() <= count * round(largest * 30)


def test_widths_and_places_are_spread_evenly():
    mask = masks((4000, 100, 50), 0.2, 1, 0)
    bins, frames = (mask.amax(dim=2) == 0).float(), (mask.amax(dim=1) == 0).float()
    widths, lengths = bins.sum(1), frames.sum(1)
    assert widths.max() == 19 and lengths.max() == 9  # drawn below 20 and below 10
    assert widths.mean().item() == pytest.approx(9.5, abs=0.4) and lengths.mean().item() == pytest.approx(4.5, abs=0.2)
    assert bins[:, 20:80].mean(0).std() < 0.02  # no place is preferred, but for the edges


def test_items_differ_and_seeds_differ():
    mask = masks(SHAPE, 0.3, 2, 7)
    assert len({item.numpy().tobytes() for item in mask}) == SHAPE[0]
    assert not torch.equal(mask, masks(SHAPE, 0.3, 2, 8))


def test_pure_function_that_leaves_the_global_state_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = masks(SHAPE, 0.3, 2, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    torch.rand(10)
    assert torch.equal(masks(SHAPE, 0.3, 2, 7), first)


def test_nothing_is_masked_without_masks_or_width():
    assert masks(SHAPE, 0.0, 2, 0).all() and masks(SHAPE, 0.3, 0, 0).all() and masks((1, 3, 3), 0.1, 2, 0).all()
