"""The commands ``hifitse run``, which runs a notebook and writes its report, and ``hifitse arms``, which trains for several notebooks."""

import ast
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from hifitse import HifitseError
from hifitse.params import Params, resolve
from hifitse.presets import CommandError, parameter_options, values


def notebook_path(name: str) -> Path:
    """Return the path of a notebook in ``notebooks/``. Raises CommandError: there is none of that name."""
    from hifitse.report.report import CHECKOUT

    known = sorted(path.stem for path in (CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if name.removesuffix(".ipynb") not in known:
        raise CommandError(f"notebook {name!r} does not exist, expected one of: {', '.join(known) or 'none, for this is not a checkout'}")
    return CHECKOUT / "notebooks" / f"{name.removesuffix('.ipynb')}.ipynb"


@click.command()
@click.argument("notebook", metavar="NN_name")
@parameter_options("what the notebook names")
@click.option("--name", default=None, metavar="LABEL", help="Label that keeps this report apart from others [default: changed parameters].")
def run(notebook: str, name: str | None, **given: Any) -> int:
    """Run a notebook and write its report.

    NN_name is a notebook in notebooks/, such as 00_baseline.
    """
    import papermill  # noqa: F401 (before headless, which it takes by itself where it is installed)

    from hifitse.commands import headless
    from hifitse.report import report

    source = notebook_path(notebook)
    injected = values(**given)
    params = resolve(**({"preset": _default_preset(source)} | injected))  # an invalid value stops here, before anything starts
    os.environ["HIFITSE_NAME"] = report.label(params) if name is None else name  # the notebook's kernel uses the same label
    try:
        folder = report.folder(params, source.stem)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".running-", dir=folder.parent, ignore_cleanup_errors=True) as work:
            print(f"hifitse: running {source.stem} with preset {params.preset}", flush=True)
            os.environ["HIFITSE_REPORT_DIR"] = work
            error = headless.execute(source, Path(work) / "report.ipynb", injected)
            error = _finish(Path(work), source.stem, params, error)
            folder, cut = report.place(Path(work), folder)
    finally:
        os.environ.pop("HIFITSE_NAME", None)
        os.environ.pop("HIFITSE_REPORT_DIR", None)
    shown = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder
    if error or cut:
        print(f"hifitse: {error or cut}\nhifitse: the results so far are in {shown}/report.html", file=sys.stderr)
        return 130 if error == headless.STOPPED else 1 if error else 3
    print(f"hifitse: open {shown}/report.html in a browser; report.ipynb and metrics.json lie beside it")
    return 0


def _default_preset(source: Path) -> str:
    """Return the preset named in the notebook's own parameters cell, which plain papermill would use."""
    import nbformat

    for cell in nbformat.read(source, as_version=4).cells:
        for node in ast.parse(cell.source).body if "parameters" in cell.metadata.get("tags", []) else []:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "preset":
                return ast.literal_eval(node.value)
    raise CommandError(f"notebook {source.stem} names no preset, expected one in its parameters cell; or give --preset")


def _finish(work: Path, notebook: str, params: Params, error: str) -> str:
    """Tidy the executed notebook, export it as a page, and make sure that metrics.json exists. Returns ``error``, or a new one."""
    from hifitse.report import contract, page, report

    page.finish(work / "report.ipynb", work / "report.html")
    try:
        if not error:
            contract.load(work / "metrics.json")
    except contract.ContractError as wrong:
        error = f"notebook {notebook} left no report: {wrong}, expected one that ends with report.write"
    if error:
        contract.write(work / "metrics.json", report.metrics(notebook, params, [], error=error))
    return error


@click.command()
@click.argument("notebooks", metavar="NN_name ...", nargs=-1, required=True)
@parameter_options("people")
def arms(notebooks: tuple[str, ...], **given: Any) -> int:
    """Train and evaluate the arms of notebooks, without their reports.

    The first seed of every arm is trained first, arms_together at a time. Evaluation and further seeds follow, notebook by notebook.
    Finished work is kept: after a stop the same command continues, and `hifitse run` then reuses the results.
    """
    from hifitse.evaluation.comparison import completed
    from hifitse.studies.levers import declared
    from hifitse.training.abreast import train_abreast

    params = resolve(**({"preset": "people"} | values(**given)), arms=True)
    found, failed = {}, []
    for name in notebooks:
        try:
            found[name] = declared(notebook_path(name).stem, params)
        except HifitseError as error:
            failed.append(f"{name}: {error}")
    every = [each for trainings in found.values() for each in trainings.values()]
    print(f"hifitse: {len({each.run_id for each in every})} trainings, {params.arms_together} at a time", flush=True)
    try:
        train_abreast(every, params.arms_together, judge=params)
    except HifitseError as error:
        failed.append(str(error))
    for name, wanted in found.items():
        try:
            done = completed(params, wanted)
            print(f"hifitse: {name} has {len(done)} arms, {sum(1 + len(arm.others) for arm in done.values())} trainings", flush=True)
        except HifitseError as error:
            failed.append(f"{name}: {error}")
    for said in failed:
        print(f"hifitse: {said}", file=sys.stderr)
    return 1 if failed else 0
