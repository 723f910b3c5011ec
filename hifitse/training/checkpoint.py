"""Checkpoints: one safetensors file with weights, optimiser state and a JSON header. No pickle.

A checkpoint is written beside its place and moved there, and the one before is kept until the next is whole: a kill at
any moment leaves a readable one, and a damaged file falls back to its predecessor.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hifitse.files import CheckpointError, write_atomic

KEPT = 2  # checkpoints that stay in a run's folder, beside the best
BEST = "best.safetensors"  # averaged weights and learned loss weights at the best validation so far


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Tensors by name and a JSON header to one safetensors file, atomically."""
    # clone: safetensors refuses tensors that share memory
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, lambda temporary: save_file(flat, temporary, metadata={"hifitse": json.dumps(header)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`save_tensors` wrote. Raises CheckpointError: no such file, damaged, not finite, or not one of ours."""
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
        raise CheckpointError(f"cannot read {path}: {reason}; expected a safetensors file of this library") from error
    return tensors, header


def flatten_optimizers(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimisers' tensors under flat names ``optimizer.<number>.<parameter number>.<name>``."""
    return {
        f"optimizer.{number}.{i}.{name}": torch.as_tensor(value)
        for number, optimizer in enumerate(optimizers)
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put the tensors of :func:`flatten_optimizers` back. Raises CheckpointError: they are of other optimisers, or none are there."""
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
                raise CheckpointError(f"the checkpoint's {key} of shape {shape} fits no optimiser of the run, expected one of this run")
            states[int(number)].setdefault(int(i), {})[name] = value
    if not all(states):
        raise CheckpointError(f"the checkpoint holds {sum(map(bool, states))} optimisers, expected the {len(optimizers)} of the run")
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
    Raises CheckpointError: there are some and none is readable: to start again would drop what is left of days of work without a word."""
    found = checkpoints(folder)
    for number, path in enumerate(found, start=1):
        try:
            tensors, header = load_tensors(path)
            if not all(isinstance(header.get(name), int | float) for name in ("step", "seconds")):
                raise CheckpointError(f"cannot read {path}: its header names no step and seconds; expected a checkpoint of a run")
            return tensors, header
        except CheckpointError as error:
            if number == len(found):
                rule = "expected a readable one; move the folder away to start again"
                raise CheckpointError(f"run {folder.name} has no readable checkpoint among {number} ({error}), {rule}") from None
            warnings.warn(f"{error}; going on from the checkpoint before it", stacklevel=2)
    return None


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes left half-written of the files that a training writes; only for one that holds the run's lock."""
    for name in ("checkpoint-*", BEST, "history.jsonl", "validation.jsonl", "params.json"):
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)
