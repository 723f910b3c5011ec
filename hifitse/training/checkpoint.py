"""Everything a training writes while it runs: checkpoints, log rows, TensorBoard events and progress messages.

A checkpoint is one safetensors file with weights, optimiser state and a JSON header, written to a temporary file and moved into place.
A kill at any moment leaves a readable checkpoint; if the newest one is damaged, the previous one is loaded. Pickle is never used.
"""

import contextlib
import json
import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from hifitse.files import CheckpointError, write_atomic, write_text
from hifitse.params import Params

KEPT = 2  # checkpoints kept in a run folder, besides the best one
BEST = "best.safetensors"  # EMA weights and learned loss weights of the best validation so far


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write named tensors and a JSON header to one safetensors file, atomically."""
    # clone: safetensors refuses tensors that share memory
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, lambda temporary: save_file(flat, temporary, metadata={"hifitse": json.dumps(header)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load what :func:`save_tensors` wrote. Raises CheckpointError: the file is missing, damaged, not finite, or of another format."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["hifitse"])
            # clone: safetensors returns memory-mapped tensors, and reading those crashes the process if the file is truncated later
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        if spoilt := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
            raise ValueError(f"{spoilt[0]} holds NaN or infinity")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise CheckpointError(f"cannot read {path}: {reason}; expected a safetensors file of this library") from error
    return tensors, header


def flatten_optimizers(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the optimisers' state under flat names, ``optimizer.<number>.<parameter number>.<name>``."""
    return {
        f"optimizer.{number}.{i}.{name}": torch.as_tensor(value)
        for number, optimizer in enumerate(optimizers)
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Restore what :func:`flatten_optimizers` returned."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, i, name = key.split(".", 3)
            states[int(number)].setdefault(int(i), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoint files in a run folder, newest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """Write ``checkpoint-<step>.safetensors`` and delete all but the newest ``KEPT`` checkpoints."""
    path = folder / f"checkpoint-{step:09d}.safetensors"
    save_tensors(path, tensors, header | {"step": step})
    for old in checkpoints(folder)[KEPT:]:
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Load the newest readable checkpoint, or return ``None`` if there are no checkpoints. Damaged ones are skipped with a warning.
    Raises CheckpointError: there are checkpoints but none is readable; starting over would silently discard days of work."""
    found = checkpoints(folder)
    for number, path in enumerate(found, start=1):
        try:
            return load_tensors(path)
        except CheckpointError as error:
            if number == len(found):
                rule = "expected a readable one; move the folder away to start again"
                raise CheckpointError(f"run {folder.name} has no readable checkpoint among {number} ({error}), {rule}") from None
            warnings.warn(f"{error}; falling back to the previous checkpoint", stacklevel=2)
    return None


def clear_unfinished(folder: Path) -> None:
    """Remove temporary files that killed processes left in a run folder. The caller must hold the run's lock."""
    for name in ("checkpoint-*", BEST, "history.jsonl", "validation.jsonl", "params.json"):
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


FIRST_S = 60.0  # seconds of training before the first time estimate


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSONL file, skipping damaged lines, such as a last line that was cut off by a kill."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each value over the rows that have it."""
    return {name: fmean(row[name] for row in rows if name in row) for name in dict.fromkeys(name for row in rows for name in row)}


def cut_rows(path: Path, step: int) -> None:
    """Drop the rows after ``step``: a kill has undone those steps, and they will be repeated."""
    if path.is_file():
        kept = [row for row in read_rows(path) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


class Journal:
    """Logs a training to the run folder and next to the progress bar; ``others``: number of similar trainings that follow."""

    def __init__(self, folder: Path, params: Params, bar: tqdm, others: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.folder, self.params, self.bar, self.others, self._first = folder, params, bar, others, bar.n
        self._board = SummaryWriter(folder / "tensorboard", purge_step=bar.n + 1)
        self._best = max(map(_score, read_rows(folder / "validation.jsonl") if (folder / BEST).is_file() else ()), default=-math.inf)
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
        """Print the estimated remaining time once, after the first minute of training. Called after every update."""
        if self._begun is not None and (gone := time.monotonic() - self._begun) > FIRST_S:
            each = gone / (step - self._first)
            limit = 60 * self.params.max_minutes or math.inf
            rest = min(each * (self.params.steps - step), max(0.0, limit - gone))
            more = f", {minutes(rest + self.others * min(each * self.params.steps, limit))} with the following trainings"
            self._say(f"about {minutes(rest)} to go{more if self.others else ''}")
            self._begun = None

    def steps(self, window: list[dict[str, float]], step: int, seconds: float) -> None:
        """Log the mean of the rows in ``window``, those since the last call, and empty it."""
        mean = means(window)
        window.clear()
        self._add("train", "history.jsonl", step, {"seconds": seconds} | mean)
        self.bar.set_postfix(loss=f"{mean['loss']:.2f}", dB=f"{-mean.get('si_sdr', math.nan):.2f}")

    def validation(self, measured: dict[str, Any], step: int) -> bool:
        """Log the results of a validation. Return whether it is the best so far."""
        self._add("valid", "validation.jsonl", step, measured)
        before, self._best = self._best, max(self._best, _score(measured))
        return self._best > before

    def _add(self, kind: str, file: str, step: int, row: dict[str, Any]) -> None:
        with open(self.folder / file, "a", encoding="utf-8") as rows:
            rows.write(json.dumps({"step": step} | row) + "\n")
        for name, value in row.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the TensorBoard writer."""
        self._board.close()


def _score(row: dict[str, Any]) -> float:
    """Return the SI-SDRi of a validation, by which the best checkpoint is chosen; -inf if it is undefined."""
    return -math.inf if row["si_sdri_db"] is None else row["si_sdri_db"]


def minutes(seconds: float) -> str:
    """Format a duration in minutes, hours or days."""
    days = f"{seconds / 86_400:.0f} days" if seconds > 259_200 else ""
    return days or (f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{math.ceil(seconds / 60)} minutes")
