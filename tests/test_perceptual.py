"""Test the pool that measures PESQ and STOI: results, failures, dying processes. No torch here: every process imports this file."""

import os

import numpy as np

from hifitse.evaluation.perceptual import PerceptualPool


def speech_or_trouble(est, mix, target):
    """Stand in for the measurement; a first sample of 1 kills the process, as a crash in C code would."""
    if est[0] == 1:
        os._exit(11)
    if est[0] == 2:
        raise RuntimeError("no idea")
    return {"pesq": float(est.sum())}


def test_a_measurement_that_kills_its_process_is_noted_and_the_others_survive():
    rows = [{} for _ in range(6)]
    with PerceptualPool(2, speech_or_trouble) as pool:
        for row, first in zip(rows, (0, 1, 0, 2, 0, 0), strict=True):
            pool.submit(row, np.array([first, 5.0]), np.zeros(2), np.zeros(2))
    assert [row["pesq"] for row in rows] == [5.0, None, 5.0, None, 5.0, 5.0]
    assert "died" in rows[1]["pesq_error"]
    assert rows[3]["pesq_error"] == "RuntimeError: no idea"


def test_processes_that_all_die_are_told_from_signals_that_fail():
    """A script without ``if __name__ == "__main__"`` starts itself again in every process, which then dies. Such results are not kept."""
    rows = [{} for _ in range(5)]
    with PerceptualPool(1, speech_or_trouble) as pool:
        for row in rows:
            pool.submit(row, np.array([1.0, 5.0]), np.zeros(2), np.zeros(2))
    assert pool.gave_up and all("died" in row["pesq_error"] for row in rows)
    with PerceptualPool(1, speech_or_trouble) as pool:
        pool.submit(rows[0], np.array([2.0, 5.0]), np.zeros(2), np.zeros(2))
    assert not pool.gave_up
