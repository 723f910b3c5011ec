"""Atomic files and checkpoints: one safetensors file with weights, optimiser state and a JSON header. No pickle.

A checkpoint is written beside its place and moved there, and the one before is kept until the next is whole: a kill at
any moment leaves a readable one, and a damaged file falls back to its predecessor.
"""

import json
import os
import secrets
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hifitse import HifitseError

KEPT = 2
"""Checkpoints that stay in a run's folder."""


class CheckpointError(HifitseError):
    """A checkpoint or weight file is missing, damaged or made for something else."""


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file in the same folder, then move it to ``path``: all of it or nothing.

    The file may be read by whom the user's umask allows, as with plain ``open``.

    Raises:
        CheckpointError: the folder cannot be written or the disk is full; what stood at ``path`` is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.parent / f".{path.name}.{secrets.token_hex(6)}{path.suffix}"
        name.touch(exist_ok=False)
        temporary, mode = name, name.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes a file of its own, for the owner alone
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path.name} in {path.parent}: {error}; what was there before is untouched") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Atomic ``path.write_text`` in UTF-8."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Tensors by name and a JSON header to one safetensors file, atomically."""
    # clone: safetensors refuses tensors that share memory
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, lambda temporary: save_file(flat, temporary, metadata={"hifitse": json.dumps(header)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`save_tensors` wrote.

    Raises:
        CheckpointError: no such file, damaged, not finite, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["hifitse"])
            # clone: what safetensors gives is the file itself mapped into memory, and dies with the process if the file is cut short
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        if not isinstance(header, dict):
            raise ValueError(f"the header holds {str(header)[:40]!r}")
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds NaN or infinity")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise CheckpointError(f"cannot read {path}: {reason}; allowed is a safetensors file of this library") from error
    return tensors, header


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """``module.load_state_dict`` with one sentence where names or shapes differ."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the weights in {origin} do not fit the model: {reason}") from None


def flatten_optimizers(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimisers' tensors under flat names ``optimizer.<number>.<parameter number>.<name>``."""
    return {
        f"optimizer.{number}.{i}.{name}": torch.as_tensor(value)
        for number, optimizer in enumerate(optimizers)
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put the tensors of :func:`flatten_optimizers` back.

    Raises:
        CheckpointError: they are of other optimisers, or none are there.
    """
    weights = [[weight for group in optimizer.param_groups for weight in group["params"]] for optimizer in optimizers]
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            try:
                _, number, i, name = key.split(".", 3)
                fits = value.shape in (weights[int(number)][int(i)].shape, torch.Size([]))
            except (ValueError, IndexError):
                fits = False
            if not fits:
                shape = list(value.shape)
                raise CheckpointError(f"the checkpoint's {key} of shape {shape} fits no optimiser of the run, allowed is one of this run")
            states[int(number)].setdefault(int(i), {})[name] = value
    if not all(states):
        raise CheckpointError(f"the checkpoint holds {sum(map(bool, states))} optimisers, allowed are the {len(optimizers)} of the run")
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint files in a run's folder, newest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """Write ``checkpoint-<step>.safetensors`` and drop all but the newest ``KEPT``."""
    path = folder / f"checkpoint-{step:09d}.safetensors"
    save_tensors(path, tensors, header | {"step": step})
    for old in checkpoints(folder)[KEPT:]:
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest readable checkpoint, or ``None`` where there is none. A damaged one is passed over with a warning.

    Raises:
        CheckpointError: there are some and none is readable: to start anew would drop what is left of days of work without a word.
    """
    found = checkpoints(folder)
    for number, path in enumerate(found, start=1):
        try:
            tensors, header = load_tensors(path)
            if not all(isinstance(header.get(name), int | float) for name in ("step", "seconds")):
                raise CheckpointError(f"cannot read {path}: its header names no step and seconds; allowed is a checkpoint of a run")
            return tensors, header
        except CheckpointError as error:
            if number == len(found):
                rule = "allowed is a readable one; move the folder away to start anew"
                raise CheckpointError(f"run {folder.name} has no readable checkpoint among {number} ({error}), {rule}") from None
            warnings.warn(f"{error}; going on from the checkpoint before it", stacklevel=2)
    return None


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes left half-written of the files that a training writes; only for one that holds the run's lock."""
    for name in ("checkpoint-*", "history.jsonl", "validation.jsonl", "params.json"):
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)
