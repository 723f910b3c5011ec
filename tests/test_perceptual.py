"""The pool that measures PESQ and STOI: results, failures, dying processes. Imports no torch, for each process imports this file."""

import os

import numpy as np

from hifitse.evaluation.perceptual import PerceptualPool, measure, unmeasured


def speech_or_trouble(est, mix, target):
    """Stands in for the measurement; a first sample of 1 makes the process die as a crash in C code would."""
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
    """A script without ``if __name__ == "__main__"`` starts itself again in each process, which then dies: nothing of that is kept."""
    rows = [{} for _ in range(5)]
    with PerceptualPool(1, speech_or_trouble) as pool:
        for row in rows:
            pool.submit(row, np.array([1.0, 5.0]), np.zeros(2), np.zeros(2))
    assert pool.gave_up and all("died" in row["pesq_error"] for row in rows)
    with PerceptualPool(1, speech_or_trouble) as pool:
        pool.submit(rows[0], np.array([2.0, 5.0]), np.zeros(2), np.zeros(2))
    assert not pool.gave_up


def test_scores_and_the_reasons_of_failures():
    rng = np.random.default_rng(0)
    target, noise = (0.1 * rng.standard_normal(48_000).astype(np.float32) for _ in range(2))
    mix = target + noise
    scores = measure(target, mix, target)
    assert scores["pesq"] > 4.6 > scores["pesq_mix"] and scores["stoi"] > 0.99 > scores["stoi_mix"]
    assert scores["pesq_error"] is None and scores["stoi_error"] is None
    failed = measure(0 * target, mix, target)
    assert failed["pesq"] is None and failed["stoi"] is None
    assert failed["pesq_error"] == "the estimate is silent" and failed["pesq_mix"] == scores["pesq_mix"]
    assert failed.keys() == scores.keys() == unmeasured().keys()
