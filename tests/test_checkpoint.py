"""Files: whole or not at all, no pickle, a damaged checkpoint falls back to the one before."""

import os

import pytest
import torch

from hifitse.files import CheckpointError, write_text
from hifitse.training.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_are_for_those_whom_the_umask_allows(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "x.txt", "text")
        save_tensors(tmp_path / "x.safetensors", {"w": torch.ones(2)}, {})
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("x.txt", "x.safetensors")] == [mode, mode]


def test_loaded_tensors_outlive_a_file_that_is_cut_short(tmp_path):
    """Tensors that were the mapped file itself ended the process with a bus error."""
    save_tensors(tmp_path / "x.safetensors", {"w": torch.ones(1000, 1000)}, {})
    tensors, _ = load_tensors(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"")
    assert float(tensors["w"].sum()) == 1e6


def test_the_newest_two_are_kept(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, step, {"w": torch.full((2,), float(step))}, {"seconds": 1.0})
    assert sorted(path.name[-14:-12] for path in tmp_path.iterdir()) == ["10", "15"] and load_checkpoint(tmp_path)[1]["step"] == 15
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        load_tensors(tmp_path / "none.safetensors")
