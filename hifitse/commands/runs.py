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


def trainings(folder: Path) -> pd.DataFrame:
    """The trainings in a folder of runs, the newest first; what is no training or cannot be read is left out.

    Returns:
        Columns ``COLUMNS``: id; preset, with ``-real`` for recordings; parameters that differ from the preset's; steps done and asked
        for; the best SI-SDRi on the validation list; time of the last checkpoint.
    """
    rows = []
    for path in folder.glob("*/params.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, HifitseError):
            run = Run(path.parent, Params(**json.loads(path.read_text(encoding="utf-8"))))
            best = max((row["si_sdri_db"] for row in run.validation if isinstance(row.get("si_sdri_db"), float)), default=float("nan"))
            changed = max(file.stat().st_mtime for file in path.parent.iterdir() if not file.name.startswith("rows-"))
            differs = ", ".join(f"{name}={value}" for name, value in sorted(report.differences(run.params, evaluation=False).items()))
            top = report.top(run.params.preset, run.params.corpus)
            rows.append([run.folder.name, top, differs, run.step, run.params.steps, best, datetime.fromtimestamp(changed)])
    found = pd.DataFrame(rows, columns=COLUMNS).sort_values("date", ascending=False)
    return found.assign(date=[f"{date:%Y-%m-%d %H:%M}" for date in found["date"]])


def listing() -> str:
    """The same as text for a terminal."""
    found = trainings(runs_dir())
    shortened = found.assign(**{"what differs": found["what differs"].str.slice(0, 80)}) if len(found) else found
    text = shortened.to_string(index=False, float_format=lambda value: f"{value:+.2f}", na_rep="–")
    return text if len(found) else f"no training in {runs_dir()} yet"
