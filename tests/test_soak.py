"""A training that is killed at random moments again and again must end like one that was left alone.

``HIFITSE_SOAK=200 python -m pytest tests/test_soak.py`` trains for that many steps; the default is 24.
"""

import os
import time

import numpy as np
import pytest
from processes import go, losses, same, train_there, weights

from hifitse.params import resolve
from hifitse.training.checkpoint import load_checkpoint
from hifitse.training.run import Run
from hifitse.training.train import train

STEPS = int(os.environ.get("HIFITSE_SOAK", "24"))


def rows(run: Run) -> int:
    history = run.folder / "history.jsonl"
    return len(history.read_bytes().splitlines()) if history.is_file() else 0


def kill_at_random(process, run: Run, rng: np.random.Generator) -> None:
    """Kill the process shortly after a few more history rows, or while it is still starting, unless it ends first."""
    early = rng.random() < 0.2
    target, moment = rows(run) + int(rng.integers(1, 6)), float(rng.uniform(0, 0.5 if early else 0.1))
    while not early and process.is_alive() and rows(run) < target:
        time.sleep(0.005)
    process.join(moment)
    process.kill()
    process.join()


@pytest.mark.filterwarnings("error:.*falling back to the previous checkpoint")
def test_random_kills_end_with_the_same_weights_and_the_same_rows(tmp_path, synthetic_sound, monkeypatch):
    values = dict(steps=STEPS, checkpoint_every=2, validate_every=5, threads=1, enroll_dropout=0.3, both_talkers=True, optimizer="muon")
    params = resolve("smoke", **values)
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "whole"))
    whole = train(params, progress=False)  # first, so that no kill interrupts the making of the corpus
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "killed"))
    rng, kills, reached = np.random.default_rng(STEPS), 0, 0
    while not Run.of(params).finished:
        assert kills < 10 * STEPS, f"step {reached} of {STEPS} after {kills} kills"
        own = values | {"workers": int(rng.integers(2))}
        process = go(train_there, own, {"HIFITSE_RUNS": str(tmp_path / "killed"), "HIFITSE_CACHE": str(synthetic_sound)})
        kill_at_random(process, Run.of(params), rng)
        assert process.exitcode in (0, -9), "a training went wrong by itself"
        kills += process.exitcode == -9
        found = load_checkpoint(Run.of(params).folder)  # a damaged one would warn, which fails the test
        step = found[1]["step"] if found else 0
        assert step >= reached, "no kill undoes what a checkpoint held"
        reached = step
    assert kills >= 3
    killed = Run.of(params)
    assert killed.folder != whole.folder and same(weights(killed), weights(whole))
    assert losses(killed) == losses(whole) and [row["step"] for row in killed.history] == list(range(1, STEPS + 1))
    assert not list(killed.folder.glob(".*")), "no half-written file stays"
    assert killed.validation == whole.validation and killed.validation[-1]["step"] == STEPS
