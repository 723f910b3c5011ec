"""Test the page that compares two reports or runs and the list of trainings: what they read, and what is refused."""

import os
import re
from pathlib import Path

import pytest
from arms import SMOKE
from made_up import arm, content, row, write
from test_page import assert_offline

from hifitse.commands import cli
from hifitse.commands.cli import COLUMNS, trainings
from hifitse.training.train import train

NASTY = "<script>alert(1)</script> & \"'"
SMALL = SMOKE.model_copy(update={"steps": 4, "eval_partial": 0, "eval_long": 0, "eval_turns": 0, "eval_pesq": False})


def text(page: Path) -> str:
    found = page.read_text(encoding="utf-8")
    assert_offline(found)
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", found, flags=re.DOTALL))


def test_reports_are_compared_by_what_they_hold_and_nothing_else(tmp_path):
    """A run with the same parameters is not read, because it may have been evaluated differently since."""
    made = [content("demo/02_capacity", row("wider", 0.9), params={"steps": 400, NASTY: 3})]
    made.append(content("demo-real/02_capacity", row("wider", 1.2), params={"steps": 750}))
    made[1]["arms"]["baseline"] = arm(mean=5.52)
    a, b = (write(tmp_path, folder, each) for folder, each in zip(("demo/02_capacity", "demo-real/02_capacity"), made, strict=True))
    assert cli.main(["compare", str(a), str(b), "-o", str(tmp_path / "page.html")]) == 0
    said = text(tmp_path / "page.html")
    assert "baseline SI-SDRi, right enrolment dB +3.00 (+2.60 to +3.40) +5.52 (+5.12 to +5.92)" in said
    assert "steps 400 750" in said and "no paired difference" in said
    assert "&lt;script&gt;alert(1)" in said and "<script" not in (tmp_path / "page.html").read_text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train two small runs in a separate folder; they have not been evaluated yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("HIFITSE_NAME", "two talkers")
        yield [train(SMALL.model_copy(update={"lr": lr}), progress=False) for lr in (1e-3, 1e-2)]


def test_runs_are_tested_on_the_same_mixtures_and_can_be_heard(trained, tmp_path):
    a, b = (run.folder.name for run in trained)
    assert cli.main(["compare", a, str(trained[1].folder), "-o", str(tmp_path / "page.html")]) == 0
    said = text(tmp_path / "page.html")
    assert f"A, the baseline, is the run {a}; B is the run {b}" in said and "Too few mixtures" in said
    assert "lr 0.001 0.01" in said and "most improved" in said.lower()
    assert (tmp_path / "page.html").read_text().count("<audio") == 10
    assert all(len(list(run.folder.glob("rows-*.jsonl"))) == 1 for run in trained)


def test_trainings_are_listed_the_newest_first(trained, capsys):
    for number, run in enumerate(trained):  # within one minute
        os.utime(run.folder / "history.jsonl", (2e9 + number, 2e9 + number))
    found = trainings(trained[0].folder.parent)
    assert found["run"][0] == trained[1].folder.name
    assert list(found) == COLUMNS and set(found["run"]) == {run.folder.name for run in trained}
    (first,) = found[found["run"] == trained[0].folder.name].to_dict("records")
    assert (first["preset"], first["label"], first["steps"], first["of"]) == ("smoke", "two talkers", 4, 4)
    assert first["what differs"] == "interferers_max=[2]"  # 0.001 is the preset's learning rate
    (trained[0].folder.parent / "damaged").mkdir(exist_ok=True)
    (trained[0].folder.parent / "damaged" / "params.json").write_text("{")
    assert cli.main(["runs"]) == 0
    printed, warned = capsys.readouterr()
    assert all(run.folder.name in printed for run in trained) and "damaged" not in printed and "lr=0.01" in printed
    assert "1 not listed" in warned


def test_an_empty_folder_of_runs_says_so(runs, capsys):
    assert cli.main(["runs"]) == 0 and capsys.readouterr().out.startswith("no training in")


@pytest.mark.parametrize(("other", "words"), [
    ("nowhere", ["'nowhere'", "cannot be read", "hifitse runs"]),
    ("same", ["both are", "two that differ"]),
    ("report", ["a run and a report", "two reports, two runs or two scores"]),
    ("damaged", ["damaged", "cannot be read"]),
    ("failed", ["is failed (it rained)"]),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_sentence(other, words, trained, tmp_path, capsys):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "params.json").write_text('{"stpes": 3}')
    made = {"same": trained[0].folder, "damaged": tmp_path / "damaged"}
    made["report"] = write(tmp_path, "demo/00_baseline", content("demo/00_baseline"))
    failed = content("demo/02_capacity", status="failed", error="it rained")
    made["failed"] = write(tmp_path, "demo/02_capacity", failed)
    first = made["report"] if other == "failed" else trained[0].folder.name
    assert cli.main(["compare", str(first), str(made.get(other, other)), "-o", str(tmp_path / "page.html")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hifitse: ") and said.count("\n") == 1 and all(word in said for word in words)
