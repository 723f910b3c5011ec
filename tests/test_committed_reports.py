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


@pytest.mark.parametrize("folder", ["demo", "demo-real"])
def test_readme_gives_the_numbers_of_the_committed_report(folder):
    found = json.loads(committed(f"reports/{folder}/00_baseline/metrics.json"))
    assert found["status"] == "complete"
    row = next(line for line in committed("README.md").splitlines() if f"(reports/{folder}/00_baseline/report.html)" in line)
    for metric in ("si_sdri_db", "si_sdri_wrong_enroll_db"):
        value = found["arms"]["baseline"]["metrics"][metric]
        assert f"{value['mean']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})" in row, metric
    assert f"| {found['arms']['baseline']['steps']:,} |" in row


def test_the_committed_demo_extracts():
    """The promise of the demo: on unseen voices at least 3 dB better, and at least 4 dB more than with the interferer's enrolment."""
    values = json.loads(committed("reports/demo/00_baseline/metrics.json"))["arms"]["baseline"]["metrics"]
    right, wrong = values["si_sdri_db"], values["si_sdri_wrong_enroll_db"]
    assert right["mean"] >= 3 and right["low"] > 0 and right["low"] - wrong["high"] >= 4
