"""What a training tells while it goes on: rows of its history, TensorBoard, the progress bar."""

import json
import math
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hifitse.training.run import Run


class Journal:
    """Writes into a run's folder.

    Args:
        run: that is trained.
        bar: the progress bar.
    """

    def __init__(self, run: Run, bar: tqdm) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.run, self.bar = run, bar
        self._board = SummaryWriter(run.folder / "tensorboard")

    def steps(self, window: list[dict[str, float]], step: int, seconds: float) -> None:
        """Mean over the rows of the steps since the last call, which are dropped."""
        names = dict.fromkeys(name for row in window for name in row)
        mean = {name: sum(values) / len(values) for name in names if (values := [row[name] for row in window if name in row])}
        window.clear()
        _append(self.run.folder / "history.jsonl", {"step": step, "seconds": seconds} | mean)
        self._plot("train", mean, step)
        self.bar.set_postfix(loss=f"{mean['loss']:.2f}", dB=f"{-mean.get('si_sdr', math.nan):.2f}")

    def validation(self, measured: dict[str, float | None], step: int) -> None:
        """What a quick look at unseen voices found."""
        _append(self.run.folder / "validation.jsonl", {"step": step} | measured)
        self._plot("valid", {"step": step} | measured, step)

    def _plot(self, kind: str, row: dict[str, Any], step: int) -> None:
        for name, value in row.items():
            if value is not None:
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()


def _append(path: Path, row: dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
