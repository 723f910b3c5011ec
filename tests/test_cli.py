"""Test ``hifitse run``: what it refuses, what it leaves after success and after failure, and which Python it uses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import nbformat
import pytest

from hifitse.commands import cli
from hifitse.presets import call, parameter_options, values
from hifitse.report import collect, report

PARAMETERS = "# Parameters: made up\npreset = 'smoke'"


def write_notebook(folder: Path, name: str, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), path)
    return path


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """Return a stand-in for the checkout with a notebook ``98_made_up``; reports go to ``out``. Papermill would format its braces."""
    root = tmp_path / "a {} {x}"
    root.mkdir()
    monkeypatch.setattr(report, "CHECKOUT", root)
    monkeypatch.setenv("HIFITSE_REPORTS", str(root / "out"))
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[2]))
    write_notebook(root, "98_made_up", PARAMETERS, "print(preset)")
    return root


def test_alone_it_says_what_it_can(capsys):
    assert cli.main([]) == 2 and "extract" in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hifitse.commands.cli", "params"]
    done = subprocess.run(command, cwd=Path(cli.__file__).parents[2], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(("arguments", "words"), [
    (["run", "77_nothing"], ["'77_nothing'", "98_made_up"]),
    (["walk"], ["'walk'", "--help"]),
    (["run", "98_made_up", "--preset", "huge"], ["'preset'", "'huge'", "smoke"]),
    (["run", "98_made_up", "--overlay", "unreal"], ["'overlay'", "'unreal'", "real"]),
    (["run", "98_made_up", "-p", "stpes", "20"], ["'stpes'", "did you mean 'steps'"]),
    (["run", "98_made_up", "-p", "steps", "0"], ["'steps'", "0", "1"]),
    (["run", "98_made_up", "-p", "lr", "-1e-3"], ["'lr'", "-1e-3", "above 0"]),
    (["run", "98_made_up", "-p", "lr", "-p", "steps", "3"], ["unexpected", "--help"]),
    (["run", "98_made_up", "-p", "steps", "[1"], ["steps", "'[1'", "YAML"]),
    (["run", "98_made_up", "-f", "absent.yaml"], ["absent.yaml", "flat YAML"]),
])  # fmt: skip
def test_what_is_not_allowed_is_refused_in_one_sentence_before_anything_starts(arguments, words, checkout, capsys):
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("hifitse: ") and printed.err.count("\n") == 1 and printed.out == ""
    assert all(word in printed.err for word in words)
    assert not (checkout / "out").exists()


def test_values_are_read_as_yaml_and_single_ones_win(tmp_path):
    (tmp_path / "a.yaml").write_text("steps: 5\nlr: 0.01\n")
    given = ["-f", str(tmp_path / "a.yaml"), "-p", "steps", "7", "-p", "phase_starts", "[0, 0.5]", "-p", "eval_pesq", "false"]
    given += ["--parameter", "snr_min_db", "-1.5e+1", "-p", "sir_min_db", "-5"]
    command = click.Command("any", callback=values)
    found = call(parameter_options("none")(command), given)
    assert found == {"steps": 7, "lr": 0.01, "phase_starts": [0, 0.5], "eval_pesq": False, "snr_min_db": -15.0, "sir_min_db": -5}


WRITES = """
from hifitse import params
from hifitse.report import report
p = params.from_notebook(globals())
report.write("97_good", p)
if p.steps == 13:
    raise params.ParameterError("it rained, expected sunshine")
"""
THREE = ["metrics.json", "report.html", "report.ipynb"]


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_good_run_leaves_three_files_where_its_parameters_say(checkout, capsys):
    write_notebook(checkout, "97_good", PARAMETERS, WRITES, "import sys; print(sys.executable)")
    for given, top in ((["-p", "steps", "9"], "smoke+steps=9"), (["-p", "steps", "9", "--name", "my run"], "smoke+my_run")):
        assert cli.main(["run", "97_good", *given]) == 0
        folder = checkout / "out" / top / "97_good"
        assert left(folder) == THREE and left(folder.parent) == ["97_good"]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["params"]["steps"] == 9 and metrics["label"] == top.removeprefix("smoke+")
    assert sys.executable in (folder / "report.html").read_text()
    assert "report.html" in capsys.readouterr().out
    assert "HIFITSE_REPORT_DIR" not in os.environ and "HIFITSE_NAME" not in os.environ


def test_a_failed_run_lies_beside_the_last_complete_one(checkout, capsys):
    write_notebook(checkout, "97_good", PARAMETERS, WRITES, "print('never')")
    assert cli.main(["run", "97_good", "--name", "", "-p", "steps", "9"]) == 0
    assert cli.main(["run", "97_good", "--name", "", "-p", "steps", "13"]) == 1
    assert "hifitse: it rained, expected sunshine\n" in capsys.readouterr().err
    folder, beside = checkout / "out/smoke/97_good", checkout / "out/smoke/97_good.attempt"
    before, failed = (json.loads((each / "metrics.json").read_text()) for each in (folder, beside))
    assert (before["status"], before["params"]["steps"]) == ("complete", 9)
    assert (failed["status"], failed["error"]) == ("failed", "it rained, expected sunshine")
    assert left(folder) == left(beside) == THREE and "it rained" in (beside / "report.html").read_text()
    executed = nbformat.read(beside / "report.ipynb", as_version=4).cells
    assert not any(cell.outputs for cell in executed if "print('" in cell.source)
    (one,) = collect.read(checkout / "out", smoke=True)
    assert (one.folder, one.status) == ("smoke/97_good", "complete")
    assert cli.main(["run", "97_good", "--name", "", "-p", "steps", "9"]) == 0 and not beside.exists()


EMPTY = "import os, pathlib\npathlib.Path(os.environ['HIFITSE_REPORT_DIR'], 'metrics.json').write_text('{}')"


@pytest.mark.parametrize("source", ["1", EMPTY])
def test_a_notebook_without_good_metrics_is_a_failure(source, checkout, capsys):
    write_notebook(checkout, "96_bad", PARAMETERS, source)
    assert cli.main(["run", "96_bad", "--overlay", "real"]) == 1
    assert "left no report: metrics.json" in capsys.readouterr().err
    assert json.loads((checkout / "out" / "smoke-real" / "96_bad.attempt" / "metrics.json").read_text())["status"] == "failed"


def test_a_stop_from_outside_leaves_a_failed_report_and_no_litter(checkout):
    waits = "import pathlib, time\nprint('until here')\npathlib.Path(corpus).write_text('started')\ntime.sleep(600)"
    write_notebook(checkout, "95_slow", PARAMETERS, waits)
    call = "import sys, pathlib; from hifitse.commands import cli; from hifitse.report import report; "
    call += f"report.CHECKOUT = pathlib.Path({str(checkout)!r}); sys.exit(cli.main())"
    sign = checkout / "sign"
    command = [sys.executable, "-c", call, "run", "95_slow", "-p", "corpus", str(sign)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not sign.exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)  # the command handles it like Ctrl-C
        _, printed = process.communicate()
    assert process.returncode == 130 and "goes on from the last checkpoint" in printed
    (top,) = (checkout / "out").iterdir()
    folder = top / "95_slow.attempt"
    assert top.name.startswith("smoke-real+corpus=") and left(top) == ["95_slow.attempt"] and left(folder) == THREE
    assert json.loads((folder / "metrics.json").read_text())["status"] == "failed"


def test_gallery_writes_the_index_where_the_reports_are(checkout, capsys):
    assert cli.main(["gallery"]) == 0
    assert sorted(path.name for path in (checkout / "out").iterdir()) == ["index.html", "index.md"]
    assert "index.html" in capsys.readouterr().out
