"""What the committed reports say, against what the README promises."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("folder", ["demo", "demo-real"])
def test_readme_gives_the_numbers_of_the_committed_report(folder):
    found = json.loads((ROOT / "reports" / folder / "00_baseline" / "metrics.json").read_text())
    assert found["status"] == "complete"
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if f"(reports/{folder}/00_baseline/report.html)" in line)
    for metric in ("si_sdri_db", "si_sdri_wrong_enroll_db"):
        value = found["arms"]["baseline"]["metrics"][metric]
        assert f"{value['mean']:+.2f} ({value['low']:+.2f} to {value['high']:+.2f})" in row, metric
    assert f"| {found['arms']['baseline']['steps']:,} |" in row


def test_the_committed_demo_extracts():
    """The promise of the demo: on unseen voices at least 3 dB better, and at least 4 dB more than with the interferer's enrolment."""
    values = json.loads((ROOT / "reports/demo/00_baseline/metrics.json").read_text())["arms"]["baseline"]["metrics"]
    right, wrong = values["si_sdri_db"], values["si_sdri_wrong_enroll_db"]
    assert right["mean"] >= 3 and right["low"] > 0 and right["low"] - wrong["high"] >= 4
