"""Scan a folder of recordings into a manifest: measure each file once, in parallel, and count the faults.

An interrupted scan resumes where it stopped. The manifest does not depend on interruptions or on the number of processes.
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
from hifitse.prepare.layouts import Item, is_manifest, listing, others, suffix_of
from hifitse.prepare.recording import VERSION, Found, measure
from hifitse.report.contract import plain

MEASURED = ("reason", "detail", "samples", "sample_rate", "flags", "bandwidth_hz", "level_db", "checksum")
EXAMPLES = 20  # files listed in the summary per reason
WAITING = 16  # files per process that are in progress or wait for earlier ones
DEATHS = 10  # files that may crash their process, since some do crash a decoder; beyond that, the cause lies elsewhere
SUFFIXES = (".jsonl", ".jsonl.gz")
Key = tuple[bytes, int, int]  # of a partial result: path, size, modification time in ns
Task = tuple[Item, Path, Key | None, Found | None]  # the last: the result, if it is known


def prepare(
    root: str | Path, output: str | Path, layout: str = "folder", kind: Kind = "speech", workers: int | None = None
) -> dict[str, Any]:
    """Write a manifest of the usable recordings below a folder, and ``<name>.summary.json`` beside it. Return the summary.

    Args:
        root: folder of the corpus; ``~`` and environment variables are expanded.
        output: the manifest, ending in ``.jsonl`` or ``.jsonl.gz``. If ``root`` lies in its folder, paths are relative to that folder.
            Otherwise its first line names ``root``, and a run needs permission to read there: see :mod:`hifitse.data.manifest`.
        layout, kind: see :func:`hifitse.prepare.layouts.listing`.
        workers: number of processes; ``None``: one per core; 0: scan in this process.

    The summary has ``files``, ``kept``, ``speakers``, ``minutes``, ``left_out`` and ``marked`` (counts by reason), ``suffixes`` (left-out
    files, counted by suffix and reason), ``not_audio`` (ignored files, counted by suffix), medians, examples, and ``permission`` (folders
    outside the manifest's own that a run needs permission to read).
    Raises HifitseError: no usable file, the output cannot be written or another process makes it, or rooms do not decay."""
    folder, target = locate(root, "folder"), Path(os.path.abspath(Path(output).expanduser()))
    if not target.name.endswith(SUFFIXES) or target.is_dir():
        raise HifitseError(f"output is {target.name!r}, expected the name of a file that ends in {' or '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise HifitseError(f"output folder {str(target.parent)!r} does not exist, expected one that can be written")
    if layout == "lhotse" and target.parent == folder and is_manifest(target.name):
        raise HifitseError(f"output is {target.name!r}, a name that Lhotse's manifests in {folder} have, expected another name")
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
                kept = {name: value for name, value in found.items() if name != "checksum"}
                lines.write(json.dumps(who | {"path": os.path.relpath(path, above)} | kept).encode() + b"\n")
        files = pd.DataFrame(scanned, columns=["path", "speaker", *MEASURED], dtype=object)  # file names need not be UTF-8
        if trouble := _trouble(files, kind, folder):
            partial.remove()
            raise HifitseError(trouble)
        lines.seek(0)
        write_lines(target, lines)
        outside = [] if within(above, [target.parent]) else [str(above)]
        outside += [os.path.commonpath(linked)] if linked else []  # common folder of all link targets
        summary = {"root": str(folder), "layout": layout, "kind": kind} | _counted(files)
        summary |= {"not_audio": others(folder, layout), "permission": outside}
        write_text(summary_path(target), json.dumps(summary, indent=1) + "\n")
        partial.remove()
    return summary


def _counted(files: pd.DataFrame) -> dict[str, Any]:
    """Return all counts of a scan, and the 10th, 50th and 90th percentiles of bandwidth and level."""
    def counts(values: pd.Series) -> dict[str, int]:
        return values.value_counts().sort_index().to_dict()

    left, kept = files[files.reason.notna()], files[files.reason.isna()]
    said = kept.speaker[kept.speaker != ""].value_counts()
    first = kept.groupby("checksum").path.transform("first")
    again = kept.assign(reason="repeated", detail="as " + first)[kept.path != first]
    shown = pd.concat([left, again]).groupby("reason")
    by_suffix = left.reason.groupby(left.path.map(suffix_of))
    return {
        "files": len(files), "kept": len(kept), "speakers": len(said), "speakers_with_one_file": int((said == 1).sum()),
        "minutes": round(float((kept.samples / kept.sample_rate).sum()) / 60, 2),
        "left_out": counts(left.reason), "marked": counts(pd.concat([kept["flags"].explode(), again.reason])),
        **{name: dict(zip(("p10", "median", "p90"), np.percentile(kept[name].astype(float), (10, 50, 90)).round(1).tolist(), strict=True))
           for name in ("bandwidth_hz", "level_db")},
        "suffixes": {suffix: counts(reasons) for suffix, reasons in by_suffix},
        "examples": {reason: some[["path", "detail"]].head(EXAMPLES).to_dict("records") for reason, some in shown},
    }  # fmt: skip


def _trouble(files: pd.DataFrame, kind: Kind, folder: Path) -> str:
    """Return why no manifest can be written, or an empty string."""
    kept, dead = int(files.reason.isna().sum()), files[files.reason == "no decay"]
    if kind == "rooms" and len(dead) > kept:
        first = f"the first is {plain(dead.path.iloc[0], 80)} ({dead.detail.iloc[0]})"
        said = f"{len(dead)} of {len(files)} files do not decay like one, {first}"
        return f"{folder} is no folder of room responses: {said}; expected impulse responses"
    counted = ", ".join(f"{count} {reason}" for reason, count in files.reason.value_counts().items())
    return "" if kept else f"{folder} has no usable file among {len(files)} ({counted}), expected a folder of recordings"


def summary_path(manifest: Path) -> Path:
    """Return the path of the summary of a manifest."""
    return manifest.with_name(manifest.name.removesuffix(".gz").removesuffix(".jsonl") + ".summary.json")


def of_suffixes(summary: dict[str, Any], reason: str) -> str:
    """List the suffixes of the files left out for a reason, with counts, as text."""
    return ", ".join(f"{found[reason]} {suffix}" for suffix, found in summary["suffixes"].items() if reason in found)


def _task(item: Item, base: Path, partial: "Partial") -> Task:
    """Return what is known about an item before its file is opened: a reason to leave it out, or a stored result, if any."""
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
    """Yield results in the order of the tasks, with a limited number in progress at a time. Stores each new result in ``partial``."""
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
            said = "processes that read files crash one after another, memory may be short; run the same command again to resume"
            raise HifitseError(said) from None
        return {"reason": "broken", "detail": "reading it ended the process"}


def write_lines(manifest: Path, lines: Iterable[bytes]) -> None:
    """Write lines atomically, with gzip if the name ends in ``.gz``. No time is stored, so the same lines give the same file."""
    def write(path: Path) -> None:
        packed = manifest.suffix == ".gz"
        with open(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) if packed else nullcontext(file) as target:
            target.writelines(lines)

    write_atomic(manifest, write)


class Partial:
    """Results of an unfinished scan, in an SQLite file beside its output: keyed by path, size and modification time of each file, and by
    ``made_for``, the settings that they depend on.
    Only one process can hold it; in others it raises HifitseError. A killed process loses no stored result, a power failure only a few.
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
        """Return the stored result of a file, or ``None``."""
        asked = "SELECT found FROM known WHERE path = ? AND size = ? AND changed = ? AND made_for = ?"
        row = self._file.execute(asked, [*key, self.made_for]).fetchone()
        return json.loads(row[0]) if row else None

    def add(self, key: Key, found: Found) -> None:
        """Store a result. Raises HifitseError: it cannot be written, for example because the disk is full."""
        try:
            self._file.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", [*key, self.made_for, json.dumps(found)])
        except sqlite3.Error as error:
            said = f"cannot write in {self.path.parent} ({error}), free some space and run the same command again"
            raise HifitseError(said) from None

    def remove(self) -> None:
        """Delete the file, when its results are no longer needed."""
        for ending in ("", "-wal"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
