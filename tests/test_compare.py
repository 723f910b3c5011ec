"""Two runs on one page, and the list of trainings: what is shown, and what is refused."""

import re
from pathlib import Path

import pytest
from arms import SMOKE
from test_page import assert_offline

from hifitse.commands import cli
from hifitse.commands.cli import COLUMNS, trainings
from hifitse.training.train import train

SMALL = SMOKE.model_copy(update={"steps": 4, "eval_partial": 0, "eval_long": 0, "eval_turns": 0, "eval_pesq": False})


def text(page: Path) -> str:
    found = page.read_text(encoding="utf-8")
    assert_offline(found)
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", found, flags=re.DOTALL))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two small trainings, evaluated nowhere yet, in a folder of runs of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_RUNS", str(tmp_path_factory.mktemp("runs")))
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
    found = trainings(trained[0].folder.parent)
    assert list(found) == COLUMNS and set(found["run"]) == {run.folder.name for run in trained}
    (first,) = found[found["run"] == trained[0].folder.name].to_dict("records")
    assert (first["preset"], first["steps"], first["of"]) == ("smoke", 4, 4)
    assert first["what differs"] == "interferers_max=[2]"  # 0.001 is the preset's own rate
    (trained[0].folder.parent / "damaged").mkdir(exist_ok=True)
    (trained[0].folder.parent / "damaged" / "params.json").write_text("{")
    assert cli.main(["runs"]) == 0
    printed = capsys.readouterr().out
    assert all(run.folder.name in printed for run in trained) and "damaged" not in printed and "lr=0.01" in printed


def test_an_empty_folder_of_runs_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    assert cli.main(["runs"]) == 0 and capsys.readouterr().out.startswith("no training in")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("nowhere", ["'nowhere'", "is no run", "runs here: "]),
        ("same", ["both are", "two that differ"]),
        ("damaged", ["damaged", "cannot be read"]),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(other, words, trained, tmp_path, capsys):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "params.json").write_text('{"stpes": 3}')
    made = {"same": trained[0].folder, "damaged": tmp_path / "damaged"}
    assert cli.main(["compare", trained[0].folder.name, str(made.get(other, other)), "-o", str(tmp_path / "page.html")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hifitse: ") and said.count("\n") == 1 and all(word in said for word in words)
