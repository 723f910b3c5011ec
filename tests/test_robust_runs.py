"""Test a run's folder that is damaged, full or used twice: one sentence or the checkpoint before, and nothing lost."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from bad_case import files, full_disk, one_sentence
from processes import go, hold, same, weights
from safetensors.torch import save_file

from hifitse import HifitseError
from hifitse.data.mixing import Mixer
from hifitse.files import CheckpointError
from hifitse.params import resolve
from hifitse.training import train as train_module
from hifitse.training.checkpoint import checkpoints, load_tensors
from hifitse.training.run import Run
from hifitse.training.train import TrainingError, train

PARAMS = resolve("smoke", threads=1)
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return a folder of runs with one finished run, which has checkpoints at steps 2 and 4."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_RUNS", str(tmp_path_factory.mktemp("runs")))
        return train(PARAMS, progress=False).folder.parent


@pytest.fixture
def folder(trained, tmp_path, monkeypatch) -> Path:
    """Return a copy of the run's folder, to be damaged."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "runs"))
    return Run.of(PARAMS).folder


@pytest.fixture
def unfinished(folder) -> Path:
    """Return the same copy, back at step 2."""
    checkpoints(folder)[0].unlink()
    return folder


class Bomb:
    """An object that makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def changed(tensors: Callable[[dict], dict] = dict, step: int = 4) -> Damage:
    """Write a valid safetensors checkpoint with other tensors."""

    def write(path: Path) -> None:
        found, said = load_tensors(path)
        save_file(tensors(found), path, metadata={"hifitse": json.dumps(said | {"step": step})})

    return write


def of(part: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[dict], dict]:
    def write(tensors: dict) -> dict:
        made = {name: change(tensor) if name.startswith(part) else tensor for name, tensor in tensors.items()}
        return {name: tensor for name, tensor in made.items() if tensor is not None}

    return write


UNREADABLE: dict[str, Damage] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "no bytes": lambda path: path.write_bytes(b""),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "NaN weights": changed(of("ema.", lambda tensor: tensor * float("nan") if tensor.is_floating_point() else tensor)),
    "infinite moments": changed(of("optimizer.", lambda tensor: tensor / 0 if tensor.dim() else tensor)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_newest_checkpoint_falls_back_to_the_one_before(damage, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage(checkpoints(folder)[0])
    before, run = files(folder), Run.of(PARAMS)
    with pytest.warns(UserWarning, match="falling back to the previous checkpoint") as warned:
        assert run.step == 2 and not run.finished
    one_sentence(str(warned[0].message), ("checkpoint-000000004",))
    assert not run.extractor().training
    assert files(folder) == before and not (tmp_path / "unpickled").exists(), "nothing was unpickled, nothing lost"


@pytest.mark.parametrize("damage", [UNREADABLE[name] for name in ("cut short", "a pickle")])
def test_a_run_without_any_readable_checkpoint_is_not_begun_anew_over_what_is_left(damage, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in checkpoints(folder):
        damage(path)
    before = files(folder)
    for call in (lambda: train(PARAMS, progress=False), lambda: Run.of(PARAMS).extractor()):
        with pytest.raises(CheckpointError) as caught, pytest.warns(UserWarning):
            call()
        one_sentence(str(caught.value), (PARAMS.run_id, "no readable checkpoint", "move the folder away"))
    assert files(folder) == before and not (tmp_path / "unpickled").exists()


def shrunk(part: str) -> Damage:
    return changed(of(part, lambda tensor: tensor.reshape(-1)[:1].clone()), step=3)


MISFITS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "weights of another shape": (shrunk("model."), ("do not fit", "size mismatch")),
    "weights missing": (changed(of("ema.", lambda _: None), step=3), ("do not fit", "Missing key")),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), MISFITS.values(), ids=MISFITS)
def test_a_checkpoint_of_another_model_is_refused(damage, words, folder):
    damage(checkpoints(folder)[0])
    refused(folder, CheckpointError, words)


def refused(folder: Path, error: type[HifitseError], words: tuple[str, ...]) -> None:
    """Check that ``train`` stops with one sentence and that everything in the folder is still there."""
    kept = {name: data for name, data in files(folder).items() if name != "lock"} if folder.is_dir() else {}
    with pytest.raises(error) as caught:
        train(PARAMS, progress=False)
    one_sentence(str(caught.value), words)
    assert {name: data for name, data in files(folder).items() if name in kept} == kept


def test_parameters_of_another_run_are_refused(unfinished):
    (unfinished / "params.json").write_text(PARAMS.model_copy(update={"clip_norm": 9.0}).model_dump_json())
    refused(unfinished, HifitseError, (PARAMS.run_id, "clip_norm 9.0", "now it is 5.0"))


def test_two_trainings_of_one_run_at_once(unfinished):
    context = multiprocessing.get_context("forkserver")
    held, let_go = context.Event(), context.Event()
    other = go(hold, unfinished, held, let_go)
    assert held.wait(240)
    refused(unfinished, HifitseError, (PARAMS.run_id, "another process", "one at a time"))
    let_go.set()
    other.join()


def finishes_as_ever(trained: Path) -> None:
    """Check that the same call resumes and ends with the weights and rows of a run that was not disturbed."""
    run = train(PARAMS, progress=False)
    assert run.finished and same(weights(run), load_tensors(checkpoints(trained / PARAMS.run_id)[0])[0])
    assert [row["step"] for row in run.history] == [1, 2, 3, 4] and [row["step"] for row in run.validation] == [4]
    assert not list(run.folder.glob(".*"))


def test_a_disk_that_is_full_for_the_checkpoint_or_for_a_row_loses_nothing(unfinished, trained):
    before = checkpoints(unfinished)[0].read_bytes()
    with full_disk(300_000), pytest.raises(CheckpointError) as caught:
        train(PARAMS, progress=False)
    one_sentence(str(caught.value), ("cannot write checkpoint-000000004", "untouched"))
    full = mock.patch("hifitse.training.checkpoint.Journal._add", side_effect=OSError(28, "No space left on device"))
    with full, pytest.raises(TrainingError) as caught:
        train(PARAMS, progress=False)
    one_sentence(str(caught.value), ("stopped at step 3", "No space left on device", "goes on from the last checkpoint"))
    assert checkpoints(unfinished)[0].read_bytes() == before
    finishes_as_ever(trained)


@pytest.mark.parametrize("at", ["train_step", "quick_validate", "save_checkpoint", "SIGKILL", "MemoryError"])
def test_a_killed_worker_ends_the_training_and_loses_nothing(at, unfinished, trained):
    """Torch reports it by a signal, whatever the training is doing at that moment."""
    own, draw, real = os.getpid(), Mixer.draw, getattr(train_module, at, None)

    def dies(self, seed, index, *rest, **named):
        if os.getpid() != own and index == 6:
            np.zeros(2**50) if at == "MemoryError" else os.kill(os.getpid(), signal.SIGKILL)
        return draw(self, seed, index, *rest, **named)

    def kills(*given):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
        time.sleep(1)
        return real(*given)

    fault = mock.patch.object(train_module, at, kills) if real else mock.patch.object(Mixer, "draw", dies)
    before = checkpoints(unfinished)[0].read_bytes()
    with fault, pytest.raises(HifitseError) as caught:
        train(PARAMS.model_copy(update={"workers": 1}), progress=False)
    one_sentence(str(caught.value), ("a process that makes mixtures was killed", "fewer workers"))
    assert checkpoints(unfinished)[-1].read_bytes() == before
    finishes_as_ever(trained)


ROWS = b'{"step": 1, "loss": 1.0, "seconds": 1.0}\n{"step": 2, "loss": 2.0, "seconds": 2.0}\n'


@pytest.mark.parametrize("tail", [b'{"step": 3, "lo', b"\xff\xfe{", b"\0" * 4096], ids=range(3))
def test_a_damaged_last_row_is_left_out(tail, folder):
    (folder / "history.jsonl").write_bytes(ROWS + tail)
    assert [row["step"] for row in Run.of(PARAMS).history] == [1, 2]


def test_half_written_files_and_damaged_parameters_do_not_stop_a_run(unfinished, trained):
    history = (unfinished / "history.jsonl").read_bytes()
    (unfinished / "history.jsonl").write_bytes(history[:-20])
    (unfinished / "params.json").write_text("[]")
    for name in (".checkpoint-000000003.safetensors.0123456789ab.safetensors", ".history.jsonl.0123456789ab.jsonl"):
        (unfinished / name).write_bytes(b"half")
    finishes_as_ever(trained)
    assert json.loads((unfinished / "params.json").read_text())["steps"] == 4
