"""What papermill does otherwise in this environment, which it asks by an entry point: it says nothing of parameters that the cell of the
notebook need not name, shows the progress of a training, and answers Ctrl-C in one sentence."""

import logging
import sys
from typing import Any

import click
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines

from hifitse.commands.run import STOPPED


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


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not that the notebook's cell lacks a name that :func:`hifitse.params.from_notebook` knows."""
    from hifitse.params import Params

    warning, _, name = record.getMessage().rpartition(": ")
    return warning != "Passed unknown parameter" or name not in {*Params.model_fields, "overlay"}


papermill_engines.register(None, Headless)
logging.getLogger("papermill").addFilter(_worth_saying)
