"""Train in a separate process that a test can kill, interrupt a training, and compare the results of two runs."""

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hifitse.params import Params, resolve
from hifitse.training import train as train_module
from hifitse.training.checkpoint import checkpoints, load_tensors
from hifitse.training.run import Run, locked
from hifitse.training.train import train


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Return everything in the newest checkpoint: weights, averaged weights and optimiser state."""
    return load_tensors(checkpoints(run.folder)[0])[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def losses(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]


def wait_for_step(process: subprocess.Popen, folder: Path, step: int) -> None:
    """Wait until the process has logged ``step``; fail if it ends first or takes minutes."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        history = folder / "history.jsonl"
        if history.is_file() and len(history.read_text().splitlines()) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"process ended or hung before step {step}: {process.stderr.read() if process.poll() is not None else ''}")


def go(target: Callable, *arguments: object) -> multiprocessing.Process:
    """Start a process that calls ``target``, forked from one that has already imported the library and what training imports late."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hifitse.training.train", "torch.utils.tensorboard", "torch._dynamo", "accelerate"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def train_there(values: dict, environment: dict[str, str]) -> None:
    """Set environment variables and train with the preset smoke."""
    os.environ.update(environment)
    train(resolve("smoke", **values), progress=False)


def hold(folder: Path, held: Any, let_go: Any) -> None:
    """Hold a run's folder as a training does: set the event ``held``, then wait for ``let_go``."""
    with locked(folder):
        held.set()
        let_go.wait(240)


def cut(params: Params, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until an error occurs at step ``at``; later trainings are not affected."""
    step = train_module.train_step

    def interrupted(state, batches):
        if state.step == at:
            raise ZeroDivisionError
        return step(state, batches)

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(train_module, "train_step", interrupted)
        train(params, progress=False)
