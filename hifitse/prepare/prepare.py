"""From a folder of recordings to a manifest: each file is looked at once, in parallel, and what is wrong with it is counted.

A scan that is cut goes on where it was. The manifest is the same for any number of processes and however often the scan was cut.
"""

import gzip
import json
import os
import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
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

EXAMPLES = 20  # files named in the summary for each reason
WAITING = 16  # files a process that are under way or wait for those before them
DEATHS = 10  # files that may end their process, because some do kill a decoder; if more do, the cause lies elsewhere
SUFFIXES = (".jsonl", ".jsonl.gz")
Task = tuple[Item, Path, tuple[str, int, int] | None, Found | None]
"""Item, file, its key in the partial results, and the result where it is known."""


def prepare(
    root: str | Path, output: str | Path, layout: str = "folder", kind: Kind = "speech", workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Write a manifest of the usable recordings below a folder, and beside it ``<name>.summary.json``.

    Args:
        root: folder of the corpus; ``~`` and environment variables are expanded.
        output: the manifest, ending in ``.jsonl`` or ``.jsonl.gz``. Where it lies in a folder that holds ``root``, its paths are relative
            to that folder; anywhere else its first line names ``root``, which a run takes only with permission: see
            :mod:`hifitse.data.manifest`.
        layout, kind: as :func:`hifitse.prepare.layouts.listing` has them.
        workers: processes; ``None``: one per core; 0: none, this process does the work.

    Returns:
        The summary: ``files``, ``kept``, ``speakers``, ``minutes``, ``left_out`` and ``marked`` (counts by reason), ``suffixes`` (of
        those left out, counts by suffix and reason), ``not_audio`` (files not looked at, counts by suffix), medians, examples, and
        ``permission``: the folders outside of the manifest's own for which a run will need it.

    Raises:
        HifitseError: nothing to take, the output cannot be written or another process makes it, or a folder of rooms holds something else.
    """
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
        tally = Tally(above)
        tasks = (_task(item, base, partial) for item in items())
        results = _in_order(tasks, partial, kind, usable_cores() if workers is None else workers)
        for item, found in tqdm(results, total=sum(1 for _ in items()), unit="file", disable=None if progress else True):
            tally.add(item, base / item.path, found)
            if "reason" not in found:
                who = {"speaker": item.speaker, "utterance": item.utterance} if item.speaker else {}
                line = who | {"path": os.path.relpath(base / item.path, above)} | found
                lines.write(json.dumps(line).encode() + b"\n")
        if trouble := tally.trouble(kind, folder):
            partial.remove()
            raise HifitseError(trouble)
        write_atomic(target, lambda path: _pack(lines, path, target.suffix == ".gz"))
        outside = [] if within(above, [target.parent]) else [str(above)]
        outside += [os.path.commonpath(tally.outside)] if tally.outside else []  # the folder that holds all that links lead to
        summary = {"root": str(folder), "layout": layout, "kind": kind} | tally.summary()
        summary |= {"not_audio": others(folder, layout), "permission": outside}
        write_text(summary_path(target), json.dumps(summary, indent=1) + "\n")
        partial.remove()
    return summary


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
    key = (str(path), state.st_size, state.st_mtime_ns)
    return item, path, key, partial.get(*key)


def _in_order(tasks: Iterable[Task], partial: "Partial", kind: Kind, workers: int) -> Iterator[tuple[Item, Found]]:
    """Results in the order of the tasks, of which only some are under way at a time; new ones are kept at once."""
    waiting: deque[tuple[Task, Started | None]] = deque()
    with Pool(measure, workers, DEATHS) as pool:
        def oldest() -> tuple[Item, Found]:
            (item, _, key, known), started = waiting.popleft()
            if known is None:
                known = _measured(pool, started)
                partial.add(*key, known)
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


def _pack(lines: BinaryIO, path: Path, packed: bool) -> None:
    """Without a time in gzip's header the same lines give the same file."""
    lines.seek(0)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) if packed else nullcontext(file) as target:
        shutil.copyfileobj(lines, target)


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


class Tally:
    """Counts of a scan, and the folders outside of ``root`` that links lead to."""

    def __init__(self, root: Path) -> None:
        self.root, self.outside = root, set[str]()
        self.files, self.seconds = 0, 0.0
        self.left_out: Counter[str] = Counter()
        self.suffixes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.marked: Counter[str] = Counter()
        self.speakers: Counter[str] = Counter()
        self.examples: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
        self.values: dict[str, list[float]] = {"bandwidth_hz": [], "level_db": []}

    def add(self, item: Item, path: Path, found: Found) -> None:
        """Count one file."""
        self.files += 1
        if reason := found.get("reason"):
            self.left_out[reason] += 1
            self.suffixes[suffix_of(item.path)][reason] += 1
            if len(self.examples[reason]) < EXAMPLES:
                self.examples[reason].append({"path": item.path, "detail": found["detail"]})
            return
        if not within(path, [self.root]):
            self.outside.add(os.path.dirname(os.path.realpath(path)))
        self.seconds += found["samples"] / found["sample_rate"]
        self.marked.update(found["flags"])
        self.speakers.update([item.speaker] if item.speaker else [])
        for name, values in self.values.items():
            values.append(found[name])

    @property
    def kept(self) -> int:
        return self.files - self.left_out.total()

    def summary(self) -> dict[str, Any]:
        """All counts, and of each measure the median and the deciles at the ends."""
        spread = {name: dict(zip(("p10", "median", "p90"), np.percentile(values, (10, 50, 90)).round(1).tolist(), strict=True))
                  for name, values in self.values.items() if values}  # fmt: skip
        return {
            "files": self.files, "kept": self.kept, "speakers": len(self.speakers),
            "speakers_with_one_file": sum(count == 1 for count in self.speakers.values()),
            "minutes": round(self.seconds / 60, 2),
            "left_out": dict(sorted(self.left_out.items())), "marked": dict(sorted(self.marked.items())), **spread,
            "suffixes": {suffix: dict(sorted(self.suffixes[suffix].items())) for suffix in sorted(self.suffixes)},
            "examples": self.examples,
        }  # fmt: skip

    def trouble(self, kind: Kind, folder: Path) -> str:
        """Why no manifest is written, or an empty text."""
        dead = self.left_out["no decay"]
        if kind == "rooms" and dead > self.kept:
            first = self.examples["no decay"][0]
            said = f"{dead} of {self.files} files do not decay like one, the first is {plain(first['path'], 80)} ({first['detail']})"
            return f"{folder} is no folder of room responses: {said}; expected impulse responses"
        counted = ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())
        return "" if self.kept else f"{folder} has no usable file among {self.files} ({counted}), expected a folder of recordings"
