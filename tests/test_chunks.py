"""Overlap-add: whatever the pieces, the chunks put together are the signal; what a chunk hears; what is refused."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d

from hifitse.model.extraction import Chunks, overlap_add

SMALL = Chunks(step=60, fade=10, context=20, hop=10)


def run(signal: Tensor, process, chunks: Chunks = SMALL, size: int = 37) -> Tensor:
    pieces = list(signal.split(size)) if len(signal) else []
    return torch.cat([torch.zeros(0), *overlap_add(pieces, process, chunks)])


@given(st.integers(0, 700), st.integers(1, 300), st.integers(1, 6), st.integers(0, 4), st.integers(1, 3), st.integers(1, 11))
@settings(max_examples=60)
def test_any_length_in_any_pieces_comes_back_whole(length, size, step, context, fade, hop):
    chunks = Chunks(hop * (step + fade), hop * fade, hop * context, hop)
    signal = torch.randn(length, generator=torch.Generator().manual_seed(length))
    heard = []
    same = run(signal, lambda chunk: (heard.append(len(chunk)), chunk)[1], chunks, size)
    assert len(same) == length and torch.allclose(same, signal, atol=1e-6)
    assert max(heard, default=0) <= chunks.length


def test_a_local_filter_gives_the_same_as_on_the_whole():
    """A filter of 41 taps reaches 20 samples to each side, which is the context; one tap more on each side shows at the seams."""

    def smooth(signal: Tensor, taps: int) -> Tensor:
        return conv1d(signal[None, None], torch.ones(1, 1, taps) / taps, padding=taps // 2)[0, 0]

    signal = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(run(signal, lambda chunk: smooth(chunk, 41)), smooth(signal, 41), atol=1e-6)
    assert not torch.allclose(run(signal, lambda chunk: smooth(chunk, 51)), smooth(signal, 51), atol=1e-3)


def test_chunks_begin_on_the_grid_and_the_last_is_not_short():
    """Time is the signal, so that a chunk's first value is its place."""
    starts = []
    signal = torch.arange(1003, dtype=torch.float32)
    run(signal, lambda chunk: (starts.append((int(chunk[0]), len(chunk))), chunk)[1])
    assert len(starts) > 10 and all(start % SMALL.hop == 0 for start, _ in starts)
    assert all(length > SMALL.length - SMALL.hop for _, length in starts)


def test_what_is_read_ahead_does_not_grow_with_the_signal():
    read = 0

    def source():
        nonlocal read
        for _ in range(400):
            read += 25
            yield torch.zeros(25)

    out, ahead = 0, []
    for piece in overlap_add(source(), lambda chunk: chunk, SMALL):
        out += len(piece)
        ahead.append(read - out)
    assert out == 10_000 and max(ahead) <= 2 * SMALL.length


def test_seconds_become_whole_frames():
    chunks = Chunks.of_seconds(960, step_s=1.0, fade_s=0.1, context_s=0.001)
    assert (chunks.step, chunks.fade, chunks.context) == (48_000, 4_800, 960)
