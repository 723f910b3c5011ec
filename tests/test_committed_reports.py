"""What the committed reports say, against what is promised."""

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


def test_the_committed_demo_extracts():
    """The promise of the demo: on unseen speakers surely 4 dB better, and at least 10 dB more than with the interferer's enrolment."""
    values = json.loads(committed("reports/demo-best/00_baseline/metrics.json"))["arms"]["baseline"]["metrics"]
    right, wrong = values["si_sdri_db"], values["si_sdri_wrong_enroll_db"]
    assert right["low"] >= 4 and right["low"] - wrong["high"] >= 10


def test_the_best_recipe_keeps_its_promise():
    """At least 2 dB over the baseline on unseen speakers, surely above 0, in at most the baseline's seconds per step."""
    found = json.loads(committed("reports/demo/13_best/metrics.json"))
    (gain,) = [each for each in found["comparisons"] if (each["arm"], each["metric"]) == ("best", "si_sdri_db")]
    assert gain["difference"] >= 2 and gain["low"] > 0
    assert found["arms"]["best"]["step_ratio"]["mean"] <= 1 and found["arms"]["best"]["steps"] == found["arms"]["baseline"]["steps"]
