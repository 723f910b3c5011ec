"""Large corpora: the list of utterances lies in an SQLite file in the cache, and one is looked up when it is asked for.

The file is made once from a large manifest. Its rows are sorted by speaker, then by name, so a speaker is a span of row numbers.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

from hifitse import HifitseError
from hifitse.data.manifest import CorpusError, allowed_roots
from hifitse.data.utterance import Utterance, unfit
from hifitse.files import cache_dir, made_once

VERSION = 2
"""Part of the cache's key: raise it when the same manifest gives another index."""
INDEXED_BYTES = 64 * 2**20
"""A manifest of more bytes, some 400,000 utterances, is indexed; a smaller one is kept in memory."""
REASONS = 1000
NAME = "index.sqlite"
COLUMNS = "speaker, utterance, path, samples, held_out, sample_rate, source, split"
"""The fields of an :class:`Utterance` in their order. Text is stored as bytes: names need not be UTF-8, and bytes sort as text does."""


class Reasons(list[str]):
    """Why lines were left out: the first 1,000 word by word, the others are counted."""

    more = 0

    def append(self, reason: str) -> None:
        if len(self) < REASONS:
            super().append(reason)
        else:
            self.more += 1

    def all(self) -> list[str]:
        return [*self, *([f"and {self.more} more"] if self.more else [])]


def _packed(said: Utterance) -> list[bytes | int]:
    return [value.encode(errors="surrogatepass") if isinstance(value, str) else value for value in astuple(said)]


def _unpacked(row: Iterable[bytes | int]) -> Utterance:
    return Utterance(*(value.decode(errors="surrogatepass") if isinstance(value, bytes) else value for value in row))


def _opened(path: Path) -> sqlite3.Connection:
    """The file to read from. It never changes, so no lock is needed, which some network disks do not have."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


class Records:
    """Rows of an index. The file is opened at the first look-up, by each process for itself: a fork must not share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: tuple[int, sqlite3.Connection] | None = None

    def __getstate__(self) -> dict:  # for a process that was not forked
        return {"path": self.path, "_file": None}

    def read(self, number: int) -> Utterance:
        """Row ``number``, from 1.

        Raises:
            CorpusError: the index was damaged or removed after it was made.
        """
        try:
            if self._file is None or self._file[0] != os.getpid():
                self._file = os.getpid(), _opened(self.path)
            return _unpacked(self._file[1].execute(f"SELECT {COLUMNS} FROM said WHERE rowid = ?", [number]).fetchone())
        except (sqlite3.Error, TypeError) as error:  # TypeError: no such row
            raise CorpusError(f"index {self.path.parent} is damaged ({error}), expected one as it was made; remove it") from None


class Said(Sequence[Utterance]):
    """The utterances of one speaker, each read from the index when it is asked for."""

    __slots__ = ("_records", "_first", "_count")

    def __init__(self, records: Records, first: int, count: int) -> None:
        self._records, self._first, self._count = records, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int | slice) -> Utterance | tuple[Utterance, ...]:
        if isinstance(place, slice):
            return tuple(self[number] for number in range(*place.indices(self._count)))
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return self._records.read(self._first + place % self._count)


def indexed(manifest: Path, root: Path, found: Iterable[Utterance], skipped: Reasons) -> tuple[dict[str, Said], list[str]]:
    """Utterances by speaker, and why others were left out: from an index in the cache, made at the first call or where it is damaged.

    Order and rules are those of a corpus in memory.

    Args:
        manifest: known by its path, length and time of change, and by the folders that links may lead to.
        root: its root.
        found: utterances of the readable lines, gone through only where there is no index.
        skipped: where ``found`` puts its reasons.

    Raises:
        HifitseError: the cache cannot be written.
    """
    state = manifest.stat()
    key = json.dumps([str(manifest), str(root), state.st_size, state.st_mtime_ns, allowed_roots()])
    name = f"index-v{VERSION}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    while True:
        fresh = not (cache_dir() / name).is_dir()
        path = made_once(name, partial(_make, found, skipped)) / NAME
        try:
            return _speakers(path)
        except sqlite3.Error as error:
            aside = path.parent.with_name(f".damaged-{name}-{os.getpid()}")
            path.parent.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            if fresh:
                raise HifitseError(f"index {path} cannot be read back ({error}), expected a disk that keeps what is written") from None


def _speakers(path: Path) -> tuple[dict[str, Said], list[str]]:
    """Speakers and reasons of an index; raises sqlite3.Error where it is not as it was written."""
    records, file = Records(path), _opened(path)
    try:
        [[state]] = file.execute("PRAGMA quick_check(1)")
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        reasons = [text.decode(errors="surrogatepass") for (text,) in file.execute("SELECT text FROM reason")]
        spans = file.execute("SELECT name, first, count FROM speaker ORDER BY first")
        return {name.decode(errors="surrogatepass"): Said(records, first, count) for name, first, count in spans}, reasons
    finally:
        file.close()


def _make(found: Iterable[Utterance], skipped: Reasons, folder: Path) -> None:
    """Fill the file: lines as they come, then sorted, without the paths that are listed twice."""
    try:
        file = sqlite3.connect(folder / NAME, isolation_level=None)
        try:
            _fill(file, found, skipped)
        finally:
            file.close()
    except sqlite3.Error as error:  # a full disk, as made_once knows it
        raise OSError(str(error)) from error


def _fill(file: sqlite3.Connection, found: Iterable[Utterance], skipped: Reasons) -> None:
    # The folder appears whole or not at all, so nothing need be undone.
    file.executescript(f"""
        PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;
        CREATE TEMP TABLE line ({COLUMNS});
        CREATE TABLE said ({COLUMNS});
        CREATE TABLE speaker (name, first INTEGER, count INTEGER);
        CREATE TABLE reason (text);
    """)
    marks = ", ".join("?" * len(COLUMNS.split(",")))
    file.executemany(f"INSERT INTO line VALUES ({marks})", map(_packed, found))
    [[repeated]] = file.execute("SELECT count(*) - count(DISTINCT path) FROM line")
    if repeated:
        skipped.append(f"{repeated} paths are listed twice")
    once = "WHERE rowid IN (SELECT min(rowid) FROM line GROUP BY path)" if repeated else ""
    file.execute(f"INSERT INTO said SELECT * FROM line {once} ORDER BY speaker, utterance, path")
    spans = file.execute(
        "SELECT speaker, min(rowid), count(*), count(DISTINCT held_out), count(DISTINCT split) FROM said GROUP BY speaker"
    ).fetchall()
    for name, first, count, groups, splits in spans:
        if reason := unfit(count, groups, splits):
            skipped.append(f"speaker {name.decode(errors='surrogatepass')}: {reason}")
        else:
            file.execute("INSERT INTO speaker VALUES (?, ?, ?)", [name, first, count])
    file.executemany("INSERT INTO reason VALUES (?)", ([text.encode(errors="surrogatepass")] for text in skipped.all()))
    file.execute("COMMIT")
