"""The command ``hifitse run``: run a notebook headless and leave its report."""

import ast
import builtins
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from hifitse.params import Params, resolve
from hifitse.presets import CommandError, parameter_options, values

FILES = ("report.ipynb", "report.html", "metrics.json")
STOPPED = "the run was stopped from outside, or memory ran out; the same command goes on from the last checkpoint"


def notebook_path(name: str) -> Path:
    """The notebook of that name in ``notebooks/``. Raises CommandError: there is none."""
    from hifitse.report.report import CHECKOUT

    known = sorted(path.stem for path in (CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if name.removesuffix(".ipynb") not in known:
        raise CommandError(f"notebook {name!r} does not exist, expected one of: {', '.join(known) or 'none, for this is not a checkout'}")
    return CHECKOUT / "notebooks" / f"{name.removesuffix('.ipynb')}.ipynb"


@click.command()
@click.argument("notebook", metavar="NN_name")
@parameter_options("what the notebook names")
@click.option("--name", default=None, metavar="LABEL", help="Keeps the report apart from others of the preset [default: what differs].")
def run(notebook: str, name: str | None, **given: Any) -> int:
    """Run a notebook and write its report.

    NN_name is a notebook in notebooks/, such as 00_baseline.
    """
    from hifitse.report import report

    source = notebook_path(notebook)
    injected = values(**given)
    params = resolve(**({"preset": _default_preset(source)} | injected))  # a wrong value stops here, before anything starts
    os.environ["HIFITSE_NAME"] = report.label(params) if name is None else name  # the notebook's kernel takes the same
    try:
        folder = report.folder(params, source.stem)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".running-", dir=folder.parent, ignore_cleanup_errors=True) as work:
            print(f"hifitse: running {source.stem} with preset {params.preset}, voices: {params.corpus}", flush=True)
            error = _finish(Path(work), source.stem, params, _execute(source, Path(work), injected))
            folder, cut = report.place(Path(work), folder)
    finally:
        os.environ.pop("HIFITSE_NAME", None)
    shown = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder
    if error or cut:
        print(f"hifitse: {error or cut}\nhifitse: what was done until then is in {shown}/report.html", file=sys.stderr)
        return 130 if error == STOPPED else 1 if error else 3
    print(f"hifitse: open {shown}/report.html in a browser; {' and '.join(FILES[::2])} lie beside it")
    return 0


def _default_preset(source: Path) -> str:
    """The preset that the notebook's own parameters cell names, which is what plain papermill would take."""
    import nbformat

    for cell in nbformat.read(source, as_version=4).cells:
        for node in ast.parse(cell.source).body if "parameters" in cell.metadata.get("tags", []) else []:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "preset":
                return ast.literal_eval(node.value)
    raise CommandError(f"notebook {source.stem} names no preset, expected one in its parameters cell; or give --preset")


def _execute(source: Path, work: Path, injected: dict[str, Any]) -> str:
    """Run the notebook into ``work``. Returns why it failed, or an empty text."""
    import papermill

    from hifitse.commands import headless  # noqa: F401 (after papermill, which takes it by itself where it is installed)

    os.environ["HIFITSE_REPORT_DIR"] = str(work)
    try:
        papermill.execute_notebook(
            str(source).replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
            str(work / FILES[0]).replace("{", "{{").replace("}", "}}"),
            parameters=injected,
            kernel_name="python3",
            progress_bar=False,
        )
    except papermill.exceptions.PapermillExecutionError as error:
        known = not hasattr(builtins, error.ename)  # ours say all in one sentence; Python's own need their name
        return error.evalue if known else f"{error.ename}: {error.evalue}"
    except click.ClickException as stopped:
        return stopped.message
    finally:
        del os.environ["HIFITSE_REPORT_DIR"]
    return ""


def _finish(work: Path, notebook: str, params: Params, error: str) -> str:
    """Tidy the executed notebook, export the page, and see that there is a metrics.json. Returns the error, or a new one."""
    from hifitse.report import contract, page, report

    page.finish(work / FILES[0], work / FILES[1])
    if not error:
        try:
            contract.load(work / FILES[2])
        except contract.ContractError as wrong:
            error = f"notebook {notebook} left no report: {wrong}, expected one that ends with report.write"
    if error:
        contract.write(work / FILES[2], report.metrics(notebook, params, [], error=error))
    return error
