"""Arithmetic and memory of a model, counted on tensors that have a shape and no content.

The plan's baseline takes two seconds and no memory to count, and the numbers are the same on every machine.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.model import Extractor, ExtractorConfig

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
RULES = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    # a step of one direction is a product of (4 H, I) with the input and one of (4 H, H) with the state
    torch.ops.aten.mkldnn_rnn_layer: lambda x, w, u, *_, **__: 2 * x[0] * x[1] * (math.prod(w) + math.prod(u)),
}
"""Operations by shapes, of what torch's counter does not know: attention and LSTMs on CPUs."""


class CostError(HifitseError):
    """Lengths, batch or precision that no training has, or times that cannot be compared."""


def build(config: ExtractorConfig) -> Extractor:
    """A model with random weights that leaves torch's random numbers as they were.

    The weights are real: their range depends on the sizes of bands, which the device "meta" cannot know.
    """
    with torch.random.fork_rng(devices=[]):
        return Extractor(ExtractorConfig(**{name: getattr(config, name) for name in ExtractorConfig.model_fields}))


def parameters(config: ExtractorConfig) -> int:
    """Number of trained weights of the model."""
    return sum(parameter.numel() for parameter in build(config).parameters())


SPEAKER_PATH = {
    "encoder": ("speaker_blocks", "pooling"),
    "cross-attention": ("usef", "reinject", "resolutions"),
    "modulation": ("film",),
}
"""Parts of the extractor that exist for the enrolment alone -> names of their modules. The band split serves mixture and enrolment."""


def speaker_path(config: ExtractorConfig) -> dict[str, int]:
    """Number of trained weights of each part of :data:`SPEAKER_PATH`."""
    found = dict.fromkeys(SPEAKER_PATH, 0)
    for name, parameter in build(config).named_parameters():
        part = next((part for part, modules in SPEAKER_PATH.items() if set(modules) & set(name.split("."))), None)
        if part:
            found[part] += parameter.numel()
    return found


def gflops_per_second(config: ExtractorConfig, seconds: float = 4.0, enroll_seconds: float = 4.0, enrollments: int = 1) -> float:
    """10^9 floating-point operations of one forward pass for each second of mixture: two for each of :func:`macs`."""
    return 2e-9 * macs(config, seconds, enroll_seconds, enrollments)


def macs(config: ExtractorConfig, seconds: float = 4.0, enroll_seconds: float = 4.0, enrollments: int = 1) -> float:
    """Multiply-adds of one forward pass for each second of mixture.

    Counted are all matrix products, attention and LSTMs, and the encoding of the enrolments, once for each mixture. Fourier
    transforms, norms, activations and biases are not; in the plan's baseline they are below a hundredth.

    Args:
        config: shape of the model.
        seconds, enroll_seconds: s, lengths of the mixture and of each enrolment, above 0.
        enrollments: recordings of the enrolled person, 1 or more.

    Raises:
        CostError: a length or number out of range.
    """
    _check(1, seconds, enroll_seconds, enrollments)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=RULES) as counter:
        _shapes(build(config), 1, seconds, enroll_seconds, enrollments)
    return counter.get_total_flops() / 2 / seconds


def activation_bytes(
    config: ExtractorConfig,
    batch: int,
    seconds: float,
    enroll_seconds: float,
    precision: str = "float32",
    enrollments: int = 1,
) -> int:
    """Bytes that one forward pass of the network keeps for the backward pass, parameters excluded.

    Each stretch of memory counts once, however many operations keep it. An LSTM counts with what the formula of its gradient needs:
    input, output, four gates and the cell of each direction. Libraries keep more: oneDNN, on CPUs, three times the gates and cells.
    The loss is not in it; with checkpointing less is kept, which is not counted.

    Args:
        config: shape of the model.
        batch: mixtures, 1 or more.
        seconds, enroll_seconds: s, above 0.
        precision: "float32", or "bf16" for autocast as on a GPU, where LSTMs too are in bfloat16.
        enrollments: recordings of each mixture, 1 or more.

    Raises:
        CostError: an argument out of range.
    """
    _check(batch, seconds, enroll_seconds, enrollments)
    if precision not in DTYPES:
        raise CostError(f"precision is {precision!r}, expected one of {', '.join(map(repr, DTYPES))}")
    model = build(config).train()
    kept = Kept()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM):
                setattr(parent, name, _LSTM(child, DTYPES[precision], kept))
    with kept.counting(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        kept.weights |= _shapes(model, batch, seconds, enroll_seconds, enrollments)
    return kept.bytes()


def _shapes(model: Extractor, batch: int, seconds: float, enroll_seconds: float, enrollments: int) -> set[int]:
    """A forward pass on tensors without content: shapes, types and what is kept are right. Returns the places of the weights."""
    with FakeTensorMode():
        state = {name: torch.empty(p.shape).requires_grad_() for name, p in model.named_parameters()}
        state |= {name: torch.empty(b.shape, dtype=b.dtype) for name, b in model.named_buffers()}
        mix = torch.empty(batch, round(seconds * SAMPLE_RATE))
        enroll = torch.empty(batch, enrollments, round(enroll_seconds * SAMPLE_RATE))
        functional_call(model, state, (mix, enroll))
        return set(map(_place, state.values()))


def _place(tensor: Tensor) -> int:
    """What two tensors share if they lie in the same memory."""
    return tensor.untyped_storage()._cdata


class Kept:
    """Stretches of memory that a graph keeps, without the weights; they are held, or their places would be used again."""

    def __init__(self, weights: set[int] | None = None) -> None:
        self.weights, self.storages = weights or set(), {}

    def pack(self, tensor: Tensor) -> Tensor:
        self.storages[_place(tensor)] = tensor.untyped_storage()
        return tensor

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Context in which everything that a graph keeps goes through :meth:`pack`."""
        with saved_tensors_hooks(self.pack, lambda tensor: tensor):
            yield

    def bytes(self) -> int:
        return sum(storage.nbytes() for place, storage in self.storages.items() if place not in self.weights)


class _LSTM(nn.Module):
    """What the gradient of an LSTM needs, which torch cannot see: input, output, four gates and the cell of each direction.

    Shape: (G, S, I) -> (G, S, 2 H)
    """

    def __init__(self, lstm: nn.LSTM, dtype: torch.dtype, kept: Kept) -> None:
        super().__init__()
        self.hidden, self.dtype, self.kept = (1 + lstm.bidirectional) * lstm.hidden_size, dtype, kept

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        output, gates_and_cell = (x.new_empty(*x.shape[:-1], n * self.hidden, dtype=self.dtype) for n in (1, 5))
        for tensor in (x.to(self.dtype), output, gates_and_cell):
            self.kept.pack(tensor)
        return output.requires_grad_(), None  # nothing was computed, and what follows is kept as if it had been


def _check(batch: int, seconds: float, enroll_seconds: float, enrollments: int) -> None:
    for name, value in {"seconds": seconds, "enroll_seconds": enroll_seconds}.items():
        if not (math.isfinite(value) and round(value * SAMPLE_RATE) >= 1):
            raise CostError(f"{name} is {value}, expected a length above 0 s")
    for name, value in {"batch": batch, "enrollments": enrollments}.items():
        if value < 1:
            raise CostError(f"{name} is {value}, expected at least 1")
