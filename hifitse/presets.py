"""Preset files: a flat YAML mapping of parameter names to values in ``params/``; the same on a command line; the error of a wrong one."""

import reprlib
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import click
import yaml

from hifitse import HifitseError

PRESET_DIR = Path(__file__).resolve().parent.parent / "params"  # folder of the preset files: ``params/`` beside the package in a checkout


class ParameterError(HifitseError, ValueError):
    """A parameter is unknown, of the wrong type or out of its range."""


def short(value: Any) -> str:
    """``repr`` on one line, cut to a length that leaves the sentence readable."""
    text = " ".join(reprlib.repr(value).split()) if isinstance(value, list | dict) else " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; plain YAML keeps the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in reversed(node.value):
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(name: str, parameter: str = "preset") -> dict[str, Any]:
    """The flat mapping in ``params/<name>.yaml``; ``parameter`` is what an error about the name calls it.
    Raises ParameterError: no such preset, or as :func:`read_yaml`."""
    known = sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))
    if not isinstance(name, str) or name not in known:
        raise ParameterError(f"parameter {parameter!r} is {short(name)}, expected one of {PRESET_DIR.name}/: {', '.join(known)}")
    return read_yaml(PRESET_DIR / f"{name}.yaml")


def preset_values(name: str, arms: bool = False) -> dict[str, Any]:
    """The parameters of a preset. One named after another, as ``demo-best`` after ``demo``, lies over it; with ``arms`` the file
    ``<preset>-arms`` over each, where there is one. Raises ParameterError: as :func:`load_yaml`."""
    own = load_yaml(name)
    below = name.rpartition("-")[0]
    found = preset_values(below, arms) if below and (PRESET_DIR / f"{below}.yaml").is_file() else {}
    found |= {"preset": name} | own
    return found | (load_yaml(f"{name}-arms") if arms and (PRESET_DIR / f"{name}-arms.yaml").is_file() else {})


def read_yaml(path: Path) -> dict[str, Any]:
    """The flat mapping in a YAML file; ParameterError: not there, not readable, a key that stands twice, or no flat mapping."""
    file, expected = path.name, "expected a flat mapping of parameter names to values"
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except OSError as error:
        raise ParameterError(f"file {str(path)!r} cannot be read ({error.strerror}), expected a flat YAML file") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, the 99th of a month
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1} of {file}" if mark else file
        reason = getattr(error, "problem", None) or ("a character that YAML forbids" if isinstance(error, yaml.YAMLError) else str(error))
        raise ParameterError(f"{place} is not readable YAML: {reason}; {expected}") from None
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ParameterError(f"{file} holds {short(loaded)}, {expected}")
    return loaded


# ---- parameters on a command line, the same for every command that trains


class CommandError(HifitseError):
    """The command line asks for something that does not exist."""


def parameter_options(preset: str) -> Callable[[Callable], Callable]:
    """Decorator: the options that :func:`values` takes; ``preset`` is the default's name."""
    options = [
        click.option("--preset", metavar="P", help=f"A file in params/ without .yaml (default: {preset})."),
        click.option("--overlay", metavar="NAME", help="A second file in params/ over the preset, such as real."),
        click.option("-f", "--file", "files", multiple=True, metavar="YAML", help="A flat YAML file of parameters over both."),
        click.option("-p", "--parameter", "pairs", multiple=True, nargs=2, metavar="KEY VALUE", help="One parameter, its value as YAML."),
    ]
    return lambda command: reduce(lambda done, option: option(done), reversed(options), command)


def call(command: click.Command, argv: Sequence[str] | None = None) -> Any:
    """What a command returns for these words, by default those of this process; 0 where it was asked for help.
    Raises CommandError: the words are not those of the command."""
    try:
        with command.make_context(command.name, list(sys.argv[1:] if argv is None else argv)) as context:
            return command.invoke(context)  # not click's main, which answers Ctrl-C itself
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.exceptions.NoArgsIsHelpError as alone:
        print(alone.format_message(), file=sys.stderr)
        return alone.exit_code
    except click.UsageError as error:
        said, path = error.format_message().partition("\n")[0].rstrip("."), error.ctx.command_path if error.ctx else command.name
        raise CommandError(f"{said}; see {path} --help") from None


def values(preset: str | None, overlay: str | None, files: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Parameters by name: preset, overlay, files, then single values. Raises ParameterError or CommandError: one is not readable."""
    found: dict[str, Any] = {name: given for name, given in (("preset", preset), ("overlay", overlay)) if given}
    for file in files:
        found |= read_yaml(Path(file))
    for key, value in pairs:
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            raise CommandError(f"-p {key} is {short(value)}, expected a YAML value such as 20, 3e-4, true or [0, 0.5]") from None
        if found[key] is None:
            found[key] = value.strip()
    return found
