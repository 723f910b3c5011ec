"""Two runs on one page: what is read from folders and reports, what is said, what is refused, how it looks in a browser."""

import json
import os
import re
from pathlib import Path

import browser
import pytest
from arms import made_up_rows
from made_up import content, write
from test_page import assert_offline

from hifitse import HifitseError
from hifitse.commands import cli
from hifitse.evaluation.experiment import run_arm
from hifitse.params import resolve
from hifitse.report import side_by_side
from hifitse.report.side import read

SMOKE = resolve("smoke", device="cpu", eval_pesq=False)
NASTY = "<script>alert(1)</script>&\"'"


def run_folder(root: Path, name: str, rows: list[dict] | None = None, **values) -> Path:
    """What a training without weights leaves."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(SMOKE.model_copy(update=values).model_dump(mode="json")))
    history = [{"step": step, "loss": 10.0 / step} for step in range(1, 200)]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    (folder / "validation.jsonl").write_text('{"step": 100, "si_sdri_db": 1.0}\n{"step": 200, "si_sdri_db": 2.0}\n')
    if rows is not None:
        (folder / "rows-0123456789ab.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HIFITSE_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "runs"


def made(a: str | Path, b: str | Path, folder: Path) -> str:
    return side_by_side.write(str(a), str(b), folder / "page.html").read_text(encoding="utf-8")


def better(rows: list[dict], gain: float) -> list[dict]:
    return [row | {"si_sdri_db": row["si_sdri_db"] and row["si_sdri_db"] + gain} for row in rows]


@pytest.mark.parametrize(("gain", "line"), [(1.0, "B is better than A."), (-1.0, "B is worse than A."), (0.0, "not to be told")])
def test_runs_with_the_same_mixtures_are_compared_in_pairs(gain, line, runs, tmp_path):
    run_folder(runs, "one", made_up_rows(), lr=1e-3)
    run_folder(runs, "two", better(made_up_rows(), gain), lr=5e-4)
    text = made("one", "two", tmp_path)
    assert_offline(text)
    assert line in text and "on the same 40 test mixtures" in text
    if gain:
        assert f"{gain:+.2f} ({gain:+.2f} to {gain:+.2f})".replace("-", "−") in text
    rows = re.findall(r'<th scope="row">(\w+)</th><td class="short">([^<]*)</td><td class="short">([^<]*)</td>', text)
    assert ("lr", "0.001", "0.0005") in rows
    assert "1 parameter differs" in text and text.count("<img") == 1 and "Nothing to listen to" in text


def test_runs_with_other_mixtures_have_no_paired_difference(runs, tmp_path):
    run_folder(runs, "one", made_up_rows(seed=0))
    run_folder(runs, "two", made_up_rows(seed=1), lr=5e-4)
    text = made("one", "two", tmp_path)
    assert "No verdict." in text and "tested on different mixtures" in text and "B is" not in text


def test_the_evaluation_that_both_have_is_found_among_several(runs, tmp_path):
    run_folder(runs, "one", made_up_rows(seed=0))
    newer = run_folder(runs, "two", made_up_rows(seed=0), lr=5e-4) / "rows-ba9876543210.jsonl"
    newer.write_text("".join(json.dumps(row) + "\n" for row in made_up_rows(seed=1)))
    (newer.parent / "rows-000000000000.jsonl").write_text("{ damaged")
    assert len(read("two", "B").evaluations) == 2
    assert "on the same 40 test mixtures" in made("one", "two", tmp_path)


def test_reports_give_what_their_metrics_have(runs, tmp_path):
    a, b = (write(tmp_path / "reports", f"{top}/00_baseline", content(f"{top}/00_baseline")) for top in ("demo", "demo-real"))
    text = made(a, b, tmp_path)
    assert "demo-real/00_baseline" in text and "+3.00 (+2.60 to +3.40)" in text and "No verdict." in text
    assert "Neither left a history" in text and "Nothing to listen to" in text


def test_a_report_whose_run_is_here_has_its_rows(runs, tmp_path):
    run_folder(runs, SMOKE.run_id, made_up_rows())
    run_folder(runs, "other", better(made_up_rows(), 1.0), lr=5e-4)
    report = write(tmp_path / "reports", "smoke/00_baseline", content("smoke/00_baseline", params=SMOKE.model_dump(mode="json")))
    assert "B is better than A." in made(report, "other", tmp_path)


def test_text_is_text_and_nothing_else(runs, tmp_path):
    nasty = content("demo/00_baseline", params={"steps": NASTY, NASTY: 3})
    a = write(tmp_path / "reports", "demo/00_baseline", nasty)
    run_folder(runs, "<b>two & 'more'", made_up_rows(), corpus=NASTY)
    text = made(a, runs / "<b>two & 'more'", tmp_path)
    assert_offline(text)
    assert "<b>two" not in text and "&lt;b&gt;two &amp;" in text and "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nothing", ["'nowhere'", "no run and no report", "runs here: one"]),
        ("same", ["both are", "two that differ"]),
        ("damaged", ["two", "cannot be read"]),
        ("list", ["two", "JSON object"]),
        ("unknown", ["'stpes'"]),
        ("failed", ["is failed", "it rained"]),
        ("unreadable", ["is unreadable", "not JSON"]),
        ("output", ["cannot write"]),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(kind, words, runs, tmp_path, capsys):
    run_folder(runs, "one", made_up_rows())
    other = {"nothing": "nowhere", "same": str(runs / "one")}.get(kind, "two")
    if other == "two":
        params = run_folder(runs, "two", made_up_rows()) / "params.json"
        damaged = {"damaged": "{", "list": "[1]", "unknown": '{"stpes": 3}'}.get(kind)
        if damaged:
            params.write_text(damaged)
    if kind == "failed":
        other = str(write(tmp_path, "demo/00_baseline", content("demo/00_baseline", status="failed", error="it rained")))
    if kind == "unreadable":
        other = str(write(tmp_path, "demo/00_baseline", "{"))
    (tmp_path / "file").write_text("")
    target = tmp_path / ("file/page.html" if kind == "output" else "page.html")
    assert cli.main(["compare", "one", other, "-o", str(target)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hifitse: ") and said.count("\n") == 1 and all(word in said for word in words)
    assert not (tmp_path / "page.html").exists()


# ---- two real runs in a browser


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The page of two small trainings that were evaluated on the same mixtures."""
    root, before = tmp_path_factory.mktemp("trained"), os.environ.get("HIFITSE_RUNS")
    os.environ["HIFITSE_RUNS"] = str(root / "runs")
    try:
        arms = [run_arm(name, SMOKE.model_copy(update={"lr": lr}), progress=False) for name, lr in (("a", 1e-3), ("b", 1e-2))]
        assert cli.main(["compare", *(arm.params.run_id for arm in arms), "-o", str(root / "page.html")]) == 0
    finally:
        os.environ.pop("HIFITSE_RUNS")
        if before is not None:
            os.environ["HIFITSE_RUNS"] = before
    return root / "page.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    yield from browser.chromium(tmp_path_factory.mktemp("profile"))


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (500, "dark")])
def test_the_page_lets_both_be_heard(width, scheme, trained, chromium):
    state = chromium.inspect(trained, width, scheme)
    assert state["complaints"] == state["fetched"] == [] and not state["wide"] and state["h1"] == 1
    assert "Too few mixtures (5)" in state["text"] and "B gains most" in state["text"]
    assert len(state["images"]) == 3 and all(state["images"]) and all(state["alts"])
    assert len(state["sounds"]) == 10 == state["reached"] == len(set(state["labels"])) and all(s > 0.9 for s in state["sounds"])
    assert state["contrast"][0] >= 4.5, state["contrast"]


def test_mixtures_that_cannot_be_made_again_are_not_played(runs, tmp_path, trained):
    folder = trained.parent / "runs"
    names = sorted(path.name for path in folder.iterdir())
    sides = [read(str(folder / name), letter) for name, letter in zip(names, "AB", strict=True)]
    for side in sides:
        for row in side.evaluations[0]:
            row["target_speaker"] = "somebody else"
    with pytest.raises(HifitseError, match="cannot be made again"):
        side_by_side.examples(*sides)
