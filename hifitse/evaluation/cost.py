"""The cost of a model: parameters, arithmetic operations, memory of a training step, and its time relative to another model.

The first three are counted on fake tensors, which have shapes but no data, and are the same on every machine. Times are measured in
rounds that take all models in turn, and reported as ratios.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from hifitse import SAMPLE_RATE
from hifitse.data.dataset import Shared, training_loader
from hifitse.data.mixing import Mixer
from hifitse.evaluation.rows import BASELINE
from hifitse.losses.objective import Objective
from hifitse.machine import threads
from hifitse.metrics import RESAMPLES, Interval
from hifitse.model import Extractor, ExtractorConfig
from hifitse.params import Params
from hifitse.training.state import Muon, new_optimizers
from hifitse.training.train import new_state, train_step

RULES = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    # one time step of one direction: products of a (4 H, I) matrix with the input and of a (4 H, H) matrix with the state
    torch.ops.aten.mkldnn_rnn_layer: lambda x, w, u, *_, **__: 2 * x[0] * x[1] * (math.prod(w) + math.prod(u)),
}
"""Operation counts of the operators that torch's counter does not know: attention and LSTMs on CPUs."""


@dataclass(frozen=True)
class Cost:
    """The cost of one model with the batch size and lengths of its own training. Times are ``None`` if not measured."""

    parameters: int  # number of weights
    gflops_per_second: float
    training_mb: float | None  # 10^6 bytes; ``None`` with checkpointing
    step_seconds: float | None = None  # median duration of a training step on this machine
    step_ratio: Interval | None = None  # ratio of the step durations to the baseline's


def build(config: ExtractorConfig) -> Extractor:
    """Build a model with random weights without changing the state of torch's random number generator."""
    with torch.random.fork_rng(devices=[]):
        return Extractor(ExtractorConfig(**{name: getattr(config, name) for name in ExtractorConfig.model_fields}))


def parameters(config: ExtractorConfig) -> int:
    """Count the weights of the model."""
    return sum(parameter.numel() for parameter in build(config).parameters())


def gflops_per_second(config: ExtractorConfig, seconds: float = 4.0, enroll_seconds: float = 4.0, enrollments: int = 1) -> float:
    """Count the operations of one forward pass per second of mixture, in units of 10^9; a multiply-add counts as two.

    All matrix products, attention and LSTMs are counted, including the encoding of the enrolments, once per mixture. Fourier
    transforms, norms, activations and biases are not; in the plan's baseline they amount to less than 1 %.
    """
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=RULES) as counter:
        _forward(build(config), 1, seconds, enroll_seconds, enrollments)
    return 1e-9 * counter.get_total_flops() / seconds


def _forward(model: Extractor, batch: int, seconds: float, enroll_seconds: float, enrollments: int) -> list[Tensor]:
    """Run a forward pass on fake tensors, with real shapes, types and saved tensors. Return the weights."""
    with FakeTensorMode():
        state = {name: torch.empty(p.shape).requires_grad_() for name, p in model.named_parameters()}
        state |= {name: torch.empty(b.shape, dtype=b.dtype) for name, b in model.named_buffers()}
        mix = torch.empty(batch, round(seconds * SAMPLE_RATE))
        enroll = torch.empty(batch, enrollments, round(enroll_seconds * SAMPLE_RATE))
        functional_call(model, state, (mix, enroll))
        return list(state.values())


def training_bytes(params: Params) -> int | None:
    """Count the bytes that a training step holds when its backward pass begins. ``None`` with checkpointing, which is not modelled.

    Counted are, in float32, the weights, their gradients, the averaged weights and the optimiser state (two moments for AdamW, one for
    a matrix under Muon), as well as the batch and the tensors that network and loss save. Temporary workspace of operators is not.
    """
    if params.checkpointing:
        return None
    batch, model, shapes = made_up_batch(params), build(params), build(params).train()
    dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
    kept: dict[int, torch.UntypedStorage] = {}  # referenced so that addresses are not reused; each counts once

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    def lstm(module: nn.LSTM, x: Tensor) -> tuple[Tensor, None]:
        """Stand in for an LSTM, (G, S, I) -> (G, S, 2 H), without computing it. Its gradient needs input, output, four gates and the cell
        of each direction, which the hooks do not see; oneDNN, on CPUs, keeps three times the gates and cells."""
        hidden = (1 + module.bidirectional) * module.hidden_size
        output, gates_and_cell = (x.new_empty(*x.shape[:-1], n * hidden, dtype=dtype) for n in (1, 5))
        for tensor in (x.to(dtype), output, gates_and_cell):
            pack(tensor)
        return output.requires_grad_(), None

    for module in shapes.modules():
        if isinstance(module, nn.LSTM) and module.weight_ih_l0.requires_grad:  # a frozen LSTM saves nothing
            module.forward = partial(lstm, module)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            weights = _forward(shapes, params.batch_size, params.seconds, params.enroll_seconds, params.enrollments)
        est = batch["mix"].clone().requires_grad_()
        for sound in (est, batch["mix"], batch["target"], batch["enroll"]):
            pack(sound)
        Objective(params)(est, batch["target"], batch["mix"], batch["present"], batch, model.train())
    for weight in (*weights, *model.parameters()):
        kept.pop(weight.untyped_storage()._cdata, None)
    moments = {Muon: 1, torch.optim.AdamW: 2}
    groups = [(moments[type(each)], group) for each in new_optimizers(model, params) for group in each.param_groups]
    state = sum(count * parameter.numel() for count, group in groups for parameter in group["params"])
    return 4 * (3 * sum(parameter.numel() for parameter in model.parameters()) + state) + sum(each.nbytes() for each in kept.values())


def made_up_batch(params: Params) -> dict[str, Any]:
    """Make a training batch (:data:`hifitse.data.dataset.Batch`) of white noise, with the target present in every mixture.

    Each item has one interferer. With ``both_talkers`` this is the target of the neighbour that shares its mixture.
    """
    items, generator = params.batch_size, torch.Generator().manual_seed(params.seed)
    shapes = dict.fromkeys(("mix", "target"), (round(params.seconds * SAMPLE_RATE),))
    shapes["enroll"] = (params.enrollments, round(params.enroll_seconds * SAMPLE_RATE))
    if params.loss_speaker:
        shapes["wrong_enroll"] = shapes["enroll"]
    batch: dict[str, Any] = {name: 0.1 * torch.randn(items, *shape, generator=generator) for name, shape in shapes.items()}
    names = [(f"made-up-{i}", f"made-up-{i ^ 1 if params.both_talkers else items + i}") for i in range(items)]
    metadata = [{"id": asked, "target_speaker": asked, "target_speed": 1.0, "interferer_speakers": [other]} for asked, other in names]
    if params.both_talkers:
        item = torch.arange(items)
        shared = batch["shared"] = Shared(item[::2], item // 2, item, item)
        batch["mix"] = batch["mix"][shared.unique_mix][shared.mix_index]
    return batch | {"present": torch.ones(items, dtype=torch.bool), "metadata": metadata}


def turns(calls: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Measure the seconds of each call once per round, after one round of warm-up.

    Every round makes all calls in turn, every second round in reverse order. If the machine is busy for a while, all of them become
    slower and the ratios within a round stay valid. Pending work on an accelerator is included. With ``time.process_time`` as ``clock``
    only this process counts.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name in list(calls) if turn % 2 else reversed(calls):
            started = clock()
            calls[name]()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if turn:
                times[name].append(clock() - started)
    return times


def step_seconds(params_by_name: Mapping[str, Params], repeats: int = 5, drawn: bool = False) -> dict[str, list[float]]:
    """Measure the seconds per training step of each arm, weight update included, in ``repeats`` rounds (:func:`turns`).

    All models are in memory at the same time. ``drawn``: use real training mixtures instead of made-up batches. They are made in this
    process and their time counts; up to 5,000 recordings are decoded beforehand.
    """

    def step(params: Params, state: Any, batches: Iterator[dict[str, Any]]) -> None:
        with threads(params.threads or torch.get_num_threads()):
            train_step(state, [next(batches)])

    with torch.random.fork_rng(devices=[]):
        calls = {}
        for name, params in params_by_name.items():
            state = new_state(params.model_copy(update={"accumulation": 1}))
            calls[name] = partial(step, params, state, _drawn(params) if drawn else repeat(made_up_batch(params)))
        return turns(calls, repeats)


def _drawn(params: Params) -> Iterator[dict[str, Any]]:
    alone = params.model_copy(update={"workers": 0})
    mixer = Mixer(alone, "train")
    mixer.look()  # a real training reuses its recordings many times, but searches each for speech only once
    while True:  # start over, because a short training has few batches
        yield from training_loader(alone, mixer)


def ratios(times: Mapping[str, Sequence[float]], to: str = BASELINE) -> dict[str, Interval]:
    """Return the median ratio of the times to those of ``to`` in the same round, as ``mean``, with its 95 % bootstrap interval over the
    ``n`` rounds."""
    rounds = len(times[to])
    drawn = np.random.default_rng(0).integers(0, rounds, (RESAMPLES, rounds))
    found = {}
    for name, each in times.items():
        ratio = np.array(each) / np.array(times[to])
        ends = np.quantile(np.median(ratio[drawn], axis=1), (0.025, 0.975)) if rounds > 1 else (math.nan, math.nan)
        found[name] = Interval(float(np.median(ratio)), float(ends[0]), float(ends[1]), rounds)
    return found


def costs(params_by_name: Mapping[str, Params], repeats: int = 5, drawn: bool = False) -> dict[str, Cost]:
    """Return the :class:`Cost` of each arm. ``repeats`` 0 measures no times; ``drawn`` as in :func:`step_seconds`."""
    times = step_seconds(params_by_name, repeats, drawn) if repeats else {}
    ratio = ratios(times) if times else {}
    found = {}
    for name, params in params_by_name.items():
        kept = training_bytes(params)
        found[name] = Cost(
            parameters(params),
            gflops_per_second(params, params.seconds, params.enroll_seconds, params.enrollments),
            None if kept is None else kept / 1e6,
            float(np.median(times[name])) if name in times else None,
            ratio.get(name),
        )
    return found
