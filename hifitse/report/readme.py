"""The numbers of README.md: tables between two marks, written from the reports' metrics.json, never by hand."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hifitse.files import write_text

DEFAULT = "people/14_default_model"
MODELS = {
    (DEFAULT, "people, dry"): "default model; unseen people, no room, no noise",
    (DEFAULT, "people, rooms and noise"): "default model; the same in measured rooms with noise",
    (DEFAULT, "RAVDESS, dry"): "default model; actors in an unseen studio",
    (DEFAULT, "Persian, dry"): "default model; unseen language and microphones",
    ("demo-best/00_baseline", "baseline"): "`make demo`; synthetic voices, no room",
    ("demo/00_baseline", "baseline"): "baseline of the notebooks; synthetic voices, no room",
}
"""Report, and its arm or condition -> what the row measures."""
LEVERS = {
    ("13_best", "best"): "the best recipe: the next two together",
    ("13_best", "magnitudes alone"): "compressed magnitudes as the only input",
    ("13_best", "small, large batches"): "a small network and large batches",
    ("06_losses", "all four, uncertainty"): "four loss terms with learned weights",
    ("09_combined", "all together"): "the plan's 02 to 05 together",
}
"""Notebook, and its arm -> what changed."""
ANSWERS = {
    "01_gan_finetune": "STFT", "02_capacity": "C both", "03_long_segments": "4 s", "04_augmentation": "2-3 enrolments",
    "05_curriculum": "1-4 interferers", "06_losses": "all four, uncertainty", "07_conditioning": "in every block",
    "09_combined": "all together", "12_diagnosis": "all faults", "13_best": "best",
}  # fmt: skip
"""Notebook -> the arm that answers its question."""


def metrics(path: Path) -> Mapping[str, Any]:
    """A complete report's ``metrics.json``; empty where it is missing, damaged or of a failed run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("status") == "complete" else {}


def said(value: Mapping[str, Any] | None, key: str = "mean") -> str:
    """A number in dB with its 95 % interval."""
    return f"{value[key]:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})" if value else "not measured"


def gain(reports: Path, notebook: str, arm: str) -> tuple[str, str]:
    """The paired difference of SI-SDRi to the baseline, and what the plan expects."""
    for each in metrics(reports / "demo" / notebook / "metrics.json").get("comparisons", ()):
        if (each["arm"], each["baseline"], each["metric"], each.get("list")) == (arm, "baseline", "si_sdri_db", None):
            plan = each.get("expected")
            return said(each, "difference"), f"{plan[0]:+.1f} to {plan[1]:+.1f}" if plan else "–"
    return said(None), "–"


def table(name: str, reports: Path) -> list[str]:
    """The rows of one table, "models", "levers" or "notebooks"; what has no report is 'not measured'."""
    rows = {"models": ["model; test mixtures | right enrolment, dB | wrong enrolment, dB | n"]}
    for (folder, part), words in MODELS.items():
        found = metrics(reports / folder / "metrics.json")
        values = (found.get("default_model", {}).get("conditions") or found.get("arms", {})).get(part, {}).get("metrics", {})
        right, wrong = values.get("si_sdri_db"), values.get("si_sdri_wrong_enroll_db")
        link = f"[{words}](reports/{folder}/report.html)" if found else words
        rows["models"].append(f"{link} | {said(right)} | {said(wrong)} | {right['n'] if right else '–'}")
    rows["levers"] = ["lever | measured, dB | the plan expects, dB"]
    for place, words in LEVERS.items():
        rows["levers"].append(f"[{words}](reports/demo/{place[0]}/report.html) | {' | '.join(gain(reports, *place))}")
    rows["notebooks"] = ["notebook | question | answer, dB relative to its baseline"]
    for path in sorted((reports.parent / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        title = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).partition("\n")[0]
        answer = f"{ANSWERS[path.stem]}: {gain(reports, path.stem, ANSWERS[path.stem])[0]}" if path.stem in ANSWERS else "in its report"
        rows["notebooks"].append(f"[{path.stem}](notebooks/{path.name}) | {title.partition(': ')[2]} | {answer}")
    head, *body = [f"| {row} |" for row in rows[name]]
    return [head, "|" + "---|" * head.count(" |"), *body]


def fill(readme: Path, reports: Path) -> None:
    """Write each table between its marks ``<!-- numbers: NAME -->`` and ``<!-- end -->``."""

    def block(found: re.Match) -> str:
        return "\n".join([f"<!-- numbers: {found[1]} -->", *table(found[1], reports), "<!-- end -->"])

    marks = r"<!-- numbers: (models|levers|notebooks) -->\n.*?<!-- end -->"
    write_text(readme, re.sub(marks, block, readme.read_text(encoding="utf-8"), flags=re.DOTALL))
