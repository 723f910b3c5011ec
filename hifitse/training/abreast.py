"""Trainings at the same time, a process each on one device: a small model leaves a large card idle half of the time."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from hifitse import HifitseError
from hifitse.machine import progress_bar, usable_cores
from hifitse.params import Params
from hifitse.pool import importing
from hifitse.training.run import Run
from hifitse.training.train import train


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
