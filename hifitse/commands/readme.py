"""The numbers of README.md: tables between two marks, written from the reports' metrics.json, never by hand."""

import json
import re
from pathlib import Path

from hifitse.files import write_text
from hifitse.metrics import Interval
from hifitse.report.collect import SCALES
from hifitse.report.contract import ArmEntry, Stat, complete

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


def said(value: Interval | Stat | None) -> str:
    """A number in dB with its 95 % interval."""
    return f"{value.mean:+.2f} ({value.low:+.2f} to {value.high:+.2f})" if value else "not measured"


def gain(reports: Path, notebook: str, arm: str) -> tuple[str, str, str]:
    """The paired difference of SI-SDRi to the baseline, what the plan expects, and the first of ``SCALES`` that measured it."""
    for preset in SCALES:
        found = complete(reports / preset / notebook / "metrics.json")
        for each in found.comparisons if found else ():
            if (each.arm, each.baseline, each.metric, each.list) == (arm, "baseline", "si_sdri_db", "test"):
                return said(each.interval), " to ".join(f"{end:+.1f}" for end in each.expected) if each.expected else "–", preset
    return said(None), "–", SCALES[-1]


def table(name: str, reports: Path) -> list[str]:
    """The rows of one table, "models", "levers" or "notebooks"; what has no report is 'not measured'."""
    rows = {"models": ["model; test mixtures | right enrolment, dB | wrong enrolment, dB | n"]}
    for (folder, part), words in MODELS.items():
        found = complete(reports / folder / "metrics.json")
        conditions = found.model_extra.get("default_model", {}).get("conditions", {}) if found else {}
        arms = {key: ArmEntry(**each) for key, each in conditions.items()} or (found.arms if found else {})
        values = arms.get(part, ArmEntry()).metrics
        right, wrong = values.get("si_sdri_db"), values.get("si_sdri_wrong_enroll_db")
        link = f"[{words}](reports/{folder}/report.html)" if found else words
        rows["models"].append(f"{link} | {said(right)} | {said(wrong)} | {right.n if right else '–'}")
    rows["levers"] = ["lever | measured, dB | the plan expects, dB | preset"]
    for place, words in LEVERS.items():
        found = gain(reports, *place)
        rows["levers"].append(f"[{words}](reports/{found[2]}/{place[0]}/report.html) | {' | '.join(found)}")
    rows["notebooks"] = ["notebook | question | answer, dB relative to its baseline"]
    for path in sorted((reports.parent / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        title = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).partition("\n")[0]
        answer = "in its report"
        if path.stem in ANSWERS:
            value, _, preset = gain(reports, path.stem, ANSWERS[path.stem])
            answer = f"{ANSWERS[path.stem]}: {value}{f', {preset}' * (preset != SCALES[-1])}"
        rows["notebooks"].append(f"[{path.stem}](notebooks/{path.name}) | {title.partition(': ')[2]} | {answer}")
    head, *body = [f"| {row} |" for row in rows[name]]
    return [head, "|" + "---|" * head.count(" |"), *body]


def fill(readme: Path, reports: Path) -> None:
    """Write each table between its marks ``<!-- numbers: NAME -->`` and ``<!-- end -->``."""

    def block(found: re.Match) -> str:
        return "\n".join([f"<!-- numbers: {found[1]} -->", *table(found[1], reports), "<!-- end -->"])

    marks = r"<!-- numbers: (models|levers|notebooks) -->\n.*?<!-- end -->"
    write_text(readme, re.sub(marks, block, readme.read_text(encoding="utf-8"), flags=re.DOTALL))
