"""The command ``hifitse``: run a notebook headless and leave its report; list all reports.

Exit codes: 0 done, 1 the run failed (its partial report is kept), 2 it was not started because something asked for is
not allowed, 130 stopped from outside.
"""

import argparse
import ast
import builtins
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hifitse import HifitseError
from hifitse.commands import extract_command, prepare_command
from hifitse.params import Params, resolve
from hifitse.presets import CommandError, Parser, add_parameters, values, words

FILES = ("report.ipynb", "report.html", "metrics.json")
STOPPED = "the run was stopped from outside, or memory ran out; the same command goes on from the last checkpoint"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(prog="hifitse", description="48 kHz target speaker extraction: notebooks without a browser, and their reports.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    run = commands.add_parser("run", help="run a notebook and write report.html, report.ipynb and metrics.json")
    run.add_argument("notebook", metavar="NN_name", help="a notebook in notebooks/, such as 00_baseline")
    add_parameters(run, "what the notebook names")
    extract_command.add_parsers(commands)
    prepare_command.add_parser(commands)
    compare = commands.add_parser("compare", help="set two runs or reports side by side on one page")
    compare.add_argument("first", metavar="A", help="name of a run, its folder, or the folder of a report")
    compare.add_argument("second", metavar="B", help="the other")
    compare.add_argument("-o", "--output", default="compare.html", metavar="HTML", help="file of the page (default: compare.html)")
    commands.add_parser("gallery", help="write index.html and index.md of all reports from their metrics.json")
    return top


def notebook_path(name: str) -> Path:
    """The notebook of that name in ``notebooks/``.

    Raises:
        CommandError: there is none.
    """
    from hifitse.report.report import CHECKOUT

    known = sorted(path.stem for path in (CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if name.removesuffix(".ipynb") not in known:
        raise CommandError(f"notebook {name!r} does not exist, allowed are: {', '.join(known) or 'none, for this is not a checkout'}")
    return CHECKOUT / "notebooks" / f"{name.removesuffix('.ipynb')}.ipynb"


@contextmanager
def this_python() -> Iterator[None]:
    """Let the kernel ``python3`` be the interpreter that runs now, whatever kernels the user or the system has."""
    from ipykernel.kernelspec import write_kernel_spec

    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory(prefix="hifitse-kernel-") as folder:
        # Without the level, the kernel warns in the terminal about matters of its transport.
        write_kernel_spec(str(Path(folder) / "kernels" / "python3"), extra_arguments=["--log-level=CRITICAL"])
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


def run(arguments: argparse.Namespace) -> int:
    """``hifitse run``: execute, export, move the three files into the report's folder. Returns the exit code."""
    from hifitse.report import report

    source = notebook_path(arguments.notebook)
    injected = values(arguments)
    params = resolve(**({"preset": _default_preset(source)} | injected))  # a wrong value stops here, before anything starts
    folder = report.folder(params, source.stem)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".running-", dir=folder))
    print(f"hifitse: running {source.stem} with preset {params.preset}, voices: {params.corpus}", flush=True)
    try:
        error = _finish(work, source.stem, params, _execute(source, work, injected))
        for name in FILES:
            os.replace(work / name, folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    shown = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder
    if error:
        print(f"hifitse: {error}\nhifitse: what was done until then is in {shown}/report.html", file=sys.stderr)
        return 130 if error == STOPPED else 1
    print(f"hifitse: open {shown}/report.html in a browser; {' and '.join(FILES[::2])} lie beside it")
    return 0


def _default_preset(source: Path) -> str:
    """The preset that the notebook's own parameters cell names, which is what plain papermill would take."""
    import nbformat

    for cell in nbformat.read(source, as_version=4).cells:
        for node in ast.parse(cell.source).body if "parameters" in cell.metadata.get("tags", []) else []:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "preset":
                return ast.literal_eval(node.value)
    raise CommandError(f"notebook {source.stem} names no preset, allowed is one that does in its parameters cell; or give --preset")


def _execute(source: Path, work: Path, injected: dict[str, Any]) -> str:
    """Run the notebook into ``work``. Returns why it failed, or an empty text."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    os.environ["HIFITSE_REPORT_DIR"] = str(work)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is handled as Ctrl-C is
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it would warn of every parameter that the notebook's cell does not name
    try:
        with this_python():
            terminal = sys.stderr if sys.stderr.isatty() else None  # there the training's own progress bar is seen as it moves
            papermill.execute_notebook(
                str(source), str(work / FILES[0]), parameters=injected, kernel_name="python3", progress_bar=False, stderr_file=terminal
            )
    except papermill.exceptions.PapermillExecutionError as error:
        known = not hasattr(builtins, error.ename)  # ours say all in one sentence; Python's own need their name
        return error.evalue if known else f"{error.ename}: {error.evalue}"
    except (KeyboardInterrupt, DeadKernelError):
        return STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
        del os.environ["HIFITSE_REPORT_DIR"]
    return ""


def _finish(work: Path, notebook: str, params: Params, error: str) -> str:
    """Tidy the executed notebook, export the page, and see that there is a metrics.json. Returns the error, or a new one."""
    import nbformat

    from hifitse.report import page, report

    executed = nbformat.read(work / FILES[0], as_version=4)
    nbformat.write(page.tidy(executed), work / FILES[0])
    page.export(work / FILES[0], work / FILES[1])
    if not error and not (work / FILES[2]).exists():
        error = f"notebook {notebook} wrote no metrics.json, allowed is one that ends with report.write_metrics"
    if error:
        report.write_metrics(work / FILES[2], report.metrics(notebook, params, [], error=error))
    return error


def gallery() -> int:
    """``hifitse gallery``: write the index of all reports. Returns the exit code."""
    from hifitse.report import collect
    from hifitse.report.gallery import write

    page, _ = write(collect.root())
    shown = os.path.relpath(page) if page.is_relative_to(Path.cwd()) else page
    print(f"hifitse: open {shown} in a browser; index.md lies beside it")
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """``hifitse compare``: write the page of two runs. Returns the exit code."""
    from hifitse.report.side_by_side import write

    write(arguments.first, arguments.second, Path(arguments.output))
    print(f"hifitse: open {arguments.output} in a browser")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    try:
        arguments = parser().parse_args(words(argv))
        if arguments.command in ("extract", "export"):
            return getattr(extract_command, arguments.command)(arguments)
        if arguments.command == "prepare":
            return prepare_command.prepare(arguments)
        if arguments.command == "compare":
            return compare(arguments)
        return gallery() if arguments.command == "gallery" else run(arguments)
    except HifitseError as error:
        print(f"hifitse: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"hifitse: {error}; allowed are folders and a disk that can be written", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
