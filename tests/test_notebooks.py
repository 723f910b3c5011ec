"""Test the form of every notebook, and run the baseline as a user would in a copy of the checkout; open its page in a browser."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from headless import ROOT, checkout, metrics, shown, typed

from hifitse.params import Params
from hifitse.report import page, strip

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FORBIDDEN = {"torch", "torchaudio", "scipy", "matplotlib", "soundfile", "numpy"}  # these belong in the library


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form_of_a_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    assert notebook.metadata.kernelspec.name == "python3"
    text = path.read_text(encoding="utf-8")
    assert strip.stripped(text) == text, "outputs belong into reports/"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert 18 <= len(notebook.cells) <= 32 and len(lines) <= 150
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith(f"# {path.stem[:2]} ")
    assert [cell.metadata.get("tags") for cell in code if cell.metadata.get("tags")] == [code[0].metadata.get("tags")] == [["parameters"]]
    first = code[0].source.partition("\n")[0]
    assert first.startswith("# Parameters") and first != "# Parameters", "papermill's injected cell has the bare comment"
    assigned = [target.id for node in ast.parse(code[0].source).body for target in node.targets]
    assert "preset" in assigned and set(assigned) <= set(Params.model_fields) | {"overlay"}, "parameters only"
    imported = {line.split()[1].partition(".")[0] for line in lines if line.split()[0] in ("from", "import")}
    assert not imported & FORBIDDEN, "it only calls the library"
    tree = ast.parse("\n".join(lines))
    assert sum(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in ast.walk(tree)) <= 1


def test_what_is_run_in_a_clone_stays_out_of_git_and_a_clone_without_the_filter_works(tmp_path):
    """Use the Makefile's line that sets up the filter, in a repository with one notebook."""
    def git(*words: str) -> str:
        person = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(["git", *person, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    python, saved = tmp_path / ".venv/bin/python", tmp_path / "notebooks" / NOTEBOOKS[0].name
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} \"$@\"\n")
    python.chmod(0o755)
    saved.parent.mkdir()
    shutil.copy(ROOT / "notebooks" / ".gitattributes", saved.parent)
    saved.write_bytes(committed := NOTEBOOKS[0].read_bytes())
    git("init", "-q")
    git("add", "notebooks")
    git("commit", "-qm", "first")
    notebook = nbformat.reads(committed.decode(), as_version=4)
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="x" * 100_000)], number
        cell.metadata["execution"] = {"iopub.execute_input": "2026"}
    notebook.metadata |= {"language_info": {"name": "python", "version": "3.13"}, "widgets": {"a": 1}}
    nbformat.write(notebook, saved)
    assert git("status", "--porcelain", "-uno") == " M notebooks/00_baseline.ipynb\n"
    (command,) = re.findall(r"@(git config filter.*\\\n.*) 2>", (ROOT / "Makefile").read_text())
    subprocess.run(command.replace("$(BIN)", ".venv/bin"), cwd=tmp_path, shell=True, check=True)
    os.utime(saved)
    assert git("diff") == "", "git status still compares sizes, until it is added"
    git("add", "-u")
    assert git("status", "--porcelain", "-uno") == ""
    notebook.cells[0].source += " mine"
    nbformat.write(notebook, saved)
    git("commit", "-qam", "mine")
    assert b" mine" in (kept := git("show", f"HEAD:notebooks/{saved.name}").encode()) and len(kept) < len(committed) + 10
    python.unlink()  # as after make clean
    os.utime(saved)
    assert git("status", "--porcelain", "-uno") == " M notebooks/00_baseline.ipynb\n"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_foreign_kernel_is_told_which_python_it_is_and_what_is_missing(path):
    cell = next(cell.source for cell in nbformat.read(path, as_version=4).cells if "import params" in cell.source)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", cell], capture_output=True, text=True)
    assert f"ImportError: {sys.executable} has no hifitse, expected the Python of the environment" in done.stderr


def test_what_is_no_notebook_passes_the_filter():
    for text in ("", "{", "[]", '{"cells": 3}', '{"cells": [{}], "metadata": {}}'):
        assert strip.stripped(text) == text


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkout") / "a {} {x}")


@pytest.fixture(scope="module")
def executed(elsewhere) -> nbformat.NotebookNode:
    done = typed(elsewhere, "00_baseline", "out.ipynb", "-p", "steps", "20", "-f", "../params/smoke.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(elsewhere / "out.ipynb", as_version=4)


def test_the_baseline_runs_as_typed(executed, elsewhere):
    found = metrics(elsewhere, "00_baseline")
    assert (found["status"], found["preset"], found["params"]["steps"]) == ("complete", "smoke", 20)
    assert found["arms"]["baseline"]["steps"] == 20
    assert found["arms"]["baseline"]["metrics"]["si_sdri_db"]["n"] == 5


def test_the_page_shows_what_a_report_needs_is_small_and_stores_each_clip_once(executed, elsewhere, tmp_path):
    text = shown(elsewhere / "out.ipynb")
    for words in ("Too few mixtures", "synthetic", "SI-SDRi, wrong enrolment", "the plan's baseline", "PESQ failures", "JupyterLab"):
        assert words in text
    alts = re.findall(r"<img[^>]*alt=\"([^\"]+)\"", text)
    for words in ("Spectrograms", "by enrolment", "Level", "Curves", "95 % intervals"):
        assert any(words.lower() in alt.lower() for alt in alts), words
    stored = re.findall(r"src=\"data:audio/mpeg;base64,([^\"]+)", text)
    assert len(stored) == len(set(stored)) == text.count("<audio") >= 13
    nbformat.write(page.tidy(executed), tmp_path / "report.ipynb")
    assert len(text) < 6 * 2**20 and (tmp_path / "report.ipynb").stat().st_size < 6 * 2**20


def test_a_wrong_parameter_stops_with_one_sentence(elsewhere):
    done = typed(elsewhere, "00_baseline", "wrong.ipynb", "-p", "stpes", "20", "-f", "../params/smoke.yaml")
    assert done.returncode != 0
    cells = nbformat.read(elsewhere / "wrong.ipynb", as_version=4).cells
    (error,) = [output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert error.ename == "ParameterError" and "\n" not in error.evalue
    assert all(word in error.evalue for word in ("'stpes'", "20", "'steps'"))
    assert len(error.traceback) == 1 and error.evalue in done.stderr
    assert done.stderr.count("Passed unknown parameter: ") == 1, "that of stpes, not those of smoke.yaml"


@pytest.mark.parametrize("width", [1200, 500])
def test_in_a_browser_all_pictures_and_sounds_load_and_nothing_is_fetched(width, executed, tmp_path, chromium):
    (tmp_path / "page.html").write_text(page.render(executed))
    state = chromium.inspect(tmp_path / "page.html", width)
    assert "Is the enrolment used?" in state["text"] and state["complaints"] == state["fetched"] == []
    assert len(state["sounds"]) >= 13 and all(0.9 < seconds < 1.2 for seconds in state["sounds"])
    assert len(state["images"]) >= 8 and all(state["images"]) and not state["wide"]
