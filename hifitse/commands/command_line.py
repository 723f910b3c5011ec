"""Parameters on a command line, the same for every command that trains: preset, overlay, files, single values."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hifitse import HifitseError
from hifitse.presets import read_yaml, short


class CommandError(HifitseError):
    """The command line asks for something that does not exist."""


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one sentence."""

    def error(self, message: str) -> None:
        raise CommandError(f"{message}; see {self.prog} --help")


def add_parameters(parser: argparse.ArgumentParser, preset: str) -> None:
    """The arguments from which :func:`values` takes parameters; ``preset`` says which one is the default."""
    parser.add_argument("--preset", default=None, metavar="P", help=f"a file in params/ without .yaml (default: {preset})")
    parser.add_argument("--overlay", default=None, metavar="NAME", help="a second file in params/ over the preset, such as real")
    parser.add_argument("-f", "--file", action="append", default=[], metavar="YAML", help="a flat YAML file of parameters over both")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], nargs=2, metavar=("KEY", "VALUE"), help="one parameter; VALUE is read as YAML"
    )


def words(argv: Sequence[str] | None) -> list[str]:
    """The command line, that of this process by default, in which a negative number after ``-p KEY`` is a value.

    argparse takes ``-1e-3`` for an option of that name. A space before it, which YAML does not count, makes the difference.
    """
    argv = sys.argv[1:] if argv is None else argv
    after = [index + 2 for index, word in enumerate(argv) if word in ("-p", "--parameter")]
    return [f" {word}" if at in after and re.match(r"-\.?[\di]", word) else word for at, word in enumerate(argv)]


def values(arguments: argparse.Namespace) -> dict[str, Any]:
    """Parameters by name: preset and overlay where they are given, files, then single values; flat.

    Raises:
        ParameterError: a file is not readable.
        CommandError: a value is not readable.
    """
    found: dict[str, Any] = {name: given for name in ("preset", "overlay") if (given := getattr(arguments, name))}
    for file in arguments.file:
        found |= read_yaml(Path(file))
    for key, value in arguments.parameter:
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise CommandError(f"-p {key} is {short(value)}, allowed is a YAML value such as 20, 3e-4, true or [0, 0.5]") from None
        if found[key] is None:
            found[key] = value.strip()
    return found
