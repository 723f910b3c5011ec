"""The command ``hifitse``: its commands, and what their errors become.

Exit codes: 0 done, 1 it failed (of a run the partial report is kept), 2 it was not started because something asked for
is not allowed, 3 a training was cut by max_minutes, 130 stopped from outside.
"""

import contextlib
import sys
from collections.abc import Sequence

import click

from hifitse import HifitseError
from hifitse.commands.compare import compare
from hifitse.commands.export import export
from hifitse.commands.extract import extract
from hifitse.commands.gallery import gallery
from hifitse.commands.params import params
from hifitse.commands.prepare import prepare
from hifitse.commands.run import run
from hifitse.commands.runs import runs
from hifitse.commands.scenes import scenes
from hifitse.commands.score import score
from hifitse.commands.sitting import pack, sitting, unpack
from hifitse.presets import call


@click.group("hifitse")
def hifitse() -> None:
    """48 kHz target speaker extraction: notebooks without a browser, and their reports."""


for command in (run, extract, prepare, export, compare, gallery, runs, params, scenes, score, pack, unpack, sitting):
    hifitse.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # names that are no text of this terminal are shown, not fatal
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    try:
        return call(hifitse, argv)
    except HifitseError as error:
        print(f"hifitse: {error}", file=sys.stderr)
        return 2
    except click.Abort:
        print("hifitse: stopped from outside", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"hifitse: {error}; expected folders and a disk that can be written", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
