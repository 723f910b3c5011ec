"""Test what the READMEs promise: links, commands, parameters, licences, and that the numbers come from the reports."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from headless import ROOT
from made_up import arm, content, row, write
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hifitse.commands.cli import hifitse, main
from hifitse.params import PRESET_DIR, Params
from hifitse.report import contract, gallery, summary

README = (ROOT / "README.md").read_text(encoding="utf-8")
PATHS = [path for pattern in ("README.md", "*/README.md", "hifitse/*/README.md") for path in sorted(ROOT.glob(pattern))]
ALL = {path: path.read_text(encoding="utf-8") for path in PATHS}
NOTEBOOKS = ALL[ROOT / "notebooks/README.md"]
COMMANDS = [shlex.split(line, comments=True) for text in ALL.values() for line in re.findall(r"^hifitse .+", text, re.MULTILINE)]
COMMANDS += [shlex.split(line) for text in ALL.values() for line in re.findall(r"`(hifitse [a-z][^`\n]*)`", text)]


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", ALL[path])
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_each_room_that_needs_words_has_a_readme_and_the_first_is_short() -> None:
    folders = {str(path.parent.relative_to(ROOT)) for path in ALL}
    assert {"notebooks", "params", "reports", "hifitse/training", "hifitse/prepare"} <= folders
    text = re.sub(r"(?s)<!-- numbers.+?<!-- end -->", "", README)  # the tables grow with each notebook and report
    assert len(text.splitlines()) <= 125


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_and_their_options_exist(words: list[str]) -> None:
    command = hifitse.commands[words[1]]
    known = {option for parameter in command.params for option in parameter.opts} | {"...", "--help"}
    for place, word in enumerate(words):
        if word.startswith("-"):
            assert word in known
        if word == "-p":
            assert words[place + 1] in Params.model_fields or words[place + 1] == "loss_l1"  # the term that the reader adds
        if word in ("--preset", "--overlay"):
            assert (PRESET_DIR / f"{words[place + 1]}.yaml").exists()


def test_parameters_are_listed_with_default_range_and_meaning_and_a_wrong_name_is_answered_with_the_nearest(capsys) -> None:
    assert main(["params"]) == 0 and capsys.readouterr().out.count("\n") == 2 * len(Params.model_fields)
    assert main(["params", "lr"]) == 0 and "learning rate" in (said := capsys.readouterr().out)
    assert said.startswith("lr = 0.0002  (a number above 0 up to 1)")
    assert main(["params", "snr_min_db"]) == 0 and "each from -40 to 60" in capsys.readouterr().out
    assert main(["params", "stpes"]) == 2 and "'steps'" in capsys.readouterr().err


def test_the_environment_is_active_before_the_first_command() -> None:
    assert 0 < README.index(". .venv/bin/activate") < README.index("hifitse run") and "jupyter lab" in README


def test_make_targets_and_the_run_to_begin_with_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())
    named = {first or second for text in ALL.values() for first, second in re.findall(r"`make (\w+)`|^make (\w+)", text, re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets
    begun = {run for text in [*ALL.values(), makefile] for run in re.findall(r"start_from ([0-9a-f]{16})", text)}
    inside = json.loads((ROOT / "hifitse" / "pretrained_model" / "metrics.json").read_text(encoding="utf-8"))
    assert begun == {inside["run"]}


def test_each_dependency_has_a_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {canonicalize_name(word) for word in re.findall(r"[\w-]+", README.partition("## Licences")[2])}
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} <= named


def test_a_loss_term_takes_the_two_places_that_the_notebooks_readme_names(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(   .+?)   ```", NOTEBOOKS, re.DOTALL)
    weight, value = (re.sub(r"^   ", "", code, flags=re.MULTILINE) for code in blocks)
    shutil.copytree(ROOT / "hifitse", tmp_path / "hifitse", ignore=shutil.ignore_patterns("pretrained_model", "__pycache__"))
    shutil.copytree(PRESET_DIR, tmp_path / "params")
    indent = {mark: textwrap.indent(code, "    ") + mark for mark, code in (("    loss_snr:", weight), ("    return terms\n", value))}
    for name, mark in (("params.py", "    loss_snr:"), ("losses/__init__.py", "    return terms\n")):
        path = tmp_path / "hifitse" / name
        path.write_text(path.read_text(encoding="utf-8").replace(mark, indent[mark], 1), encoding="utf-8")
    code = """if True:
        import torch
        from hifitse.losses.objective import Objective
        from hifitse.params import resolve
        est, present = torch.zeros(2, 4800), torch.ones(2, dtype=torch.bool)
        loss = Objective(resolve("smoke", loss_l1=10.0))(est, torch.ones(2, 4800), torch.ones(2, 4800), present)
        print(loss.terms["l1"])"""
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True)
    assert found.stdout.strip() == "1.0", found.stderr


def test_a_model_of_ones_own_is_measured_as_the_notebooks_readme_says(capsys) -> None:
    code = re.search(r"```python\n(from hifitse import params.+?)```", NOTEBOOKS, re.DOTALL)[1]
    exec(code.replace('resolve("demo"', 'resolve("smoke", eval_mixtures=4, eval_partial=0, eval_long=0'), {})
    assert "'mean': 0.0," in capsys.readouterr().out


def test_the_committed_numbers_are_those_of_the_committed_reports(tmp_path: Path) -> None:
    """Both are taken from the last commit, because a working tree in which the demo was run holds other reports."""
    wanted = ["README.md", "notebooks", ":(glob)reports/*/*/metrics.json"]
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD", *wanted], capture_output=True)
    if packed.returncode:
        pytest.skip("not a git checkout: nothing is committed here")
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=packed.stdout, check=True)
    before = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"<!-- numbers: (\w+) -->", before) == ["models", "levers", "notebooks"]
    gallery.fill(tmp_path / "README.md", tmp_path / "reports")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == before


def test_numbers_come_from_the_reports_and_what_is_missing_is_said(tmp_path: Path) -> None:
    """Two complete models, a damaged one, and a lever that was also measured on another list; one table is empty and one has no end."""
    reports, values = tmp_path / "reports", {"mean": -9.0, "low": -9.5, "high": -8.25, "n": 7}
    right = arm(mean=3.0)["metrics"] | {"si_sdri_wrong_enroll_db": values}
    write(reports, "demo-best/00_baseline", content("demo-best/00_baseline", arms={"baseline": {"metrics": right}}))
    write(reports, "demo/00_baseline", '{"status": "complete"')
    one = {"metrics": {"si_sdri_db": {"mean": 3.0, "n": 1}}}  # of one mixture, which has no interval
    conditions = {"people, dry": {"metrics": right, "people": 61, "rooms": 2}, "RAVDESS, dry": one}
    write(reports, gallery.DEFAULT, content(gallery.DEFAULT, default_model={"conditions": conditions}))
    hard = row("best", 9.0, list="hard")
    write(reports, "demo/13_best", content("demo/13_best", hard, row("best", 2.0), row("magnitudes alone", -1.0, expected=None)))
    (tmp_path / "notebooks").mkdir()
    write(reports, "demo/01_gan_finetune", content("demo/01_gan_finetune", row("STFT", 9.0), row("STFT", -0.5, baseline="longer")))
    for name, title in {"13_best": "what learns most?", "15_scaling": "which?", "01_gan_finetune": "do they help?"}.items():
        cell = {"cells": [{"source": [f"# 13 · Best: {title}\n", "More."]}]}
        (tmp_path / f"notebooks/{name}.ipynb").write_text(json.dumps(cell), encoding="utf-8")
    path = tmp_path / "README.md"
    before = {"models": "old\n", "levers": "", "notebooks": "old\n"}
    marks = "".join(f"<!-- numbers: {name} -->\n{rows}<!-- end -->\nbetween\n" for name, rows in before.items())
    path.write_text(f"before\n{marks}<!-- numbers: models -->\nno end\n", encoding="utf-8")
    gallery.fill(path, reports)
    filled = path.read_text(encoding="utf-8")
    assert filled.startswith("before\n<!--") and filled.count("between\n") == 3 and "old" not in filled
    assert filled.endswith("between\n<!-- numbers: models -->\nno end\n") and "large batches | not measured | – | demo |" in filled
    lines = filled.splitlines()
    models = [line for line in lines if "+3.00 (+2.60 to +3.40) | -9.00 (-9.50 to -8.25) | 79" in line]
    assert models[0].endswith(" 79 (61 people, 2 rooms) |") and "reports/demo-best/00_baseline/report.html" in models[1]
    assert sum("| not measured | not measured | – |" in line for line in lines) == len(gallery.MODELS) - 3
    assert sum("| not measured | not measured | 1 |" in line for line in lines) == 1
    best, alone = (line for line in lines if "reports/demo/13_best" in line and "| demo |" in line)
    assert "| +2.00 (+1.80 to +2.20) | +0.5 to +1.5 | demo |" in best and "| -1.00 (-1.20 to -0.80) | – | demo |" in alone
    answer = "[best: +2.00 (+1.80 to +2.20)](reports/demo/13_best/report.html)"
    assert f"| [13_best](notebooks/13_best.ipynb) | what learns most? | {answer} |" in lines
    assert "| [15_scaling](notebooks/15_scaling.ipynb) | which? | not measured |" in lines, "it has no report"
    told = "[STFT against longer: -0.50 (-0.70 to -0.30)](reports/demo/01_gan_finetune/report.html)"
    assert any(told in line for line in lines), "further steps alone help: the answer is what the discriminators add"


def test_every_arm_that_the_tables_name_is_in_the_committed_reports() -> None:
    for notebook, name in [*gallery.LEVERS, *gallery.ANSWERS.items(), *summary.CONTROLS.items()]:
        assert name in contract.load(ROOT / f"reports/demo/{notebook}/metrics.json").arms, (notebook, name)
