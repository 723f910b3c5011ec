"""The same training step done in several ways, in turns: in batches or plainly, with other settings, compiled; and its memory.

Times are rounds in turns (:func:`hifitse.evaluation.cost.turns`), kept memory is counted (:mod:`hifitse.evaluation.counting`), peak
memory is what torch's allocator gave out.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from hifitse.evaluation.cost import made_up_batch, step_seconds, turns
from hifitse.evaluation.counting import kept_bytes
from hifitse.machine import threads
from hifitse.params import PRESET_DIR, Params, load_yaml, resolve
from hifitse.studies.performance import thread_counts
from hifitse.studies.plain import plain
from hifitse.training.train import State, new_state, train_step

BATCHED, ALONE, PLAIN = "batched", "batched, nothing shared", "plain"
AS_IS, EAGER, COMPILED = "as the preset", "eager", "compiled"
CPU = torch.device("cpu")
Times = dict[str, list[float]]
"""Name -> seconds, one a round."""


def models(params: Params) -> dict[str, Params]:
    """The parameters themselves by the name of their preset, and with the preset's best recipe laid over, where there is one."""
    best, found = f"{params.preset}-best", {params.preset: params}
    if (PRESET_DIR / f"{best}.yaml").is_file():
        found[best] = Params(**(params.model_dump() | load_yaml(best)))
    return found


def plans(params: Params) -> dict[str, Params]:
    """The model of preset full and its best recipe, as forward passes of one mixture take them; none where no length is asked for."""
    if params.preset == "full" or not params.bench_full_seconds:
        return {}
    alone = {"batch_size": 1, "both_talkers": False, "threads": params.threads, "device": params.device}
    alone |= {"seconds": min(max(params.bench_full_seconds), 4.0)}
    return {name: resolve("full", overlay, **alone) for name, overlay in (("full", None), ("full-best", "full-best"))}


def _states(params: Params) -> dict[str, tuple[State, dict[str, Any]]]:
    """States with equal weights and their batch: as it is, with nothing shared, and the plain way."""
    batch = made_up_batch(params)
    alone = {name: value for name, value in batch.items() if name != "shared"}
    found = {BATCHED: (new_state(params), batch)}
    if "shared" in batch and not params.enroll_dropout and not params.specaug:
        found[ALONE] = (new_state(params), alone)
    found[PLAIN] = (new_state(params), alone)
    plain(found[PLAIN][0].model)
    return found


def versions(params: Params, rounds: int, train: bool = True) -> dict[str, Times]:
    """The model as it is and computed plainly (:mod:`hifitse.studies.plain`), with the same weights on the same batch, in turns.

    Args:
        params: of model and batch; its threads.
        rounds: 1 or more.
        train: also a whole training step.

    Returns:
        "forward pass" and, if asked for, "training step" -> version -> seconds.
    """
    params = params.model_copy(update={"accumulation": 1})
    with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
        states = _states(params)
        forward = {name: partial(_forward, state, batch) for name, (state, batch) in states.items()}
        found = {"forward pass": turns(forward, rounds)}
        if train:
            steps = {name: partial(train_step, state, [batch]) for name, (state, batch) in states.items()}
            found["training step"] = turns(steps, rounds)
    return found


def _forward(state: State, batch: Mapping[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return state.model(batch["mix"].to(state.device), batch["enroll"].to(state.device), None, batch.get("shared"))


def equal(params: Params) -> dict[str, float]:
    """Largest differences of the plain version from the batched one, re the largest value: of the estimates, and of the gradients.

    Both in float64: in float32 a unit of a perceptron that is 0 but for rounding may be on in one and off in the other, and one in a
    million is, which changes gradients by some thousandths though nothing is wrong.

    Returns:
        ``outputs`` and ``gradients``, both without unit.
    """
    found: dict[str, list[torch.Tensor]] = {}
    with torch.random.fork_rng(devices=[]):
        for name, (state, batch) in _states(params.model_copy(update={"precision": "float32", "device": "cpu"})).items():
            model = state.model.double()
            mix, target, enroll = (batch[part].double() for part in ("mix", "target", "enroll"))
            est = model(mix, enroll, None, batch.get("shared"))
            state.objective(est, target, mix, batch["present"], batch, model).total.backward()
            gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            found[name] = [est.detach().flatten(), torch.cat(gradients)]
    pairs = zip(("outputs", "gradients"), found[BATCHED], found[PLAIN], strict=True)
    return {name: float((one - other).abs().max() / one.abs().max()) for name, one, other in pairs}


def settings(params: Params) -> dict[str, Params]:
    """The preset's training step, and with one thing changed: threads, precision, checkpointing."""
    params = params.model_copy(update={"threads": params.threads or torch.get_num_threads(), "accumulation": 1})
    changes = {f"{count} thread{'s' if count > 1 else ''}": {"threads": count} for count in thread_counts() if count != params.threads}
    changes["float32" if params.precision == "bf16" else "bf16"] = {"precision": "float32" if params.precision == "bf16" else "bf16"}
    changes["no checkpointing" if params.checkpointing else "checkpointing"] = {"checkpointing": not params.checkpointing}
    return {AS_IS: params} | {name: params.model_copy(update=change) for name, change in changes.items()}


def steps(params_by_name: Mapping[str, Params], rounds: int) -> tuple[Times, dict[str, tuple[float, float]]]:
    """Seconds of a training step of each, in turns, and its memory: MB kept for the backward pass as counted, and peak as measured."""
    memory = {}
    for name, params in params_by_name.items():
        lengths = params.batch_size, params.seconds, params.enroll_seconds
        counted = kept_bytes(params.extractor, *lengths, params.checkpointing, params.precision, params.enrollments)
        with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
            state, batch = new_state(params), [made_up_batch(params)]
            train_step(state, batch)  # the optimiser's state is there from now on
            memory[name] = counted / 1e6, peak_mb(partial(train_step, state, batch), state.device)
    return step_seconds(params_by_name, rounds), memory


def peak_mb(call: Callable[[], Any], device: torch.device = CPU) -> float:
    """Most memory that tensors of a call held at a time beyond what was there before, 10^6 bytes, as torch's allocator gave it out.

    What libraries take for themselves, such as oneDNN for the inside of an LSTM, is not in it.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        call()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    events = [event for event in events if event.device_type() == torch.profiler.DeviceType.CPU]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return float(max(np.cumsum(sizes), default=0)) / 1e6


def compiled(params: Params, rounds: int) -> dict[str, Any]:
    """The forward pass and training step under ``torch.compile`` against eager ones, in turns.

    Returns:
        ``compile_s``: both compilations together; "forward pass" and "training step" -> name -> seconds; or only ``why`` not, in words.
    """
    params = params.model_copy(update={"accumulation": 1})
    with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
        states, batch = {EAGER: new_state(params), COMPILED: new_state(params)}, made_up_batch(params)
        states[COMPILED].model.compile(dynamic=False)
        started = time.perf_counter()
        try:
            _forward(states[COMPILED], batch)
            train_step(states[COMPILED], [batch])
        except Exception as error:  # whatever a compiler that is missing, old or broken raises
            return {"why": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
        took = time.perf_counter() - started
        forward = {name: partial(_forward, state, batch) for name, state in states.items()}
        step = {name: partial(train_step, state, [batch]) for name, state in states.items()}
        return {"compile_s": took, "forward pass": turns(forward, rounds), "training step": turns(step, rounds)}
