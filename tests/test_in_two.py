"""The suite in two processes: every test runs in one of them, and a failure in either is one of both."""

import subprocess
import sys
from pathlib import Path

import in_two
import pytest

CONFTEST = Path(in_two.__file__).with_name("conftest.py").read_text(encoding="utf-8")


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A folder with three files of tests, each of which writes down its name."""
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    for name in "abc":
        lines = ["import time", f"def test_{name}():", "    time.sleep(0.3)", f"    open({str(tmp_path / 'ran')!r}, 'a').write('{name}')"]
        lines += [f"def test_{name}_again(synthetic_sound): assert synthetic_sound.is_dir()", ""]
        (tmp_path / f"test_{name}.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, in_two.__file__, *arguments], capture_output=True, text=True)


def test_every_test_runs_once_in_one_of_two_processes(suite):
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted((suite / "ran").read_text()) == ["a", "b", "c"]
    passed = [int(line.split()[0]) for line in done.stdout.splitlines() if " passed" in line]
    assert len(passed) == 2 and sum(passed) == 6 and min(passed) >= 2


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_failure_in_either_process_is_one_of_both(suite, name):
    with open(suite / f"test_{name}.py", "a") as file:
        file.write("def test_wrong(): assert False, 'on purpose'\n")
    done = run()
    assert done.returncode == 1 and "on purpose" in done.stdout
