"""How long a step of a training takes on this machine, by a short trial; so that trainings can be as long as a time, by their steps."""

import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.machine import set_threads
from hifitse.params import Params
from hifitse.pool import Pool
from hifitse.training.state import new_state
from hifitse.training.train import train_step

PROBE, WARM = 60, 20
"""Steps of a trial, and those of them that do not count."""


def seconds_per_step(params: Params, limit_s: float, shared: bool = False) -> float:
    """Seconds of a step with the making of its mixtures, without validation; a trial that leaves nothing. Errors as training.

    Without workers every recording is decoded before, as it is after the first minutes: the first batches of `people` take twice as long
    as later ones.

    Args:
        limit_s: s, after which the trial ends, with at least one update done.
        shared: the machine does other things too: on one CPU thread without workers the processor's time is taken, not the clock's.
    """
    set_threads(params.threads)
    params = params.model_copy(update={"steps": -(-PROBE // params.accumulation) * params.accumulation})
    mixer, state = Mixer(params, "train"), new_state(params)
    if not params.workers:
        mixer.look()
    batches = iter(training_loader(params, mixer, device=state.device))
    alone = (params.threads, params.workers, state.device.type) == (1, 0, "cpu")
    clock = time.process_time if shared and alone else time.monotonic
    ends = [(0, started := clock())]
    while state.step < params.steps and ends[-1][1] - started < limit_s:
        train_step(state, list(islice(batches, params.accumulation)))
        ends.append((state.step, clock()))
    (before, since), (last, until) = ends[min(-(-WARM // params.accumulation), len(ends) // 2, len(ends) - 2)], ends[-1]
    return (until - since) / (last - before)


def paces(trainings: Sequence[Params], limit_s: float) -> list[float]:
    """:func:`seconds_per_step` on a shared machine: of trainings that go on at the same time each in its own process, of one here."""
    with Pool(seconds_per_step, len(trainings) if len(trainings) > 1 else 0) as pool:
        return [pool.result(task) for task in [pool.start(each, limit_s, True) for each in trainings]]


def fill(params: Params, seconds: float, per_step: float) -> dict[str, Any]:
    """Changes to a training: as many steps as ``seconds`` hold at ``per_step`` seconds each, whole updates, at least one, with the schedule
    of the learning rate over them."""
    steps = max(params.accumulation, int(seconds / max(per_step, 1e-6)) // params.accumulation * params.accumulation)
    return {"steps": steps, "warmup_steps": min(params.warmup_steps, steps // 10)}
