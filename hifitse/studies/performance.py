"""How fast the extractor computes: against the machine's own peak, and against length, batch and threads.

Times are medians of rounds in turns (:func:`hifitse.evaluation.cost.turns`), operations are counted (:mod:`hifitse.evaluation.counting`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hifitse import SAMPLE_RATE
from hifitse.config import ExtractorConfig
from hifitse.evaluation.cost import CostError, turns
from hifitse.evaluation.counting import build, encoding_multiply_adds, multiply_adds
from hifitse.machine import pick_device, threads
from hifitse.params import Params


def thread_counts() -> list[int]:
    """1, and all that torch takes by itself."""
    return sorted({1, torch.get_num_threads()})


def peak_gflops(rounds: int = 5, size: int = 1536, device: str = "cpu") -> dict[int, float]:
    """The machine's peak in 10^9 floating-point operations a second, by number of threads: the best of several products.

    Float32 products of square matrices, which library and processor do best; nothing with small layers in it reaches this.

    Args:
        rounds: products of each, 1 or more.
        size: rows of a matrix, 1 or more.
        device: as the parameter ``device``; a GPU has no number of threads.
    """
    where, found = pick_device(device), {}
    if size < 1:
        raise CostError(f"size of the matrices is {size}, allowed is at least 1")
    a, b = (torch.rand(size, size, device=where) for _ in range(2))
    for count in thread_counts():
        with threads(count):
            found[count] = 2e-9 * size**3 / min(turns({"product": lambda: a @ b}, rounds)["product"])
    return found


@dataclass(frozen=True)
class Pass:
    """A forward pass without gradient; the speaker was encoded before, once.

    Attributes:
        seconds: s, length of each mixture.
        batch: mixtures.
        threads: of the CPU.
        took_s: s, median over the rounds.
        gflop: 10^9 floating-point operations of the pass.
    """

    seconds: float
    batch: int
    threads: int
    took_s: float
    gflop: float

    @property
    def per_second(self) -> float:
        """Seconds for a second of audio."""
        return self.took_s / (self.batch * self.seconds)

    @property
    def rate(self) -> float:
        """10^9 floating-point operations a second."""
        return self.gflop / self.took_s


def passes(params: Params, shapes: Sequence[tuple[float, int, int]], rounds: int) -> list[Pass]:
    """Forward passes of a model with new weights, all shapes in turns.

    Args:
        params: the model's shape, the length of its enrolments and the device.
        shapes: seconds above 0, batch and threads of each pass.
        rounds: 1 or more.
    """
    config, device = params.extractor, pick_device(params.device)
    model = build(config).eval().to(device)
    enroll = 0.1 * torch.randn(max(batch for _, batch, _ in shapes), round(params.enroll_seconds * SAMPLE_RATE), device=device)

    def run(seconds: float, batch: int, count: int, speaker: Any, mix: torch.Tensor) -> None:
        with threads(count), torch.inference_mode():
            model.extract_speaker(mix, speaker)

    calls = {}
    with torch.inference_mode():
        for shape in shapes:
            mix = 0.1 * torch.randn(shape[1], round(shape[0] * SAMPLE_RATE), device=device)
            calls[shape] = partial(run, *shape, model.encode(enroll[: shape[1]]), mix)
    encoding = encoding_multiply_adds(config, params.enroll_seconds)
    gflop = {s: 2e-9 * (s * multiply_adds(config, s, params.enroll_seconds) - encoding) for s in {shape[0] for shape in shapes}}
    times = turns(calls, rounds)
    return [Pass(*shape, float(np.median(times[shape])), shape[1] * gflop[shape[0]]) for shape in shapes]


def curves(models: Mapping[str, Params], lengths: Sequence[float], batches: Sequence[int], rounds: int) -> dict[str, list[Pass]]:
    """Forward passes of each model with each number of threads, of every length with every batch.

    Args:
        models: name -> parameters.
        lengths: s, above 0.
        batches: 1 or more each.
        rounds: 1 or more.

    Returns:
        name and threads -> passes.
    """
    found = {}
    for name, params in models.items():
        measured = passes(params, [(s, batch, count) for s in lengths for batch in batches for count in thread_counts()], rounds)
        for count in thread_counts():
            named = f"{name}, {count} thread{'s' if count > 1 else ''}"
            found[named] = [one for one in measured if one.threads == count]
    return found


def exponent(measured: Sequence[Pass]) -> float:
    """Exponent of the power law that fits the times best over the length: 1 where twice the length takes twice the time.

    Raises:
        CostError: fewer than two lengths.
    """
    lengths = {each.seconds for each in measured}
    if len(lengths) < 2:
        raise CostError(f"lengths are {sorted(lengths)} s, allowed are two or more to fit a power law")
    logs = np.log([(each.seconds, each.took_s) for each in measured])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


@dataclass(frozen=True)
class Attention:
    """Operations of a forward pass for a second of mixture, by its length in s: ``others`` without frame attention, with it
    ``rest + slope * length`` in all. The enrolment's encoding is left out, as in a long mixture it may be."""

    others: float
    rest: float
    slope: float

    def share(self, seconds: float) -> float:
        """Share of frame attention, its projections included, in a mixture of that length."""
        whole = self.rest + self.slope * seconds
        return (whole - self.others) / whole

    @property
    def half_s(self) -> float:
        """Length at which it is half of the operations."""
        return (2 * self.others - self.rest) / self.slope


def attention(config: ExtractorConfig, enroll_seconds: float = 4.0) -> Attention:
    """What frame attention costs at any length; every frame looks at every other one of its band.

    Raises:
        CostError: a model without frame attention.
    """
    if not config.frame_attention:
        raise CostError("frame_attention is False, allowed is a model with attention along the frames")
    without = ExtractorConfig(**{name: getattr(config, name) for name in ExtractorConfig.model_fields} | {"frame_attention": False})

    def count(shape: ExtractorConfig, seconds: float) -> float:
        return multiply_adds(shape, seconds, enroll_seconds) - encoding_multiply_adds(shape, enroll_seconds) / seconds

    near, far = 100.0, 400.0
    slope = (count(config, far) - count(config, near)) / (far - near)
    return Attention(count(without, far), count(config, near) - slope * near, slope)
