"""What a model costs: parameters, arithmetic, memory of a training step, and its time beside another's.

The first three are counted on tensors that have a shape and no content, and are the same on every machine. Times are measured, all models
in turn in one run, and shown as ratios.
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
    # a step of one direction is a product of (4 H, I) with the input and one of (4 H, H) with the state
    torch.ops.aten.mkldnn_rnn_layer: lambda x, w, u, *_, **__: 2 * x[0] * x[1] * (math.prod(w) + math.prod(u)),
}
"""Operations by shapes, of what torch's counter does not know: attention and LSTMs on CPUs."""


@dataclass(frozen=True)
class Cost:
    """What one model costs at its own batch and lengths.

    Attributes:
        parameters: number of weights.
        gflops_per_second: as :func:`gflops_per_second`, at the lengths of the training.
        training_mb: 10^6 bytes, as :func:`training_bytes`; ``None`` with checkpointing.
        step_seconds: median seconds of a training step on this machine; ``None`` where it was not measured.
        step_ratio: of these seconds to the baseline's; ``None`` where it was not measured.
    """

    parameters: int
    gflops_per_second: float
    training_mb: float | None
    step_seconds: float | None = None
    step_ratio: Interval | None = None


def build(config: ExtractorConfig) -> Extractor:
    """A model with random weights that leaves torch's random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        return Extractor(ExtractorConfig(**{name: getattr(config, name) for name in ExtractorConfig.model_fields}))


def parameters(config: ExtractorConfig) -> int:
    """Number of trained weights of the model."""
    return sum(parameter.numel() for parameter in build(config).parameters())


def gflops_per_second(config: ExtractorConfig, seconds: float = 4.0, enroll_seconds: float = 4.0, enrollments: int = 1) -> float:
    """10^9 floating-point operations of one forward pass for each second of mixture, two for each multiply-add.

    Counted are all matrix products, attention and LSTMs, and the encoding of the enrolments, once for each mixture. Fourier
    transforms, norms, activations and biases are not; in the plan's baseline they are below a hundredth.

    Args:
        config: shape of the model.
        seconds, enroll_seconds: s, lengths of the mixture and of each enrolment, above 0.
        enrollments: recordings of the enrolled person, 1 or more.
    """
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=RULES) as counter:
        _forward(build(config), 1, seconds, enroll_seconds, enrollments)
    return 1e-9 * counter.get_total_flops() / seconds


def _forward(model: Extractor, batch: int, seconds: float, enroll_seconds: float, enrollments: int) -> list[Tensor]:
    """A forward pass on tensors without content: shapes, types and what is kept are right. Returns the weights."""
    with FakeTensorMode():
        state = {name: torch.empty(p.shape).requires_grad_() for name, p in model.named_parameters()}
        state |= {name: torch.empty(b.shape, dtype=b.dtype) for name, b in model.named_buffers()}
        mix = torch.empty(batch, round(seconds * SAMPLE_RATE))
        enroll = torch.empty(batch, enrollments, round(enroll_seconds * SAMPLE_RATE))
        functional_call(model, state, (mix, enroll))
        return list(state.values())


def training_bytes(params: Params) -> int | None:
    """Bytes that a training step holds when its backward pass begins; ``None`` with checkpointing, where it is not counted.

    In float32 the weights, their gradients, the averaged weights and the optimiser's state (two moments for AdamW, one for a matrix
    under Muon); and the batch, and what network and loss keep. What a library needs for one operation is not in it.
    """
    if params.checkpointing:
        return None
    batch, model, shapes = made_up_batch(params), build(params), build(params).train()
    dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
    kept: dict[int, torch.UntypedStorage] = {}  # held, or their places would be used again; each counts once

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    def lstm(module: nn.LSTM, x: Tensor) -> tuple[Tensor, None]:
        """(G, S, I) -> (G, S, 2 H), not computed. Its gradient needs input, output, four gates and the cell of each direction, which torch
        does not see; oneDNN, on CPUs, keeps three times the gates and cells."""
        hidden = (1 + module.bidirectional) * module.hidden_size
        output, gates_and_cell = (x.new_empty(*x.shape[:-1], n * hidden, dtype=dtype) for n in (1, 5))
        for tensor in (x.to(dtype), output, gates_and_cell):
            pack(tensor)
        return output.requires_grad_(), None

    for module in shapes.modules():
        if isinstance(module, nn.LSTM) and module.weight_ih_l0.requires_grad:  # a frozen one keeps nothing
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
    """White noise in the shape of a training batch: as :data:`hifitse.data.dataset.Batch`, the target in every mixture.

    Each has one interferer: with ``both_talkers`` that of the neighbour with whom it shares the mixture, else one of its own.
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


def turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each call, one value per round, after one call of each to warm up.

    Every round takes each in turn, every second round backwards: a machine that is busy for a while slows them all, and the ratios
    within a round hold.

    Args:
        calls: by name; what they leave to an accelerator counts until it is done.
        rounds: 1 or more.
        clock: ``time.process_time`` counts this process alone, on which other programs weigh little.
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
    """Seconds of a training step of each, weights' update included, by :func:`hifitse.training.train.train_step`, in :func:`turns`.

    Args:
        params_by_name: parameters by name of the arm; each runs on its own ``device`` and ``threads``, all are in memory together.
        repeats: rounds, 1 or more.
        drawn: on batches of the training's own mixtures, made in this process and counted, after a first look at all recordings, or at
            5000 of them; else on made-up batches.
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
    mixer.look()  # a training sees its recordings many times, and looks at each once
    while True:  # a training of few steps has few batches
        yield from training_loader(alone, mixer)


def ratios(times: Mapping[str, Sequence[float]], to: str = BASELINE) -> dict[str, Interval]:
    """Median ratio of the times to those of ``to`` in the same round, with its 95 % bootstrap interval over the rounds.

    Args:
        times: seconds by name, as many for all; ``mean`` of the interval is the median, ``n`` the rounds.
        to: name of what the others are compared with.
    """
    rounds = len(times[to])
    drawn = np.random.default_rng(0).integers(0, rounds, (RESAMPLES, rounds))
    found = {}
    for name, each in times.items():
        ratio = np.array(each) / np.array(times[to])
        ends = np.quantile(np.median(ratio[drawn], axis=1), (0.025, 0.975)) if rounds > 1 else (math.nan, math.nan)
        found[name] = Interval(float(np.median(ratio)), float(ends[0]), float(ends[1]), rounds)
    return found


def costs(params_by_name: Mapping[str, Params], repeats: int = 5, drawn: bool = False) -> dict[str, Cost]:
    """The :class:`Cost` of each arm at its own batch and lengths; ``repeats`` 0 measures no time, ``drawn`` as in :func:`step_seconds`."""
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
