"""PESQ and STOI of one signal, and a pool of processes that computes them while the model continues.

This module does not import torch, so that worker processes start quickly and stay small.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.pool import DiedError, Pool, Task

PESQ_RATE = 16_000  # Hz, of wide-band PESQ: it is blind to everything above 8 kHz
MOST_WAITING = 64  # largest number of pending measurements, which limits their memory
DIED = "the measuring process died (a script that evaluates needs the guard: if __name__ == '__main__')"


def pesq_wb(est: np.ndarray, target: np.ndarray) -> float:
    """Compute wide-band PESQ (ITU-T P.862.2) of ``(T,)`` at 48 kHz, from about 1.02 (bad) to 4.64 (identical), with the ITU's code.
    Raises ValueError: there is no score, because the signals are shorter than 0.25 s or no speech was found."""
    import pesq
    import soxr

    reference, degraded = (soxr.resample(np.asarray(x, np.float32), SAMPLE_RATE, PESQ_RATE) for x in (target, est))
    try:
        return float(pesq.pesq(PESQ_RATE, reference, degraded, "wb"))
    except pesq.PesqError as error:
        text = error.args[0] if error.args else type(error).__name__
        raise ValueError(text.decode(errors="replace") if isinstance(text, bytes) else str(text)) from None


def stoi(est: np.ndarray, target: np.ndarray) -> float:
    """Compute STOI (short-time objective intelligibility) of ``(T,)`` at 48 kHz, from about 0 to 1 (identical).
    Source: Taal et al., IEEE TASLP 2011. Raises ValueError: there is no score, because less than 0.4 s of the target are not silent."""
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # with too few frames pystoi warns and returns 1e-5
        try:
            return float(pystoi.stoi(np.asarray(target, np.float64), np.asarray(est, np.float64), SAMPLE_RATE))
        except RuntimeWarning:
            raise ValueError("fewer than 30 frames of the target are not silent") from None


def scored(metric: Callable[[np.ndarray, np.ndarray], float], est: np.ndarray, target: np.ndarray) -> tuple[float | None, str | None]:
    """Return (score, ``None``), or (``None``, the reason why there is no score)."""
    for name, signal in (("estimate", est), ("target", target)):
        if not np.isfinite(signal).all() or not np.any(signal):
            return None, f"the {name} is {'silent' if not np.any(signal) else 'not finite'}"
    try:
        value = metric(est, target)
    except ValueError as error:
        return None, str(error)
    return (value, None) if np.isfinite(value) else (None, f"{metric.__name__} is {value}")


def measure(est: np.ndarray, mix: np.ndarray, target: np.ndarray) -> dict[str, float | str | None]:
    """Compute PESQ and STOI of the estimate and of the mixture, all signals ``(T,)`` at 48 kHz.

    Returns:
        ``pesq, pesq_mix, stoi, stoi_mix``, each ``None`` if it failed, and the reasons for the estimate: ``pesq_error, stoi_error``.
    """
    row = unmeasured()
    for name, metric in (("pesq", pesq_wb), ("stoi", stoi)):
        row[name], row[f"{name}_error"] = scored(metric, est, target)
        row[f"{name}_mix"], _ = scored(metric, mix, target)
    return row


def unmeasured(reason: str | None = None) -> dict[str, float | str | None]:
    """Return the keys of :func:`measure` without values: not applicable, or failed for the given reason."""
    return dict.fromkeys(("pesq", "pesq_mix", "stoi", "stoi_mix")) | {"pesq_error": reason, "stoi_error": reason}


class PerceptualPool(Pool):
    """Processes that run :func:`measure` and write the results into the caller's rows.

    A measurement that kills its process (the C code of PESQ can) is recorded as failed. If ``gave_up`` is set, too many processes
    have died for the signals to be the cause, and the missing scores say nothing about them.

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
        """Measure signals ``(T,)`` and update ``row`` with the scores, at the latest when the ``with`` block ends."""
        self._waiting.append((row, self.start(est, mix, target)))
        self._read(MOST_WAITING)

    def _read(self, left: int) -> None:
        """Collect the oldest results until at most ``left`` measurements are pending."""
        while len(self._waiting) > left:
            row, task = self._waiting.popleft()
            try:
                row.update(self.result(task))
            except DiedError:
                row.update(unmeasured(DIED))
            except Exception as error:  # noqa: BLE001 - whatever a metric stumbles over, the other rows are still wanted
                row.update(unmeasured(f"{type(error).__name__}: {error}"))
