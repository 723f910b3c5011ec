"""Notebook 11: speed of the model: fast paths against plain formulas, time by mixture length, busy machines.

All times are measured in interleaved rounds (:func:`hifitse.evaluation.cost.turns`).
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from IPython.display import HTML, Image

from hifitse import SAMPLE_RATE
from hifitse.evaluation.cost import build, made_up_batch, ratios, turns
from hifitse.machine import pick_device, threads
from hifitse.metrics import Interval
from hifitse.model import kernels
from hifitse.params import PRESET_DIR, Params, load_yaml, resolve
from hifitse.pool import answer as answer_of
from hifitse.pool import importing
from hifitse.report import figures, tables
from hifitse.report.show import box, card, faster, picture, table
from hifitse.training.train import State, new_state, train_step

FAST, ALONE, PLAIN = "fast", "fast, nothing shared", "plain"
SPINNING, PASSIVE = "default", "passive"
GOAL, FULL_S = 1.5, 0.35
"""The plan's goals: speed-up of a training step over the plain formulas; seconds per second of audio for the 11.79 M model at 4 s."""
Times = Mapping[str, Sequence[float]]
"""Version -> seconds per training step, one value per round."""
Lengths = Mapping[str, Mapping[float, float]]
"""Model -> mixture length in s -> seconds per forward pass."""


def models(params: Params) -> dict[str, Params]:
    """Return preset name -> parameters, and the same with the preset's best recipe applied, if it has one."""
    best = f"{params.preset}-best"
    there = (PRESET_DIR / f"{best}.yaml").is_file()
    return {params.preset: params} | ({best: Params(**(params.model_dump() | load_yaml(best)))} if there else {})


def plans(params: Params) -> dict[str, Params]:
    """Return preset "full" and its best recipe; nothing if ``params`` are of "full" or ``bench_full_seconds`` is empty."""
    if params.preset == "full" or not params.bench_full_seconds:
        return {}
    given = {"threads": params.threads, "device": params.device}
    return {name: resolve("full", overlay, **given) for name, overlay in (("full", None), ("full-best", "full-best"))}


def _states(params: Params) -> dict[str, tuple[State, dict[str, Any]]]:
    """Return equal weights and a batch for each version: shared encodings, nothing shared between items, plain formulas."""
    batch = made_up_batch(params)
    alone = {name: value for name, value in batch.items() if name != "shared"}
    found = {FAST: (new_state(params), batch)}
    if "shared" in batch and not params.enroll_dropout and not params.specaug:
        found[ALONE] = (new_state(params), alone)
    return found | {PLAIN: (new_state(params), alone)}


def versions(params: Params, rounds: int) -> Times:
    """Return version -> seconds per training step, in interleaved rounds (at least 1) with equal weights."""

    def step(name: str, state: State, batch: dict[str, Any]) -> None:
        with kernels.plain(name == PLAIN):
            train_step(state, [batch])

    with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
        states = _states(params.model_copy(update={"accumulation": 1}))
        return turns({name: partial(step, name, *each) for name, each in states.items()}, rounds)


def equal(params: Params) -> dict[str, float]:
    """Return the largest difference between plain formulas and fast paths in ``outputs`` and ``gradients``, relative to the largest value.

    Both run in float64. In float32, rounding alone switches about one rectifier in a million on in one of them and off in the other.
    """
    found: dict[str, list[torch.Tensor]] = {}
    with torch.random.fork_rng(devices=[]):
        for name, (state, batch) in _states(params.model_copy(update={"precision": "float32", "device": "cpu"})).items():
            model = state.model.double()
            mix, target, enroll = (batch[part].double() for part in ("mix", "target", "enroll"))
            with kernels.plain(name == PLAIN):
                est = model(mix, enroll, None, batch.get("shared"))
                state.objective(est, target, mix, batch["present"], batch, model).total.backward()
            gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            found[name] = [est.detach().flatten(), torch.cat(gradients)]
    pairs = zip(("outputs", "gradients"), found[FAST], found[PLAIN], strict=True)
    return {name: float((one - other).abs().max() / one.abs().max()) for name, one, other in pairs}


def by_length(params: Params, lengths: Sequence[float], rounds: int) -> dict[float, float]:
    """Return mixture length in s (above 0) -> median seconds per forward pass, without encoding the enrolment. ``rounds`` is at least 1."""
    device = pick_device(params.device)
    model = build(params.extractor).eval().to(device)
    enroll = 0.1 * torch.randn(1, round(params.enroll_seconds * SAMPLE_RATE), device=device)
    with torch.inference_mode(), threads(params.threads or torch.get_num_threads()):
        speaker = model.encode(enroll)
        mixes = {seconds: 0.1 * torch.randn(1, round(seconds * SAMPLE_RATE), device=device) for seconds in lengths}
        times = turns({seconds: partial(model.extract_speaker, mix, speaker) for seconds, mix in mixes.items()}, rounds)
    return {seconds: float(np.median(each)) for seconds, each in times.items()}


@contextmanager
def _busy(programs: int) -> Iterator[None]:
    """Run ``programs`` other processes inside this context, each of which keeps one core busy."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def beside_others(params: Params, rounds: int, programs: Sequence[int] = (0, 1, 2)) -> dict[int, float]:
    """Return number of other busy programs -> median seconds per training step."""
    params, found = params.model_copy(update={"accumulation": 1}), {}
    with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
        state, batch = new_state(params), [made_up_batch(params)]
        for count in programs:
            with _busy(count):
                found[count] = float(np.median(turns({"step": partial(train_step, state, batch)}, rounds)["step"]))
    return found


def waiting(params: Params, rounds: int) -> Times:
    """Time a training step on 2 threads that wait for each other passively or by the system's default: one value per round, in turns.

    Every measurement uses a new process, because torch fixes the wait policy when it is loaded. On a busy machine the result says
    nothing about an idle one."""
    found: dict[str, list[float]] = {PASSIVE: [], SPINNING: []}
    environment = {name: value for name, value in importing().items() if not name.startswith(("OMP_", "GOMP_"))}
    own = params.model_copy(update={"threads": 2}).model_dump_json()
    code = f"from hifitse.studies.performance import Params, beside_others as b; print(b(Params.model_validate_json({own!r}), 3, [0])[0])"
    for turn in range(rounds):
        for name in list(found)[:: 1 if turn % 2 else -1]:
            # the library sets the passive policy, unless torch was imported first
            found[name].append(answer_of("trains", f"import torch; {code}" if name == SPINNING else code, environment))
    return found


# ---- displays of the notebook


def gain(times: Times) -> dict[str, Interval]:
    """Return the speed-up of the first version over each other one."""
    first = next(iter(times))
    return {name: value for name, value in ratios(times, first).items() if name != first}


def answer(models: Mapping[str, Times], lengths: Lengths) -> HTML:
    """Return the verdict: speed-up over the plain formulas, growth of time with length, time of the plan's model."""
    steps = {name: gain(times)[PLAIN] for name, times in models.items()}
    cards = "".join(card(f"training step, {name}", value, "plain / fast", unit="×") for name, value in steps.items())
    powers = {name: np.polyfit(*np.log([list(each), list(each.values())]), 1)[0] for name, each in lengths.items() if len(each) > 1}
    grows = ", ".join(f"{name}: exponent {power:.2f}" for name, power in powers.items())
    text = f"Time grows with the length: {grows}. " if grows else ""
    if full := lengths.get("full", {}).get(4.0):
        text += f"The 11.79 M model takes {tables.number(full / 4)} s per second of audio at 4 s; the plan asked for {FULL_S}."
    return box(*faster(steps.values(), "A training step is", "by the plain formulas", GOAL), cards, text)


def versions_table(models: Mapping[str, Times], same: Mapping[str, Mapping[str, float]]) -> HTML:
    """Return a table of each version's seconds per training step, its time relative to the first version, and the numerical differences."""
    rows = []
    for model, times in models.items():
        faster = gain(times)
        for name, each in times.items():
            row = {"model": model, "version": name, "median, s": tables.number(float(np.median(each)), 4)}
            row["time / first"] = tables.measured(faster[name]) if name in faster else "1"
            differ = ", ".join(f"{key} {value:.0e}" for key, value in same[model].items()) if name == PLAIN else ""
            rows.append(row | {"largest relative difference, float64": differ})
    return table(rows, "training steps in turns; ratios within a round, with 95 % intervals")


def lengths_picture(found: Lengths) -> Image:
    """Plot the time of a forward pass against mixture length on logarithmic axes, where a power law is a straight line."""
    shown = "; ".join(f"{name} {max(each):g} s: {each[max(each)]:.2f} s" for name, each in found.items())
    curves = {name: list(each.items()) for name, each in found.items()}
    curves["real time"] = sorted({(length, length) for each in found.values() for length in each})
    figure = figures.lines({"": curves}, "length of the mixture, s", "forward pass, s", log="xy")
    return picture(figure, f"Time of a forward pass against length: {shown}")


def busy_table(found: Mapping[str, Mapping[int, float]]) -> HTML:
    """Return a table of seconds per training step beside other busy programs."""
    return table({"model": name} | {f"beside {n}, s": f"{took:.2f}" for n, took in each.items()} for name, each in found.items())
