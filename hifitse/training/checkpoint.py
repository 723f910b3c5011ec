"""What a training writes while it goes on: checkpoints, rows of its history, TensorBoard, the progress bar.

A checkpoint is one safetensors file with weights, optimiser state and a JSON header, written beside its place and moved there: a kill
at any moment leaves a readable one, and a damaged file falls back to its predecessor. No pickle.
"""

import contextlib
import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from hifitse.files import CheckpointError, write_atomic, write_text
from hifitse.params import Params

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
        if spoilt := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
            raise ValueError(f"{spoilt[0]} holds NaN or infinity")
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
    Raises CheckpointError: there are some and none is readable, where to start again would drop days of work without a word."""
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


FIRST_S = 60.0  # s of training after which the journal says how long it takes


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; a last line cut off by a kill is left out, as is any that is damaged."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


def cut_rows(path: Path, step: int) -> None:
    """Drop the rows after ``step``: they belong to work that a kill undid and that will be done again."""
    if path.is_file():
        kept = [row for row in read_rows(path) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


class Journal:
    """Tells what happens, in the run's folder and beside the progress bar; ``others`` are trainings like it that come after it."""

    def __init__(self, folder: Path, params: Params, bar: tqdm, others: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.folder, self.params, self.bar, self.others, self._first = folder, params, bar, others, bar.n
        self._board = SummaryWriter(folder / "tensorboard", purge_step=bar.n + 1)
        self._best = max((row["si_sdri_db"] or -math.inf for row in read_rows(folder / "validation.jsonl")), default=-math.inf)
        self._begun: float | None = time.monotonic()
        after = f", and {others} more training{'s' if others > 1 else ''} after it" if others else ""
        limit = f"at most {params.max_minutes:g} minutes, " if params.max_minutes else ""
        left = f"{params.steps - bar.n:,} of " if bar.n else ""
        steps = f"{params.steps:,} step{'s' * (params.steps > 1)} of {params.batch_size} mixtures"
        threads = f"{(count := torch.get_num_threads())} CPU thread{'s' * (count > 1)}"
        self._say(f"{left}{steps}, {limit}{threads}{after}")

    def _say(self, text: str) -> None:
        if not self.bar.disable:
            self.bar.write(f"training: {text}", file=sys.stderr)

    def tick(self, step: int) -> None:
        """After an update: once the first minute is over, say how long all will take."""
        if self._begun is not None and (gone := time.monotonic() - self._begun) > FIRST_S:
            each = gone / (step - self._first)
            rest = each * (self.params.steps - step)
            limit = 60 * self.params.max_minutes or math.inf
            more = f", {minutes(min(rest, limit - gone) + self.others * min(each * self.params.steps, limit))} with those after it"
            self._say(f"about {minutes(min(rest, limit - gone))} to go{more if self.others else ''}")
            self._begun = None

    def steps(self, window: list[dict[str, float]], step: int, seconds: float) -> None:
        """Mean over the rows of the steps since the last call, which are dropped."""
        names = dict.fromkeys(name for row in window for name in row)
        mean = {name: sum(values) / len(values) for name in names if (values := [row[name] for row in window if name in row])}
        window.clear()
        self._add("train", "history.jsonl", step, {"seconds": seconds} | mean)
        self.bar.set_postfix(loss=f"{mean['loss']:.2f}", dB=f"{-mean.get('si_sdr', math.nan):.2f}")

    def validation(self, measured: dict[str, Any], step: int) -> bool:
        """What a quick look at unseen speakers found. Returns whether it is the best so far."""
        self._add("valid", "validation.jsonl", step, measured)
        before, self._best = self._best, max(self._best, measured["si_sdri_db"] or -math.inf)
        return self._best > before

    def _add(self, kind: str, file: str, step: int, row: dict[str, Any]) -> None:
        with open(self.folder / file, "a", encoding="utf-8") as rows:
            rows.write(json.dumps({"step": step} | row) + "\n")
        for name, value in row.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Write what TensorBoard has not yet written."""
        self._board.close()


def minutes(seconds: float) -> str:
    """A duration in the unit that suits it."""
    days = f"{seconds / 86_400:.0f} days" if seconds > 259_200 else ""
    return days or (f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{math.ceil(seconds / 60)} minutes")
