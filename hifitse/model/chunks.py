"""Long signals in chunks of one length, cross-faded where they overlap: the memory that is needed does not grow with the signal.

A network with a limited reach gives inside a chunk what it gives for the whole signal, once the chunk reaches far enough to both
sides and its frames lie where the whole signal's lie; so all lengths here are multiples of the step between frames.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hifitse import SAMPLE_RATE, HifitseError


@dataclass(frozen=True)
class Chunks:
    """How a signal is cut, in samples; every length a multiple of ``hop``, the step between the network's frames.

    Attributes:
        step: from one chunk's output to the next one's.
        fade: in which the one chunk's output fades over into the next one's.
        context: what a chunk hears beyond its output, on both sides.
    """

    step: int
    fade: int
    context: int
    hop: int = 1

    def __post_init__(self) -> None:
        lengths = (self.step, self.fade, self.context)
        if self.hop < 1 or any(length % self.hop for length in lengths) or not 0 < self.fade <= self.step or self.context < 0:
            raise HifitseError(
                f"chunks have step {self.step}, fade {self.fade} and context {self.context}, expected multiples of hop = {self.hop} "
                "with a fade above 0 and up to the step, and a context of 0 or more"
            )

    @classmethod
    def of_seconds(cls, hop: int, step_s: float = 14.0, fade_s: float = 0.5, context_s: float = 1.5) -> "Chunks":
        """Lengths in seconds, rounded up to whole frames of ``hop`` samples at 48 kHz."""
        return cls(*(max(1, -(-round(seconds * SAMPLE_RATE) // hop)) * hop for seconds in (step_s, fade_s, context_s)), hop)

    @property
    def length(self) -> int:
        """Samples of the longest chunk, and of the longest signal that is worked on as a whole."""
        return self.step + self.fade + 2 * self.context


def overlap_add(blocks: Iterable[Tensor], process: Callable[[Tensor], Tensor], chunks: Chunks) -> Iterator[Tensor]:
    """Run ``process`` over a stream, chunk by chunk; no more than two chunks are held at a time.

    Every chunk but that of a short signal has the full length, because the network judges levels by what it hears at once: the last
    one begins earlier in place of being shorter.

    Args:
        blocks: the signal's pieces ``(T_i,)`` or ``(T_i, C)``, of any lengths; the output's pieces are as long together.
        process: ``(T, ...) -> (T, ...)``; T is at most ``chunks.length`` and begins at a multiple of ``chunks.hop``.
    """
    source, held, first = iter(blocks), torch.zeros(0), 0  # the newest stretch of the stream, and its place in the whole
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, chunks.fade + 2)[1:-1]).square()  # and 1 - ramp is the ramp turned round
    tail, done = None, 0  # nothing before the first chunk; samples that are out
    while True:
        start = max(0, done - chunks.context)
        # one more says whether there is a next chunk
        while first + len(held) <= start + chunks.length and (block := next(source, None)) is not None:
            held = torch.cat([held, block]) if len(held) else block
        end = first + len(held)
        last = end <= start + chunks.length
        if last:
            start = max(0, -(-(end - chunks.length) // chunks.hop) * chunks.hop)
        stop = end if last else start + chunks.length
        if stop == 0:
            return
        output = process(held[start - first : stop - first])[done - start :]
        ramp = ramp.reshape(-1, *[1] * (output.dim() - 1))
        if tail is not None:
            output = torch.cat([tail + ramp * output[: chunks.fade], output[chunks.fade :]])
        if last:
            yield output
            return
        # The first chunk has no context before it, and gives that much more.
        kept = stop - chunks.context - done
        tail = output[kept - chunks.fade : kept] * (1 - ramp)
        yield output[: kept - chunks.fade]
        done += kept - chunks.fade
        held, first = held[start - first :].clone(), start  # a view would keep all of it
