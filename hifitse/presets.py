"""Preset files, flat YAML mappings of parameter names to values in ``params/``, and the same parameters on a command line."""

import reprlib
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import click
import yaml

from hifitse import HifitseError

PRESET_DIR = Path(__file__).resolve().parent.parent / "params"  # ``params/`` beside the package in a checkout


class ParameterError(HifitseError, ValueError):
    """A parameter is unknown, of the wrong type or out of range."""


def short(value: Any) -> str:
    """Return ``repr`` of a value on one line, cut to 80 characters."""
    text = " ".join(reprlib.repr(value).split()) if isinstance(value, list | dict) else " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in reversed(node.value):
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(name: str, parameter: str = "preset") -> dict[str, Any]:
    """Load the flat mapping in ``params/<name>.yaml``. ``parameter`` is the name of the parameter in error messages.
    Raises ParameterError: no such preset, or as :func:`read_yaml`."""
    known = sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))
    if not isinstance(name, str) or name not in known:
        raise ParameterError(f"parameter {parameter!r} is {short(name)}, expected one of {PRESET_DIR.name}/: {', '.join(known)}")
    return read_yaml(PRESET_DIR / f"{name}.yaml")


def preset_values(name: str, arms: bool = False) -> dict[str, Any]:
    """Return the parameters of a preset. One that is named after another, such as ``demo-best``, changes that preset (``demo``). With
    ``arms``, each is changed by the file ``<preset>-arms``, if it exists. Raises ParameterError: as :func:`load_yaml`."""
    own = load_yaml(name)
    below = name.rpartition("-")[0]
    found = preset_values(below, arms) if below and (PRESET_DIR / f"{below}.yaml").is_file() else {}
    found |= {"preset": name} | own
    return found | (load_yaml(f"{name}-arms") if arms and (PRESET_DIR / f"{name}-arms.yaml").is_file() else {})


def read_yaml(path: Path) -> dict[str, Any]:
    """Load a flat mapping from a YAML file. Raises ParameterError: missing, not readable, a duplicate key, or not a flat mapping."""
    file, expected = path.name, "expected a flat mapping of parameter names to values"
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except OSError as error:
        raise ParameterError(f"file {str(path)!r} cannot be read ({error.strerror}), expected a flat YAML file") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or an impossible date
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1} of {file}" if mark else file
        reason = getattr(error, "problem", None) or ("a character that YAML forbids" if isinstance(error, yaml.YAMLError) else str(error))
        raise ParameterError(f"{place} is not readable YAML: {reason}; {expected}") from None
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ParameterError(f"{file} holds {short(loaded)}, {expected}")
    return loaded


# ---- parameters on a command line, for every command that trains


class CommandError(HifitseError):
    """A command line is not valid."""


def parameter_options(preset: str) -> Callable[[Callable], Callable]:
    """Return a decorator that adds the options of :func:`values` to a command; ``preset`` is the default preset."""
    options = [
        click.option("--preset", metavar="P", help=f"A file in params/ without .yaml (default: {preset})."),
        click.option("--overlay", metavar="NAME", help="Another file in params/ that changes the preset, such as real."),
        click.option("-f", "--file", "files", multiple=True, metavar="YAML", help="A flat YAML file of parameters that override both."),
        click.option("-p", "--parameter", "pairs", multiple=True, nargs=2, metavar="KEY VALUE", help="One parameter, its value as YAML."),
    ]
    return lambda command: reduce(lambda done, option: option(done), reversed(options), command)


def call(command: click.Command, argv: Sequence[str] | None = None) -> Any:
    """Run a command with the given arguments, by default those of this process. Return its result, or 0 after ``--help``.
    Raises CommandError: the command does not accept the arguments."""
    try:
        with command.make_context(command.name, list(sys.argv[1:] if argv is None else argv)) as context:
            return command.invoke(context)  # not click's main, which handles Ctrl-C itself
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.exceptions.NoArgsIsHelpError as alone:
        print(alone.format_message(), file=sys.stderr)
        return alone.exit_code
    except click.UsageError as error:
        said, path = error.format_message().partition("\n")[0].rstrip("."), error.ctx.command_path if error.ctx else command.name
        raise CommandError(f"{said}; see {path} --help") from None


def values(preset: str | None, overlay: str | None, files: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Collect parameters by name from options; single values override files. Raises ParameterError or CommandError: not readable."""
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
