"""PESQ and STOI of one signal, and a pool of processes that measures many while the model goes on.

Kept free of torch, so that a worker process starts quickly and stays small.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.pool import DiedError, Pool, Task

PESQ_RATE = 16_000
"""Hz. Wide-band PESQ is defined at this rate: it says nothing about what lies above 8 kHz."""
MOST_WAITING = 64
"""Measurements handed to the pool and not read back yet, which bounds the memory that they hold."""
DIED = "the measuring process died (a script that evaluates needs the guard: if __name__ == '__main__')"


def pesq_wb(est: np.ndarray, target: np.ndarray) -> float:
    """Wide-band PESQ, ITU-T P.862.2, from about 1.02 (bad) to 4.64 (as the target), by the ITU's reference code.

    Args:
        est, target: ``(T,)`` at 48 kHz, at least a quarter of a second; resampled to 16 kHz inside.

    Raises:
        ValueError: the reason why there is no score: too short, no speech found.
    """
    import pesq
    import soxr

    reference, degraded = (soxr.resample(np.asarray(x, np.float32), SAMPLE_RATE, PESQ_RATE) for x in (target, est))
    try:
        return float(pesq.pesq(PESQ_RATE, reference, degraded, "wb"))
    except pesq.PesqError as error:
        text = error.args[0] if error.args else type(error).__name__
        raise ValueError(text.decode(errors="replace") if isinstance(text, bytes) else str(text)) from None


def stoi(est: np.ndarray, target: np.ndarray) -> float:
    """Short-time objective intelligibility, from about 0 to 1 (as the target): Taal et al., IEEE TASLP 2011, by the package ``pystoi``.

    Args:
        est, target: ``(T,)`` at 48 kHz, at least 0.4 s of the target not silent; resampled to 10 kHz inside.

    Raises:
        ValueError: the reason why there is no score.
    """
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns, and returns 1e-5, where it has too few frames
        try:
            return float(pystoi.stoi(np.asarray(target, np.float64), np.asarray(est, np.float64), SAMPLE_RATE))
        except RuntimeWarning:
            raise ValueError("fewer than 30 frames of the target are not silent") from None


def scored(metric: Callable[[np.ndarray, np.ndarray], float], est: np.ndarray, target: np.ndarray) -> tuple[float | None, str | None]:
    """The score, or why there is none."""
    for name, signal in (("estimate", est), ("target", target)):
        if not np.isfinite(signal).all() or not np.any(signal):
            return None, f"the {name} is {'silent' if not np.any(signal) else 'not finite'}"
    try:
        value = metric(est, target)
    except ValueError as error:
        return None, str(error)
    return (value, None) if np.isfinite(value) else (None, f"{metric.__name__} is {value}")


def measure(est: np.ndarray, mix: np.ndarray, target: np.ndarray) -> dict[str, float | str | None]:
    """PESQ and STOI of the estimate and of the mixture, ``(T,)`` at 48 kHz, each ``None`` where it failed.

    Returns:
        ``pesq, pesq_mix, stoi, stoi_mix``, and why the estimate's failed: ``pesq_error, stoi_error``.
    """
    row = unmeasured()
    for name, metric in (("pesq", pesq_wb), ("stoi", stoi)):
        row[name], row[f"{name}_error"] = scored(metric, est, target)
        row[f"{name}_mix"], _ = scored(metric, mix, target)
    return row


def unmeasured(reason: str | None = None) -> dict[str, float | str | None]:
    """The keys of :func:`measure` without values: not applicable, or failed for the given reason."""
    return dict.fromkeys(("pesq", "pesq_mix", "stoi", "stoi_mix")) | {"pesq_error": reason, "stoi_error": reason}


class PerceptualPool(Pool):
    """Processes that run :func:`measure` and write what they find into the caller's rows.

    A measurement that kills its process (the C code of PESQ can) is noted as failed. Once the pool ``gave_up``, so many died that the
    cause is not the signals: then the scores are missing for no fault of theirs.

    Example:
        >>> with PerceptualPool() as pool:  # doctest: +SKIP
        ...     pool.submit(row, est, mix, target)  # row has its scores when the block ends
    """

    def __init__(self, workers: int | None = None, work: Callable[..., dict[str, Any]] = measure) -> None:
        super().__init__(work, workers or max(1, min(os.cpu_count() or 1, 8)))
        self._waiting: deque[tuple[dict[str, Any], Task]] = deque()

    def __exit__(self, error_type: type | None, *error: object) -> None:
        try:
            self._read(0 if error_type is None else len(self._waiting))
        finally:
            super().__exit__(error_type, *error)

    def submit(self, row: dict[str, Any], est: np.ndarray, mix: np.ndarray, target: np.ndarray) -> None:
        """Measure ``(T,)`` signals and update ``row`` with the scores, at the latest when the ``with`` block ends."""
        self._waiting.append((row, self.start(est, mix, target)))
        self._read(MOST_WAITING)

    def _read(self, left: int) -> None:
        """Wait for the oldest until at most ``left`` are waiting."""
        while len(self._waiting) > left:
            row, task = self._waiting.popleft()
            try:
                row.update(self.result(task))
            except DiedError:
                row.update(unmeasured(DIED))
            except Exception as error:  # noqa: BLE001 - whatever a metric stumbles over, the other rows are still wanted
                row.update(unmeasured(f"{type(error).__name__}: {error}"))
