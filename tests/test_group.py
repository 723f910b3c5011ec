"""Test one training on several processes: the loss curve of one process, checkpoints that move between them, stops and failures of one.
Test several trainings at once: the results of one by one, interrupting and resuming, and one that fails without harming the others.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from processes import go, losses, same, wait_for_step, weights

import hifitse.training.train as train_module
from hifitse import HifitseError
from hifitse.commands import cli
from hifitse.evaluation import comparison
from hifitse.evaluation.experiment import run_arm
from hifitse.params import resolve
from hifitse.training import abreast
from hifitse.training.checkpoint import checkpoints, load_checkpoint
from hifitse.training.group import Group, GroupError, refuse_unequal
from hifitse.training.run import Run, locked
from hifitse.training.train import main, train

VALUES = dict(steps=8, batch_size=2, accumulation=2, threads=1, workers=0, checkpoint_every=4, valid_mixtures=2, device="cpu")
VALUES |= dict(both_talkers=True, enroll_dropout=0.4, specaug=0.2, enrollments=2, enrollments_min=1, optimizer="muon", lr=1e-3)
"""Everything that can be drawn for a batch is drawn with these values."""


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def environment(rank: int, port: int, folder: Path, size: int = 2) -> dict[str, str]:
    """Return the variables that a launcher sets for one of its processes. Only the first needs the run folders."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    place |= {"MASTER_ADDR": "127.0.0.1", "HIFITSE_RUNS": folder / "none" if rank else folder}
    return {name: str(value) for name, value in place.items()}


def trains(values: dict, variables: dict[str, str], until: int, said: str) -> None:
    """Train as one process of a group: stop after step ``until``, or break the loss after step ``-until``; write down how it ended."""
    os.environ.update(variables)
    step = train_module.train_step

    def watched(state, batches):
        row = step(state, batches)
        if state.step == until:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # one from the scheduler, one from the launcher
        if state.step == -until:
            state.params = state.params.model_copy(update={"loss_si_sdr": float("inf")})
            state.objective.weights = {name: float("nan") for name in state.objective.weights}
        return row

    train_module.train_step = watched
    try:
        train(resolve("smoke", **values), progress=False)
        ended = "finished"
    except BaseException as error:
        ended = f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else traceback.format_exc()
    Path(said).write_text(ended)
    train_module.leave()


def together(values: dict, folder: Path, until: tuple[int, int] = (0, 0)) -> list[str]:
    """Train on two processes; return how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"said-{rank}" for rank in range(2)]
    both = [go(trains, values, environment(rank, port, folder), until[rank], str(files[rank])) for rank in range(2)]
    for process in both:
        process.join(240)
        assert process.exitcode == 0
    return [file.read_text() for file in files]


def near(a: list[dict], b: list[dict]) -> None:
    assert [row.keys() for row in a] == [row.keys() for row in b]
    for one, other in zip(a, b, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)


def test_two_processes_have_the_loss_curve_of_one_and_checkpoints_move_between_them(runs, monkeypatch, tmp_path):
    params = resolve("smoke", **VALUES)
    one = train(params, progress=False)
    assert together(VALUES, tmp_path / "two") == ["finished", "finished"]
    two = Run(tmp_path / "two" / params.run_id, params)
    near(losses(one), losses(two))
    (ours, alone), (theirs, both) = ((row.pop("gains_db"), row) for row in (one.validation[-1], two.validation[-1]))
    assert alone == pytest.approx(both, abs=1e-3) and ours == pytest.approx(theirs, abs=2e-3)
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=1e-3)

    # resume on two processes, stop them by a signal to the one that does not write, and finish on one
    shutil.copytree(one.folder, tmp_path / "moved" / params.run_id)
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "moved"))
    checkpoints(Run.of(params).folder)[0].unlink()
    assert Run.of(params).step == 4
    said = together(VALUES, tmp_path / "moved", (0, 6))
    assert all(each.startswith("KeyboardInterrupt: training stopped at step 6 of 8") for each in said)
    assert Run.of(params).step == 6 and [row["step"] for row in Run.of(params).history] == [2, 4, 6]
    near(losses(train(params, progress=False)), losses(one))


def test_discriminators_of_two_processes_learn_as_those_of_one(runs, tmp_path):
    start = train(resolve("smoke", steps=1, batch_size=1, threads=1, device="cpu", valid_mixtures=2), progress=False)
    values = VALUES | dict(start_from=start.folder.name, steps=6, optimizer="adamw", freeze_norms=True)
    values |= dict(gan="stft", disc_channels=4, gan_seconds=0.1, gan_warmup=0.34, gan_ramp=0.0)
    one = train(resolve("smoke", **values), progress=False)
    shutil.copytree(start.folder, tmp_path / "two" / start.folder.name)
    assert together(values, tmp_path / "two") == ["finished", "finished"]
    two = Run(tmp_path / "two" / one.folder.name, one.params)
    near(losses(one), losses(two))
    assert {"disc", "adversarial"} <= two.history[-1].keys()


def test_a_failure_of_one_process_is_told_by_all_and_the_main_one_writes_it_down(tmp_path):
    said = together(VALUES, tmp_path / "bad", (0, -2))
    assert said[0] == said[1] and said[0].startswith("NotFinite: the loss or its gradient is not finite at step 4")
    folder = tmp_path / "bad" / resolve("smoke", **VALUES).run_id
    assert (folder / "not_finite.json").is_file() and load_checkpoint(folder) is None


def test_a_share_that_is_not_equal_is_refused_in_one_sentence(monkeypatch):
    refuse_unequal(resolve("smoke", accumulation=8), 4)
    with pytest.raises(GroupError, match="'accumulation' is 3 for 2 processes, expected a multiple of 2"):
        refuse_unequal(resolve("smoke", batch_size=4, accumulation=3), 2)
    with pytest.raises(GroupError, match="'steps' is 5 for 2 processes, expected a multiple of 2"):
        refuse_unequal(resolve("smoke", accumulation=2, steps=5), 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(GroupError, match="a multiple of 2$"):
        train(resolve("smoke", batch_size=1, accumulation=1), progress=False)


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    for name, value in environment(1, 1, Path()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(GroupError, match="process 1 of this machine has no GPU of its own, .* here 1"):
        Group.join(resolve("smoke", accumulation=2, device="cuda"))


def test_the_command_refuses_and_finishes_as_others_do(capsys, runs):
    assert main(["--preset", "smoke", "-p", "lr", "-1e-3"]) == 2
    assert main(["--preset", "smoke", "-p", "steps", "1", "-p", "valid_mixtures", "2"]) == 0
    printed = capsys.readouterr()
    assert "'lr'" in printed.err and Run.of(resolve("smoke", steps=1)).finished and str(runs) in printed.out
    assert main(["--preset", "smoke", "-p", "valid_mixtures", "2", "-p", "max_minutes", "1e-9"]) == 3
    assert "1 of 4 steps are done; the same command goes on from" in capsys.readouterr().err


def test_accelerate_launch_trains_and_a_stop_of_the_launcher_leaves_a_checkpoint(tmp_path):
    values = VALUES | {"steps": 5000, "checkpoint_every": 5000, "validate_every": 5000}
    params = resolve("smoke", **values)
    options = [word for name, value in values.items() for word in ("-p", name, str(value))]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    variables = os.environ | {"HIFITSE_RUNS": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [*launch, "-m", "hifitse.training.train", "--preset", "smoke", *options]
    with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for_step(process, tmp_path / params.run_id, 2)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
    run = Run(tmp_path / params.run_id, params)
    assert run.step >= 2 and run.step == run.history[-1]["step"], said[-2000:]


SMOKE = resolve("smoke", device="cpu", threads=1, eval_pesq=False, arms_together=2)
ENDLESS = """
from hifitse.params import resolve
from hifitse.training.abreast import train_abreast
train_abreast([resolve("smoke", device="cpu", steps=100000, seed=seed) for seed in (0, 1)], 2, False)
"""


def test_arms_together_are_those_one_by_one_and_none_is_trained_again(tmp_path, monkeypatch):
    alone = train(SMOKE, progress=False)
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "two"))
    changes = {"quick": {"lr": 2e-3, "steps": 3}, "nothing learned": lambda mix, enroll: mix}
    compared = comparison.run_all(SMOKE, changes, progress=False)
    assert [arm.run.finished for arm in compared.all.values()] == [True] * 3 and len(list((tmp_path / "two").iterdir())) == 2
    assert same(weights(compared.baseline.run), weights(alone)) and losses(compared.baseline.run) == losses(alone)
    monkeypatch.setattr(abreast, "_started", None)
    assert comparison.run_all(SMOKE, changes, progress=False).arms["quick"].rows.equals(compared.arms["quick"].rows)


def test_arms_of_notebooks_are_made_by_one_command_and_one_that_starts_from_another_waits_for_it(monkeypatch, capsys):
    words = ["arms", "01_gan_finetune", "00_baseline", "--preset", "smoke", "-p", "arms_together", "2", "-p", "threads", "1"]
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert "4 trainings, 2 at a time" in said.out and "01_gan_finetune has 4 arms, 4 trainings" in said.out
    assert "00_baseline: notebook 00_baseline compares no arms, expected" in said.err
    monkeypatch.setattr(abreast, "_started", None)
    assert cli.main([*words[:2], *words[3:]]) == 0, "all is finished and kept"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_trainings_at_once_stop_after_a_step_however_the_one_that_started_them_ends(number):
    runs = [Run.of(resolve("smoke", steps=100_000, seed=seed)) for seed in (0, 1)]
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stderr=subprocess.PIPE)

    def left(run: Run) -> bool:
        with suppress(HifitseError), locked(run.folder):
            return True
        return False

    for run in runs:
        wait_for_step(process, run.folder, 1)
    os.kill(process.pid, number)
    assert process.wait(60) != 0
    deadline = time.monotonic() + 120
    while not all(map(left, runs)) and time.monotonic() < deadline:
        time.sleep(0.1)
    said = process.stderr.read() if all(map(left, runs)) else "still running"
    for run in runs:
        assert left(run)
        assert 0 < run.history[-1]["step"] == run.step < 100_000, f"the last step is saved; it said: {said}"


def test_one_that_fails_leaves_the_others_and_is_said_and_none_exceeds_its_time(tmp_path):
    bad = SMOKE.model_copy(update={"corpus": str(tmp_path / "nowhere")})
    short = SMOKE.model_copy(update={"steps": 500, "max_minutes": 1e-4})
    with pytest.raises(HifitseError, match="nowhere"):
        abreast.train_abreast([bad, short, short], 1, False)
    assert run_arm("short", short, trained=True, progress=False).run.step == Run.of(short).step == 1
