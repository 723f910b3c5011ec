"""From a folder of recordings to a manifest: each file is looked at once, in parallel, and what is wrong with it is counted.

A scan that is cut goes on where it was. The manifest is the same for any number of processes and however often the scan was cut.
"""

import gzip
import json
import os
import sqlite3
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from tqdm import tqdm

from hifitse import HifitseError
from hifitse.data.manifest import Kind, locate, within
from hifitse.decode import channel_of
from hifitse.files import write_atomic, write_text
from hifitse.machine import usable_cores
from hifitse.pool import DiedError, Pool
from hifitse.pool import Task as Started
from hifitse.prepare.layouts import Item, listing, others, suffix_of
from hifitse.prepare.recording import VERSION, Found, measure
from hifitse.report.contract import plain

MEASURED = ("reason", "detail", "samples", "sample_rate", "flags", "bandwidth_hz", "level_db")  # of each file, for the summary
EXAMPLES = 20  # files named in the summary for each reason
WAITING = 16  # files a process that are under way or wait for those before them
DEATHS = 10  # files that may end their process, because some do kill a decoder; if more do, the cause lies elsewhere
SUFFIXES = (".jsonl", ".jsonl.gz")
Key = tuple[bytes, int, int]  # in the partial results: path, size, time of change in ns
Task = tuple[Item, Path, Key | None, Found | None]  # the last where it is known


def prepare(
    root: str | Path, output: str | Path, layout: str = "folder", kind: Kind = "speech", workers: int | None = None
) -> dict[str, Any]:
    """Write a manifest of the usable recordings below a folder, and beside it ``<name>.summary.json``, which is returned.

    Args:
        root: folder of the corpus; ``~`` and environment variables are expanded.
        output: the manifest, ending in ``.jsonl`` or ``.jsonl.gz``. Where it lies in a folder that holds ``root``, its paths are relative
            to that folder; anywhere else its first line names ``root``, which a run takes only with permission: see
            :mod:`hifitse.data.manifest`.
        layout, kind: as :func:`hifitse.prepare.layouts.listing` has them.
        workers: processes; ``None``: one per core; 0: none, this process does the work.

    The summary has ``files``, ``kept``, ``speakers``, ``minutes``, ``left_out`` and ``marked`` (counts by reason), ``suffixes`` (of those
    left out, counts by suffix and reason), ``not_audio`` (files not looked at, counts by suffix), medians, examples, and ``permission``:
    the folders outside of the manifest's own for which a run will need it.
    HifitseError: nothing to take, the output cannot be written or another process makes it, or a folder of rooms holds something else."""
    folder, target = locate(root, "folder"), Path(os.path.abspath(Path(output).expanduser()))
    if not target.name.endswith(SUFFIXES) or target.is_dir():
        raise HifitseError(f"output is {target.name!r}, expected the name of a file that ends in {' or '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise HifitseError(f"output folder {str(target.parent)!r} does not exist, expected one that can be written")
    base, items = listing(folder, layout, kind)
    with Partial(target, {"version": VERSION, "kind": kind}) as partial, tempfile.TemporaryFile() as lines:
        above = target.parent if base.is_relative_to(target.parent) else base
        if above == base != target.parent:
            lines.write(json.dumps({"root": str(base)}).encode() + b"\n")
        tasks = (_task(item, base, partial) for item in items())
        results = _in_order(tasks, partial, kind, usable_cores() if workers is None else workers)
        scanned, linked = [], set()
        for item, found in tqdm(results, total=sum(1 for _ in items()), unit="file", disable=None):
            scanned.append((item.path, item.speaker, *map(found.get, MEASURED)))
            if "reason" not in found:
                if not within(path := base / item.path, [above]):
                    linked.add(os.path.dirname(os.path.realpath(path)))
                who = {"speaker": item.speaker, "utterance": item.utterance} if item.speaker else {}
                lines.write(json.dumps(who | {"path": os.path.relpath(path, above)} | found).encode() + b"\n")
        files = pd.DataFrame(scanned, columns=["path", "speaker", *MEASURED], dtype=object)  # names need not be UTF-8
        if trouble := _trouble(files, kind, folder):
            partial.remove()
            raise HifitseError(trouble)
        lines.seek(0)
        write_lines(target, lines)
        outside = [] if within(above, [target.parent]) else [str(above)]
        outside += [os.path.commonpath(linked)] if linked else []  # the folder that holds all that links lead to
        summary = {"root": str(folder), "layout": layout, "kind": kind} | _counted(files)
        summary |= {"not_audio": others(folder, layout), "permission": outside}
        write_text(summary_path(target), json.dumps(summary, indent=1) + "\n")
        partial.remove()
    return summary


def _counted(files: pd.DataFrame) -> dict[str, Any]:
    """All counts of a scan, and of each measure the median and the deciles at the ends."""
    def counts(values: pd.Series) -> dict[str, int]:
        return values.value_counts().sort_index().to_dict()

    left, kept = files[files.reason.notna()], files[files.reason.isna()]
    said = kept.speaker[kept.speaker != ""].value_counts()
    by_suffix = left.reason.groupby(left.path.map(suffix_of))
    return {
        "files": len(files), "kept": len(kept), "speakers": len(said), "speakers_with_one_file": int((said == 1).sum()),
        "minutes": round(float((kept.samples / kept.sample_rate).sum()) / 60, 2),
        "left_out": counts(left.reason), "marked": counts(kept["flags"].explode()),
        **{name: dict(zip(("p10", "median", "p90"), np.percentile(kept[name].astype(float), (10, 50, 90)).round(1).tolist(), strict=True))
           for name in ("bandwidth_hz", "level_db")},
        "suffixes": {suffix: counts(reasons) for suffix, reasons in by_suffix},
        "examples": {reason: some[["path", "detail"]].head(EXAMPLES).to_dict("records") for reason, some in left.groupby("reason")},
    }  # fmt: skip


def _trouble(files: pd.DataFrame, kind: Kind, folder: Path) -> str:
    """Why no manifest is written, or an empty text."""
    kept, dead = int(files.reason.isna().sum()), files[files.reason == "no decay"]
    if kind == "rooms" and len(dead) > kept:
        first = f"the first is {plain(dead.path.iloc[0], 80)} ({dead.detail.iloc[0]})"
        said = f"{len(dead)} of {len(files)} files do not decay like one, {first}"
        return f"{folder} is no folder of room responses: {said}; expected impulse responses"
    counted = ", ".join(f"{count} {reason}" for reason, count in files.reason.value_counts().items())
    return "" if kept else f"{folder} has no usable file among {len(files)} ({counted}), expected a folder of recordings"


def summary_path(manifest: Path) -> Path:
    """Where the summary of a manifest lies."""
    return manifest.with_name(manifest.name.removesuffix(".gz").removesuffix(".jsonl") + ".summary.json")


def of_suffixes(summary: dict[str, Any], reason: str) -> str:
    """Suffixes of the files that were left out for a reason, in words."""
    return ", ".join(f"{found[reason]} {suffix}" for suffix, found in summary["suffixes"].items() if reason in found)


def _task(item: Item, base: Path, partial: "Partial") -> Task:
    """What is known of an item before its file is opened."""
    path = base / item.path
    if item.reason:
        return item, path, None, {"reason": item.reason, "detail": ""}
    try:
        state = channel_of(path)[0].stat()
    except OSError as error:
        return item, path, None, {"reason": "broken", "detail": f"{error.strerror}"}
    key = (os.fsencode(path), state.st_size, state.st_mtime_ns)
    return item, path, key, partial.get(key)


def _in_order(tasks: Iterable[Task], partial: "Partial", kind: Kind, workers: int) -> Iterator[tuple[Item, Found]]:
    """Results in the order of the tasks, of which only some are under way at a time; new ones are kept at once."""
    waiting: deque[tuple[Task, Started | None]] = deque()
    with Pool(measure, workers, DEATHS) as pool:
        def oldest() -> tuple[Item, Found]:
            (item, _, key, known), started = waiting.popleft()
            if known is None:
                known = _measured(pool, started)
                partial.add(key, known)
            return item, known

        for task in tasks:
            waiting.append((task, pool.start(task[1], kind) if task[3] is None else None))
            if len(waiting) > WAITING * max(1, workers):
                yield oldest()
        while waiting:
            yield oldest()


def _measured(pool: Pool, started: Started) -> Found:
    try:
        return pool.result(started)
    except DiedError:
        if pool.gave_up:
            said = "processes that read files die one after the other, memory may be short; the same command goes on where it was"
            raise HifitseError(said) from None
        return {"reason": "broken", "detail": "reading it ended the process"}


def write_lines(manifest: Path, lines: Iterable[bytes]) -> None:
    """Write lines, whole or not at all, packed by gzip where the name says so, without a time: the same lines give the same file."""
    def write(path: Path) -> None:
        packed = manifest.suffix == ".gz"
        with open(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) if packed else nullcontext(file) as target:
            target.writelines(lines)

    write_atomic(manifest, write)


class Partial:
    """What a scan has found so far, in an SQLite file beside its output: results by path, size and time of change of a file, and by what
    they were made for.
    One process at a time holds it; HifitseError where another does. A killed process loses nothing that was kept, a power cut little.
    """

    def __init__(self, target: Path, made_for: dict[str, Any]) -> None:
        self.path, self.made_for = target.with_name(f".{target.name}.partial"), json.dumps(made_for)
        try:
            self._file = sqlite3.connect(self.path, timeout=0, isolation_level=None)
            self._file.executescript("""
                PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE;
                CREATE TABLE IF NOT EXISTS known (path PRIMARY KEY, size, changed, made_for, found); COMMIT;
            """)
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise HifitseError(f"{target.name} is being made by another process, expected one at a time; wait for it") from None
            said = f"cannot write in {self.path.parent} ({error}), expected a folder that can be written"
            raise HifitseError(f"{said}; remove {self.path.name} if it is damaged") from None

    def get(self, key: Key) -> Found | None:
        """The result kept for a file, or ``None``."""
        asked = "SELECT found FROM known WHERE path = ? AND size = ? AND changed = ? AND made_for = ?"
        row = self._file.execute(asked, [*key, self.made_for]).fetchone()
        return json.loads(row[0]) if row else None

    def add(self, key: Key, found: Found) -> None:
        """Keep a result; HifitseError where the disk is full."""
        try:
            self._file.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", [*key, self.made_for, json.dumps(found)])
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
