"""Utterances, and manifests: lists of recordings as JSON lines, whose paths cannot leave their root.

A manifest may come from elsewhere, and must not make a training read what lies anywhere on the disk. Its root is its own folder or one
below it, and neither ``..`` nor a symbolic link leads out of it. Other folders need the permission of whoever starts the run: the
environment variable ``HIFITSE_ALLOW_ROOTS`` names them, separated as in ``PATH``; each stands for itself and all below it.
"""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Any, TypeVar

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.decode import channel_of

T = TypeVar("T")
MANIFESTS = ("manifest.jsonl", "manifest.jsonl.gz")
ALLOW_ROOTS = "HIFITSE_ALLOW_ROOTS"
MIN_SAMPLES = SAMPLE_RATE // 10  # shorter recordings are skipped


class CorpusError(HifitseError):
    """A corpus, noise folder or room folder that cannot be used."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one speaker; ``path`` is relative to the root, ``samples`` counts at 48 kHz, ``sample_rate`` is the file's own.

    ``group`` is held out as a whole, on the side ``split`` ("train", "valid", "test") if that is not empty.
    """

    speaker: str
    utterance: str
    path: str
    samples: int
    group: str
    sample_rate: int = SAMPLE_RATE
    source: str = ""
    split: str = ""

    @property
    def origin(self) -> str:
        """Recordings of one origin share microphones, rooms and formats: ``source``, or the speaker's name up to the first ``_``."""
        return self.source or self.speaker.partition("_")[0]


def expanded(path: str | Path) -> str:
    """A path with ``~`` and environment variables expanded."""
    return os.path.expanduser(os.path.expandvars(str(path)))


def sources(text: str) -> list[str]:
    """The sources that a parameter names, separated by commas; a path that exists is one source, commas and all."""
    if os.path.exists(expanded(text)):
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def locate(source: str | Path, what: str) -> Path:
    """An existing path, with ``~`` and environment variables expanded; ``what`` names it in the error."""
    text = expanded(source)
    if not os.path.exists(text):
        fault = "but its environment variable is not set" if "$" in text else "which does not exist"
        raise CorpusError(f"{what} is {str(source)!r}, {fault}, expected an existing path")
    return Path(os.path.abspath(text))


def manifest_of(path: Path) -> Path | None:
    """A manifest itself, or that of a folder, if it has one."""
    if not path.is_dir():
        return path
    return next((path / name for name in MANIFESTS if (path / name).is_file()), None)


def within(path: str | Path, folders: Iterable[str | Path]) -> bool:
    """Whether a path is one of the folders or lies below one, wherever links lead."""
    real = os.path.realpath(path)
    return any(real == top or real.startswith(top.rstrip(os.sep) + os.sep) for top in map(os.path.realpath, folders))


def allowed_roots() -> list[str]:
    return [os.path.expanduser(folder) for folder in os.environ.get(ALLOW_ROOTS, "").split(os.pathsep) if folder]


def manifest_root(manifest: Path) -> Path:
    """The folder that a manifest's paths may not leave: its own, or the allowed one that its first line names as ``{"root": ...}``."""
    with _opened(manifest) as lines:
        named = named_root(next(iter(lines), ""))
    if named is None:
        return manifest.parent
    root = locate(manifest.parent / os.path.expandvars(named), f"the root that {manifest} names")
    if not within(root, [manifest.parent, *allowed_roots()]):
        advice = f"to allow this one too, set the environment variable {ALLOW_ROOTS} to it"
        raise CorpusError(f"manifest {manifest} names the root {str(root)!r}, expected its own folder and folders below it; {advice}")
    return root


def named_root(line: str) -> str | None:
    """What a manifest's first line names as the root, if it does."""
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict) and set(entry) == {"root"} and isinstance(entry["root"], str):
            return entry["root"] or None
    return None


@contextmanager
def _opened(manifest: Path) -> Iterator[Iterable[str]]:
    try:
        with (gzip.open if manifest.suffix == ".gz" else open)(manifest, "rt", encoding="utf-8-sig") as lines:
            yield lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"manifest {manifest} cannot be read ({error}), expected JSON lines in UTF-8, plain or packed by gzip") from None


def from_manifest(
    manifest: Path, root: Path, skipped: list[str], make: Callable[[dict, str, int], T],
    texts: Sequence[str] = ("path",), least: int = MIN_SAMPLES, once: bool = True,
) -> Iterator[T]:  # fmt: skip
    """What ``make`` makes of the readable lines of a manifest; the reason goes to ``skipped`` where a line gives nothing.

    Args:
        make: the line's object, its path relative to the root and its length at 48 kHz -> what is wanted; may raise ValueError.
        texts: fields that must be text.
        least: samples at 48 kHz below which a file is skipped.
        once: skip a path that is listed twice, for which all paths are kept in memory.
    """
    seen: set[str] = set()
    allowed = [str(root), *allowed_roots()]
    held = lru_cache(10_000)(lambda path: within(path, allowed))  # where a folder's links lead is found once
    with _opened(manifest) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (number == 1 and named_root(line) is not None):
                continue
            try:
                entry = _checked(json.loads(line), texts)
                path = _inside(root, entry["path"], held)
                samples = round(entry["samples"] * SAMPLE_RATE / entry["sample_rate"])  # as a file's header gives it
                if samples < least:
                    raise ValueError(f"{samples} samples at 48 kHz, expected at least {least}")
                if path in seen:
                    raise ValueError(f"path {path} is listed twice")
                seen |= {path} if once else set()
                made = make(entry, path, samples)
            except (ValueError, KeyError, TypeError) as error:
                skipped.append(f"manifest line {number}: {f'no field {error}' if isinstance(error, KeyError) else error}")
            else:
                yield made


def _inside(root: Path, named: str, held: Callable[[str], bool]) -> str:
    """The path, relative to the root, of a file that is named; ValueError where it leads out of the root or is not there."""
    given, top = os.path.normpath(os.path.join(root, named)), str(root).rstrip(os.sep) + os.sep
    path = str(channel_of(given)[0])
    if not path.startswith(top):
        raise ValueError(f"path {named} leads out of the corpus folder")
    mode = 0
    with suppress(OSError, ValueError):
        mode = os.lstat(path).st_mode
    if mode and not held(path if S_ISLNK(mode) else os.path.dirname(path)):
        raise ValueError(f"path {named} is a link out of the corpus folder; {ALLOW_ROOTS} names folders that links may lead to")
    if not (S_ISREG(mode) or os.path.isfile(path)):
        raise ValueError(f"file {named} is missing")
    return given.removeprefix(top)


def _checked(entry: Any, texts: Sequence[str]) -> dict:
    """The object of a line; raises ValueError, KeyError or TypeError where a field is not as it must be."""
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    for name in texts:
        if not isinstance(entry[name], str) or not entry[name]:
            raise ValueError(f"{name} is {entry[name]!r}, expected text")
    for name in ("samples", "sample_rate"):
        if isinstance(entry[name], bool) or not isinstance(entry[name], int) or entry[name] < 1:
            raise ValueError(f"{name} is {entry[name]!r}, expected a positive whole number")
    return entry
