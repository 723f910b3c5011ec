"""Trainings at the same time: as one by one, cut and gone on with, one that fails beside one that does not."""

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import losses, same, weights

from hifitse import HifitseError
from hifitse.commands.cli import main
from hifitse.evaluation import comparison
from hifitse.evaluation.experiment import run_arm
from hifitse.params import resolve
from hifitse.training import abreast
from hifitse.training.run import Run
from hifitse.training.train import train

SMOKE = resolve("smoke", device="cpu", threads=1, eval_pesq=False, arms_together=2)
ENDLESS = """
from hifitse.params import resolve
from hifitse.training.abreast import train_abreast
train_abreast([resolve("smoke", device="cpu", steps=100000, seed=seed) for seed in (0, 1)], 2, False)
"""


def test_arms_together_are_those_one_by_one_and_none_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "one"))
    alone = train(SMOKE, progress=False)
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "two"))
    changes = {"quick": {"lr": 2e-3, "steps": 3}, "nothing learned": lambda mix, enroll: mix}
    compared = comparison.run_all(SMOKE, changes, progress=False)
    assert [arm.run.finished for arm in compared.all.values()] == [True] * 3 and len(list((tmp_path / "two").iterdir())) == 2
    assert same(weights(compared.baseline.run), weights(alone)) and losses(compared.baseline.run) == losses(alone)
    monkeypatch.setattr(abreast, "_started", None)
    assert comparison.run_all(SMOKE, changes, progress=False).arms["quick"].rows.equals(compared.arms["quick"].rows)


def test_arms_of_notebooks_are_made_by_one_command_and_one_that_starts_from_another_waits_for_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    words = ["arms", "01_gan_finetune", "00_baseline", "--preset", "smoke", "-p", "arms_together", "2", "-p", "threads", "1"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "4 trainings, 2 at a time" in said.out and "01_gan_finetune has 4 arms, 4 trainings" in said.out
    assert "00_baseline: notebook 00_baseline compares no arms, expected" in said.err
    monkeypatch.setattr(abreast, "_started", None)
    assert main([*words[:2], *words[3:]]) == 0, "all is finished and kept"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_they_stop_after_a_step_however_the_one_that_started_them_ends(number, tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    runs = [Run.of(resolve("smoke", steps=100_000, seed=seed)) for seed in (0, 1)]
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stderr=subprocess.DEVNULL)

    def wait(done) -> bool:
        deadline = time.monotonic() + 120
        while not (good := done()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return good

    assert wait(lambda: all((run.folder / "history.jsonl").is_file() for run in runs)) and process.poll() is None
    os.kill(process.pid, number)
    assert process.wait(60) != 0
    steps = [0, 0]

    def still() -> bool:
        before, steps[:] = list(steps), [Run.of(run.params).step for run in runs]
        time.sleep(2)
        return before == steps and all(steps)

    assert wait(still) and max(steps) < 100_000
    for run, step in zip(runs, steps, strict=True):
        assert run.history[-1]["step"] == step, "the last step is saved"


def test_one_that_fails_leaves_the_others_and_is_said_and_none_exceeds_its_time(tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    bad = SMOKE.model_copy(update={"corpus": str(tmp_path / "nowhere")})
    short = SMOKE.model_copy(update={"steps": 500, "max_minutes": 1e-4})
    with pytest.raises(HifitseError, match="nowhere"):
        abreast.train_abreast([bad, short, short], 1, False)
    assert run_arm("short", short, trained=True, progress=False).run.step == Run.of(short).step == 1
