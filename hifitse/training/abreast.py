"""Run several trainings in parallel on one device, one process each, because a small model leaves a large GPU idle half of the time.
Measure the time per step in a short trial, to find how many steps fit into a time budget."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from hifitse import HifitseError
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.machine import progress_bar, set_threads, usable_cores
from hifitse.params import Params
from hifitse.pool import Pool, importing
from hifitse.training.run import Run
from hifitse.training.state import new_state
from hifitse.training.train import train, train_step

PROBE, WARM = 60, 20
"""Steps of a trial, and how many of them are warm-up that is not timed."""


def train_abreast(trainings: Sequence[Params], count: int, progress: bool = True, judge: Params | None = None) -> None:
    """Train all unfinished runs with :func:`hifitse.training.train.train`, ``count`` at a time, in one process each.

    With ``threads`` 0 they share the cores evenly. When this process ends, for whatever reason, each training finishes its current step
    and can be resumed. If one fails, the others continue. ``judge`` is passed on to ``train``.
    Raises HifitseError: one or more trainings failed; raised after the others are done, with the message of the first."""
    waiting = {run.folder.name: each for each in trainings if not (run := Run.of(each)).finished}
    share = max(1, usable_cores() // min(count, max(1, len(waiting))))
    running, failed = {}, []
    with progress_bar(total=len(waiting), unit="training", disable=not (progress and waiting)) as bar:
        try:
            while waiting or running:
                while len(running) < count and (name := _next(waiting, running.values())):
                    params = waiting.pop(name)
                    running[_started(params.model_copy(update={"threads": params.threads or share}), judge or params)] = name
                for process in [each for each in running if each.poll() is not None]:
                    name, said = running.pop(process), process.communicate()[0].strip()
                    if code := process.returncode:
                        failed.append(said or f"the process that trained run {name} ended with {code}, expected 0")
                    bar.update()
                time.sleep(0.1)
        finally:
            for process in running:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            for process in running:
                process.wait()
    if failed:
        raise HifitseError(failed[0] if len(failed) == 1 else f"{len(failed)} trainings failed, the first with this error: {failed[0]}")


def _next(waiting: Mapping[str, Params], running: Collection[str]) -> str | None:
    """Return the first waiting run whose ``start_from`` run is neither waiting nor running."""
    return next((name for name, each in waiting.items() if each.start_from not in (*waiting, *running)), None)


def _started(params: Params, judge: Params) -> subprocess.Popen[str]:
    """Start a process that trains as long as its stdin pipe is open. It has its own session, so that nothing else stops it."""
    command, pipe = [sys.executable, "-c", "from hifitse.training.abreast import _work; _work()"], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=importing(), start_new_session=True)
    with suppress(BrokenPipeError):  # it has already ended
        print(params.model_dump_json(), judge.model_dump_json(), sep="\n", file=process.stdin, flush=True)
    return process


def _work() -> None:
    """Entry point of such a process: train the parameters given on stdin, stop when stdin closes, and print why training failed."""
    params, judge = (Params.model_validate_json(sys.stdin.buffer.readline()) for _ in range(2))

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    try:
        train(params, progress=False, judge=judge)
    except (HifitseError, KeyboardInterrupt) as error:
        print(error)
        sys.exit(1)


def seconds_per_step(params: Params, limit_s: float, shared: bool = False) -> float:
    """Measure the seconds per step in a short trial that writes no files. Raises the errors of training.

    The time includes making the mixtures but not validation. Without workers, the recordings (up to 5,000) are decoded before the trial,
    as they are in a real training after a few minutes: the first batches of `people` take twice as long as later ones.

    Args:
        limit_s: seconds after which the trial ends; at least one update is done.
        shared: the machine is also doing other work: with one CPU thread and no workers, measure CPU time instead of wall-clock time.
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
    """Run :func:`seconds_per_step` (``shared``) for all trainings at once, each in its own process; a single one runs in this process."""
    with Pool(seconds_per_step, len(trainings) if len(trainings) > 1 else 0) as pool:
        return [pool.result(task) for task in [pool.start(each, limit_s, True) for each in trainings]]


def fill(params: Params, seconds: float, per_step: float) -> dict[str, Any]:
    """Return parameter changes that make a training last about ``seconds`` at ``per_step`` seconds per step: ``steps`` in whole updates,
    at least one, and ``warmup_steps`` of at most a tenth of them."""
    steps = max(params.accumulation, int(seconds / max(per_step, 1e-6)) // params.accumulation * params.accumulation)
    return {"steps": steps, "warmup_steps": min(params.warmup_steps, steps // 10)}
