"""Noise recordings and room responses: lists of files that are held out in groups."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from hifitse import audio
from hifitse.data.corpus import audio_files, optional, probe, split_groups
from hifitse.data.manifest import MIN_SAMPLES, CorpusError, from_manifest, locate, manifest_of, manifest_root
from hifitse.files import cache_dir

Kind = Literal["noise", "room"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One file; ``path`` is relative to the root, ``samples`` counts at 48 kHz, ``group`` is held out as a whole, on the side ``split``."""

    path: str
    samples: int
    group: str
    split: str = ""


@dataclass(frozen=True)
class Clips:
    """Noise recordings or room responses under one root, in the order of their names; ``skipped`` as of a corpus."""

    root: Path
    clips: tuple[Clip, ...]
    skipped: list[str] = field(default_factory=list)

    @property
    def groups(self) -> dict[str, tuple[Clip, ...]]:
        """Clips by group: the positions in one room, the parts of one recording."""
        found: dict[str, tuple[Clip, ...]] = {}
        for clip in self.clips:
            found[clip.group] = (*found.get(clip.group, ()), clip)
        return found

    def read(self, clip: Clip, start: int = 0, samples: int | None = None) -> np.ndarray:
        """A stretch of a clip, (T,) float32 at 48 kHz; see :func:`hifitse.audio.read`."""
        return audio.read(self.root / clip.path, start, samples)

    def split(self, valid_share: float, test_share: float, seed: int) -> dict[str, "Clips"]:
        """Lists without a common group, as :meth:`hifitse.data.corpus.Corpus.split` has them, with one group at least in each."""
        groups = dict.fromkeys((clip.group, clip.split) for clip in self.clips)
        sides = split_groups(groups, valid_share, test_share, seed, least=1, what=f"recordings or rooms in {self.root}")
        return {
            side: Clips(self.root, tuple(clip for clip in self.clips if clip.group in groups), self.skipped)
            for side, groups in sides.items()
        }


def group_of(name: str, kind: Kind) -> str:
    """The part of a file's name, without suffix, that its held-out group shares.

    A room's name ends in its position: ``hall_2``, ``ChurchPosition3`` and ``church12`` are the groups ``hall``, ``Church`` and
    ``church``. A noise's name is its own group, unless it ends like the clips of ESC-10 and ESC-50 (``rain_1-21189-A``, ``1-21189-A-10``),
    where the second number is that of the Freesound recording that several clips were cut from.

    >>> group_of("StPatricksChurchPosition2", "room"), group_of("rain_1-21189-A", "noise")
    ('StPatricksChurch', 'freesound-21189')
    """
    if kind == "room":
        return re.sub(r"[_-]?(?:Position|position|pos)?[_-]?\d+$", "", name)
    match = re.search(r"\d-(\d+)-[A-Z](?:-\d+)?$", name)
    return f"freesound-{match[1]}" if match else name


def load_clips(source: str | Path, kind: Kind = "noise") -> Clips:
    """List the audio files below a folder, or of a manifest, in groups by name as :func:`group_of` says.

    Where names only count (``rir001``, ``rir002``) so that fewer than three groups result, each file is its own group.
    A manifest is as in :func:`hifitse.data.corpus.load_corpus`, without ``speaker`` and ``utterance``; its ``group`` goes before a name's.
    A response may be short. CorpusError for no such folder or manifest, or no usable file in it.
    """
    path = locate(source, kind)
    if not path.is_dir() and not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise CorpusError(f"{kind} is {str(source)!r}, which is a file, expected a folder of recordings or a JSONL manifest of them")
    skipped: list[str] = []
    least = 1 if kind == "room" else MIN_SAMPLES
    if manifest := manifest_of(path):
        root = manifest_root(manifest)
        found = from_manifest(manifest, root, skipped, partial(_listed, kind=kind), least=least)
        clips = sorted(found, key=lambda clip: Path(clip.path))
    else:
        root = path
        names = [each.relative_to(root) for each in audio_files(root)]
        found = [(name, probe(root / name, name.as_posix(), skipped, least)) for name in names]
        clips = [Clip(name.as_posix(), info.samples, _group(name, kind)) for name, info in found if info]
    if not clips:
        raise CorpusError(f"{kind} source {path} has no usable audio file ({len(skipped)} were skipped), expected a folder of recordings")
    if len({clip.group for clip in clips}) < 3:
        clips = [replace(clip, group=clip.path) for clip in clips]
    return Clips(root, tuple(clips), skipped)


def merged_clips(lists: Sequence[Clips]) -> Clips:
    """Several lists as one, whose root is that of the file system; groups of different lists are different.

    They are named by the list's place, not its folder, so that the split is the same on every machine.
    """
    if len(lists) == 1:
        return lists[0]
    made_first = sorted(range(len(lists)), key=lambda place: (lists[place].root.parent != cache_dir(), place))
    clips = []
    for place, each in enumerate(lists):
        root = Path(os.path.abspath(each.root)).relative_to("/")
        clips += [replace(clip, path=str(root / clip.path), group=f"{made_first.index(place)}/{clip.group}") for clip in each.clips]
    return Clips(Path("/"), tuple(clips), [line for each in lists for line in each.skipped])


def _group(name: Path, kind: Kind) -> str:
    """The group of a file by its path relative to the root: files in different folders have none in common."""
    group = group_of(name.stem, kind)
    return (name.parent / group).as_posix() if group else name.parent.as_posix()


def _listed(entry: dict, path: str, samples: int, kind: Kind) -> Clip:
    """The clip of a manifest's line."""
    given = optional(entry, _group(Path(path), kind))
    return Clip(path, samples, given["group"], given["split"])
