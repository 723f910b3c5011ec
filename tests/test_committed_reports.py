"""The committed reports: what they say against what is promised, and how they look: wide, narrow, light, dark, by keyboard, by ear."""

import json
import subprocess
from pathlib import Path

import pytest

from hifitse.report.page import document

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


# ---- in a browser


def tracked() -> list[str]:
    """Pages in git; none outside of a checkout."""
    command = ["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", "HEAD", "reports"]
    names = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if name.endswith(("/report.html", "/index.html"))]


PAGES = tracked()
MISSING = pytest.param("", marks=pytest.mark.skip(reason="not a git checkout with reports: nothing is committed here"))


@pytest.fixture
def here(tmp_path):
    """Writes a page into a folder with a name that an address has to quote."""

    def write(text: str) -> Path:
        folder = tmp_path / "Bericht ä #1"
        folder.mkdir()
        (folder / "page.html").write_text(text, encoding="utf-8")
        return folder / "page.html"

    return write


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (500, "dark")])
@pytest.mark.parametrize("name", PAGES or [MISSING])
def test_a_committed_page_can_be_read(name, width, scheme, chromium, here):
    state = chromium.inspect(here(committed(name)), width, scheme)
    assert state["complaints"] == state["fetched"] == []
    assert all(state["images"]) and all(seconds and 0.2 < seconds < 60 for seconds in state["sounds"])
    assert not state["wide"]
    assert state["contrast"][0] >= 4.5, state["contrast"]
    assert state["reached"] == len(state["sounds"])
    assert all(len(label or "") > 8 for label in state["labels"]) and len(set(state["labels"])) == len(state["labels"])
    assert all(len(alt) > 20 for alt in state["alts"])
    assert state["lang"] == "en" and state["h1"] == 1


def test_the_browser_finds_what_is_wrong_with_a_page(chromium, here):
    """So that the silence asserted above means something."""
    grey = '<p style="color: #999">faint</p><h1>a</h1><h1>b</h1><div style="width: 3000px">wide</div>'
    media = '<img src="data:image/png;base64,AAAA"><img src="absent.png"><audio controls src="data:audio/mpeg;base64,AAAA"></audio>'
    state = chromium.inspect(here(f"<!DOCTYPE html><body>{grey}{media}<script>nothing.here()</script></body>"), 500)
    assert any("nothing is not defined" in text for text in state["complaints"])
    assert [Path(address).name for address in state["fetched"]] == ["absent.png"]
    assert state["images"] == [0, 0] and state["sounds"] == [-1] and state["labels"] == [None] and state["alts"] == ["", ""]
    assert state["wide"] and state["lang"] == "" and state["h1"] == 2
    assert 2.8 < state["contrast"][0] < 2.9 and state["contrast"][2] == "faint"


def test_the_colours_follow_the_reader(chromium, here):
    page = here(document("Colours", "<h1>Colours</h1>"))
    colours = []
    for scheme in ("light", "dark"):
        with chromium.tab(scheme=scheme) as tab:
            tab.page.goto(page.as_uri())
            colours.append(tab.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))
    light, dark = map(sum, colours)
    assert light > 3 * 200 and dark < 3 * 50
