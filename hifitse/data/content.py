"""What a source of recordings holds, wherever it lies: runs and rows of evaluations are named by it, and not by a path."""

import gzip
import hashlib
import os
import zlib
from functools import lru_cache
from itertools import chain
from pathlib import Path

from hifitse.data.corpus import audio_files
from hifitse.data.manifest import CorpusError, expanded, manifest_of, named_root, sources
from hifitse.params import Params

SOURCES = ("corpus", "noise", "rooms")  # parameters that name sources of sound
SAMPLE = 4096  # bytes from the middle of a file that count: they change with level, format or take


def by_content(params: Params) -> Params:
    """The same parameters, each source of recordings in them named by its content; synthetic ones keep their name.

    A source that is not there gets a name that no run has. Not for making mixtures: the names are no paths.
    """
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
        manifest = manifest_of(path)
        return _lines(manifest, *_state(manifest)) if manifest else _listing(path)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} cannot be read ({error}), expected a folder or manifest that can") from None


def middle(path: Path) -> bytes:
    """Digest of bytes from the middle of a file, kept while its size and time of change stay."""
    return _middle(path, *_state(path))


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _listing(folder: Path) -> str:
    digest = hashlib.sha256()
    linked = (inner for inner in sorted(folder.iterdir()) if inner.is_symlink() and inner.is_dir())  # which a search passes over
    for path in chain(audio_files(folder), *map(audio_files, linked)):
        digest.update(b"%s\0%d\0%s\0" % (os.fsencode(path.relative_to(folder).as_posix()), path.stat().st_size, middle(path)))
    return digest.hexdigest()[:16]


@lru_cache(256)
def _lines(manifest: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with (gzip.open if manifest.suffix == ".gz" else open)(manifest, "rb") as file:
        first = file.readline()
        digest.update(b"" if named_root(first.decode(errors="replace")) else first)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


@lru_cache(1 << 16)
def _middle(path: Path, size: int, changed: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, (size - SAMPLE) // 2))
        return hashlib.blake2b(file.read(SAMPLE), digest_size=8).digest()
