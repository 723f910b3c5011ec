"""Utterances, and manifests: lists of recordings as JSON lines, whose paths cannot leave their root. What a source is known by.

A manifest may come from elsewhere, and must not make a training read what lies anywhere on the disk. Its root is its own folder or one
below it, and neither ``..`` nor a symbolic link leads out of it. Other folders need the permission of whoever starts the run: the
environment variable ``HIFITSE_ALLOW_ROOTS`` names them, separated as in ``PATH``; each stands for itself and all below it.
"""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import IO, Any, Literal

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.decode import SUFFIXES, channel_of
from hifitse.params import Params

Kind = Literal["speech", "noise", "rooms"]
MANIFESTS = ("manifest.jsonl", "manifest.jsonl.gz")
ALLOW_ROOTS = "HIFITSE_ALLOW_ROOTS"
SIDES = ("train", "valid", "test")
SOURCES = ("corpus", "noise", "rooms")  # parameters that name sources of sound
SAMPLE = 4096  # bytes from the middle of a file that count in a source's name: they change with level, format or take


class CorpusError(HifitseError):
    """A corpus, noise folder or room folder that cannot be used."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording; ``path`` is relative to the root, ``samples`` counts at 48 kHz, ``sample_rate`` is the file's own.
    ``group`` is held out as a whole, on the side ``split`` ("train", "valid", "test") if that is not empty.
    Noises and room responses have no speaker and no name."""

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


# ---- sources and the folders that they may lead to


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


def missing(*texts: str) -> str:
    """Which recordings of these sources are not here; empty where all are."""
    try:
        for source in (each for text in texts for each in sources(text) if each != "synthetic"):
            locate(source, "source")
    except CorpusError as error:
        return str(error)
    return ""


def manifest_of(path: Path) -> Path | None:
    """A manifest itself, or that of a folder, if it has one."""
    if not path.is_dir():
        return path
    return next((path / name for name in MANIFESTS if (path / name).is_file()), None)


def audio_files(folder: Path) -> Iterator[Path]:
    """Audio files below a folder by name, hidden ones left out: in an order that is the same on every machine. Of links to folders those
    at the top are followed, after all others."""
    linked = (inner for inner in sorted(folder.iterdir()) if inner.is_symlink() and inner.is_dir())
    for top in (folder, *linked):
        for path in sorted(top.rglob("*")):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
                yield path


def within(path: str | Path, folders: Iterable[str | Path]) -> bool:
    """Whether a path is one of the folders or lies below one, wherever links lead."""
    real = os.path.realpath(path)
    return any(real == top or real.startswith(top.rstrip(os.sep) + os.sep) for top in map(os.path.realpath, folders))


def allowed_roots() -> list[str]:
    return [os.path.expanduser(folder) for folder in os.environ.get(ALLOW_ROOTS, "").split(os.pathsep) if folder]


def root_of(manifest: Path) -> Path:
    """The folder that a manifest's paths may not leave: its own, or the allowed one that its first line names as ``{"root": ...}``."""
    with opened(manifest) as lines:
        named = _named_root(next(iter(lines), ""))
    if named is None:
        return manifest.parent
    root = locate(manifest.parent / os.path.expandvars(named), f"the root that {manifest} names")
    if not within(root, [manifest.parent, *allowed_roots()]):
        advice = f"to allow this one too, set the environment variable {ALLOW_ROOTS} to it"
        raise CorpusError(f"manifest {manifest} names the root {str(root)!r}, expected its own folder and folders below it; {advice}")
    return root


def _named_root(line: str) -> str | None:
    """What a manifest's first line names as the root, if it does."""
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict) and set(entry) == {"root"} and isinstance(entry["root"], str):
            return entry["root"] or None
    return None


# ---- what a folder or the lines of a manifest list


@contextmanager
def opened(manifest: Path, mode: Literal["rt", "rb"] = "rt") -> Iterator[IO[Any]]:
    """JSON lines, plain or packed by gzip, to read; CorpusError where that fails."""
    try:
        with (gzip.open if manifest.suffix == ".gz" else open)(manifest, mode, encoding="utf-8-sig" if mode == "rt" else None) as lines:
            yield lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"manifest {manifest} cannot be read ({error}), expected JSON lines in UTF-8, plain or packed by gzip") from None


def listed(
    source: Path, kind: Kind, skipped: list[str], least: int, group: Callable[[str], str] = str, once: bool = True
) -> tuple[Path, Iterator[Utterance]]:
    """The root of a folder or manifest, and its readable recordings in any order; why others are left out goes to ``skipped``.

    Args:
        least: samples at 48 kHz below which a file is skipped.
        group: by a path relative to the root the group of noises and rooms that name none.
        once: skip a path that is listed twice, for which all paths are kept in memory."""
    if manifest := manifest_of(source):
        root = root_of(manifest)
        return root, _from_manifest(manifest, root, kind, skipped, least, group, once)
    return source, _from_folder(source, kind, skipped, least, group)


def _from_folder(folder: Path, kind: Kind, skipped: list[str], least: int, group: Callable[[str], str]) -> Iterator[Utterance]:
    for file in audio_files(folder):
        name = file.relative_to(folder)
        speaker, said = "", ""
        if kind == "speech":  # a folder; deeper ones belong to the utterance's name
            speaker, said = name.parts[0], Path(*name.parts[1:]).with_suffix("").as_posix() if len(name.parts) > 1 else ""
            if not said:
                continue
        try:
            info = audio.info(file)
        except HifitseError as error:
            skipped.append(f"{name.as_posix()}: {error}")
            continue
        if info.samples >= least:
            yield Utterance(speaker, said, name.as_posix(), info.samples, speaker or group(name.as_posix()), info.sample_rate)
        else:
            skipped.append(f"{name.as_posix()}: {info.samples} samples at 48 kHz, expected at least {least}")


def _from_manifest(
    manifest: Path, root: Path, kind: Kind, skipped: list[str], least: int, group: Callable[[str], str], once: bool
) -> Iterator[Utterance]:
    seen: set[str] = set()
    allowed = [str(root), *allowed_roots()]
    held = lru_cache(10_000)(lambda path: within(path, allowed))  # where a folder's links lead is found once
    with opened(manifest) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (number == 1 and _named_root(line) is not None):
                continue
            try:
                entry = _checked(json.loads(line), ("speaker", "utterance", "path") if kind == "speech" else ("path",))
                path = _inside(root, entry["path"], held)
                samples = round(entry["samples"] * SAMPLE_RATE / entry["sample_rate"])  # as a file's header gives it
                if samples < least:
                    raise ValueError(f"{samples} samples at 48 kHz, expected at least {least}")
                if path in seen:
                    raise ValueError(f"path {path} is listed twice")
                seen |= {path} if once else set()
            except (ValueError, KeyError, TypeError) as error:
                skipped.append(f"manifest line {number}: {f'no field {error}' if isinstance(error, KeyError) else error}")
                continue
            speaker, name = (entry["speaker"], entry["utterance"]) if kind == "speech" else ("", "")
            rest = entry["sample_rate"], entry.get("source", ""), entry.get("split", "")
            yield Utterance(speaker, name, path, samples, entry.get("group", speaker or group(path)), *rest)


def _inside(root: Path, named: str, held: Callable[[str], bool]) -> str:
    """The path, relative to the root, of a file that is named; ValueError where it leads out of the root or is not there."""
    given, top = os.path.normpath(os.path.join(root, named)), str(root).rstrip(os.sep) + os.sep
    path, mode = str(channel_of(given)[0]), 0
    if not path.startswith(top):
        raise ValueError(f"path {named} leads out of the corpus folder")
    with suppress(OSError, ValueError):
        mode = os.lstat(path).st_mode
    if mode and not held(path if S_ISLNK(mode) else os.path.dirname(path)):
        raise ValueError(f"path {named} is a link out of the corpus folder; {ALLOW_ROOTS} names folders that links may lead to")
    if not (S_ISREG(mode) or os.path.isfile(path)):
        raise ValueError(f"file {named} is missing")
    return given.removeprefix(top)


def _checked(entry: Any, texts: tuple[str, ...]) -> dict:
    """The object of a line; raises ValueError, KeyError or TypeError where a field is not as it must be."""
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    for name, value in [*((name, entry[name] or None) for name in texts), *((name, entry.get(name, "")) for name in ("group", "source"))]:
        if not isinstance(value, str):
            raise ValueError(f"{name} is {entry[name]!r}, expected text")
    if entry.get("split", "") not in ("", *SIDES):
        raise ValueError(f"split is {entry['split']!r}, expected one of {', '.join(SIDES)}")
    for name in ("samples", "sample_rate"):
        if type(entry[name]) is not int or entry[name] < 1:
            raise ValueError(f"{name} is {entry[name]!r}, expected a positive whole number")
    return entry


# ---- what a source holds, by which runs and rows are named


def by_content(params: Params) -> Params:
    """The same parameters, each source of recordings in them named by its content; synthetic ones keep their name.
    A source that is not there gets a name that no run has. Not for making mixtures: the names are no paths."""
    texts = {name: getattr(params, name) for name in SOURCES}
    real = {name: ", ".join(map(identity, sources(text))) for name, text in texts.items() if text != "synthetic"}
    if params.eval_list:
        listed = Path(params.eval_list)
        real["eval_list"] = hashlib.sha256(listed.read_bytes()).hexdigest() if listed.is_file() else "missing"
    return params.model_copy(update=real)


def identity(source: str) -> str:
    """A name for what a folder or manifest holds: the same after a move to another place or machine; "synthetic" is its own name.
    Of a manifest its lines count, but not the root that its first line may name, nor packing. Of a folder without one the
    names and sizes of its audio files count, and some bytes from the middle of each. CorpusError where it cannot be read.
    """
    if source == "synthetic":
        return source
    path = Path(expanded(source))
    if not path.exists():
        return f"missing {source}"
    try:
        if manifest := manifest_of(path):
            return _of_lines(manifest, manifest.stat().st_size, manifest.stat().st_mtime_ns)
        digest = hashlib.sha256()
        for file in audio_files(path):
            digest.update(b"%s\0%d\0%s\0" % (os.fsencode(file.relative_to(path).as_posix()), file.stat().st_size, middle(file)))
        return digest.hexdigest()[:16]
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error}), expected a folder or manifest that can") from None


def middle(path: Path) -> bytes:
    """Digest of bytes from the middle of a file."""
    return _middle(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(256)
def _of_lines(manifest: Path, size: int, changed: int) -> str:
    with opened(manifest, "rb") as file:
        first = file.readline()
        digest = hashlib.sha256(b"" if _named_root(first.decode(errors="replace")) else first)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


@lru_cache(1 << 16)
def _middle(path: Path, size: int, changed: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, (size - SAMPLE) // 2))
        return hashlib.blake2b(file.read(SAMPLE), digest_size=8).digest()
