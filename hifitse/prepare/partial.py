"""What a scan has found so far, kept on disk beside its output, so that a cut scan goes on where it was."""

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from hifitse import HifitseError

SYNC_S = 5.0
"""s: how much of the work a power cut may undo; a killed process undoes none that was kept."""


class Partial:
    """Results by file, size and time of change, in a file of JSON lines that one process at a time holds.

    In memory are only the places of the results. A file that has changed since counts as not measured.

    Args:
        path: of the file; made where it is missing.
        made_for: what the results depend on besides the files; where another stands in the file, it is begun anew.

    Raises:
        HifitseError: the file cannot be written, or another process holds it.
    """

    def __init__(self, path: Path, made_for: dict[str, Any]) -> None:
        self.path = path
        self._places: dict[str, int] = {}
        self._file = self._hold()
        self._synced = time.monotonic()
        header = json.dumps(made_for).encode() + b"\n"
        self._file.seek(0)
        if self._file.readline() != header:
            self._file.truncate(0)
            self._file.write(header)
        self._end = self._index()

    def _hold(self) -> BinaryIO:
        """Open and lock the file; the lock goes with the process, however it ends."""
        while True:
            try:
                file = open(self.path, "a+b")  # noqa: SIM115 (held until closed)
            except OSError as error:
                raise self._unwritable(error, "allowed is a folder that can be written") from None
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                name = self.path.name.removeprefix(".").removesuffix(".partial")
                raise HifitseError(f"{name} is being made by another process, allowed is one at a time; wait for it") from None
            if self.path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                return file
            file.close()  # the process that held it has just finished, and removed it

    def _unwritable(self, error: OSError, allowed: str) -> HifitseError:
        return HifitseError(f"cannot write in {self.path.parent} ({error.strerror}), {allowed}")

    def _index(self) -> int:
        """Find the whole lines; returns where they end, and cuts off what a kill left behind it."""
        self._file.seek(0)
        end = len(self._file.readline())
        for line in self._file:
            try:
                key, _ = json.loads(line)
                self._places[key[0]] = end
            except (ValueError, TypeError, IndexError, KeyError):
                break
            end += len(line)
        self._file.truncate(end)
        return end

    def __len__(self) -> int:
        return len(self._places)

    def get(self, path: str, size: int, changed: int) -> dict[str, Any] | None:
        """The result kept for a file of that size and time of change in ns, or ``None``."""
        place = self._places.get(path)
        if place is None:
            return None
        self._file.seek(place)
        key, found = json.loads(self._file.readline())
        return found if key == [path, size, changed] else None

    def add(self, path: str, size: int, changed: int, found: dict[str, Any]) -> None:
        """Keep a result.

        Raises:
            HifitseError: the disk is full.
        """
        line = json.dumps([[path, size, changed], found]).encode() + b"\n"
        try:
            self._file.write(line)  # opened for appending: always at the end
            self._file.flush()
            if time.monotonic() - self._synced > SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise self._unwritable(error, "the same command goes on when there is room") from None
        self._places[path] = self._end
        self._end += len(line)

    def remove(self) -> None:
        """Remove the file: its results stand elsewhere."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
