"""Several trainings at the same time, a process each on one device, where a small model leaves a large card idle half of the time; and
how many steps fill a time here, by a short trial."""

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
"""Steps of a trial, and those of them that do not count."""


def train_abreast(trainings: Sequence[Params], count: int, progress: bool = True, judge: Params | None = None) -> None:
    """Train what is not finished, ``count`` at a time, as :func:`hifitse.training.train.train` does, each with its share of the cores
    where ``threads`` is 0. However this process ends, they end after a whole step, to be resumed. Where one fails the others go on.
    ``judge`` as there.

    Raises HifitseError: one or more failed; said in the words of the first, when the others are done.
    """
    waiting = {run.folder.name: each for each in trainings if not (run := Run.of(each)).finished}
    share = max(1, usable_cores() // min(count, max(1, len(waiting))))
    running, failed = {}, []
    with progress_bar(total=len(waiting), unit="training", disable=not progress) as bar:
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
        raise HifitseError(failed[0] if len(failed) == 1 else f"{len(failed)} trainings failed, the first one so: {failed[0]}")


def _next(waiting: Mapping[str, Params], running: Collection[str]) -> str | None:
    """The first run whose own to start from is neither waiting nor running."""
    return next((name for name, each in waiting.items() if each.start_from not in (*waiting, *running)), None)


def _started(params: Params, judge: Params) -> subprocess.Popen[str]:
    """A process that trains for as long as the pipe to it is open, in a session of its own, so that nothing else stops it."""
    command, pipe = [sys.executable, "-c", "from hifitse.training.abreast import _work; _work()"], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=importing(), start_new_session=True)
    with suppress(BrokenPipeError):  # it ended already
        print(params.model_dump_json(), judge.model_dump_json(), sep="\n", file=process.stdin, flush=True)
    return process


def _work() -> None:
    """What such a process does: train what its input says, and stop when that is closed. Its output is why it failed."""
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
