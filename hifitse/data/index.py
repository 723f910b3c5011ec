"""Large corpora: the list of utterances stays on disk, and one is looked up when it is asked for.

The lines of a large manifest are sorted once into two files in the cache: ``records`` (a JSON array a line, the utterances of a speaker
side by side) and ``offsets`` (where each begins). They are read by position, not mapped, so that no page of them counts as memory
of the process, and forked workers share nothing that moves. In memory is one small object a speaker.
"""

import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from hifitse import HifitseError
from hifitse.data.manifest import CorpusError, allowed_roots
from hifitse.data.utterance import Utterance
from hifitse.files import cache_dir, made_once

VERSION = 1
"""Part of the cache's key: raise it when the same manifest gives another index."""
INDEXED_BYTES = 64 * 2**20
"""A manifest of more bytes, some 400,000 utterances, is indexed; a smaller one is kept in memory."""
REASONS = 1000
"""Reasons of left-out lines that are kept word by word; the others are counted."""
OFFSET = 8
"""Bytes of an offset: little-endian, unsigned."""


class Records:
    """Files of an index, opened when first read from, in each process for itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: tuple[int, int, int] | None = None

    def __getstate__(self) -> dict:  # for a process that was not forked
        return {"folder": self.folder, "_files": None}

    def __del__(self) -> None:
        if self._files is not None and self._files[0] == os.getpid():
            os.close(self._files[1])
            os.close(self._files[2])

    def read(self, number: int) -> list:
        """Utterance, path, samples and sample rate of a record.

        Raises:
            CorpusError: the index was damaged or removed after it was opened.
        """
        try:
            if self._files is None or self._files[0] != os.getpid():
                self._files = (os.getpid(), *(os.open(self.folder / name, os.O_RDONLY) for name in ("offsets", "records")))
            _, offsets, records = self._files
            start, stop = np.frombuffer(os.pread(offsets, 2 * OFFSET, number * OFFSET), "<u8").tolist()
            utterance, path, samples, rate = json.loads(os.pread(records, stop - start, start))
        except (OSError, ValueError, OverflowError) as error:
            raise CorpusError(f"index {self.folder} is damaged ({error}), allowed is one as it was made; remove it") from None
        return [utterance, path, samples, rate]


class Said(Sequence[Utterance]):
    """The utterances of one speaker, each read from the index when it is asked for."""

    __slots__ = ("_records", "_speaker", "_group", "_first", "_count")

    def __init__(self, records: Records, speaker: str, group: str, first: int, count: int) -> None:
        self._records, self._speaker, self._group, self._first, self._count = records, speaker, group, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int | slice) -> Utterance | tuple[Utterance, ...]:
        if isinstance(place, slice):
            return tuple(self[number] for number in range(*place.indices(self._count)))
        if not -self._count <= place < self._count:
            raise IndexError(place)
        utterance, path, samples, rate = self._records.read(self._first + place % self._count)
        return Utterance(self._speaker, utterance, path, samples, self._group, rate)


def indexed(manifest: Path, root: Path, found: Iterable[Utterance], skipped: list[str]) -> dict[str, Said]:
    """Utterances by speaker, from an index in the cache that is made of ``found`` at the first call, and made anew where it is damaged.

    Speakers and utterances are in the order of their names, as in memory. Speakers with one utterance or in several groups are left
    out; the first 1,000 reasons go to ``skipped``. Two paths are taken for the same if 64 bits of their hash are.

    Args:
        manifest: known by its path, length and time of change, and by the folders that links may lead to.
        root: its root.
        found: utterances of the readable lines, which is only gone through where there is no index; its reasons go to ``skipped``.
        skipped: is added to.

    Raises:
        HifitseError: the cache cannot be written.
    """
    state = manifest.stat()
    key = json.dumps([str(manifest), str(root), state.st_size, state.st_mtime_ns, allowed_roots()])
    name = f"index-v{VERSION}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    made_once(name, partial(_make, found, skipped))
    folder = cache_dir() / name
    people = _people(folder)
    if people is None:
        aside = folder.with_name(f".damaged-{name}-{os.getpid()}")
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        made_once(name, partial(_make, found, skipped))
        people = _people(folder)
    if people is None:
        raise HifitseError(f"index {folder} cannot be read back, allowed is a folder that keeps what is written")
    records, first, speakers = Records(folder), 0, {}
    for speaker, group, count in people["speakers"]:
        speakers[speaker] = Said(records, speaker, group, first, count)
        first += count
    skipped[:] = people["skipped"]
    return speakers


def _people(folder: Path) -> dict | None:
    """Speakers and skipped lines of an index; ``None`` where a file is missing, cut short or not as it was written."""
    try:
        text = (folder / "speakers.json").read_bytes()
        if (folder / "sum").read_text() != hashlib.sha256(text).hexdigest():
            return None
        people = json.loads(text)
        sizes = [(folder / name).stat().st_size for name in ("offsets", "records")]
    except (OSError, ValueError):
        return None
    return people if people["sizes"] == sizes else None


def _make(found: Iterable[Utterance], skipped: list[str], folder: Path) -> None:
    """Write the files of an index: lines as they come, then sorted by speaker, then by name."""
    skipped.clear()
    reasons = _Reasons()
    numbers: dict[str, int] = {}
    who, starts, hashes = array("l"), array("Q"), array("Q")
    with open(folder / "unsorted", "wb") as file:
        for utterance in found:
            starts.append(file.tell())
            who.append(numbers.setdefault(utterance.speaker, len(numbers)))
            hashes.append(int.from_bytes(hashlib.blake2b(utterance.path.encode(errors="surrogatepass"), digest_size=8).digest(), "little"))
            said = [utterance.utterance, utterance.path, utterance.samples, utterance.sample_rate, utterance.group]
            file.write(json.dumps(said).encode() + b"\n")
            reasons.move(skipped)
    reasons.move(skipped)
    _, firsts = np.unique(np.array(hashes), return_index=True)
    repeated = len(hashes) - len(firsts)
    firsts.sort()
    del hashes
    if repeated:
        reasons.add(f"{repeated} paths are listed twice")
    names = sorted(numbers)
    rank = np.empty(len(names), np.int64)
    rank[[numbers[name] for name in names]] = np.arange(len(names))
    order = firsts[np.argsort(rank[np.array(who, np.int64)[firsts]], kind="stable")]
    owners = rank[np.array(who, np.int64)[order]]
    people = _sorted(folder, names, _pairs(owners, np.array(starts)[order]), reasons)
    (folder / "unsorted").unlink()
    sizes = [(folder / name).stat().st_size for name in ("offsets", "records")]
    text = json.dumps({"speakers": people, "skipped": reasons.all(), "sizes": sizes}).encode()
    (folder / "speakers.json").write_bytes(text)
    (folder / "sum").write_text(hashlib.sha256(text).hexdigest())


def _pairs(owners: np.ndarray, starts: np.ndarray, block: int = 2**16) -> Iterator[tuple[int, int]]:
    """Both side by side as Python's numbers, few at a time: all at once they would take ten times the memory of the arrays."""
    for first in range(0, len(owners), block):
        yield from zip(owners[first : first + block].tolist(), starts[first : first + block].tolist(), strict=True)


def _sorted(folder: Path, names: list[str], places: Iterator[tuple[int, int]], reasons: "_Reasons") -> list[list]:
    """Copy the lines speaker by speaker; returns name, group and number of utterances of each speaker that can be used."""
    people = []
    with open(folder / "unsorted", "rb") as lines, open(folder / "records", "wb") as records, open(folder / "offsets", "wb") as offsets:
        for owner, mine in groupby(places, key=lambda place: place[0]):
            said = []
            for _, start in mine:
                lines.seek(start)
                said.append(json.loads(lines.readline()))
            name, groups = names[owner], {group for *_, group in said}
            if len(said) < 2:
                reasons.add(f"speaker {name}: only one utterance, two are needed")
                continue
            if len(groups) > 1:
                reasons.add(f"speaker {name}: utterances in different groups")
                continue
            for utterance, path, samples, rate, _ in sorted(said, key=lambda each: (each[0], each[1])):
                offsets.write(records.tell().to_bytes(OFFSET, "little"))
                records.write(json.dumps([utterance, path, samples, rate]).encode() + b"\n")
            people.append([name, groups.pop(), len(said)])
        offsets.write(records.tell().to_bytes(OFFSET, "little"))
    return people


class _Reasons:
    """Why lines were left out: the first ones, and how many more."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._more = 0

    def add(self, reason: str) -> None:
        if len(self._said) < REASONS:
            self._said.append(reason)
        else:
            self._more += 1

    def move(self, skipped: list[str]) -> None:
        """Take the reasons from a list that would grow with the manifest."""
        for reason in skipped:
            self.add(reason)
        skipped.clear()

    def all(self) -> list[str]:
        return self._said + ([f"and {self._more} more"] if self._more else [])
