"""What the committed reports say, against what the README promises."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def committed(path: str) -> str:
    """A file as it is in the last commit: whoever has run the demo has a report of their own in the working tree."""
    shown = subprocess.run(["git", "-C", str(ROOT), "show", f"HEAD:{path}"], capture_output=True, text=True)
    if shown.returncode:
        pytest.skip(f"not a git checkout with {path}: nothing is committed here")
    return shown.stdout


@pytest.mark.parametrize("folder", ["demo-best", "demo-best-real", "demo", "demo-real"])
def test_readme_gives_the_numbers_of_the_committed_report(folder):
    found = json.loads(committed(f"reports/{folder}/00_baseline/metrics.json"))
    assert found["status"] == "complete"
    row = next(line for line in committed("README.md").splitlines() if f"(reports/{folder}/00_baseline/report.html)" in line)
    for metric in ("si_sdri_db", "si_sdri_wrong_enroll_db"):
        value = found["arms"]["baseline"]["metrics"][metric]
        assert f"{value['mean']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})" in row, metric
    assert f"| {found['arms']['baseline']['steps']:,} |" in row


def test_the_committed_demo_extracts():
    """The promise of the demo: on unseen voices surely 4 dB better, and at least 10 dB more than with the interferer's enrolment."""
    values = json.loads(committed("reports/demo-best/00_baseline/metrics.json"))["arms"]["baseline"]["metrics"]
    right, wrong = values["si_sdri_db"], values["si_sdri_wrong_enroll_db"]
    assert right["low"] >= 4 and right["low"] - wrong["high"] >= 10


def test_the_best_recipe_keeps_its_promise():
    """At least 2 dB over the baseline on unseen voices, surely above 0, in at most the baseline's seconds a step."""
    found = json.loads(committed("reports/demo/13_best/metrics.json"))
    (gain,) = [each for each in found["comparisons"] if (each["arm"], each["metric"]) == ("best", "si_sdri_db")]
    assert gain["difference"] >= 2 and gain["low"] > 0
    assert found["arms"]["best"]["step_ratio"]["mean"] <= 1 and found["arms"]["best"]["steps"] == found["arms"]["baseline"]["steps"]


LEVERS = {
    "**the best recipe**": ("13_best", "best", None),
    "compressed magnitudes alone": ("13_best", "magnitudes alone", None),
    "a small network, large batches": ("13_best", "small, large batches", None),
    "phase and amplitude terms": ("06_losses", "all four, fixed", None),
    "the same, weights learned": ("06_losses", "all four, uncertainty", None),
    "a contrast of voices": ("06_losses", "speaker contrast", None),
    "all new losses together": ("06_losses", "all together", None),
    "C: wider and deeper": ("02_capacity", "C both", None),
    "half the features": ("02_capacity", "half the features", None),
    "segments twice as long": ("03_long_segments", "4 s", None),
    "2-3 enrolments": ("04_augmentation", "2-3 enrolments", None),
    "SpecAugment, stripes of 5 %": ("04_augmentation", "SpecAugment 5 %", None),
    "augmented enrolments": ("04_augmentation", "enrolment", None),
    "a third phase in noise, 1-4 interferers": ("05_curriculum", "1-4 interferers", None),
    "the same, hard list": ("05_curriculum", "1-4 interferers", "hard"),
    "attention to the enrolment in every block": ("07_conditioning", "in every block", None),
    "AdaLN": ("07_conditioning", "AdaLN", None),
    "the enrolment at several scales": ("07_conditioning", "several scales", None),
    "an identity loss": ("07_conditioning", "identity loss", None),
    "fine-tuning against STFT discriminators": ("01_gan_finetune", "STFT", None),
    "the same steps [without discriminators]": ("01_gan_finetune", "longer", None),
    "02 to 05 together": ("09_combined", "all together", None),
}
"""First words of a row of README's table -> report, arm, list."""


@pytest.mark.parametrize("words", LEVERS)
def test_readme_gives_the_differences_of_the_committed_comparisons(words):
    notebook, arm, name = LEVERS[words]
    found = json.loads(committed(f"reports/demo/{notebook}/metrics.json"))["comparisons"]
    (value,) = [each for each in found if (each["arm"], each["metric"], each.get("list")) == (arm, "si_sdri_db", name)]
    row = next(line for line in committed("README.md").splitlines() if line.startswith((f"| {words}", f"| [{words}]")))
    assert f"| {value['difference']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f}) |" in row
