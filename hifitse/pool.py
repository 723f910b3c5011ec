"""Tasks that may kill their process: one that does takes no other with it. Free of torch, so that a new process starts quickly."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hifitse import HifitseError


class DiedError(HifitseError):
    """A task ended its process, or so many did that no more are tried."""


@dataclass(frozen=True)
class Task:
    """What was asked for, and the pool that works on it, if one does."""

    arguments: tuple
    pool: ProcessPoolExecutor | None = None
    future: Future | None = None


class Pool:
    """Processes that run ``work(*arguments)``; a context manager.

    They are spawned, not forked, which would copy locks and the state of CUDA. A task whose process dies is tried again alone. Those
    that waited beside it run one by one, later ones in new processes.

    Args:
        work: a function of a module, which new processes import.
        workers: processes; 0: none, this one does the work.
        deaths: tasks that may die alone; after that nothing more is tried, for the cause lies elsewhere.
    """

    def __init__(self, work: Callable[..., Any], workers: int, deaths: int = 3) -> None:
        self.work, self.workers, self.deaths, self._died = work, workers, deaths, 0
        self._pool: ProcessPoolExecutor | None = None
        self._single: ProcessPoolExecutor | None = None

    @property
    def gave_up(self) -> bool:
        """Whether so many tasks died that no more are tried."""
        return self._died >= self.deaths

    def start(self, *arguments: Any) -> Task:
        """Begin with a task, if there are processes that can."""
        if not self.workers or self.gave_up:
            return Task(arguments)
        self._pool = self._pool or _spawn(self.workers)
        try:
            return Task(arguments, self._pool, self._pool.submit(self.work, *arguments))
        except BrokenProcessPool:  # the task that broke it is found when its result is asked for
            return Task(arguments)

    def result(self, task: Task) -> Any:
        """What ``work`` returns or raises, once done; DiedError: the task ended its process twice, or no more are tried."""
        if not self.workers:
            return self.work(*task.arguments)
        if task.future is not None:
            try:
                return task.future.result()
            except (BrokenProcessPool, CancelledError):
                task.pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None if task.pool is self._pool else self._pool
        return self._alone(task.arguments)

    def _alone(self, arguments: tuple) -> Any:
        """Run a task in a process that works on nothing else."""
        if self.gave_up:
            raise DiedError(f"{self._died} processes died one after the other, and no more are tried; memory may be short")
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
    # Ctrl-C reaches the whole group of processes; the one that holds the pool alone answers it.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))


def importing(**variables: str) -> dict[str, str]:
    """The environment for a process that imports this library from wherever it works, with further variables."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | variables


def answer(what: str, code: str, environment: dict[str, str]) -> Any:
    """The JSON that Python code prints in its last line, in a process of its own; ``environment`` as of :func:`importing`.
    Raises HifitseError: the process, which does ``what``, failed, with its last words."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise HifitseError(f"process that {what} ended with {done.returncode}, expected 0: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])
