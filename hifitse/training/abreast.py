"""Trainings at the same time, a process each on one device: a small model leaves a large card idle half of the time."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from tempfile import TemporaryFile

from hifitse import HifitseError
from hifitse.machine import progress_bar, usable_cores
from hifitse.params import Params
from hifitse.pool import importing
from hifitse.training.run import Run
from hifitse.training.train import train


def train_abreast(trainings: Sequence[Params], count: int, progress: bool = True) -> None:
    """Train what is not finished, ``count`` at a time, as :func:`hifitse.training.train.train` does.

    Each process writes its own run's folder. However this one ends, they end after a whole step, to be resumed. Where one fails the
    others go on. Without ``threads`` each has its share of the cores.

    Args:
        trainings: any; one that stands there twice is trained once.
        count: most at a time, 1 or more.
        progress: show how many are done.

    Raises HifitseError: one or more failed; said in the words of the first, when the others are done.
    """
    waiting = [each for each in {each.run_id: each for each in trainings}.values() if not Run.of(each).finished]
    share = max(1, usable_cores() // min(count, max(1, len(waiting))))
    waiting = [each.model_copy(update={"threads": each.threads or share}) for each in waiting]
    running, failed = [], []
    with progress_bar(total=len(waiting), unit="training", disable=not progress) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < count:
                    running.append(_Training(waiting.pop(0)))
                for each in [each for each in running if each.process.poll() is not None]:
                    running.remove(each)
                    failed += each.ended()
                    bar.update()
                time.sleep(0.1)
        finally:
            for each in running:
                each.process.stdin.close()
            for each in running:
                each.process.wait()
    if failed:
        raise HifitseError(failed[0] if len(failed) == 1 else f"{len(failed)} trainings failed, the first one so: {failed[0]}")


class _Training:
    """A process that trains. It lives as long as the pipe to it is open, and leads a session of its own, so that nothing else stops it."""

    def __init__(self, params: Params) -> None:
        self.name, self.said = params.run_id, TemporaryFile()  # noqa: SIM115 (closed with the process)
        command = [sys.executable, "-c", "from hifitse.training.abreast import _work; _work()"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self.said, env=importing(), start_new_session=True)
        with suppress(BrokenPipeError):  # it ended already, and says why
            self.process.stdin.write(params.model_dump_json().encode() + b"\n")
            self.process.stdin.flush()

    def ended(self) -> list[str]:
        """Pass on its warnings. Returns why it failed, if it did."""
        with self.said:
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").strip().splitlines()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        if code := self.process.returncode:
            return [lines[-1] if code == 1 and lines else f"the process that trained run {self.name} ended with {code}, expected 0"]
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        return []


def _work() -> None:
    """What such a process does: train what its input says, and stop when that is closed."""
    params = Params.model_validate_json(sys.stdin.buffer.readline())

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    try:
        train(params, progress=False)
    except (HifitseError, KeyboardInterrupt) as error:
        sys.exit(str(error))
