"""Speech corpora: which speaker said which utterance, where it lies, and who is held out.

A corpus is a list of names and lengths; audio is read by random access when it is asked for, never kept.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hifitse import HifitseError, audio
from hifitse.data.index import INDEXED_BYTES, indexed
from hifitse.data.manifest import MIN_SAMPLES, CorpusError, from_manifest, locate, manifest_of, manifest_root
from hifitse.data.utterance import Utterance

__all__ = ["Corpus", "CorpusError", "Utterance", "audio_files", "load_corpus", "probe", "split_groups"]

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
"""File names that count as audio, in lower case."""

TEXTS = ("speaker", "utterance", "path")
"""Fields of a speech manifest that are text."""


@dataclass(frozen=True)
class Corpus:
    """Speakers and their utterances under one root folder.

    Attributes:
        root: folder that all paths are relative to.
        speakers: utterances by speaker, at least two each; both in the order of their names. Those of a large manifest stay on disk.
        skipped: one sentence for each file, line or speaker that was left out.
    """

    root: Path
    speakers: dict[str, Sequence[Utterance]]
    skipped: list[str] = field(default_factory=list)

    def read(self, utterance: Utterance, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Samples ``start`` to ``start + samples`` of an utterance, (T,) float32 at 48 kHz; see :func:`hifitse.audio.read`."""
        return audio.read(self.root / utterance.path, start, samples)

    def split(self, valid_share: float, test_share: float, seed: int, train_only: Sequence[str] = ()) -> dict[str, "Corpus"]:
        """Three corpora without a common speaker or group, by the names "train", "valid", "test".

        Args:
            valid_share, test_share: shares of the speakers, 0 to 1; at least two speakers go to every side.
            seed: seed of the draw.
            train_only: beginnings of the names of speakers that are not held out; the shares are of all others.

        Raises:
            CorpusError: too few speakers or groups.
        """
        sizes: dict[str, int] = {}
        kept = {said[0].group for name, said in self.speakers.items() if name.startswith(tuple(train_only))} if train_only else set()
        for utterances in self.speakers.values():
            if utterances[0].group in kept:
                continue
            sizes[utterances[0].group] = sizes.get(utterances[0].group, 0) + 1
        sides = split_groups(sizes, valid_share, test_share, seed, least=2, what=f"speakers in {self.root}")
        sides["train"] |= kept
        return {
            side: Corpus(self.root, {name: said for name, said in self.speakers.items() if said[0].group in groups}, self.skipped)
            for side, groups in sides.items()
        }


def split_groups(sizes: dict[str, int], valid_share: float, test_share: float, seed: int, least: int, what: str) -> dict[str, set[str]]:
    """Deal whole groups to "train", "valid" and "test".

    Args:
        sizes: members of each group.
        valid_share, test_share: shares of all members that the held-out sides reach at least, as far as whole groups allow.
        seed: seed of the draw.
        least: members that every side needs.
        what: the members in words, for the error.

    Raises:
        CorpusError: a side would have fewer than ``least`` members.
    """
    names = sorted(sizes)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    total = sum(sizes.values())
    sides: dict[str, set[str]] = {"train": set(), "valid": set(), "test": set()}
    for side, share in (("test", test_share), ("valid", valid_share)):
        wanted = max(least, round(share * total))
        while order and sum(sizes[name] for name in sides[side]) < wanted:
            sides[side].add(order.pop())
    sides["train"] = set(order)
    counts = {side: sum(sizes[name] for name in groups) for side, groups in sides.items()}
    if min(counts.values()) < least:
        dealt = ", ".join(f"{side} {count}" for side, count in counts.items())
        raise CorpusError(
            f"there are {total} {what} in {len(names)} groups, dealt as {dealt}, needed are {least} or more in train, valid and test"
        )
    return sides


def load_corpus(source: str | Path) -> Corpus:
    """List a corpus from a manifest, or from a folder of ``speaker/utterance.{wav,flac,ogg,mp3}``.

    A folder that holds ``manifest.jsonl`` or ``manifest.jsonl.gz`` is read from it. A manifest has one JSON object a line:
    ``speaker``, ``utterance``, ``path`` (relative to the root, and inside it: the manifest's folder, or the one that its first line names
    as ``{"root": "..."}``; :mod:`hifitse.data.manifest` says what is allowed outside of the manifest's folder), ``samples`` and
    ``sample_rate`` (both the file's own) and optionally ``group`` (speakers of one group are held out together; default the speaker).
    Other fields are not read.
    An unreadable line, a missing, broken or very short file, a path or link that leaves the folder, a path listed twice, and a speaker with
    only one utterance (none would be left for the enrolment) are left out and counted in ``skipped``.

    A manifest of more than 64 MB is sorted into an index in the cache at the first call (see :mod:`hifitse.data.index`), and one that was
    packed counts as four times as long. Of its left-out lines the first 1,000 reasons are kept.

    Args:
        source: folder or manifest; ``~`` and environment variables are expanded.

    Raises:
        CorpusError: nothing there, or nothing usable left.
    """
    path = locate(source, "corpus")
    skipped: list[str] = []
    manifest = manifest_of(path)
    root = manifest_root(manifest) if manifest else path
    if manifest and manifest.stat().st_size * (4 if manifest.suffix == ".gz" else 1) > INDEXED_BYTES:
        found = from_manifest(manifest, root, skipped, _utterance, TEXTS, once=False)
        return _checked(Corpus(root, indexed(manifest, root, found, skipped), skipped), path)
    found = from_manifest(manifest, root, skipped, _utterance, TEXTS) if manifest else _from_folder(root, skipped)
    speakers: dict[str, list[Utterance]] = {}
    for utterance in found:
        speakers.setdefault(utterance.speaker, []).append(utterance)
    for name in [name for name, said in speakers.items() if len(said) < 2]:
        skipped.append(f"speaker {name}: only one utterance, two are needed")
        del speakers[name]
    _checked(Corpus(root, speakers, skipped), path)
    ordered = {name: tuple(sorted(speakers[name], key=lambda said: (said.utterance, said.path))) for name in sorted(speakers)}
    return Corpus(root, _one_group(ordered, skipped), skipped)


def _checked(corpus: Corpus, path: Path) -> Corpus:
    """The corpus, if it has a speaker."""
    if not corpus.speakers:
        first = f", the first of {len(corpus.skipped)} reasons: {corpus.skipped[0]}" if corpus.skipped else ""
        raise CorpusError(f"corpus {path} has no usable speaker{first}; allowed is a folder of speaker/utterance.flac or a JSONL manifest")
    return corpus


def _one_group(speakers: dict[str, tuple[Utterance, ...]], skipped: list[str]) -> dict[str, tuple[Utterance, ...]]:
    """Leave out speakers whose utterances name different groups: they could not be held out."""
    good = {name: said for name, said in speakers.items() if len({utterance.group for utterance in said}) == 1}
    skipped.extend(f"speaker {name}: utterances in different groups" for name in speakers if name not in good)
    if not good:
        raise CorpusError(f"corpus has no usable speaker: {skipped[-1]}, allowed is one group for each speaker")
    return good


def merged(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one, whose root is that of the file system.

    Raises:
        CorpusError: two of them have a speaker of the same name.
    """
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
    except HifitseError as error:
        skipped.append(f"{name}: {error}")
        return None
    if info.samples < least:
        skipped.append(f"{name}: {info.samples} samples at 48 kHz, needed are {least}")
        return None
    return info


def _from_folder(root: Path, skipped: list[str]) -> Iterator[Utterance]:
    """Utterances of a folder of speaker folders; deeper folders belong to the utterance's name."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in audio_files(folder):
            name = path.relative_to(root).as_posix()
            if info := probe(path, name, skipped):
                utterance = path.relative_to(folder).with_suffix("").as_posix()
                yield Utterance(folder.name, utterance, name, info.samples, folder.name, info.sample_rate)


def _utterance(entry: dict, path: str, samples: int) -> Utterance:
    group = entry.get("group", entry["speaker"])
    if not isinstance(group, str):
        raise ValueError(f"group is {group!r}, allowed is text")
    return Utterance(entry["speaker"], entry["utterance"], path, samples, group, entry["sample_rate"])
