"""Where the time of a training step goes: part by part of the network, forward and backward, as torch's profiler sees it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from hifitse.evaluation.cost import CostError, made_up_batch
from hifitse.machine import threads
from hifitse.params import Params
from hifitse.training.train import State, new_state, train_step

PARTS = ("STFT and inverse", "band encoder", "band layer", "frame layer", "attention", "speaker", "decoder", "loss", "optimiser", "other")
"""``attention`` is that along frames and that to the enrolment, ``speaker`` what modulates and pools; ``other`` is between the parts."""
MARK = "part of a step: "
BACKWARD = "autograd::engine::evaluate_function: "
"""The profiler's name of a node of the backward pass begins so."""

Parts = dict[str, tuple[float, float]]
"""Part -> seconds in the forward pass, which of a checkpointed block is run twice, and in the backward pass."""


def step_parts(params: Params, rounds: int) -> Parts:
    """Profile training steps and add up by part what each operation took by itself.

    Args:
        params: of model and batch; its threads, on the CPU. Accumulated batches count as one.
        rounds: steps, 1 or more; of each part the median is taken.

    Raises:
        CostError: no rounds.
    """
    if rounds < 1:
        raise CostError(f"rounds are {rounds}, allowed is at least 1")
    params = params.model_copy(update={"accumulation": 1, "device": "cpu"})
    with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
        state, batch, found = new_state(params), [made_up_batch(params)], []
        train_step(state, batch)
        with _marked(state):
            for _ in range(rounds):
                with profile(activities=[ProfilerActivity.CPU], acc_events=True) as record:
                    train_step(state, batch)
                found.append(_added_up(record.events()))
    middle = np.median(found, axis=0)  # (parts, 2)
    return {part: (float(forward), float(backward)) for part, (forward, backward) in zip(PARTS, middle, strict=True)}


@contextmanager
def _marked(state: State) -> Iterator[None]:
    """While this context lasts, the profiler knows in which part of the network or loss it is."""
    model, hooks = state.model, []
    part_of: dict[nn.Module, str] = {model.spectrum: PARTS[0], model.split: "band encoder", model.film: "speaker", model.merge: "decoder"}
    part_of |= {state.objective: "loss"} | {each: "speaker" for each in (model.pooling, model.resolutions) if each is not None}
    part_of |= {model.usef: "attention"} if model.usef is not None else {}
    for block in [*model.speaker_blocks, *model.blocks]:
        layers = {block.film: "speaker", block.bands: "band layer", block.frames: "frame layer"}
        part_of |= layers | {block.attention: "attention", block.reinject: "attention"}
    part_of.pop(None, None)
    inverse = model.spectrum.inverse

    def marked_inverse(*inputs: Any) -> torch.Tensor:
        with record_function(MARK + PARTS[0]):
            return inverse(*inputs)

    try:
        for module, part in part_of.items():
            hooks += _hooks(module, part)
        model.spectrum.inverse = marked_inverse
        yield
    finally:
        del model.spectrum.inverse
        for hook in hooks:
            hook.remove()


def _hooks(module: nn.Module, part: str) -> list[Any]:
    ranges = ExitStack()

    def enter(*_: Any) -> None:
        ranges.enter_context(record_function(MARK + part))

    def leave(*_: Any) -> None:
        ranges.close()

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _added_up(events: Any) -> np.ndarray:
    """Seconds by part, forward and backward: (parts, 2).

    An operation carries the number of the node that it makes for the backward pass, and the node carries it too. What makes no node
    carries the next one's; so of several operations the last with a number has made the node.
    """
    seconds, part_of_node = np.zeros((len(PARTS), 2)), {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        part, backward = _place(event)
        if part and not backward and event.sequence_nr >= 0:
            part_of_node[event.sequence_nr] = part
    for event in events:
        part, backward = _place(event)
        part = part_of_node.get(backward.sequence_nr) if backward else part
        seconds[PARTS.index(part or "other"), int(backward is not None)] += event.self_cpu_time_total / 1e6
    return seconds


def _place(event: Any) -> tuple[str, Any]:
    """Name of the part that an event lies in, empty for none, and the node of the backward pass if it belongs to one."""
    while event is not None:
        if event.name.startswith(MARK):
            return event.name.removeprefix(MARK), None
        if event.name.startswith("Optimizer."):
            return "optimiser", None
        if event.name.startswith(BACKWARD):
            return "", event
        event = event.cpu_parent
    return "", None
