"""No file that the library reads can make it run code: no pickle, no eval, no YAML that builds objects, no shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from hifitse import presets

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
"""Modules whose files hold code."""
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "pandas.read_pickle", "os.system", "os.popen",
    "importlib.import_module", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "subprocess.getoutput", "subprocess.getstatusoutput",
}  # fmt: skip
ALLOWED = {("hifitse/presets.py", "yaml.load"), ("hifitse/model/verifier.py", "torch.load")}
"""The loader of the first is a subclass of PyYAML's safe one, which also refuses a key that stands twice; the second reads weights only."""


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a chain of names, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def dangers(source: str) -> Iterator[str]:
    """What in a source could run code that a file or a user brings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {name}" for name in names if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name in NAMES | CALLS or name == "yaml.load":
            yield name
        for keyword in node.keywords:
            said = isinstance(keyword.value, ast.Constant) and keyword.value.value
            if keyword.arg in ("shell", "allow_pickle", "trust_remote_code") and said is not False:
                yield f"{name} with {keyword.arg}"
            if keyword.arg == "weights_only" and said is not True:
                yield f"{name} without weights_only"


def sources() -> Iterator[tuple[str, str]]:
    """Every module and notebook: its path in the checkout, and its code."""
    for path in sorted((ROOT / "hifitse").rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        code = "\n".join(line for cell in cells for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))
        yield path.relative_to(ROOT).as_posix(), code


def test_nothing_in_the_library_runs_what_a_file_brings():
    found = {(path, danger) for path, source in sources() for danger in dangers(source)}
    assert found == ALLOWED
    assert issubclass(presets._Loader, yaml.SafeLoader)
    assert "Loader=_Loader" in (ROOT / "hifitse/presets.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import dill as d", "x = torch.load('a')", "torch.load('a', weights_only=False)",
        "subprocess.run('ls', shell=True)", "np.load('a.npy', allow_pickle=True)", "yaml.load(text)", "os.system('ls')", "eval(a)",
        "exec(a)",
    ],
)  # fmt: skip
def test_what_is_dangerous_is_found(source):
    assert list(dangers(source))


def test_what_is_not_is_left_alone():
    harmless = (
        "import json, subprocess\nsubprocess.run(['ls'], shell=False)\nre.compile('a')\nmodel.eval()\nnp.load('a', allow_pickle=False)"
    )
    assert list(dangers(harmless)) == []


def test_torch_reads_nothing_but_weights() -> None:
    calls = [node for node in ast.walk(ast.parse((ROOT / "hifitse/model/verifier.py").read_text())) if isinstance(node, ast.Call)]
    loads = [call for call in calls if dotted(call.func) == "torch.load"]
    assert loads and all(any(word.arg == "weights_only" and word.value.value is True for word in call.keywords) for call in loads)
