"""Manifests: lists of recordings as JSON lines, whose paths cannot leave their root."""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hifitse import SAMPLE_RATE, HifitseError

T = TypeVar("T")

MANIFESTS = ("manifest.jsonl", "manifest.jsonl.gz")
"""Names under which a folder's manifest is found."""

MIN_SAMPLES = SAMPLE_RATE // 10
"""Shorter utterances are skipped: 0.1 s at 48 kHz."""


class CorpusError(HifitseError):
    """A corpus, noise folder or room folder that cannot be used."""


def locate(source: str | Path, what: str) -> Path:
    """An existing path, with ``~`` and environment variables expanded; ``what`` names it in the error."""
    text = os.path.expanduser(os.path.expandvars(str(source)))
    if "$" in text and not os.path.exists(text):
        raise CorpusError(f"{what} is {str(source)!r}, but its environment variable is not set, allowed is an existing path")
    if not os.path.exists(text):
        raise CorpusError(f"{what} is {str(source)!r}, which does not exist, allowed is an existing path")
    return Path(os.path.abspath(text))


def manifest_of(path: Path) -> Path | None:
    """A manifest itself, or that of a folder, if it has one."""
    if not path.is_dir():
        return path
    return next((path / name for name in MANIFESTS if (path / name).is_file()), None)


def manifest_root(manifest: Path) -> Path:
    """The folder that a manifest's paths may not leave: its own, or the one that its first line names as ``{"root": ...}``.

    Raises:
        CorpusError: the manifest cannot be read, or that folder does not exist.
    """
    with _opened(manifest) as lines:
        named = _named_root(next(iter(lines), b""))
    if named is None:
        return manifest.parent
    return locate(manifest.parent / os.path.expandvars(named), f"the root that {manifest} names")


def _named_root(line: bytes) -> str | None:
    """What a manifest's first line names as the root, if it does."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    named = entry.get("root") if isinstance(entry, dict) and set(entry) == {"root"} else None
    return named if isinstance(named, str) and named else None


@contextmanager
def _opened(manifest: Path) -> Iterator[Iterable[bytes]]:
    """A manifest's lines, unpacked."""
    try:
        with (gzip.open if manifest.suffix == ".gz" else open)(manifest, "rb") as lines:
            yield lines
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"manifest {manifest} cannot be read ({error}), allowed is a JSONL file, or one packed with gzip") from None


def from_manifest(
    manifest: Path, root: Path, skipped: list[str], make: Callable[[dict, str, int], T],
    texts: Sequence[str] = ("path",), least: int = MIN_SAMPLES,
) -> Iterator[T]:  # fmt: skip
    """What ``make`` makes of the readable lines of a manifest; the reason goes to ``skipped`` where a line gives nothing.

    Args:
        manifest: JSON lines, packed if the name ends in ``.gz``.
        root: see :func:`manifest_root`.
        skipped: is added to.
        make: the line's object, its path relative to the root and its length at 48 kHz -> what is wanted; may raise ValueError.
        texts: fields that must be text.
        least: samples at 48 kHz below which a file is skipped.
    """
    seen: set[str] = set()
    with _opened(manifest) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (number == 1 and _named_root(line) is not None):
                continue
            try:
                made = make(*_parse(line, root, seen, texts, least))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                reason = f"no field {error}" if isinstance(error, KeyError) else error
                skipped.append(f"manifest line {number}: {reason}")
                continue
            yield made


def _parse(line: bytes, root: Path, seen: set[str], texts: Sequence[str], least: int) -> tuple[dict, str, int]:
    """One manifest line: its object, path and length; raises ValueError, KeyError or TypeError with the reason."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    for name in texts:
        if not isinstance(entry[name], str) or not entry[name]:
            raise ValueError(f"{name} is {entry[name]!r}, allowed is text")
    for name in ("samples", "sample_rate"):
        if isinstance(entry[name], bool) or not isinstance(entry[name], int) or entry[name] < 1:
            raise ValueError(f"{name} is {entry[name]!r}, allowed is a positive whole number")
    path = os.path.normpath(os.path.join(root, entry["path"]))
    if not path.startswith(str(root).rstrip(os.sep) + os.sep):
        raise ValueError(f"path {entry['path']} leads out of the corpus folder")
    if not os.path.isfile(path):
        raise ValueError(f"file {entry['path']} is missing")
    samples = round(entry["samples"] * SAMPLE_RATE / entry["sample_rate"])  # as a file's header gives it
    if samples < least:
        raise ValueError(f"{samples} samples at 48 kHz, needed are {least}")
    path = os.path.relpath(path, root)
    if path in seen:
        raise ValueError(f"path {path} is listed twice")
    seen.add(path)
    return entry, path, samples
