"""What a source holds: speakers and their utterances, or noises and room responses in groups; and which of them are held out.

Only names and lengths are listed, those of a large manifest on disk; audio is read by random access on demand.
"""

import hashlib
import json
import os
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from hifitse import SAMPLE_RATE, audio
from hifitse.data.manifest import INDEXED_BYTES, SIDES, CorpusError, Kind, Utterance, allowed_roots, listed, locate, manifest_of
from hifitse.files import cache_dir, made_once

MIN_SAMPLES = SAMPLE_RATE // 10  # shorter recordings are skipped, except room responses
INDEX, INDEX_VERSION = "index.sqlite", 2  # increase the version when the same manifest would give another index
REASONS = 1000  # largest number of reasons for skipping that an index keeps
COLUMNS = "speaker, utterance, path, samples, held_out, sample_rate, source, split"
"""The fields of :class:`Utterance` in order. Text is stored as bytes: names need not be UTF-8, and bytes sort as text does."""


@dataclass(frozen=True)
class Corpus:
    """Speakers and their utterances, at least two each, under one root folder; both sorted by name.

    Those of a large manifest stay on disk. ``skipped`` has one sentence for each file, line or speaker that was left out."""

    root: Path
    speakers: dict[str, Sequence[Utterance]]
    skipped: list[str] = field(default_factory=list)

    def read(self, utterance: Utterance, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Read a stretch of an utterance, (T,) float32 at 48 kHz; see :func:`hifitse.audio.read`."""
        return audio.read(self.root / utterance.path, start, samples)

    def split(self, valid_share: float, test_share: float, seed: int, train_only: Sequence[str] = ()) -> dict[str, "Corpus"]:
        """Split into corpora "train", "valid" and "test" that have no speaker or group in common, and at least two speakers each.

        A speaker with a ``split`` goes to that side, and one whose name begins with an entry of ``train_only`` to "train", both with their
        whole group; the shares, 0 to 1, refer to all others. Raise CorpusError for too few speakers or groups, or a group of two splits."""
        firsts, kept = {name: said[0] for name, said in self.speakers.items()}, tuple(train_only)
        members = [(first.group, "train" if name.startswith(kept) else first.split) for name, first in firsts.items()]
        sides = _deal(members, valid_share, test_share, seed, least=2, what=f"speakers in {self.root}")
        return {
            side: replace(self, speakers={name: said for name, said in self.speakers.items() if firsts[name].group in groups})
            for side, groups in sides.items()
        }


@dataclass(frozen=True)
class Clips:
    """Noise recordings or room responses under one root, sorted by name; ``skipped`` as in :class:`Corpus`."""

    root: Path
    clips: tuple[Utterance, ...]
    skipped: list[str] = field(default_factory=list)

    read = Corpus.read

    @property
    def groups(self) -> dict[str, list[Utterance]]:
        """Clips by group, such as the positions in one room or the parts of one recording."""
        found = defaultdict(list)
        for clip in self.clips:
            found[clip.group].append(clip)
        return dict(found)

    def split(self, valid_share: float, test_share: float, seed: int) -> dict[str, "Clips"]:
        """Split into lists that have no group in common, and at least one group each; see :meth:`Corpus.split`."""
        groups = dict.fromkeys((clip.group, clip.split) for clip in self.clips)
        sides = _deal(groups, valid_share, test_share, seed, least=1, what=f"recordings or rooms in {self.root}")
        return {side: replace(self, clips=tuple(clip for clip in self.clips if clip.group in groups)) for side, groups in sides.items()}


def _deal(
    members: Iterable[tuple[str, str]], valid_share: float, test_share: float, seed: int, least: int, what: str
) -> dict[str, set[str]]:
    """Deal whole groups to "train", "valid" and "test". The latter two get at least their shares, as far as the groups allow.
    ``members``: the group of each member, and its side if that is fixed, else "". Every side gets at least ``least`` members."""
    sizes, fixed = Counter[str](), dict[str, str]()
    for group, side in members:
        sizes[group] += 1
        if side and fixed.setdefault(group, side) != side:
            raise CorpusError(f"group {group} has members in {fixed[group]} and in {side}, expected one split per group")
    names = sorted(name for name in sizes if name not in fixed)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    total = sum(sizes[name] for name in names)
    sides: dict[str, set[str]] = {side: {name for name in fixed if fixed[name] == side} for side in SIDES}
    for side, share in (("test", test_share), ("valid", valid_share)):
        wanted = max(least - sum(sizes[name] for name in sides[side]), round(share * total))
        while order and wanted > 0:
            sides[side].add(order[-1])
            wanted -= sizes[order.pop()]
    sides["train"] |= set(order)
    counts = {side: sum(sizes[name] for name in groups) for side, groups in sides.items()}
    if min(counts.values()) < least:
        said = ", ".join(f"{side} {count}" for side, count in counts.items()) + "; hifitse prepare reads other layouts of folders"
        raise CorpusError(f"there are {sum(sizes.values())} {what} in {len(sizes)} groups, expected {least} or more per side, got {said}")
    return sides


def load_corpus(source: str | Path) -> Corpus:
    """Load a corpus from a manifest, or from a folder of ``speaker/utterance.{wav,flac,mp3,m4a ...}``.

    A folder that contains ``manifest.jsonl`` or ``manifest.jsonl.gz`` is loaded from that manifest. ``hifitse/prepare/README.md``
    describes the format. A manifest of more than 64 MB, or 16 MB compressed, is sorted into an index in the cache on the first call.
    Unreadable lines, missing, broken or very short files, paths that leave the root or are listed twice, and speakers with only one
    utterance (none would be left for the enrolment) or with several groups or splits are left out and noted in ``skipped``.
    Raise CorpusError if the source does not exist or has no usable speaker."""
    path = locate(source, "corpus")
    manifest = manifest_of(path)
    large = manifest and manifest.stat().st_size * (4 if manifest.suffix == ".gz" else 1) > INDEXED_BYTES
    root, found = listed(path, "speech", skipped := [], MIN_SAMPLES, once=not large)
    if large:
        corpus = Corpus(root, *indexed(manifest, root, found, skipped))
    else:
        speakers: dict[str, list[Utterance]] = {}
        for utterance in found:
            speakers.setdefault(utterance.speaker, []).append(utterance)
        for name, said in list(speakers.items()):
            if reason := unfit(len(said), len({each.group for each in said}), len({each.split for each in said})):
                skipped.append(f"speaker {name}: {reason}")
                del speakers[name]
        ordered = {name: tuple(sorted(speakers[name], key=lambda said: (said.utterance, said.path))) for name in sorted(speakers)}
        corpus = Corpus(root, ordered, skipped)
    if not corpus.speakers:
        first = f", the first of {len(corpus.skipped)} reasons: {corpus.skipped[0]}" if corpus.skipped else ""
        raise CorpusError(f"corpus {path} has no usable speaker{first}; expected a folder of speaker/utterance.flac or a JSONL manifest")
    return corpus


def load_clips(source: str | Path, kind: Kind = "noise") -> Clips:
    """Load the noises or room responses below a folder or from a manifest, grouped by name as in :func:`group_of`.
    If this gives fewer than three groups, as for names that only count (``rir001``, ``rir002``), each file is its own group.
    Manifests are as in :func:`load_corpus`, without ``speaker`` and ``utterance``; a ``group`` there takes precedence over the name.
    Room responses may be short. Raise CorpusError if there is no such folder or manifest, or no usable file in it."""
    path = locate(source, kind)
    if not path.is_dir() and not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise CorpusError(f"{kind} is {str(source)!r}, which is a file, expected a folder of recordings or a JSONL manifest of them")
    root, found = listed(path, kind, skipped := [], 1 if kind == "rooms" else MIN_SAMPLES, partial(group_of, kind=kind))
    clips = sorted(found, key=lambda clip: Path(clip.path))
    if not clips:
        raise CorpusError(f"{kind} source {path} has no usable audio file ({len(skipped)} were skipped), expected a folder of recordings")
    if len({clip.group for clip in clips}) < 3:
        clips = [replace(clip, group=clip.path) for clip in clips]
    return Clips(root, tuple(clips), skipped)


def group_of(path: str, kind: Kind) -> str:
    """Return the group of a noise or room response by its path; files in different folders are never in one group.

    A room's name ends in its position: ``hall_2``, ``ChurchPosition3`` and ``church12`` belong to the groups ``hall``, ``Church`` and
    ``church``. A noise is its own group, unless its name ends like those of ESC-10 and ESC-50 (``rain_1-21189-A``, ``1-21189-A-10``):
    their second number identifies the Freesound recording from which several clips were cut.

    >>> group_of("x/StPatricksChurchPosition2.wav", "rooms"), group_of("rain_1-21189-A.wav", "noise")
    ('x/StPatricksChurch', 'freesound-21189')
    """
    folder, name = Path(path).parent, Path(path).stem
    if kind == "rooms":
        name = re.sub(r"[_-]?(?:Position|position|pos)?[_-]?\d+$", "", name)
    elif match := re.search(r"\d-(\d+)-[A-Z](?:-\d+)?$", name):
        name = f"freesound-{match[1]}"
    return (folder / name).as_posix()


def merged(corpora: Sequence[Corpus]) -> Corpus:
    """Merge corpora into one, whose root is that of the file system. Raise CorpusError if two have a speaker of the same name."""
    if len(corpora) == 1:
        return corpora[0]
    speakers: dict[str, Sequence[Utterance]] = {}
    for corpus in corpora:
        for name, said in corpus.speakers.items():
            if name in speakers:
                raise CorpusError(f"speaker {name} is in two of the corpora, expected names that differ")
            speakers[name] = tuple(replace(each, path=_from_top(corpus.root, each)) for each in said)
    return Corpus(Path("/"), {name: speakers[name] for name in sorted(speakers)}, [line for each in corpora for line in each.skipped])


def merged_clips(lists: Sequence[Clips]) -> Clips:
    """Merge lists into one, whose root is that of the file system; different lists have no group in common.
    Groups are named by the list's place, not its folder, so that the split is the same on every machine."""
    if len(lists) == 1:
        return lists[0]
    made_first = sorted(range(len(lists)), key=lambda place: (lists[place].root.parent != Path(os.path.abspath(cache_dir())), place))
    clips = [
        replace(clip, path=_from_top(each.root, clip), group=f"{made_first.index(place)}/{clip.group}")
        for place, each in enumerate(lists) for clip in each.clips
    ]  # fmt: skip
    return Clips(Path("/"), tuple(clips), [line for each in lists for line in each.skipped])


def _from_top(root: Path, each: Utterance) -> str:
    return str(Path(os.path.abspath(root)).relative_to("/") / each.path)


# ---- large corpora: an SQLite file in the cache, sorted by speaker and name, so that a speaker is a range of row numbers


def unfit(utterances: int, groups: int, splits: int) -> str:
    """Return why a speaker with this many utterances, groups and splits cannot be used; empty if they can."""
    if utterances < 2:
        return "only one utterance, two are needed"
    return "utterances in different groups" if groups > 1 else "utterances in different splits" if splits > 1 else ""


def _opened(path: Path) -> sqlite3.Connection:
    """Open the index for reading. It never changes and so needs no lock, which some network file systems do not have."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


_kept_open = lru_cache(16)(lambda path, process: _opened(path))  # per process: a fork must not share the connection


def _rows(path: Path, file: sqlite3.Connection, query: str, *values: int) -> list[list[str | int]]:
    try:
        rows = file.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise CorpusError(f"index {path.parent} is damaged ({error}); remove it, and the next call makes it again") from None
    return [[value.decode(errors="surrogatepass") if isinstance(value, bytes) else value for value in row] for row in rows]


@dataclass(frozen=True, slots=True)
class Said(Sequence[Utterance]):
    """The utterances of one speaker, rows of an index, each read on access. Raises CorpusError if the index has been damaged."""

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
    """Return the utterances by speaker and why others were left out, both from an index in the cache; order and rules as in memory.
    The key of the index is the manifest's path, size, modification time and root, and the folders that links may lead to. The utterances
    ``found`` are iterated over, which fills ``skipped``, only if there is no index yet."""
    state = manifest.stat()
    key = json.dumps([str(manifest), str(root), state.st_size, state.st_mtime_ns, allowed_roots()])
    name = f"index-v{INDEX_VERSION}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    path = made_once(name, partial(_make, found, skipped)) / INDEX
    with closing(_opened(path)) as file:
        spans = _rows(path, file, "SELECT name, first, count FROM speaker ORDER BY first")
        reasons = [text for [text] in _rows(path, file, "SELECT text FROM reason")]
    return {name: Said(path, first, count) for name, first, count in spans}, reasons


def _make(found: Iterable[Utterance], skipped: list[str], folder: Path) -> None:
    """Store lines as they come, then sort them and drop paths that are listed twice."""
    def packed(values: Iterable[str | int]) -> list[bytes | int]:
        return [value.encode(errors="surrogatepass") if isinstance(value, str) else value for value in values]

    try:
        with closing(sqlite3.connect(folder / INDEX, isolation_level=None)) as file:
            file.executescript(f"""
                PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;
                CREATE TEMP TABLE line ({COLUMNS});
                CREATE TABLE said ({COLUMNS});
                CREATE TABLE speaker (name, first INTEGER, count INTEGER);
                CREATE TABLE reason (text);
            """)
            file.executemany("INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (packed(astuple(said)) for said in found))
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
            file.executemany("INSERT INTO reason VALUES (?)", (packed([text]) for text in (*skipped[:REASONS], *more)))
            file.execute("COMMIT")
    except sqlite3.Error as error:  # such as a full disk; made_once handles it
        raise OSError(str(error)) from error
