"""Arithmetic and memory of a model, counted on tensors that have a shape and no content.

The plan's baseline takes two seconds and no memory to count, and the numbers are the same on every machine.
"""

import math
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.model import Extractor, ExtractorConfig

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}
"""torch's counter knows the fused attention of GPUs, but not that of CPUs."""


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
    """10^9 floating-point operations of one forward pass for each second of mixture, two for each multiply-add.

    Counted are all matrix products, attention and LSTMs, and the encoding of the enrolments, once for each mixture. Fourier
    transforms, norms, activations and biases are not; in the plan's baseline they are below a hundredth.

    Args:
        config: shape of the model.
        seconds, enroll_seconds: s, lengths of the mixture and of each enrolment, above 0.
        enrollments: recordings of the enrolled person, 1 or more.

    Raises:
        CostError: a length or number out of range.
    """
    return 2e-9 * multiply_adds(config, seconds, enroll_seconds, enrollments)


def multiply_adds(config: ExtractorConfig, seconds: float = 4.0, enroll_seconds: float = 4.0, enrollments: int = 1) -> float:
    """Multiply-adds of one forward pass for each second of mixture; arguments and rules as :func:`gflops_per_second`."""
    _check(1, seconds, enroll_seconds, enrollments)
    model = _Shapes(build(config))
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        model(1, seconds, enroll_seconds, enrollments)
    return counter.get_total_flops() / 2 / seconds + sum(lstm.multiply_adds for lstm in model.lstms) / seconds


def encoding_multiply_adds(config: ExtractorConfig, enroll_seconds: float = 4.0, enrollments: int = 1) -> float:
    """Multiply-adds of encoding the enrolments of one mixture, which :func:`multiply_adds` contains; arguments and rules as there."""
    _check(1, 1.0, enroll_seconds, enrollments)
    model = _Shapes(build(config))
    model.extractor.forward = lambda mix, enroll: model.extractor.encode(enroll)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        model(1, 1.0, enroll_seconds, enrollments)
    return counter.get_total_flops() / 2 + sum(lstm.multiply_adds for lstm in model.lstms)


def kept_bytes(
    config: ExtractorConfig,
    batch: int,
    seconds: float,
    enroll_seconds: float,
    checkpointing: bool = False,
    precision: str = "float32",
    enrollments: int = 1,
) -> int:
    """Bytes that one forward pass of the network keeps for the backward pass, parameters excluded.

    Each stretch of memory counts once, however many operations keep it. An LSTM counts with what the formula of its gradient needs:
    input, output, four gates and the cell of each direction. Libraries keep more: oneDNN, on CPUs, three times the gates and cells.
    With checkpointing: what blocks are recomputed from, and the inside of the one block that keeps most. The loss is not in it.

    Args:
        config: shape of the model.
        batch: mixtures, 1 or more.
        seconds, enroll_seconds: s, above 0.
        checkpointing: whether blocks are computed again in the backward pass.
        precision: "float32", or "bf16" for autocast as on a GPU, where LSTMs too are in bfloat16.
        enrollments: recordings of each mixture, 1 or more.

    Raises:
        CostError: an argument out of range.
    """
    _check(batch, seconds, enroll_seconds, enrollments)
    if precision not in DTYPES:
        raise CostError(f"precision is {precision!r}, allowed are {', '.join(map(repr, DTYPES))}")
    model = _Shapes(build(config), DTYPES[precision])
    weights = set(map(_place, model.state.values()))
    kept, blocks = Kept(weights), []
    with ExitStack() as hooks:
        for block in [*model.extractor.speaker_blocks, *model.extractor.blocks] if checkpointing else []:
            blocks.append(Kept(weights))
            _count_apart(block, kept, blocks[-1])
        hooks.enter_context(kept.counting())
        hooks.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"))
        model(batch, seconds, enroll_seconds, enrollments)
    return kept.bytes() + max((block.bytes(kept) for block in blocks), default=0)


class _Shapes:
    """A model on tensors without content: shapes, types and what is kept are right, no value is computed."""

    def __init__(self, extractor: Extractor, dtype: torch.dtype = torch.float32) -> None:
        self.extractor, self.lstms = extractor.train(), []
        for parent in list(extractor.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.LSTM):
                    self.lstms.append(_LSTM(child, dtype))
                    setattr(parent, name, self.lstms[-1])
        self.mode = FakeTensorMode()
        with self.mode:
            self.state = {name: torch.empty(p.shape).requires_grad_() for name, p in extractor.named_parameters()}
            self.state |= {name: torch.empty(b.shape, dtype=b.dtype) for name, b in extractor.named_buffers()}

    def __call__(self, batch: int, seconds: float, enroll_seconds: float, enrollments: int) -> None:
        with self.mode:
            mix = torch.empty(batch, round(seconds * SAMPLE_RATE))
            enroll = torch.empty(batch, enrollments, round(enroll_seconds * SAMPLE_RATE))
            functional_call(self.extractor, self.state, (mix, enroll))


class _LSTM(nn.Module):
    """Shapes of an LSTM's output, its multiply-adds, and what it keeps: torch's own counters do not see into its kernels.

    A step of one direction is a product of (4 H, I + H): four gates from input and state.

    Shape: (G, S, I) -> (G, S, 2 H)
    """

    def __init__(self, lstm: nn.LSTM, dtype: torch.dtype) -> None:
        super().__init__()
        if lstm.num_layers != 1 or lstm.proj_size:
            raise CostError(f"{lstm} has {lstm.num_layers} layers and a projection of {lstm.proj_size}, allowed are 1 and 0")
        self.inputs, self.hidden, self.dtype = lstm.input_size, lstm.hidden_size, dtype
        self.directions = 1 + lstm.bidirectional
        self.multiply_adds = 0

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        steps = x.shape[0] * x.shape[1]
        self.multiply_adds += steps * self.directions * 4 * self.hidden * (self.inputs + self.hidden)
        return _KeepLSTM.apply(x, self.directions * self.hidden, self.dtype), None


class _KeepLSTM(torch.autograd.Function):
    """Keeps what the gradient of an LSTM needs; there is no backward pass, for nothing was computed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: int, dtype: torch.dtype) -> Tensor:
        output = x.new_empty(*x.shape[:-1], hidden, dtype=dtype)
        gates_and_cell = x.new_empty(*x.shape[:-1], 5 * hidden, dtype=dtype)
        ctx.save_for_backward(x.to(dtype), output, gates_and_cell)
        return output


def _place(tensor: Tensor) -> int:
    """What two tensors share if they lie in the same memory."""
    return tensor.untyped_storage()._cdata


class Kept:
    """Stretches of memory that a graph keeps, without the weights; they are held, or their places would be used again."""

    def __init__(self, weights: set[int]) -> None:
        self.weights, self.storages = weights, {}

    def pack(self, tensor: Tensor) -> Tensor:
        place = _place(tensor)
        if place not in self.weights:
            self.storages[place] = tensor.untyped_storage()
        return tensor

    def counting(self) -> saved_tensors_hooks:
        """Context in which everything that a graph keeps goes through :meth:`pack`."""
        return saved_tensors_hooks(self.pack, lambda tensor: tensor)

    def bytes(self, beside: "Kept | None" = None) -> int:
        """All bytes, without those that ``beside`` has counted."""
        return sum(storage.nbytes() for place, storage in self.storages.items() if beside is None or place not in beside.storages)


def _count_apart(block: nn.Module, kept: Kept, inside: Kept) -> None:
    """What goes into the block counts as ``kept``, what the block itself keeps as ``inside``."""
    contexts = []

    def enter(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        for value in inputs:
            if isinstance(value, Tensor):
                kept.pack(value)
        contexts.append(inside.counting())
        contexts[-1].__enter__()

    def leave(*_: Any) -> None:
        contexts.pop().__exit__(None, None, None)

    block.register_forward_pre_hook(enter)
    block.register_forward_hook(leave)


def _check(batch: int, seconds: float, enroll_seconds: float, enrollments: int) -> None:
    numbers = {"seconds": seconds, "enroll_seconds": enroll_seconds}
    for name, value in numbers.items():
        if not (math.isfinite(value) and round(value * SAMPLE_RATE) >= 1):
            raise CostError(f"{name} is {value}, allowed is a length above 0 s")
    for name, value in {"batch": batch, "enrollments": enrollments}.items():
        if value < 1:
            raise CostError(f"{name} is {value}, allowed is at least 1")
