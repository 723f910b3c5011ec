"""Speech corpora: which speaker said which utterance, where it lies, and who is held out.

A corpus is a list of names and lengths; audio is read by random access when it is asked for, never kept.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hifitse import HifitseError, audio
from hifitse.data.index import INDEXED_BYTES, Reasons, indexed, unfit
from hifitse.data.manifest import MIN_SAMPLES, CorpusError, Utterance, from_manifest, locate, manifest_of, manifest_root
from hifitse.decode import SUFFIXES

__all__ = ["Corpus", "CorpusError", "Utterance", "audio_files", "load_corpus", "merged"]
TEXTS = ("speaker", "utterance", "path")
SIDES = ("train", "valid", "test")


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
        sides = split_groups(members, valid_share, test_share, seed, least=2, what=f"speakers in {self.root}")
        return {
            side: Corpus(self.root, {name: said for name, said in self.speakers.items() if firsts[name].group in groups}, self.skipped)
            for side, groups in sides.items()
        }


def split_groups(
    members: Iterable[tuple[str, str]], valid_share: float, test_share: float, seed: int, least: int, what: str
) -> dict[str, set[str]]:
    """Deal whole groups to "train", "valid" and "test".

    Args:
        members: of each its group and, where that is not dealt, the side on which it stands; else an empty text.
        valid_share, test_share: shares of all members dealt that the held-out sides reach at least, as far as whole groups allow.
        least: members that every side needs; CorpusError where it would have fewer.
        what: the members in words, for the error.
    """
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
    CorpusError where nothing is there, or nothing usable left.
    """
    path = locate(source, "corpus")
    manifest = manifest_of(path)
    root = manifest_root(manifest) if manifest else path
    if manifest and manifest.stat().st_size * (4 if manifest.suffix == ".gz" else 1) > INDEXED_BYTES:
        found = from_manifest(manifest, root, reasons := Reasons(), _utterance, TEXTS, once=False)
        corpus = Corpus(root, *indexed(manifest, root, found, reasons))
    else:
        found = from_manifest(manifest, root, skipped := [], _utterance, TEXTS) if manifest else _from_folder(root, skipped := [])
        corpus = _in_memory(root, found, skipped)
    if not corpus.speakers:
        first = f", the first of {len(corpus.skipped)} reasons: {corpus.skipped[0]}" if corpus.skipped else ""
        raise CorpusError(f"corpus {path} has no usable speaker{first}; expected a folder of speaker/utterance.flac or a JSONL manifest")
    return corpus


def _in_memory(root: Path, found: Iterator[Utterance], skipped: list[str]) -> Corpus:
    speakers: dict[str, list[Utterance]] = {}
    for utterance in found:
        speakers.setdefault(utterance.speaker, []).append(utterance)
    for name, said in list(speakers.items()):
        if reason := unfit(len(said), len({each.group for each in said}), len({each.split for each in said})):
            skipped.append(f"speaker {name}: {reason}")
            del speakers[name]
    ordered = {name: tuple(sorted(speakers[name], key=lambda said: (said.utterance, said.path))) for name in sorted(speakers)}
    return Corpus(root, ordered, skipped)


def merged(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one, whose root is that of the file system; CorpusError where two have a speaker of the same name."""
    if len(corpora) == 1:
        return corpora[0]
    speakers: dict[str, Sequence[Utterance]] = {}
    for corpus in corpora:
        root = Path(os.path.abspath(corpus.root)).relative_to("/")
        for name, said in corpus.speakers.items():
            if name in speakers:
                raise CorpusError(f"speaker {name} is in two of the corpora, expected names that differ")
            speakers[name] = tuple(replace(each, path=str(root / each.path)) for each in said)
    return Corpus(Path("/"), {name: speakers[name] for name in sorted(speakers)}, [line for each in corpora for line in each.skipped])


def audio_files(folder: Path) -> Iterator[Path]:
    """Audio files below a folder by name, hidden ones left out; in sorted order, so that it is the same on every machine."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def probe(path: Path, name: str, skipped: list[str], least: int = MIN_SAMPLES) -> audio.AudioInfo | None:
    """A file's header; ``None`` with a reason in ``skipped`` where it is broken or has fewer than ``least`` samples at 48 kHz."""
    try:
        info = audio.info(path)
        if info.samples >= least:
            return info
        skipped.append(f"{name}: {info.samples} samples at 48 kHz, expected at least {least}")
    except HifitseError as error:
        skipped.append(f"{name}: {error}")
    return None


def _from_folder(root: Path, skipped: list[str]) -> Iterator[Utterance]:
    """Utterances of a folder of speaker folders; deeper folders belong to the utterance's name."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in audio_files(folder):
            name = path.relative_to(root).as_posix()
            if info := probe(path, name, skipped):
                utterance = path.relative_to(folder).with_suffix("").as_posix()
                yield Utterance(folder.name, utterance, name, info.samples, folder.name, info.sample_rate)


def optional(entry: dict, group: str) -> dict[str, str]:
    """Fields of a manifest's line that it need not have, by default of this group; raises ValueError where one is not as expected."""
    given = {name: entry.get(name, default) for name, default in (("group", group), ("source", ""), ("split", ""))}
    for name, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}, expected text")
    if given["split"] not in ("", *SIDES):
        raise ValueError(f"split is {given['split']!r}, expected one of {', '.join(SIDES)}")
    return given


def _utterance(entry: dict, path: str, samples: int) -> Utterance:
    given = optional(entry, entry["speaker"])
    return Utterance(entry["speaker"], entry["utterance"], path, samples, sample_rate=entry["sample_rate"], **given)
