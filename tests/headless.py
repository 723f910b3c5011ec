"""Notebooks as a user types them: plain papermill in a copy of the checkout's two folders, where runs and outputs harm nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def checkout(root: Path) -> Path:
    """A folder ``notebooks`` with ``params`` beside it."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, root / name)
    return root / "notebooks"


def metrics(folder: Path, notebook: str) -> dict:
    """What a notebook that was typed there has measured."""
    (path,) = (folder / "reports").rglob(f"{notebook}.metrics.json")
    return json.loads(path.read_text(encoding="utf-8"))


def typed(folder: Path, notebook: str, *arguments: str, threads: int | None = None) -> subprocess.CompletedProcess:
    """``papermill NOTEBOOK.ipynb ...`` with the command beside this interpreter, typed in ``folder``; ``None`` leaves torch its threads."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HIFITSE_") or name == "HIFITSE_CACHE"}
    environment |= {"HIFITSE_RUNS": str(folder / "runs"), "HIFITSE_REPORTS": str(folder / "reports"), "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    command = [str(Path(sys.executable).parent / "papermill"), f"{notebook}.ipynb", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
