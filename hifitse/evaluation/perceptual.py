"""PESQ and STOI of one signal, and a pool of processes that measures many while the model goes on.

Kept free of torch, so that a worker process starts quickly and stays small.
"""

import multiprocessing
import os
import warnings
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self

import numpy as np

from hifitse import SAMPLE_RATE

PESQ_RATE = 16_000
"""Hz. Wide-band PESQ is defined at this rate: it says nothing about what lies above 8 kHz."""
MOST_WAITING = 64
"""Measurements handed to the pool and not read back yet, which bounds the memory that they hold."""
GIVE_UP_AFTER = 3
"""Workers that may die alone before the rest of the measurements is not tried any more."""
DIED = "the measuring process died (a script that evaluates needs the guard: if __name__ == '__main__')"


def pesq_wb(est: np.ndarray, target: np.ndarray) -> tuple[float, str | None]:
    """Wide-band PESQ, ITU-T P.862.2, from about 1.02 (bad) to 4.64 (as the target).

    Args:
        est: ``(T,)`` at 48 kHz; resampled to 16 kHz inside.
        target: ``(T,)`` at 48 kHz, at least a quarter of a second.

    Returns:
        The score and ``None``, or ``nan`` and the reason why there is none: silence, too short, no speech found.

    Source: the package ``pesq``, a wrapper of the ITU's reference code.
    """
    reason = _unfit(est, target)
    if reason:
        return float("nan"), reason
    import pesq
    import soxr

    reference, degraded = (soxr.resample(np.asarray(x, np.float32), SAMPLE_RATE, PESQ_RATE) for x in (target, est))
    try:
        score = float(pesq.pesq(PESQ_RATE, reference, degraded, "wb"))
    except (pesq.PesqError, ValueError) as error:
        text = error.args[0] if error.args else type(error).__name__
        return float("nan"), text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return (score, None) if np.isfinite(score) else (float("nan"), f"PESQ is {score}")


def stoi(est: np.ndarray, target: np.ndarray) -> tuple[float, str | None]:
    """Short-time objective intelligibility, from about 0 to 1 (as the target).

    Args:
        est: ``(T,)`` at 48 kHz; resampled to 10 kHz inside.
        target: ``(T,)`` at 48 kHz, with at least 0.4 s that is not silent.

    Returns:
        The score and ``None``, or ``nan`` and the reason why there is none.

    Source: Taal et al., IEEE TASLP 2011, by the package ``pystoi``.
    """
    reason = _unfit(est, target)
    if reason:
        return float("nan"), reason
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns, and returns 1e-5, where it has too few frames
        try:
            return float(pystoi.stoi(np.asarray(target, np.float64), np.asarray(est, np.float64), SAMPLE_RATE)), None
        except RuntimeWarning:
            return float("nan"), "fewer than 30 frames of the target are not silent"


def _unfit(est: np.ndarray, target: np.ndarray) -> str | None:
    """Why these two cannot be compared, or None."""
    for name, signal in (("estimate", est), ("target", target)):
        if signal.ndim != 1 or signal.shape != target.shape:
            return f"the {name} has shape {signal.shape}, allowed is one of (T,) for both"
        if not np.isfinite(signal).all():
            return f"the {name} is not finite"
        if not np.any(signal):
            return f"the {name} is silent"
    return None


def measure(est: np.ndarray, mix: np.ndarray, target: np.ndarray) -> dict[str, float | str | None]:
    """PESQ and STOI of the estimate and of the mixture, each ``None`` where it failed, and the reasons of the estimate's failures.

    Args:
        est, mix, target: ``(T,)`` at 48 kHz.

    Returns:
        ``pesq, pesq_mix, stoi, stoi_mix`` and ``pesq_error, stoi_error``.
    """
    row: dict[str, float | str | None] = {}
    for name, score in (("pesq", pesq_wb), ("stoi", stoi)):
        for suffix, signal in (("", est), ("_mix", mix)):
            value, reason = score(signal, target)
            row[name + suffix] = value if reason is None else None
            if not suffix:
                row[f"{name}_error"] = reason
    return row


def unmeasured(reason: str | None = None) -> dict[str, float | str | None]:
    """The keys of :func:`measure` without values: not applicable, or failed for the given reason."""
    scores = dict.fromkeys(("pesq", "pesq_mix", "stoi", "stoi_mix"))
    return scores | {"pesq_error": reason, "stoi_error": reason}


class PerceptualPool:
    """Processes that run :func:`measure` and write what they find into the caller's rows.

    A measurement that kills its process (the C code of PESQ can) is tried once more alone and then noted as failed, so it
    neither ends the evaluation nor takes the other measurements with it. The processes are spawned: no state of torch or
    CUDA is forked, and notebooks work.

    Example:
        >>> with PerceptualPool() as pool:  # doctest: +SKIP
        ...     pool.submit(row, est, mix, target)  # row has its scores when the block ends
    """

    def __init__(self, workers: int | None = None, work: Any = measure) -> None:
        self.workers = workers or max(1, min(os.cpu_count() or 1, 8))
        self.work = work
        self._waiting: deque[tuple[dict[str, Any], tuple[np.ndarray, ...], Future]] = deque()
        self._deaths = 0
        self._pool: ProcessPoolExecutor | None = None

    @property
    def gave_up(self) -> bool:
        """Whether so many processes died that the cause is not the signals: then the scores are missing for no fault of theirs."""
        return self._deaths >= GIVE_UP_AFTER

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        while error_type is None and self._waiting:
            self._read_oldest()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, row: dict[str, Any], est: np.ndarray, mix: np.ndarray, target: np.ndarray) -> None:
        """Measure ``(T,)`` signals and update ``row`` with the scores, at the latest when the ``with`` block ends."""
        self._waiting.append((row, (est, mix, target), self._start(est, mix, target)))
        if len(self._waiting) > MOST_WAITING:
            self._read_oldest()

    def _start(self, *signals: np.ndarray) -> Future:
        if self.gave_up:
            return _failed(BrokenProcessPool(DIED))
        if self._pool is None:
            self._pool = self._spawn(self.workers)
        try:
            return self._pool.submit(self.work, *signals)
        except BrokenProcessPool as error:  # it died since; _read_oldest finds the culprit
            return _failed(error)

    def _spawn(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))

    def _read_oldest(self) -> None:
        row, signals, future = self._waiting.popleft()
        try:
            row.update(future.result())
        except BrokenProcessPool:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None
            row.update(self._alone(signals))
            self._waiting = deque((row, x, future if _succeeded(future) else self._start(*x)) for row, x, future in self._waiting)
        except Exception as error:  # noqa: BLE001 - whatever a metric stumbles over, the other rows are still wanted
            row.update(unmeasured(f"{type(error).__name__}: {error}"))

    def _alone(self, signals: tuple[np.ndarray, ...]) -> dict[str, Any]:
        if self.gave_up:
            return unmeasured(DIED)
        try:
            with self._spawn(1) as pool:
                return pool.submit(self.work, *signals).result()
        except BrokenProcessPool:
            self._deaths += 1
            return unmeasured(DIED)


def _failed(error: Exception) -> Future:
    future: Future = Future()
    future.set_exception(error)
    return future


def _succeeded(future: Future) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
