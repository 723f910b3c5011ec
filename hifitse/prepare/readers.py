"""Processes that look at files, of which one may die without taking the work of the others with it."""

import multiprocessing
import signal
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Self

from hifitse import HifitseError
from hifitse.prepare.recording import Found, Kind, measure

DEATHS = 10
"""Processes that may die, for files do kill libsndfile; if more do, the cause lies elsewhere."""


Started = tuple[ProcessPoolExecutor, Future] | None
"""A file that a pool was given."""


class Readers:
    """Processes that measure files. A file that kills its process is tried again alone, and is then broken.

    They are spawned, not forked: no thread's lock of this process is copied. Those that waited in the same pool are read one by one,
    while what comes later goes to a new pool.
    """

    def __init__(self, kind: Kind, workers: int) -> None:
        self.kind, self.workers = kind, workers
        self._deaths = 0
        self._pool: ProcessPoolExecutor | None = None
        self._single: ProcessPoolExecutor | None = None

    def _spawn(self, workers: int) -> ProcessPoolExecutor:
        # Ctrl-C reaches the whole group of processes; this one alone answers it.
        return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))

    def start(self, path: Path) -> Started:
        """Begin with a file, if there are processes that can."""
        if not self.workers:
            return None
        self._pool = self._pool or self._spawn(self.workers)
        try:
            return self._pool, self._pool.submit(measure, path, self.kind)
        except BrokenProcessPool:
            return None

    def result(self, path: Path, started: Started) -> Found:
        """What was found in a file, waiting where it is not done yet.

        Raises:
            HifitseError: processes die one after the other.
        """
        if not self.workers:
            return measure(path, self.kind)
        if started:
            pool, future = started
            try:
                return future.result()
            except (BrokenProcessPool, CancelledError):
                if pool is self._pool:
                    pool.shutdown(wait=True, cancel_futures=True)
                    self._pool = None
        return self._alone(path)

    def _alone(self, path: Path) -> Found:
        """Measure a file in a process that works on nothing else."""
        self._single = self._single or self._spawn(1)
        try:
            return self._single.submit(measure, path, self.kind).result()
        except BrokenProcessPool:
            self._single = None
            self._deaths += 1
            if self._deaths > DEATHS:
                said = "processes that read files die one after the other, memory may be short; the same command goes on where it was"
                raise HifitseError(said) from None
            return {"reason": "broken", "detail": "reading it ended the process"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        for pool in (self._pool, self._single):
            if pool:
                pool.shutdown(wait=True, cancel_futures=True)
