"""What a source holds: speakers and their utterances, or noises and room responses in groups; and who is held out.

All are lists of names and lengths; audio is read by random access when it is asked for, never kept.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.index import INDEXED_BYTES, indexed, unfit
from hifitse.data.manifest import SIDES, CorpusError, Kind, Utterance, audio_files, from_manifest, locate, manifest_of, root_of
from hifitse.files import cache_dir

MIN_SAMPLES = SAMPLE_RATE // 10  # shorter recordings are skipped, but for room responses


@dataclass(frozen=True)
class Corpus:
    """Speakers and their utterances, at least two each, under one root folder; both in the order of their names.
    Those of a large manifest stay on disk. ``skipped`` has one sentence for each file, line or speaker that was left out.
    """

    root: Path
    speakers: dict[str, Sequence[Utterance]]
    skipped: list[str] = field(default_factory=list)

    def read(self, utterance: Utterance, start: int = 0, samples: int | None = None) -> np.ndarray:
        """A stretch of an utterance, (T,) float32 at 48 kHz; see :func:`hifitse.audio.read`."""
        return audio.read(self.root / utterance.path, start, samples)

    def split(self, valid_share: float, test_share: float, seed: int, train_only: Sequence[str] = ()) -> dict[str, "Corpus"]:
        """Three corpora without a common speaker or group, by the names "train", "valid", "test"; two speakers at least in each.
        A speaker with a ``split`` of its own goes there, and one whose name begins as ``train_only`` says to the training, both with their
        whole groups; the shares, 0 to 1, are of all others. CorpusError for too few speakers or groups, or a group of two splits.
        """
        firsts, kept = {name: said[0] for name, said in self.speakers.items()}, tuple(train_only)
        members = [(first.group, "train" if name.startswith(kept) else first.split) for name, first in firsts.items()]
        sides = _deal(members, valid_share, test_share, seed, least=2, what=f"speakers in {self.root}")
        return {
            side: replace(self, speakers={name: said for name, said in self.speakers.items() if firsts[name].group in groups})
            for side, groups in sides.items()
        }


@dataclass(frozen=True)
class Clips:
    """Noise recordings or room responses under one root, in the order of their names; ``skipped`` as of a corpus."""

    root: Path
    clips: tuple[Utterance, ...]
    skipped: list[str] = field(default_factory=list)

    read = Corpus.read

    @property
    def groups(self) -> dict[str, tuple[Utterance, ...]]:
        """Clips by group: the positions in one room, the parts of one recording."""
        found: dict[str, tuple[Utterance, ...]] = {}
        for clip in self.clips:
            found[clip.group] = (*found.get(clip.group, ()), clip)
        return found

    def split(self, valid_share: float, test_share: float, seed: int) -> dict[str, "Clips"]:
        """Lists without a common group, as :meth:`Corpus.split` has them, with one group at least in each."""
        groups = dict.fromkeys((clip.group, clip.split) for clip in self.clips)
        sides = _deal(groups, valid_share, test_share, seed, least=1, what=f"recordings or rooms in {self.root}")
        return {side: replace(self, clips=tuple(clip for clip in self.clips if clip.group in groups)) for side, groups in sides.items()}


def _deal(
    members: Iterable[tuple[str, str]], valid_share: float, test_share: float, seed: int, least: int, what: str
) -> dict[str, set[str]]:
    """Deal whole groups to "train", "valid" and "test".

    Args:
        members: of each its group and, where that is not dealt, the side on which it stands; else an empty text.
        valid_share, test_share: shares of all members dealt that the held-out sides reach at least, as far as whole groups allow.
        least: members that every side needs; CorpusError where it would have fewer.
        what: the members in words, for the error."""
    sizes, fixed = Counter[str](), dict[str, str]()
    for group, side in members:
        sizes[group] += 1
        if side and fixed.setdefault(group, side) != side:
            raise CorpusError(f"group {group} stands for both {fixed[group]} and {side}, expected one split for a group")
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
        said = ", ".join(f"{side} {count}" for side, count in counts.items())
        raise CorpusError(f"there are {sum(sizes.values())} {what} in {len(sizes)} groups, expected {least} or more per side, got {said}")
    return sides


def load_corpus(source: str | Path) -> Corpus:
    """List a corpus from a manifest, or from a folder of ``speaker/utterance.{wav,flac,mp3,m4a ...}``.

    A folder that holds ``manifest.jsonl`` or ``manifest.jsonl.gz`` is read from it. A manifest has one JSON object a line:
    ``speaker``, ``utterance``, ``path`` (of a file, or ``call.wav/1`` for its second channel), ``samples`` and ``sample_rate`` (both
    the file's own). Optional: ``group`` (speakers of one group are held out together; default the speaker), ``split`` ("train", "valid"
    or "test": where its speaker goes; default drawn) and ``source`` (whose recordings are alike; default the speaker's name up to the
    first ``_``). Paths are relative to the root; :mod:`hifitse.data.manifest` says which that may be.
    An unreadable line, a missing, broken or very short file, a path that leaves the root or is listed twice, and a speaker with
    only one utterance (none would be left for the enrolment) are left out and counted in ``skipped``.

    A manifest of more than 64 MB, or 16 MB packed, is sorted into an index in the cache at the first call.
    CorpusError where nothing is there, or nothing usable left."""
    path = locate(source, "corpus")
    manifest = manifest_of(path)
    large = manifest and manifest.stat().st_size * (4 if manifest.suffix == ".gz" else 1) > INDEXED_BYTES
    root, found = _listed(path, "speech", skipped := [], once=not large)
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
    """List the noises or room responses below a folder, or of a manifest, in groups by name as :func:`group_of` says.
    Where names only count (``rir001``, ``rir002``) so that fewer than three groups result, each file is its own group.
    A manifest is as in :func:`load_corpus`, without ``speaker`` and ``utterance``; its ``group`` goes before a name's.
    A response may be short. CorpusError for no such folder or manifest, or no usable file in it."""
    path = locate(source, kind)
    if not path.is_dir() and not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise CorpusError(f"{kind} is {str(source)!r}, which is a file, expected a folder of recordings or a JSONL manifest of them")
    root, found = _listed(path, kind, skipped := [])
    clips = sorted(found, key=lambda clip: Path(clip.path))
    if not clips:
        raise CorpusError(f"{kind} source {path} has no usable audio file ({len(skipped)} were skipped), expected a folder of recordings")
    if len({clip.group for clip in clips}) < 3:
        clips = [replace(clip, group=clip.path) for clip in clips]
    return Clips(root, tuple(clips), skipped)


def _listed(path: Path, kind: Kind, skipped: list[str], once: bool = True) -> tuple[Path, Iterator[Utterance]]:
    """The root of a manifest or folder, and its recordings in any order."""
    group, least = partial(_group, kind=kind), 1 if kind == "rooms" else MIN_SAMPLES
    if manifest := manifest_of(path):
        root = root_of(manifest)
        return root, from_manifest(manifest, root, skipped, kind, least, group, once)

    def probed() -> Iterator[Utterance]:
        for file in audio_files(path):
            name = file.relative_to(path)
            speaker, said = name.parts[0] if kind == "speech" else "", ""
            if speaker:  # a folder; deeper ones belong to the utterance's name
                said = Path(*name.parts[1:]).with_suffix("").as_posix() if len(name.parts) > 1 else ""
                if not said or speaker.startswith("."):
                    continue
            try:
                info = audio.info(file)
            except HifitseError as error:
                skipped.append(f"{name.as_posix()}: {error}")
                continue
            if info.samples >= least:
                yield Utterance(speaker, said, name.as_posix(), info.samples, speaker or group(name.as_posix()), info.sample_rate)
            else:
                skipped.append(f"{name.as_posix()}: {info.samples} samples at 48 kHz, expected at least {least}")

    return path, probed()


def group_of(name: str, kind: Kind) -> str:
    """The part of a file's name, without suffix, that its held-out group shares.

    A room's name ends in its position: ``hall_2``, ``ChurchPosition3`` and ``church12`` are the groups ``hall``, ``Church`` and
    ``church``. A noise's name is its own group, unless it ends like the clips of ESC-10 and ESC-50 (``rain_1-21189-A``, ``1-21189-A-10``),
    where the second number is that of the Freesound recording that several clips were cut from.

    >>> group_of("StPatricksChurchPosition2", "rooms"), group_of("rain_1-21189-A", "noise")
    ('StPatricksChurch', 'freesound-21189')
    """
    if kind == "rooms":
        return re.sub(r"[_-]?(?:Position|position|pos)?[_-]?\d+$", "", name)
    match = re.search(r"\d-(\d+)-[A-Z](?:-\d+)?$", name)
    return f"freesound-{match[1]}" if match else name


def _group(path: str, kind: Kind) -> str:
    """The group of a file by its path relative to the root: files in different folders have none in common."""
    name = Path(path)
    group = group_of(name.stem, kind)
    return (name.parent / group).as_posix() if group else name.parent.as_posix()


def merged(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one, whose root is that of the file system; CorpusError where two have a speaker of the same name."""
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
    """Several lists as one, whose root is that of the file system; groups of different lists are different.
    They are named by the list's place, not its folder, so that the split is the same on every machine."""
    if len(lists) == 1:
        return lists[0]
    made_first = sorted(range(len(lists)), key=lambda place: (lists[place].root.parent != cache_dir(), place))
    clips = [
        replace(clip, path=_from_top(each.root, clip), group=f"{made_first.index(place)}/{clip.group}")
        for place, each in enumerate(lists) for clip in each.clips
    ]  # fmt: skip
    return Clips(Path("/"), tuple(clips), [line for each in lists for line in each.skipped])


def _from_top(root: Path, each: Utterance) -> str:
    return str(Path(os.path.abspath(root)).relative_to("/") / each.path)
