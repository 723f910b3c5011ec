"""The trainings that lie in ``runs/``, one line each: what ``hifitse runs`` prints."""

import contextlib
import json
from datetime import datetime
from pathlib import Path

import pandas as pd

from hifitse import HifitseError
from hifitse.params import Params
from hifitse.report import report
from hifitse.training.run import Run, runs_dir

COLUMNS = ["run", "preset", "what differs", "steps", "of", "best SI-SDRi, dB", "date"]


def runs(folder: Path | None = None) -> pd.DataFrame:
    """The trainings in a folder, the newest first; what is no training or cannot be read is left out.

    Args:
        folder: of runs; ``None`` takes that of this checkout.

    Returns:
        Columns ``COLUMNS``: id; preset, with ``-real`` for recordings; parameters that differ from the preset's; steps done and asked
        for; the best SI-SDRi on the validation list; day of the last checkpoint.
    """
    rows = []
    for path in (folder or runs_dir()).glob("*/params.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, HifitseError):
            run = Run(path.parent, Params(**json.loads(path.read_text(encoding="utf-8"))))
            best = max((row["si_sdri_db"] for row in run.validation if isinstance(row.get("si_sdri_db"), float)), default=float("nan"))
            changed = max(file.stat().st_mtime for file in path.parent.iterdir() if not file.name.startswith("rows-"))
            differs = ", ".join(f"{name}={value}" for name, value in sorted(report.differences(run.params, evaluation=False).items()))
            top = report.top(run.params.preset, run.params.corpus)
            rows.append((changed, [run.folder.name, top, differs, run.step, run.params.steps, best]))
    rows.sort(key=lambda row: -row[0])
    dates = [f"{datetime.fromtimestamp(changed):%Y-%m-%d %H:%M}" for changed, _ in rows]
    return pd.DataFrame([[*cells, date] for (_, cells), date in zip(rows, dates, strict=True)], columns=COLUMNS)


def listing(folder: Path | None = None) -> str:
    """The same as text for a terminal."""
    found = runs(folder)
    if not len(found):
        return f"no training in {folder or runs_dir()} yet"
    shortened = found.assign(**{"what differs": found["what differs"].str.slice(0, 80)})
    return shortened.to_string(index=False, float_format=lambda value: f"{value:+.2f}", na_rep="–")
