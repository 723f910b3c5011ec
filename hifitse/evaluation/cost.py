"""What a model costs: parameters, arithmetic, memory of a training step and its time beside another's.

All but the time is counted (:mod:`hifitse.evaluation.counting`) and the same on every machine. Time is measured, all models in turn in one
run, and shown as a ratio.
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

from hifitse import SAMPLE_RATE
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.data.shared import Shared
from hifitse.evaluation.counting import CostError, Kept, activation_bytes, build, gflops_per_second, macs, parameters
from hifitse.losses.objective import Objective
from hifitse.machine import threads
from hifitse.metrics import RESAMPLES, Interval
from hifitse.params import Params
from hifitse.training.optimizers import Muon, new_optimizers
from hifitse.training.train import new_state, train_step

__all__ = [
    "Cost", "CostError", "activation_bytes", "costs", "gflops_per_second", "macs", "made_up_batch", "parameters", "ratios",
    "step_seconds", "training_bytes", "turns",
]  # fmt: skip

BASELINE = "baseline"
FLOAT = 4
"""Bytes of a number in float32, in which weights, gradients and the optimiser's state are kept at any precision."""


@dataclass(frozen=True)
class Cost:
    """What one model costs at its own batch and lengths.

    Attributes:
        parameters: number of weights.
        gflops_per_second: as :func:`gflops_per_second`, at the lengths of the training.
        activation_mb: 10^6 bytes, as :func:`activation_bytes`; like the next ``None`` with checkpointing, where it is not counted.
        training_mb: 10^6 bytes, as :func:`training_bytes`.
        step_seconds: median seconds of a training step on this machine; ``None`` where it was not measured.
        step_ratio: of these seconds to the baseline's; ``None`` where it was not measured.
    """

    parameters: int
    gflops_per_second: float
    activation_mb: float | None
    training_mb: float | None
    step_seconds: float | None = None
    step_ratio: Interval | None = None


def training_bytes(params: Params) -> int | None:
    """Bytes that a training step holds when its backward pass begins; ``None`` with checkpointing, where it is not counted.

    The weights, their gradients, the averaged weights, the optimiser's state (two moments for AdamW, one for a matrix under Muon),
    what network and loss keep (:func:`activation_bytes`), and the batch itself. What a library needs for one operation is not in it.
    """
    kept = _kept_by_network(params)
    if kept is None:
        return None
    model = build(params)
    moments = {Muon: 1, torch.optim.AdamW: 2}
    state = sum(
        moments[type(optimizer)] * parameter.numel()
        for optimizer in new_optimizers(model, params)
        for group in optimizer.param_groups
        for parameter in group["params"]
    )
    weights = 3 * sum(parameter.numel() for parameter in model.parameters())
    return FLOAT * (weights + state) + kept + params.batch_size * _loss_bytes(params)


def _kept_by_network(params: Params) -> int | None:
    lengths = params.batch_size, params.seconds, params.enroll_seconds
    return None if params.checkpointing else activation_bytes(params.extractor, *lengths, params.precision, params.enrollments)


def _loss_bytes(params: Params) -> int:
    """Bytes of one item's sounds and of what its loss keeps; a batch has that many times as much.

    Only the contrasts of voices look across items: of two, for those may be the two talkers of one mixture. What it keeps beside
    embeddings, which are small, is what the encoder keeps of each recording.
    """
    items = 2 if params.loss_speaker or params.loss_identity else 1
    batch = made_up_batch(params, items)
    est = batch["mix"].clone().requires_grad_()
    model = build(params).train() if items > 1 else None
    kept = Kept({parameter.untyped_storage()._cdata for parameter in (model.parameters() if model else ())})
    for sound in (est, batch["mix"], batch["target"], batch["enroll"]):
        kept.pack(sound)
    with kept.counting():
        Objective(params)(est, batch["target"], batch["mix"], batch["present"], batch, model)
    return kept.bytes() // items


def made_up_batch(params: Params, items: int | None = None) -> dict[str, Any]:
    """White noise in the shape of a training batch: as :data:`hifitse.data.dataset.Batch`, the target in every mixture.

    Each has one interferer: with ``both_talkers`` that of the neighbour with whom it shares the mixture, else one of its own.
    """
    items = params.batch_size if items is None else items
    generator = torch.Generator().manual_seed(params.seed)
    shapes = {"mix": (round(params.seconds * SAMPLE_RATE),), "target": (round(params.seconds * SAMPLE_RATE),)}
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


def turns(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call by the clock, one value per round, after one call of each to warm up.

    Every round takes each in turn, every second round backwards: a machine that is busy for a while slows them all, and the ratios
    within a round hold.

    Args:
        calls: by name; what they leave to an accelerator counts until it is done.
        rounds: 1 or more.

    Raises:
        CostError: no rounds.
    """
    if rounds < 1:
        raise CostError(f"rounds are {rounds}, expected at least 1")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name in list(calls) if turn % 2 else reversed(calls):
            started = time.perf_counter()
            calls[name]()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def step_seconds(params_by_name: Mapping[str, Params], repeats: int = 5, drawn: bool = False) -> dict[str, list[float]]:
    """Seconds of a training step of each, by :func:`hifitse.training.train.train_step` on made-up batches, in :func:`turns`.

    All models are in memory together. The weights' update, a small part, is in each step, also where it comes after several.

    Args:
        params_by_name: parameters by name of the arm; each runs on its own ``device`` and ``threads``.
        repeats: rounds, 1 or more.
        drawn: on batches of the training's own mixtures instead, made in this process, and the time of making them counts; it is that
            after a first pass through the recordings, or through 5000 of them.

    Raises:
        CostError: no rounds.
        TrainingError: no such device.
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


def ratios(times: Mapping[str, Sequence[float]], to: str = BASELINE, seed: int = 0) -> dict[str, Interval]:
    """Median ratio of the times to those of ``to`` in the same round, with its 95 % bootstrap interval over the rounds.

    Args:
        times: seconds by name, as :func:`step_seconds` gives them; ``mean`` of the interval is the median, ``n`` the rounds.
        to: name of what the others are compared with.
        seed: of the resampling.

    Raises:
        CostError: ``to`` is not among the times, or the rounds are not as many for all.
    """
    if to not in times:
        raise CostError(f"times are compared with {to!r}, expected one of {', '.join(times)}")
    lengths = {name: len(each) for name, each in times.items()}
    if len(set(lengths.values())) > 1 or not lengths[to]:
        raise CostError(f"rounds are {lengths}, expected one number for all, at least 1")
    rounds = lengths[to]
    drawn = np.random.default_rng(seed).integers(0, rounds, (RESAMPLES, rounds))
    found = {}
    for name, each in times.items():
        ratio = np.array(each) / np.array(times[to])
        ends = np.quantile(np.median(ratio[drawn], axis=1), (0.025, 0.975)) if rounds > 1 else (math.nan, math.nan)
        found[name] = Interval(float(np.median(ratio)), float(ends[0]), float(ends[1]), rounds)
    return found


def costs(params_by_name: Mapping[str, Params], repeats: int = 5, to: str = BASELINE, drawn: bool = False) -> dict[str, Cost]:
    """The :class:`Cost` of each arm at its own batch and lengths; ``repeats`` 0 measures no time, ``drawn`` is as in :func:`step_seconds`.

    Raises:
        CostError: as :func:`step_seconds` and :func:`ratios`.
    """
    times = step_seconds(params_by_name, repeats, drawn) if repeats else {}
    ratio = ratios(times, to) if times else {}
    found = {}
    for name, params in params_by_name.items():
        lengths = params.seconds, params.enroll_seconds, params.enrollments
        found[name] = Cost(
            parameters(params),
            gflops_per_second(params, *lengths),
            None if params.checkpointing else _kept_by_network(params) / 1e6,
            None if params.checkpointing else training_bytes(params) / 1e6,
            float(np.median(times[name])) if name in times else None,
            ratio.get(name),
        )
    return found
