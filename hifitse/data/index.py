"""Large corpora: the list of utterances lies in an SQLite file in the cache, and one is looked up when it is asked for.

The file is made once from a large manifest. Its rows are sorted by speaker, then by name, so a speaker is a span of row numbers.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from functools import lru_cache, partial
from pathlib import Path

from hifitse.data.manifest import CorpusError, Utterance, allowed_roots
from hifitse.files import made_once

VERSION = 2  # raise it when the same manifest gives another index
INDEXED_BYTES = 64 * 2**20  # a manifest of more, some 400,000 utterances, is indexed; a smaller one is kept in memory
REASONS = 1000  # why lines were left out: so many are kept
NAME = "index.sqlite"
COLUMNS = "speaker, utterance, path, samples, held_out, sample_rate, source, split"
"""The fields of an :class:`Utterance` in their order. Text is stored as bytes: names need not be UTF-8, and bytes sort as text does."""


def unfit(utterances: int, groups: int, splits: int) -> str:
    """Why a speaker cannot be used who has so many utterances, in so many groups and splits; empty where he can."""
    if utterances < 2:
        return "only one utterance, two are needed"
    return "utterances in different groups" if groups > 1 else "utterances in different splits" if splits > 1 else ""


def _packed(values: Iterable[str | int]) -> list[bytes | int]:
    return [value.encode(errors="surrogatepass") if isinstance(value, str) else value for value in values]


def _unpacked(row: Iterable[bytes | int]) -> list[str | int]:
    return [value.decode(errors="surrogatepass") if isinstance(value, bytes) else value for value in row]


def _opened(path: Path) -> sqlite3.Connection:
    """The file to read from. It never changes, so no lock is needed, which some network disks do not have."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


@lru_cache(16)
def _kept_open(path: Path, process: int) -> sqlite3.Connection:
    """Opened at the first look-up, by each process for itself: a fork must not share it."""
    return _opened(path)


def _rows(path: Path, file: sqlite3.Connection, query: str, *values: int) -> list[list[str | int]]:
    try:
        return [_unpacked(row) for row in file.execute(query, values)]
    except sqlite3.Error as error:
        raise CorpusError(f"index {path.parent} is damaged ({error}), expected one as it was made; remove it") from None


@dataclass(frozen=True, slots=True)
class Said(Sequence[Utterance]):
    """The utterances of one speaker, rows of an index, each read when it is asked for; CorpusError if the index is damaged by then."""

    path: Path
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int | slice) -> Utterance | tuple[Utterance, ...]:
        if isinstance(place, slice):
            return tuple(self[number] for number in range(*place.indices(self.count)))
        number = self.first + range(self.count)[place]
        [row] = _rows(self.path, _kept_open(self.path, os.getpid()), f"SELECT {COLUMNS} FROM said WHERE rowid = ?", number)
        return Utterance(*row)


def indexed(manifest: Path, root: Path, found: Iterable[Utterance], skipped: list[str]) -> tuple[dict[str, Said], list[str]]:
    """Utterances by speaker, and why others were left out, from an index in the cache; order and rules are those of a corpus in memory.
    The manifest is known by its path, length and time of change, and by the folders that links may lead to. The utterances ``found`` in its
    readable lines are gone through, which fills ``skipped``, only where there is no index. HifitseError where it is damaged.
    """
    state = manifest.stat()
    key = json.dumps([str(manifest), str(root), state.st_size, state.st_mtime_ns, allowed_roots()])
    name = f"index-v{VERSION}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    path = made_once(name, partial(_make, found, skipped)) / NAME
    with closing(_opened(path)) as file:
        spans = _rows(path, file, "SELECT name, first, count FROM speaker ORDER BY first")
        reasons = [text for [text] in _rows(path, file, "SELECT text FROM reason")]
    return {name: Said(path, first, count) for name, first, count in spans}, reasons


def _make(found: Iterable[Utterance], skipped: list[str], folder: Path) -> None:
    try:
        with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as file:
            _fill(file, found, skipped)
    except sqlite3.Error as error:  # a full disk, as made_once knows it
        raise OSError(str(error)) from error


def _fill(file: sqlite3.Connection, found: Iterable[Utterance], skipped: list[str]) -> None:
    """Lines as they come, then sorted, without the paths that are listed twice; the folder appears whole or not at all."""
    file.executescript(f"""
        PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;
        CREATE TEMP TABLE line ({COLUMNS});
        CREATE TABLE said ({COLUMNS});
        CREATE TABLE speaker (name, first INTEGER, count INTEGER);
        CREATE TABLE reason (text);
    """)
    file.executemany("INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (_packed(astuple(said)) for said in found))
    [[repeated]] = file.execute("SELECT count(*) - count(DISTINCT path) FROM line")
    if repeated:
        skipped.append(f"{repeated} paths are listed twice")
    once = "WHERE rowid IN (SELECT min(rowid) FROM line GROUP BY path)" if repeated else ""
    file.execute(f"INSERT INTO said SELECT * FROM line {once} ORDER BY speaker, utterance, path")
    counts = "SELECT speaker, min(rowid), count(*), count(DISTINCT held_out), count(DISTINCT split) FROM said GROUP BY speaker"
    for name, first, count, groups, splits in file.execute(counts).fetchall():
        if reason := unfit(count, groups, splits):
            skipped.append(f"speaker {name.decode(errors='surrogatepass')}: {reason}")
        else:
            file.execute("INSERT INTO speaker VALUES (?, ?, ?)", [name, first, count])
    more = [f"and {len(skipped) - REASONS} more"] if len(skipped) > REASONS else []
    file.executemany("INSERT INTO reason VALUES (?)", (_packed([text]) for text in (*skipped[:REASONS], *more)))
    file.execute("COMMIT")
