"""Corpus layouts: assign files to speakers and utterances by their paths or by Lhotse manifests, without opening any audio."""

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifitse import HifitseError
from hifitse.data.manifest import CorpusError, Kind, opened
from hifitse.decode import SUFFIXES
from hifitse.prepare.recording import KINDS


@dataclass(frozen=True, slots=True)
class Item:
    """A file: ``path`` relative to the corpus root, ``speaker`` (empty for noise and rooms), ``reason`` if it is left out unopened.
    ``call.wav/1`` is the second channel of ``call.wav``; see :func:`hifitse.decode.channel_of`."""

    path: str
    speaker: str = ""
    utterance: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Layout:
    """Rules that decide which files are utterances. Patterns match a whole path without its suffix."""

    like: str  # example for error messages
    names: str = ""  # pattern of an utterance with the groups "who" and "said"; empty: read manifests instead
    fault: str = ""  # reason for leaving out all other audio files
    left_out: dict[str, str] = field(default_factory=dict)  # pattern -> reason; checked before ``names``
    kinds: tuple[Kind, ...] = KINDS


LAYOUTS = {
    "folder": Layout("speaker/utterance.{wav,flac,mp3,m4a ...}", r"(?P<who>[^/]+)/(?P<said>.+)", "in no speaker's folder"),
    # VCTK 0.92: only the first microphone, an omnidirectional DPA 4035; the second is faulty for two speakers
    "vctk": Layout(
        "wav48_silence_trimmed/p225/p225_001_mic1.flac", r"(?:.*/)?(?P<who>[ps]\d+)/(?P<said>(?P=who)_\d+)_mic1", "name not of this layout",
        {r"(?:.*/)?([ps]\d+)/\1_\d+_mic2": "other microphone"}, ("speech",),
    ),
    "libri": Layout(  # also LibriTTS and Multilingual LibriSpeech
        "test-clean/61/70968/61-70968-0000.flac", r"(?:.*/)?(?P<who>\d+)/(?P<book>\d+)/(?P<said>(?P=who)[-_](?P=book)[-_][^/]+)",
        "name not of this layout", kinds=("speech",),
    ),
    # leaves out the same parts of EARS as its own benchmark
    "ears": Layout(
        "p001/rainbow_01_regular.wav", r"(?:.*/)?(?P<who>p\d{3})/(?P<said>[^/]+)", "name not of this layout",
        {r"(?:.*/)?p\d{3}/(?:interjection|melodic|nonverbal|vegetative)[^/]*": "no speech"}, ("speech",),
    ),
    # read speech of the DNS challenge; file names contain the reader's number
    "dns": Layout(
        "book_00000_chp_0009_reader_06709_0_seg_1.wav", r"(?:.*/)?(?P<said>book_\d+_chp_\d+_reader_(?P<who>\d+)_[^/]*)",
        "name without a reader",
    ),
    "lhotse": Layout("recordings.jsonl.gz and supervisions.jsonl.gz, or cuts.jsonl.gz"),
}  # fmt: skip


def listing(root: Path, layout: str, kind: Kind = "speech") -> tuple[Path, Callable[[], Iterable[Item]]]:
    """Return the folder that item paths are relative to, and a function that lists the items in name order, afresh at each call.
    ``root`` is the folder of the corpus or of the Lhotse manifests; ``layout`` is a key of ``LAYOUTS``.
    Raises HifitseError: the folder or layout does not exist, the layout does not hold this kind, or no file matches it."""
    for name, value, allowed in (("layout", layout, LAYOUTS), ("kind", kind, KINDS)):
        if value not in allowed:
            raise HifitseError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
    if not root.is_dir():
        raise HifitseError(f"{str(root)!r} is not a folder, expected the folder of a corpus")
    chosen = LAYOUTS[layout]
    if kind not in chosen.kinds:
        raise HifitseError(f"layout {layout} holds no {kind}, expected {', '.join(chosen.kinds)}; use layout folder for {kind} files")
    try:
        base, found = (root, None) if chosen.names else _lhotse(root, kind)
        items = (lambda: _by_name(root, chosen, kind)) if found is None else (lambda: found)
        if all(item.reason for item in items()):
            also = ", ".join(name for name in LAYOUTS if name != layout)
            like = chosen.like.removeprefix("speaker/") if kind != "speech" else chosen.like
            raise HifitseError(f"no files like {like} under {root}, expected a folder with some; other layouts are {also}")
    except (AttributeError, TypeError) as error:
        raise HifitseError(f"the manifests in {root} have a field of another type ({error}), expected those of Lhotse") from None
    except OSError as error:
        raise HifitseError(f"{root} cannot be listed ({error}), expected a folder that can be read") from None
    return base, items


def others(root: Path, layout: str) -> dict[str, int]:
    """Count the files below a corpus folder that are not audio, by suffix. Only names are checked. Empty for Lhotse manifests."""
    return dict(sorted(Counter(map(suffix_of, _walk(root, audio=False))).items())) if LAYOUTS[layout].names else {}


def suffix_of(path: str) -> str:
    """Return the suffix of a file in lower case, or "no suffix". A channel has the suffix of its file."""
    return os.path.splitext(re.sub(r"/\d+$", "", path))[1].lower() or os.path.splitext(path)[1].lower() or "no suffix"


def _walk(root: Path, below: str = "", audio: bool = True) -> Iterator[str]:
    """Yield the paths of all audio files, or of all others, relative to the root, in name order. Skips hidden files and follows links.
    Lists one folder at a time, so memory does not grow with the corpus."""
    with os.scandir(root / below) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            # following a link to one of its parent folders would never end
            if not entry.is_symlink() or os.path.realpath(entry) not in map(os.path.realpath, Path(entry.path).parents):
                yield from _walk(root, path, audio)
        elif (suffix_of(path) in SUFFIXES) == audio:
            yield path


def _by_name(root: Path, layout: Layout, kind: Kind) -> Iterator[Item]:
    """Yield items by path; for noise and rooms, every audio file."""
    for path in _walk(root):
        stem = os.path.splitext(path)[0]
        reasons = (why for pattern, why in layout.left_out.items() if re.fullmatch(pattern, stem, re.DOTALL))
        if kind != "speech":
            yield Item(path)
        elif reason := next(reasons, ""):
            yield Item(path, reason=reason)
        elif match := re.fullmatch(layout.names, stem, re.DOTALL):
            yield Item(path, match["who"], match["said"])
        else:
            yield Item(path, reason=layout.fault)


# ---- Lhotse


def is_manifest(file: str, name: str = "(recordings|supervisions|cuts)") -> bool:
    """Return whether a file has a name by which Lhotse's manifests are found."""
    return re.fullmatch(rf".*{name}.*\.jsonl(\.gz)?", file) is not None


def _lines(root: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of all ``*<name>*.jsonl(.gz)`` in a folder; ``name`` is recordings, supervisions or cuts."""
    for path in sorted(path for path in root.iterdir() if is_manifest(path.name, name) and path.is_file()):
        try:
            with opened(path) as lines:
                for number, line in enumerate(lines, start=1):
                    entry = json.loads(line) if line.strip() else {}
                    if not isinstance(entry, dict):
                        raise HifitseError(f"line {number} of {path} is not a JSON object, expected a manifest of Lhotse as JSON lines")
                    if entry:
                        yield entry
        except (CorpusError, ValueError) as error:
            raise HifitseError(f"{path} cannot be read ({error}), expected a manifest of Lhotse as JSON lines") from None


def _source(root: Path, recording: dict[str, Any]) -> str | None:
    """Return the absolute path of a recording that is one file, else ``None``. Tries the working folder, as Lhotse does, then ``root``."""
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict) or recording.get("transforms"):
        return None
    name = sources[0].get("source")
    if sources[0].get("type") != "file" or not isinstance(name, str) or not name:
        return None
    return os.path.abspath(name if os.path.exists(name) else root / name)


def _lhotse(root: Path, kind: Kind) -> tuple[Path, list[Item]]:
    """Return the folder that contains all recordings of the Lhotse manifests, and the items.
    A recording with one speaker is one utterance. With exactly one speaker per channel, each channel is an utterance."""
    cuts = [each for cut in _lines(root, "cuts") for each in ([track.get("cut", {}) for track in cut.get("tracks") or ()] or [cut])]
    recordings: dict[str, dict[str, Any]] = {}
    for recording in (*_lines(root, "recordings"), *(cut.get("recording") for cut in cuts)):
        if isinstance(recording, dict):
            recordings.setdefault(str(recording.get("id")), recording)
    heard: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))  # recording -> channel -> speakers
    for segment in (*_lines(root, "supervisions"), *(each for cut in cuts for each in cut.get("supervisions") or ())):
        who, channels = segment.get("speaker"), segment.get("channel", 0)
        for channel in channels if isinstance(channels, list) else [channels]:
            heard[str(segment.get("recording_id"))][channel] |= {who} if isinstance(who, str) and who else set()
    paths = {name: _source(root, recording) for name, recording in sorted(recordings.items())}
    folders = {os.path.dirname(path) for path in paths.values() if path}
    base = Path(os.path.commonpath(folders)) if folders else root
    items: list[Item] = []
    seen: set[str] = set()
    for name, path in paths.items():
        by_channel = heard[name] if kind == "speech" else {}
        known = set().union(*by_channel.values())
        short = os.path.relpath(path, base) if path else name
        order = recordings[name]["sources"][0].get("channels") or () if path else ()
        apart = len(known) > 1 and all(len(some) == 1 for some in by_channel.values()) and set(by_channel) <= set(order)
        reasons = {
            "not one plain file": not path, "listed twice": path in seen, "no speaker": kind == "speech" and not known,
            "several speakers": len(known) > 1 and not apart,
        }  # fmt: skip
        if reason := next((why for why, holds in reasons.items() if holds), ""):
            items.append(Item(short, reason=reason))
            continue
        seen.add(path)
        if apart:
            items += [Item(f"{short}/{order.index(at)}", *by_channel[at], utterance=f"{name}-{at}") for at in sorted(by_channel)]
        else:
            items.append(Item(short, *known, utterance=name if known else ""))
    return base, items
