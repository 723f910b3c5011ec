"""Test the index of all reports: what it links and says, and that the same reports give the same index.

Test the committed reports: what they promise, and how they look in wide and narrow, light and dark windows, and by keyboard.
"""

import html
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from headless import ROOT
from made_up import content, reports, row, write
from test_page import assert_offline

from hifitse.commands import cli
from hifitse.report import collect, gallery, summary

REPORTS = ROOT / "reports"
"""The committed reports; those of a user's own runs are below them in ``mine``."""
NASTY = "<script>alert(1)</script> $\\frac{$ | [x](javascript:y) `a` **b** \n & \"'"


def links(text: str) -> list[str]:
    """Return the link targets of an HTML page or a Markdown text."""
    pattern = r"<a href=\"([^\"]*)\"" if "<html" in text else r"(?<![!\\])\]\((?!index-)([^)]*)\)"
    return [unquote(html.unescape(place)) for place in re.findall(pattern, text)]


def widths(text: str) -> list[set[int]]:
    """Return the numbers of cells per line, one set for each Markdown table."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [{len(re.findall(r"(?<!\\)\|", line)) - 1 for line in table.splitlines()} for table in tables]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    root = reports(tmp_path_factory.mktemp("reports"))
    gallery.write(root)
    return root


@pytest.fixture(scope="module", params=["index.html", "index.md"])
def text(request, index) -> str:
    return (index / request.param).read_text(encoding="utf-8")


def test_every_report_is_linked_and_no_link_is_dead(text, index):
    found = set(links(text))
    assert found == {f"{path.parent.relative_to(index)}/report.html" for path in index.glob("*/*/metrics.json")}
    assert all((index / place).is_file() for place in found)


def test_it_says_what_was_made_on_what_and_what_is_missing(text):
    words = ["3 of the plan's 9 claims", "400 steps", "x86_64 cpu, 2 threads", "2026-11-23", "012345678", "recordings", "medium"]
    words += ["▲ helped", "● neutral", "▼ hurt", "✕ failed", "it rained, expected sunshine", "✕ unreadable", "Invalid JSON", "○ missing"]
    said = html.unescape(text).replace("\\", "")
    assert [word for word in words if word not in said] == []


def test_the_page_is_one_file_with_a_figure_a_kind_of_data_and_the_tables_of_the_text_are_whole(index):
    page, markdown = ((index / name).read_text(encoding="utf-8") for name in ("index.html", "index.md"))
    assert_offline(page)
    alts = re.findall(r"<img alt=\"([^\"]+)\" src=\"data:image/png;base64,", page)
    assert "02 wider, medium +2.10 dB; 02 wider, demo +0.90 dB" in alts[1] and "02 wider +1.20 dB" in alts[0] and len(alts) == 2
    assert [len(each) for each in widths(markdown)] == [1] * 5
    assert len(re.findall(r"!\[Gains on [^]]+\]\(index-\w+\.png\)", markdown)) == 2
    assert all((index / name).read_bytes().startswith(b"\x89PNG") for name in gallery.FIGURES.values())


def test_the_same_reports_give_the_same_bytes_wherever_they_lie(index, tmp_path):
    other = reports(tmp_path / "elsewhere")
    for path in gallery.write(other) + gallery.write(other):
        assert path.read_bytes() == (index / path.name).read_bytes()
    write(other, "demo/06_losses", content("demo/06_losses", row("several resolutions", 0.7)))
    for path in gallery.write(other):
        assert path.read_bytes() != (index / path.name).read_bytes()
    written = ["index-recordings.png", "index-synthetic.png", "index.html", "index.md"]
    assert sorted(path.name for path in other.iterdir() if path.is_file()) == written


def test_what_answers_no_claim_of_the_plan_is_ranked_too(tmp_path):
    """The best recipe, with the largest gain of all, used to be missing from the index."""
    root = reports(tmp_path)
    write(root, "demo/13_best", content("demo/13_best", row("best", 2.07, expected=None), row("<i>half</i>", 1.5, expected=None)))
    write(root, "demo/12_diagnosis", content("demo/12_diagnosis", status="failed", error="it rained"))
    repeated = row("best", 2.07, expected=None, report="demo/13_best")
    write(root, "demo/10_summary", content("demo/10_summary", repeated))  # a summary repeats the results of others
    for path in gallery.write(root):
        found = path.read_text(encoding="utf-8")
        assert "10 best" not in found
        assert gallery.BEYOND in found and found.index("13 best") < found.index("02 wider")
        assert "+2.07" in found and "<i>" not in found and "demo/13_best/report.html" in links(found)
    assert len([entry for entry in summary.beyond(collect.read(root)) if entry.state == "measured"]) == 2


def test_text_from_reports_is_text_and_nothing_else(tmp_path):
    folder = "<b> & ()`|{}/02_capacity"
    made = content(folder, row(NASTY, 0.9), row("other", 0.5, verdict=NASTY), device=NASTY, commit=NASTY, created=NASTY)
    write(tmp_path, folder, made)
    write(tmp_path, "demo/04_augmentation", content("demo/04_augmentation", status="failed", error=NASTY))
    write(tmp_path, "demo/05_curriculum", content("demo/05_curriculum", corpus=NASTY))
    for path in gallery.write(tmp_path):
        found = path.read_text(encoding="utf-8")
        assert "<script" not in found and "<b> &" not in found and "&lt;script&gt;alert(1)&lt;/script&gt;" in found
        assert {f"{folder}/report.html", "demo/04_augmentation/report.html"} <= set(links(found))
        assert all((tmp_path / place).is_file() for place in links(found))
    assert {len(each) for each in widths(found)} == {1}


def test_an_empty_folder_and_none_give_an_index_that_says_so(tmp_path):
    for root in (tmp_path / "empty", tmp_path / "none"):
        for path in gallery.write(root):
            found = path.read_text(encoding="utf-8")
            assert "There is no report yet." in found and "0 of the plan&#39;s" in found.replace("'", "&#39;") and links(found) == []


@pytest.mark.parametrize("name", ["index.html", "index.md"])
def test_the_committed_index_has_no_dead_links(name):
    found = links((REPORTS / name).read_text(encoding="utf-8"))
    assert found and [place for place in found if not (REPORTS / place).is_file()] == []


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (500, "dark")])
def test_the_index_opens_without_a_complaint_and_fits(width, scheme, index, chromium):
    state = chromium.inspect(index / "index.html", width, scheme)
    assert "by measured gain" in state["text"] and state["complaints"] == state["fetched"] == []
    assert len(state["images"]) == 2 and all(state["images"]) and not state["wide"] and state["contrast"][0] >= 4.5
    assert state["light"] > 3 * 200 if scheme == "light" else state["light"] < 3 * 50


def test_the_command_runs_the_summary_notebook_and_writes_its_report(tmp_path, monkeypatch):
    root = reports(tmp_path / "reports")
    monkeypatch.setenv("HIFITSE_REPORTS", str(root))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert cli.main(["run", "10_summary", "--preset", "smoke"]) == 0
    made = json.loads((root / "smoke/10_summary/metrics.json").read_text(encoding="utf-8"))
    assert (made["status"], made["arms"]) == ("complete", {})
    assert {each["report"] for each in made["comparisons"] if each["arm"] == "wider"} >= {"demo/02_capacity", "medium/02_capacity"}
    found = (root / "smoke/10_summary/report.html").read_text(encoding="utf-8")
    assert "3 of the plan's 9 claims" in found and "Gains on recordings with 95 % intervals" in found and "it rained" in found


def test_the_committed_demo_extracts():
    """The demo's promise for unseen speakers: at least 4 dB, and 10 dB more than with the interferer's enrolment, by the 95 % intervals."""
    found = json.loads((REPORTS / "demo-best/00_baseline/metrics.json").read_text(encoding="utf-8"))
    values = found["arms"]["baseline"]["metrics"]
    right, wrong = values["si_sdri_db"], values["si_sdri_wrong_enroll_db"]
    assert right["low"] >= 4 and right["low"] - wrong["high"] >= 10


def test_the_best_recipe_keeps_its_promise():
    """At least 2 dB over the baseline on unseen speakers, with an interval above 0, in at most the baseline's seconds per step."""
    found = json.loads((REPORTS / "demo/13_best/metrics.json").read_text(encoding="utf-8"))
    (gain,) = [each for each in found["comparisons"] if (each["arm"], each["metric"]) == ("best", "si_sdri_db")]
    assert gain["difference"] >= 2 and gain["low"] > 0
    assert found["arms"]["best"]["step_ratio"]["mean"] <= 1 and found["arms"]["best"]["steps"] == found["arms"]["baseline"]["steps"]


PAGES = [REPORTS / "index.html", *sorted(REPORTS.glob("*/*/report.html"))]
QUOTED = "Bericht ä #1.html"
"""A name that must be quoted in a URL."""


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (500, "dark")])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_committed_page_can_be_read(page, width, scheme, chromium, tmp_path):
    state = chromium.inspect(Path(shutil.copy(page, tmp_path / QUOTED)), width, scheme)
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
    """The checks above mean something only if the browser finds faults."""
    grey = '<p style="color: #999">faint</p><h1>a</h1><h1>b</h1><div style="width: 3000px">wide</div>'
    media = '<img src="data:image/png;base64,AAAA"><img src="absent.png"><audio controls src="data:audio/mpeg;base64,AAAA"></audio>'
    page = tmp_path / QUOTED
    page.write_text(f"<!DOCTYPE html><body>{grey}{media}<script>nothing.here()</script></body>", encoding="utf-8")
    state = chromium.inspect(page, 500)
    assert any("nothing is not defined" in text for text in state["complaints"])
    assert [Path(address).name for address in state["fetched"]] == ["absent.png"]
    assert state["images"] == [0, 0] and state["sounds"] == [-1] and state["labels"] == [None] and state["alts"] == ["", ""]
    assert state["wide"] and state["lang"] == "" and state["h1"] == 2
    assert 2.8 < state["contrast"][0] < 2.9 and state["contrast"][2] == "faint"
