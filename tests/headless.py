"""Run notebooks as a user would: plain papermill in a copy of ``notebooks`` and ``params``, where runs and outputs do no harm."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from hifitse.report import page

ROOT = Path(__file__).resolve().parent.parent


def checkout(root: Path) -> Path:
    """Copy ``notebooks`` and ``params`` into ``root``; return the copy of ``notebooks``."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, root / name)
    return root / "notebooks"


def metrics(folder: Path, notebook: str) -> dict:
    """Return the metrics that a notebook run in ``folder`` has written."""
    (path,) = (folder / "reports").rglob(f"{notebook}.metrics.json")
    return json.loads(path.read_text(encoding="utf-8"))


def typed(folder: Path, notebook: str, *arguments: str, threads: int | None = None) -> subprocess.CompletedProcess:
    """Run ``papermill NOTEBOOK.ipynb ...`` in ``folder`` with this interpreter's papermill; ``threads=None`` keeps torch's default."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HIFITSE_") or name == "HIFITSE_CACHE"}
    environment |= {"HIFITSE_RUNS": str(folder / "runs"), "HIFITSE_REPORTS": str(folder / "reports"), "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    command = [str(Path(sys.executable).parent / "papermill"), f"{notebook}.ipynb", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def shown(path: Path) -> str:
    """Return the page of an executed notebook; check that every picture is described, nothing failed and nothing is fetched."""
    text = page.render(nbformat.read(path, as_version=4))
    assert len(re.findall(r"<img[^>]*alt=\"[^\"]+\"", text)) == text.count("<img") and "Traceback (most recent" not in text
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", text) and "<script" not in text
    return text


def explained(root: Path, stem: str) -> tuple[dict, str]:
    """Run a notebook with the preset smoke in a new checkout in ``root``; return its metrics and its page."""
    folder = checkout(root)
    done = typed(folder, stem, "out.ipynb", "-p", "preset", "smoke", threads=1)
    assert done.returncode == 0, done.stderr[-3000:]
    found = metrics(folder, stem)
    assert (found["status"], found["notebook"], found["preset"]) == ("complete", stem, "smoke")
    return found, shown(folder / "out.ipynb")
