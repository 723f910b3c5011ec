"""The committed reports: what they say against what is promised, and how they look: wide, narrow, light, dark, by keyboard, by ear."""

import json
import subprocess
from pathlib import Path

import pytest
from headless import ROOT


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


def pages() -> list[str]:
    """In git; none outside of a checkout."""
    command = ["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", "HEAD", "reports"]
    names = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if name.endswith(("/report.html", "/index.html"))]


def written(text: str, folder: Path) -> Path:
    """A page with a name that an address has to quote."""
    page = folder / "Bericht ä #1.html"
    page.write_text(text, encoding="utf-8")
    return page


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (500, "dark")])
@pytest.mark.parametrize("name", pages())
def test_a_committed_page_can_be_read(name, width, scheme, chromium, tmp_path):
    state = chromium.inspect(written(committed(name), tmp_path), width, scheme)
    assert state["complaints"] == state["fetched"] == []
    assert all(state["images"]) and all(seconds and 0.2 < seconds < 60 for seconds in state["sounds"])
    assert not state["wide"]
    assert state["light"] > 3 * 200 if scheme == "light" else state["light"] < 3 * 50
    assert state["contrast"][0] >= 4.5, state["contrast"]
    assert state["reached"] == len(state["sounds"])
    assert all(len(label or "") > 8 for label in state["labels"]) and len(set(state["labels"])) == len(state["labels"])
    assert all(len(alt) > 20 for alt in state["alts"])
    assert state["lang"] == "en" and state["h1"] == 1


def test_the_browser_finds_what_is_wrong_with_a_page(chromium, tmp_path):
    """So that the silence asserted above means something."""
    grey = '<p style="color: #999">faint</p><h1>a</h1><h1>b</h1><div style="width: 3000px">wide</div>'
    media = '<img src="data:image/png;base64,AAAA"><img src="absent.png"><audio controls src="data:audio/mpeg;base64,AAAA"></audio>'
    page = f"<!DOCTYPE html><body>{grey}{media}<script>nothing.here()</script></body>"
    state = chromium.inspect(written(page, tmp_path), 500)
    assert any("nothing is not defined" in text for text in state["complaints"])
    assert [Path(address).name for address in state["fetched"]] == ["absent.png"]
    assert state["images"] == [0, 0] and state["sounds"] == [-1] and state["labels"] == [None] and state["alts"] == ["", ""]
    assert state["wide"] and state["lang"] == "" and state["h1"] == 2
    assert 2.8 < state["contrast"][0] < 2.9 and state["contrast"][2] == "faint"
