"""papermill as this environment runs it, which it asks by an entry point: it says nothing of parameters that the cell of the notebook
need not name, shows the progress of a training, and answers Ctrl-C in one sentence."""

import builtins
import logging
import sys
from pathlib import Path
from typing import Any

import click
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines

STOPPED = "the run was stopped from outside, or memory ran out; the same command goes on from the last checkpoint"


class Headless(NBClientEngine):
    """papermill's own engine for all notebooks that name no other."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **how: Any) -> Any:
        """Raises click.ClickException: stopped, by Ctrl-C or for memory."""
        if sys.stderr.isatty() and not how.get("stderr_file"):
            how["stderr_file"] = sys.stderr
        if kernel_name == "python3":  # else it tells the terminal about its transport, and on Ctrl-C with a traceback
            how["extra_arguments"] = ["--log-level=CRITICAL"]
        try:
            return super().execute_managed_notebook(nb_man, kernel_name, **how)
        except (KeyboardInterrupt, DeadKernelError):
            raise click.ClickException(STOPPED) from None


def execute(source: Path, target: Path, injected: dict[str, Any]) -> str:
    """Run a notebook into another file. Returns why it failed, in one sentence, or an empty text."""
    paths = (str(path).replace("{", "{{").replace("}", "}}") for path in (source, target))  # papermill formats its paths
    try:
        papermill.execute_notebook(*paths, parameters=injected, kernel_name="python3", progress_bar=False)
    except papermill.exceptions.PapermillExecutionError as error:
        known = not hasattr(builtins, error.ename)  # ours say all in one sentence; Python's own need their name
        return error.evalue if known else f"{error.ename}: {error.evalue}"
    except click.ClickException as stopped:
        return stopped.message
    return ""


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not that the notebook's cell lacks a name that :func:`hifitse.params.from_notebook` knows."""
    from hifitse.params import Params

    warning, _, name = record.getMessage().rpartition(": ")
    return warning != "Passed unknown parameter" or name not in {*Params.model_fields, "overlay"}


papermill_engines.register(None, Headless)
logging.getLogger("papermill").addFilter(_worth_saying)
