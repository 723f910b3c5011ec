"""What a training tells while it goes on: rows of its history, TensorBoard, the progress bar."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hifitse.training.run import Run, read_rows

FIRST_S = 60.0  # s of training after which the journal says how long it takes


class Journal:
    """Writes into the folder of the run that is trained; ``others`` are trainings like it that come after it."""

    def __init__(self, run: Run, bar: tqdm, others: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.run, self.bar, self.others, self._first = run, bar, others, bar.n
        self._board = SummaryWriter(run.folder / "tensorboard", purge_step=bar.n + 1)
        self._best = max((row["si_sdri_db"] or -math.inf for row in read_rows(run.folder / "validation.jsonl")), default=-math.inf)
        self._begun: float | None = time.monotonic()
        params = run.params
        after = f", and {others} more training{'s' if others > 1 else ''} after it" if others else ""
        limit = f"at most {params.max_minutes:g} minutes, " if params.max_minutes else ""
        left = f"{params.steps - bar.n:,} of " if bar.n else ""
        self._say(f"{left}{params.steps:,} steps of {params.batch_size} mixtures, {limit}{torch.get_num_threads()} CPU threads{after}")

    def _say(self, text: str) -> None:
        if not self.bar.disable:
            self.bar.write(f"training: {text}", file=sys.stderr)

    def tick(self, step: int) -> None:
        """After an update: once the first minute is over, say how long all will take."""
        if self._begun is not None and (gone := time.monotonic() - self._begun) > FIRST_S:
            each = gone / (step - self._first)
            rest = each * (self.run.params.steps - step)
            limit = 60 * self.run.params.max_minutes or math.inf
            more = f", {minutes(min(rest, limit - gone) + self.others * min(each * self.run.params.steps, limit))} with those after it"
            self._say(f"about {minutes(min(rest, limit - gone))} to go{more if self.others else ''}")
            self._begun = None

    def steps(self, window: list[dict[str, float]], step: int, seconds: float) -> None:
        """Mean over the rows of the steps since the last call, which are dropped."""
        names = dict.fromkeys(name for row in window for name in row)
        mean = {name: sum(values) / len(values) for name in names if (values := [row[name] for row in window if name in row])}
        window.clear()
        _append(self.run.folder / "history.jsonl", {"step": step, "seconds": seconds} | mean)
        self._plot("train", mean, step)
        self.bar.set_postfix(loss=f"{mean['loss']:.2f}", dB=f"{-mean.get('si_sdr', math.nan):.2f}")

    def validation(self, measured: dict[str, float | None], step: int) -> bool:
        """What a quick look at unseen speakers found. Returns whether it is the best so far."""
        _append(self.run.folder / "validation.jsonl", {"step": step} | measured)
        self._plot("valid", {"step": step} | measured, step)
        before, self._best = self._best, max(self._best, measured["si_sdri_db"] or -math.inf)
        return self._best > before

    def _plot(self, kind: str, row: dict[str, Any], step: int) -> None:
        for name, value in row.items():
            if value is not None:
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()


def minutes(seconds: float) -> str:
    """A duration in the unit that suits it."""
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{math.ceil(seconds / 60)} minutes"


def _append(path: Path, row: dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
