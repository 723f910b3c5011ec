"""Utterances; manifests, lists of recordings as JSON lines whose paths cannot leave their root; identifiers of a source's content.

A manifest may come from elsewhere and must not make a training read files anywhere on the disk. Its root is its own folder or one below
it, and neither ``..`` nor a symbolic link may lead out. Whoever starts the run can permit other folders, with all below them, in the
environment variable ``HIFITSE_ALLOW_ROOTS``, separated as in ``PATH``.
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
from itertools import chain
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import IO, Any, Literal

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.decode import audio_files, channel_of
from hifitse.params import Params

Kind = Literal["speech", "noise", "rooms"]
MANIFESTS = ("manifest.jsonl", "manifest.jsonl.gz")
ALLOW_ROOTS = "HIFITSE_ALLOW_ROOTS"
SIDES = ("train", "valid", "test")
SOURCES = ("corpus", "noise", "rooms")  # parameters that name sources of sound
INDEXED_BYTES = 64 * 2**20  # a larger manifest, of some 400,000 utterances or more, is indexed; a smaller one is kept in memory
SAMPLE = 4096  # bytes from the middle of a file that count in a source's identity: they differ between levels, formats and takes


class CorpusError(HifitseError):
    """A corpus, noise folder or room folder cannot be used."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording; ``path`` is relative to the root, ``samples`` the length at 48 kHz, ``sample_rate`` the file's own rate.
    ``group`` is held out as a whole, on the side ``split`` ("train", "valid", "test") unless that is empty.
    Noises and room responses have an empty ``speaker`` and ``utterance``."""

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
        """What shares microphones, rooms and formats: ``source``, or the speaker's name up to the first ``_``."""
        return self.source or self.speaker.partition("_")[0]


# ---- sources and the folders that they may lead to


def expanded(path: str | Path) -> str:
    """Expand ``~`` and environment variables in a path."""
    return os.path.expanduser(os.path.expandvars(str(path)))


def sources(text: str) -> list[str]:
    """Split a parameter's value into its comma-separated sources; an existing path is one source, even if it contains commas."""
    if os.path.exists(expanded(text)):
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def locate(source: str | Path, what: str) -> Path:
    """Return an existing path, absolute, with ``~`` and environment variables expanded; ``what`` names it in the error."""
    text = expanded(source)
    if not os.path.exists(text):
        fault = "but its environment variable is not set" if "$" in text else "which does not exist"
        raise CorpusError(f"{what} is {str(source)!r}, {fault}, expected an existing path")
    return Path(os.path.abspath(text))


def missing(*texts: str) -> str:
    """Return which of these sources does not exist, as a sentence; empty if all exist."""
    try:
        for source in (each for text in texts for each in sources(text) if each != "synthetic"):
            locate(source, "source")
    except CorpusError as error:
        return str(error)
    return ""


def manifest_of(path: Path) -> Path | None:
    """Return the path if it is a file, else the manifest in this folder, or ``None`` if it has none."""
    if not path.is_dir():
        return path
    return next((path / name for name in MANIFESTS if (path / name).is_file()), None)


def within(path: str | Path, folders: Iterable[str | Path]) -> bool:
    """Return whether a path is one of the folders or lies below one, with links resolved."""
    real = os.path.realpath(path)
    return any(real == top or real.startswith(top.rstrip(os.sep) + os.sep) for top in map(os.path.realpath, folders))


def allowed_roots() -> list[str]:
    return [os.path.expanduser(folder) for folder in os.environ.get(ALLOW_ROOTS, "").split(os.pathsep) if folder]


def root_of(manifest: Path) -> Path:
    """Return the folder that a manifest's paths may not leave: its own, or an allowed one that its first line names, ``{"root": ...}``."""
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
    """Return the root that a manifest's first line names, if any."""
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict) and set(entry) == {"root"} and isinstance(entry["root"], str):
            return entry["root"] or None
    return None


# ---- contents of folders and manifests


@contextmanager
def opened(manifest: Path, mode: Literal["rt", "rb"] = "rt") -> Iterator[IO[Any]]:
    """Open JSON lines, plain or gzip-compressed, for reading; raise CorpusError if that fails."""
    try:
        with (gzip.open if manifest.suffix == ".gz" else open)(manifest, mode, encoding="utf-8-sig" if mode == "rt" else None) as lines:
            yield lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"manifest {manifest} cannot be read ({error}), expected JSON lines in UTF-8, plain or gzip-compressed") from None


def listed(
    source: Path, kind: Kind, skipped: list[str], least: int, group: Callable[[str], str] = str, once: bool = True
) -> tuple[Path, Iterator[Utterance]]:
    """Return the root of a folder or manifest and its readable recordings in any order; append to ``skipped`` why others are left out.

    Args:
        least: shortest length in samples at 48 kHz; shorter files are skipped.
        group: maps the relative path of a noise or room response to its group, unless the manifest gives one.
        once: skip a path that is listed twice, which keeps all paths in memory."""
    if manifest := manifest_of(source):
        root = root_of(manifest)
        return root, _from_manifest(manifest, root, kind, skipped, least, group, once)
    return source, _from_folder(source, kind, skipped, least, group)


def _from_folder(folder: Path, kind: Kind, skipped: list[str], least: int, group: Callable[[str], str]) -> Iterator[Utterance]:
    for file in audio_files(folder):
        name = file.relative_to(folder)
        speaker, said = "", ""
        if kind == "speech":  # named by the top folder; deeper ones belong to the utterance's name
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
    held = lru_cache(10_000)(lambda path: within(path, allowed))  # resolves a folder's links once
    with opened(manifest) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (number == 1 and _named_root(line) is not None):
                continue
            try:
                entry = _checked(json.loads(line), ("speaker", "utterance", "path") if kind == "speech" else ("path",))
                path = _inside(root, entry["path"], held)
                samples = round(entry["samples"] * SAMPLE_RATE / entry["sample_rate"])  # rounded as for a file's header
                if samples < least:
                    raise ValueError(f"{samples} samples at 48 kHz, expected at least {least}")
                if path in seen:
                    raise ValueError(f"path {path} is listed twice")
                seen |= {path} if once else set()
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                skipped.append(f"manifest line {number}: {f'no field {error}' if isinstance(error, KeyError) else error}")
                continue
            speaker, name = (entry["speaker"], entry["utterance"]) if kind == "speech" else ("", "")
            rest = entry["sample_rate"], entry.get("source", ""), entry.get("split", "")
            yield Utterance(speaker, name, path, samples, entry.get("group") or speaker or group(path), *rest)


def _inside(root: Path, named: str, held: Callable[[str], bool]) -> str:
    """Return the path, relative to the root, of the named file; raise ValueError if it leads out of the root or does not exist."""
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
    """Return the object of a line if it is valid; raise ValueError, KeyError or TypeError if a field is not."""
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    for name, value in [*((name, entry[name] or None) for name in texts), *((name, entry.get(name, "")) for name in ("group", "source"))]:
        if not isinstance(value, str):
            raise ValueError(f"{name} is {entry[name]!r}, expected text")
    if entry.get("split", "") not in ("", *SIDES):
        raise ValueError(f"split is {entry['split']!r}, expected one of {', '.join(SIDES)}")
    for name in ("samples", "sample_rate"):
        if type(entry[name]) is not int or not 0 < entry[name] < 2**40:  # what larger ones give might not fit an index
            raise ValueError(f"{name} is {entry[name]!r}, expected a positive whole number")
    return entry


# ---- identifiers of a source's content, by which runs and rows are named


def by_content(params: Params) -> Params:
    """Return the parameters with each source of recordings replaced by its :func:`identity`; synthetic sources keep their name.
    A missing source gets a name that no run has. Not for making mixtures: these names are not paths."""
    texts = {name: getattr(params, name) for name in (*SOURCES, "eval_rooms")}
    real = {name: ", ".join(map(identity, sources(text))) for name, text in texts.items() if text not in ("", "synthetic")}
    if params.eval_list:
        real["eval_list"] = sha256(params.eval_list)
    return params.model_copy(update=real)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, by which it can be cited, or "missing"."""
    return hashlib.sha256(given.read_bytes()).hexdigest() if (given := Path(expanded(path))).is_file() else "missing"


def identity(source: str) -> str:
    """Return an identifier of what a folder or manifest holds, unchanged if it is moved; "synthetic" identifies itself.

    Of a manifest count its lines but not a root, and which files are missing, because the split depends on it (not if it is large). Of
    another folder count names and sizes of its audio files, and some bytes from the middle. Raise CorpusError if it cannot be read."""
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
        raise CorpusError(f"{path} cannot be read ({error}), expected a readable folder or manifest") from None


def middle(path: Path) -> bytes:
    """Return a digest of bytes from the middle of a file."""
    return _middle(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(256)
def _of_lines(manifest: Path, size: int, changed: int) -> str:
    digest, large = hashlib.sha256(), size * (4 if manifest.suffix == ".gz" else 1) > INDEXED_BYTES
    with opened(manifest, "rb") as file:
        first = file.readline()
        named = _named_root(first.decode(errors="replace"))
        root = os.path.join(manifest.parent, os.path.expandvars(named or ""))
        for line in chain([] if named else [first], file):
            digest.update(line)
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                if not large and not os.path.isfile(channel_of(os.path.join(root, json.loads(line)["path"]))[0]):
                    digest.update(b"missing")
    return digest.hexdigest()[:16]


@lru_cache(1 << 16)
def _middle(path: Path, size: int, changed: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, (size - SAMPLE) // 2))
        return hashlib.blake2b(file.read(SAMPLE), digest_size=8).digest()
