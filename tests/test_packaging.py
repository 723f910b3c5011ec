"""Test the repository itself: consistent dependencies, make targets, sizes, no paths of one machine, examples in docstrings."""

import ast
import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import nbformat
import pytest
import yaml
from headless import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import hifitse

PACKAGE = ROOT / "hifitse"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
DEV = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
PINS = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
PINNED = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in PINS)}


def test_constraints_are_exact_versions_each_once() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in PINS)
    assert len(PINNED) == len(PINS)


@pytest.mark.parametrize("requirement", RUNTIME + DEV, ids=lambda requirement: requirement.name)
def test_dependency_has_a_range_and_a_pin_inside_it_which_is_installed(requirement: Requirement) -> None:
    assert any(rule.operator == ">=" for rule in requirement.specifier)
    pin = PINNED[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin) and version(requirement.name) == pin


def test_what_the_dependencies_need_is_pinned_too() -> None:
    """Follow the requirements of all installed packages: one without a pin could differ from day to day."""
    todo, seen = {canonicalize_name(requirement.name) for requirement in RUNTIME + DEV}, set()
    while todo:
        seen.add(name := todo.pop())
        with suppress(PackageNotFoundError):  # for another platform
            needed = [Requirement(text) for text in requires(name) or []]
            here = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
            todo |= {canonicalize_name(requirement.name) for requirement in here} - seen
    assert "numpy" in seen and "jinja2" in seen
    # The installers themselves are not pinned: every environment brings its own.
    assert seen - set(PINNED) - {"pip", "setuptools", "wheel"} == set()


def test_environment_yml_gives_the_same_environment() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    [pip] = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    # Anything else that conda installs would escape the constraints.
    assert {item.partition("=")[0] for item in conda} == {"python", "pip", "c-compiler"}
    [python] = [item.partition("=")[2] for item in conda if item.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert environment["name"] == PROJECT["name"]


def third_party(sources: list[str]) -> set[str]:
    """Return the packages that the sources import anywhere, also inside functions."""
    names: set[str] = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names.add(node.module)
    own = {"hifitse", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - own


def test_every_import_is_a_declared_dependency() -> None:
    library = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py")]
    cells = [cell for path in (ROOT / "notebooks").glob("*.ipynb") for cell in nbformat.read(path, as_version=4).cells]
    notebooks = [cell.source for cell in cells if cell.cell_type == "code"]
    homes = packages_distributions()
    for sources, declared in ((library + notebooks, RUNTIME), (tests, RUNTIME + DEV)):
        names = {canonicalize_name(requirement.name) for requirement in declared}
        missing = {module for module in third_party(sources) if not names & {canonicalize_name(home) for home in homes.get(module, [])}}
        assert missing == set()
    assert {"torch", "yaml"} <= third_party(library)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with what ``make`` reads and an environment that looks complete."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    stamp = tmp_path / ".venv" / ".stamp"
    stamp.parent.mkdir()
    stamp.touch()
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(tmp_path / name, (1, 1))
    return tmp_path


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))} | variables
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("target", ["demo", "test", "lint", "reports"])
def test_a_second_call_does_not_install_again(tree: Path, target: str) -> None:
    again = make(tree, "--dry-run", target)
    assert again.returncode == 0 and "pip install" not in again.stdout
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(tree / name, (4e9, 4e9))
        changed = make(tree, "--dry-run", target)
        assert "pip install" in changed.stdout and "-c constraints.txt" in changed.stdout
        os.utime(tree / name, (1, 1))


def test_make_demo_runs_the_best_recipe_and_says_where_to_look(tree: Path) -> None:
    said = make(tree, "--dry-run", "demo").stdout
    assert "hifitse run 00_baseline --preset demo-best" in said and "reports/mine/demo-best/00_baseline/report.html" in said


def test_make_reports_runs_each_notebook_and_the_real_ones_on_recordings(tree: Path) -> None:
    (tree / "notebooks").mkdir()
    (tree / ".venv/bin").mkdir()
    for name in ("10_summary.ipynb", "01_second.ipynb", "00_first.ipynb", "12_last.ipynb"):
        (tree / "notebooks" / name).touch()
    command = tree / ".venv/bin/hifitse"
    command.write_text('#!/bin/sh\necho "called: $*"\n', encoding="utf-8")
    command.chmod(0o755)
    synthetic = ["called: run 00_baseline --preset demo-best"]
    synthetic += [f"called: run {name} --preset demo" for name in ("00_first", "01_second", "12_last", "10_summary")]
    synthetic += ["called: gallery"]

    def calls(*given: str, data: str = "") -> list[str]:
        said = make(tree, "reports", *given, HIFITSE_DATA=data).stdout
        return [line for line in said.splitlines() if line.startswith("called: ")]

    assert calls() == synthetic
    assert calls("THRICE=12_last") == [line + " -p arm_seeds 3" * ("12_last" in line) for line in synthetic]
    for given, names in (([], []), (["REAL=01_second 00_first"], ["01_second", "00_first"])):
        real = [f"called: run {name} --preset demo --overlay real" for name in names]
        people = "called: run 14_default_model --preset people"
        assert calls(*given, data="data") == [*real, synthetic[0], people, *synthetic[1:]]
    command.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    assert make(tree, "reports").returncode != 0


def test_an_old_or_missing_python_is_said_in_a_sentence(tree: Path) -> None:
    (tree / ".venv/.stamp").unlink()
    old = tree / "python3.10"
    pretend = "import sys; sys.version_info = (3, 10, 4); exec(sys.argv[1])"
    old.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{pretend}' \"$2\"\n", encoding="utf-8")
    old.chmod(0o755)
    sentences = {str(old): "is Python 3.10; expected any from 3.11", "no-such-python": "was not found; expected any Python"}
    for python, sentence in sentences.items():
        said = make(tree, "lint", f"PYTHON={python}")
        assert said.returncode != 0 and sentence in said.stderr
        assert not (tree / ".venv/.stamp").exists()


@pytest.mark.parametrize("recordings", [True, False])
def test_ci_runs_lint_and_tests_with_the_recordings_beside_the_checkout(tmp_path: Path, recordings: bool) -> None:
    (tmp_path / "checkout/.ci").mkdir(parents=True)
    if recordings:
        (tmp_path / "shared/data").mkdir(parents=True)
    script = shutil.copy(ROOT / ".ci/run", tmp_path / "checkout/.ci/run")
    fake = tmp_path / "make"
    fake.write_text('#!/bin/sh\necho "$(pwd -P) | $* | ${HIFITSE_DATA-none}"\nexit 7\n', encoding="utf-8")
    fake.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "HIFITSE_DATA"} | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run([script], cwd="/", env=environment, capture_output=True, text=True)
    data = str(tmp_path.resolve() / "shared/data") if recordings else "none"
    assert said.stdout.strip() == f"{tmp_path.resolve()}/checkout | lint test | {data}"
    assert said.returncode == 7


def test_the_map_lists_every_room_and_flat_file_once() -> None:
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert sorted(re.findall(r"^ {4}(\w+)(?:\.py|/) ", hifitse.__doc__, re.MULTILINE)) == sorted(there)


def test_files_and_functions_stay_short() -> None:
    long = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        long += [f"{path.name}: {len(source.splitlines())} lines"] if len(source.splitlines()) > 300 else []
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 60:
                long.append(f"{path.name}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
    assert long == []


# A folder of one machine at the beginning of a path, but not within a longer path or in encoded audio.
MACHINE_PATH = re.compile(r"(?<![\w+/.$~=:)-])/(?:" + "|".join(["home", "root", "tmp", "work", "Users", "mnt", "scratch"]) + r")/\w")


def test_no_file_names_a_path_of_one_machine() -> None:
    listed = [p for name in ("hifitse", "notebooks", "params", "reports", "tests", ".ci") for p in sorted((ROOT / name).rglob("*"))]
    listed += [p for p in sorted(ROOT.iterdir()) if p.name != ".git"]
    found = []
    for path in listed:
        if ".running-" in str(path):
            continue  # a report being written right now
        if path.is_file() and path.suffix in {".py", ".ipynb", ".html", ".json", ".yaml", ".yml", ".md", ".txt", ".toml", ""}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {text[hit.start() : hit.start() + 60]!r}" for hit in MACHINE_PATH.finditer(text)]
    assert found == []


def test_committed_reports_are_small_and_complete() -> None:
    listed = subprocess.run(["git", "ls-files", "-z", "reports"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    if not files:
        pytest.skip("git lists no committed reports")
    assert sum(path.stat().st_size for path in files) < 45e6
    newer = {path.parent.name for path in files if path.parts[-3] == "people"}  # of these, demo keeps no notebook
    for page in (path for path in files if path.name == "report.html"):
        assert page.stat().st_size < 6e6, page
        kept = {"metrics.json"} if page.parts[-3] == "demo" and page.parent.name in newer else {"report.ipynb", "metrics.json"}
        assert {page.with_name(name) for name in kept} <= set(files), page
        assert json.loads(page.with_name("metrics.json").read_text(encoding="utf-8"))["status"] == "complete"


EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text()]
assert EXAMPLES, "expected some examples"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_a_module(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.failed == 0
    assert found.attempted > 0 or path.stem == "perceptual"  # its example starts processes, so it is skipped
