"""What a scan has found so far, kept on disk beside its output, so that a cut scan goes on where it was."""

import json
import os
import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from hifitse import HifitseError
from hifitse.prepare.recording import Found


class Partial:
    """Results by path, size and time of change of a file, and by what they were made for, in an SQLite file.

    One process at a time holds it; HifitseError where another does. A killed process loses nothing that was kept, a power cut little.
    """

    def __init__(self, target: Path, made_for: dict[str, Any]) -> None:
        self.path, self.target, self.made_for = target.with_name(f".{target.name}.partial"), target, json.dumps(made_for)
        try:
            self._file = self._open()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise HifitseError(f"{target.name} is being made by another process, expected one at a time; wait for it") from None
            raise HifitseError(f"cannot write in {self.path.parent} ({error}), expected a folder that can be written") from None
        except sqlite3.DatabaseError:  # damaged: begun again
            self.remove()
            self._file = self._open()

    def _open(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        with ExitStack() as held:
            held.callback(file.close)
            file.executescript("""
                PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE;
                CREATE TABLE IF NOT EXISTS known (path PRIMARY KEY, size, changed, made_for, found); COMMIT;
            """)
            held.pop_all()
        return file

    def __len__(self) -> int:
        return self._file.execute("SELECT count(*) FROM known").fetchone()[0]

    def get(self, path: str, size: int, changed: int) -> Found | None:
        """The result kept for a file of that size and time of change in ns, or ``None``."""
        asked = [os.fsencode(path), size, changed, self.made_for]
        row = self._file.execute("SELECT found FROM known WHERE path = ? AND size = ? AND changed = ? AND made_for = ?", asked).fetchone()
        return json.loads(row[0]) if row else None

    def add(self, path: str, size: int, changed: int, found: Found) -> None:
        """Keep a result; HifitseError where the disk is full."""
        try:
            row = [os.fsencode(path), size, changed, self.made_for, json.dumps(found)]
            self._file.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            said = f"cannot write in {self.path.parent} ({error}), the same command goes on when there is room"
            raise HifitseError(said) from None

    def remove(self) -> None:
        """Remove the file: its results stand elsewhere."""
        for ending in ("", "-wal"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
