"""papermill engine of this package, registered as an entry point. It omits needless warnings about parameters, shows the progress of
trainings, and answers Ctrl-C in one sentence."""

import builtins
import logging
import sys
from pathlib import Path
from typing import Any

import click
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines

STOPPED = "the run was interrupted, or memory ran out; the same command goes on from the last checkpoint"


class Headless(NBClientEngine):
    """papermill's own engine with quiet output, used for all notebooks that name no engine."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **how: Any) -> Any:
        """Run the notebook. Raises click.ClickException: it was interrupted, or its kernel died, usually for lack of memory."""
        if sys.stderr.isatty() and not how.get("stderr_file"):
            how["stderr_file"] = sys.stderr
        if kernel_name == "python3":  # otherwise it logs its transport, and a traceback on Ctrl-C
            how["extra_arguments"] = ["--log-level=CRITICAL"]
        try:
            return super().execute_managed_notebook(nb_man, kernel_name, **how)
        except (KeyboardInterrupt, DeadKernelError):
            raise click.ClickException(STOPPED) from None


def execute(source: Path, target: Path, injected: dict[str, Any]) -> str:
    """Run a notebook and save it as ``target``. Returns why it failed, in one sentence, or an empty string."""
    paths = (str(path).replace("{", "{{").replace("}", "}}") for path in (source, target))  # papermill calls format() on its paths
    try:
        papermill.execute_notebook(*paths, parameters=injected, kernel_name="python3", progress_bar=False)
    except papermill.exceptions.PapermillExecutionError as error:
        known = not hasattr(builtins, error.ename)  # our messages are complete; Python's own need the name
        return error.evalue if known else f"{error.ename}: {error.evalue}"
    except click.ClickException as stopped:
        return stopped.message
    return ""


def _worth_saying(record: logging.LogRecord) -> bool:
    """Return False for warnings that the notebook's cell lacks a parameter which :func:`hifitse.params.from_notebook` knows."""
    from hifitse.params import Params

    warning, _, name = record.getMessage().rpartition(": ")
    return warning != "Passed unknown parameter" or name not in {*Params.model_fields, "overlay"}


papermill_engines.register(None, Headless)
logging.getLogger("papermill").addFilter(_worth_saying)
