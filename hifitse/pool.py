"""Run tasks that may crash their process without losing others. Does not import torch, so that a new process starts quickly."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from hifitse import HifitseError


class DiedError(HifitseError):
    """A task crashed its process, or so many did that the pool gave up."""


class Task(NamedTuple):
    """The arguments of a task, and what a process will return for them; ``None`` if no process works on it."""

    arguments: tuple
    future: Future | None


class Pool:
    """Pool of processes that run ``work(*arguments)``; a context manager.

    Processes are spawned: forking would copy locks and the state of CUDA. If one dies, the tasks that waited are run one by one in another;
    later tasks run in new processes.

    Args:
        work: a module-level function, which new processes import.
        workers: number of processes; 0: run the tasks in this process.
        deaths: number of tasks that may crash when run alone; then the pool gives up, because the cause lies elsewhere.
    """

    def __init__(self, work: Callable[..., Any], workers: int, deaths: int = 3) -> None:
        self.work, self.workers, self.deaths, self._died = work, workers, deaths, 0
        self._pool: ProcessPoolExecutor | None = None
        self._single: ProcessPoolExecutor | None = None

    @property
    def gave_up(self) -> bool:
        """Whether so many tasks crashed that no more are tried."""
        return self._died >= self.deaths

    def start(self, *arguments: Any) -> Task:
        """Submit a task to the processes, if there are any."""
        if not self.workers or self.gave_up:
            return Task(arguments, None)
        self._pool = self._pool or _spawn(self.workers)
        try:
            return Task(arguments, self._pool.submit(self.work, *arguments))
        except BrokenProcessPool:  # this task runs alone, the next one in new processes
            self._pool = None
            return Task(arguments, None)

    def result(self, task: Task) -> Any:
        """Wait for a task; return or raise what ``work`` does. Raises DiedError: it crashed its process twice, or the pool gave up."""
        if not self.workers:
            return self.work(*task.arguments)
        if task.future is not None:
            with suppress(BrokenProcessPool):
                return task.future.result()
        return self._alone(task.arguments)

    def _alone(self, arguments: tuple) -> Any:
        """Run a task in a separate process, one task at a time."""
        if self.gave_up:
            raise DiedError(f"{self._died} processes crashed, so no more tasks are tried; memory may be short")
        self._single = self._single or _spawn(1)
        try:
            return self._single.submit(self.work, *arguments).result()
        except BrokenProcessPool:
            self._single = None
            self._died += 1
            raise DiedError("the task ended its process") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._single):
            if pool:
                pool.shutdown(wait=True, cancel_futures=True)


def _spawn(workers: int) -> ProcessPoolExecutor:
    # Ctrl-C reaches the whole process group; only the process that owns the pool handles it.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))


def importing(**variables: str) -> dict[str, str]:
    """Return an environment in which a process can import this library from any working folder, with additional variables."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | variables


def answer(what: str, code: str, environment: dict[str, str]) -> Any:
    """Run Python code in a new process and return the JSON on its last output line; ``environment`` is that of :func:`importing`.
    Raises HifitseError: the process failed. The message says ``what`` it does, and quotes the end of its error output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise HifitseError(f"process that {what} ended with {done.returncode}, expected 0: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])
