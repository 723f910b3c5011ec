"""How corpora lie on disk: which file is whose utterance. One generator for each layout; no file is opened."""

import gzip
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from hifitse import HifitseError
from hifitse.decode import SUFFIXES
from hifitse.prepare.recording import KINDS, Kind

MICROPHONES = (1, 2)  # of VCTK: the omnidirectional DPA 4035, and the wide-band Sennheiser MKH 800
FAULTY_MICROPHONE_2 = frozenset({"p280", "p315"})
NO_SPEECH = ("interjection", "melodic", "nonverbal", "vegetative")  # parts of EARS that its own benchmark leaves out


class LayoutError(HifitseError):
    """A folder that is not laid out as said."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file: ``path`` relative to the corpus' root, ``speaker`` empty for noise and rooms; ``reason`` where it is left out unopened.

    ``call.wav/1`` is the second channel of ``call.wav``; see :func:`hifitse.decode.channel_of`.
    """

    path: str
    speaker: str = ""
    utterance: str = ""
    reason: str = ""


class Layout(NamedTuple):
    """What its files are called, for errors; what it can be prepared as; and (root, kind, microphone) -> items in order of names."""

    like: str
    kinds: tuple[Kind, ...]
    items: Callable[[Path, Kind, int], Iterator[Item]]


def _walk(root: Path, below: str = "", audio: bool = True) -> Iterator[str]:
    """Paths of the audio files, or of all others, relative to the root; hidden ones left out, links followed, in the order of names."""
    with os.scandir(root / below) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            if not _own_parent(entry):
                yield from _walk(root, path, audio)
        elif (suffix_of(path) in SUFFIXES) == audio:
            yield path


def _own_parent(entry: os.DirEntry) -> bool:
    """Whether a folder is a link to one that it lies in: following it would never end."""
    return entry.is_symlink() and os.path.realpath(entry.path) in {os.path.realpath(up) for up in Path(entry.path).parents}


def suffix_of(path: str) -> str:
    """A file's suffix in lower case, or "no suffix"; of a channel that of its file."""
    return os.path.splitext(re.sub(r"/\d+$", "", path))[1].lower() or os.path.splitext(path)[1].lower() or "no suffix"


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def _folder(root: Path, kind: Kind, _: int) -> Iterator[Item]:
    """``speaker/utterance.flac``; deeper folders belong to the utterance's name. Noise and rooms: any audio file."""
    for path in _walk(root):
        speaker, _, utterance = _stem(path).partition("/")
        if kind != "speech":
            yield Item(path)
        elif utterance:
            yield Item(path, speaker, utterance)
        else:
            yield Item(path, reason="in no speaker's folder")


def _vctk(root: Path, _: Kind, microphone: int) -> Iterator[Item]:
    """VCTK 0.92: ``p225/p225_001_mic1.flac``, in ``wav48_silence_trimmed`` or in the folder itself."""
    inner = "wav48_silence_trimmed" if (root / "wav48_silence_trimmed").is_dir() else ""
    for path in _walk(root, inner):
        match = re.fullmatch(r"([ps]\d+)/(\1_\d+)_mic([12])", "/".join(_stem(path).split("/")[-2:]))
        if not match:
            yield Item(path, reason="name not of this layout")
        elif int(match[3]) != microphone:
            yield Item(path, match[1], match[2], reason="other microphone")
        elif microphone == 2 and match[1] in FAULTY_MICROPHONE_2:
            yield Item(path, match[1], match[2], reason="faulty microphone")
        else:
            yield Item(path, match[1], match[2])


def _ears(root: Path, *_: Any) -> Iterator[Item]:
    """EARS: ``p001/emo_adoration_freeform.wav``."""
    for path in _walk(root):
        match = re.fullmatch(r"(?:.*/)?(p\d{3})/([^/]+)", _stem(path))
        if match:
            yield Item(path, match[1], match[2], reason="no speech" if match[2].startswith(NO_SPEECH) else "")
        else:
            yield Item(path, reason="name not of this layout")


def _dns(root: Path, kind: Kind, _: int) -> Iterator[Item]:
    """The DNS challenge's read speech, whose names hold the reader's number, in any folder; of noise and rooms any audio file."""
    for path in _walk(root):
        name = os.path.basename(_stem(path))
        match = re.match(r"book_\d+_chp_\d+_reader_(\d+)_", name)
        if kind != "speech":
            yield Item(path)
        elif match:
            yield Item(path, match[1], name)
        else:
            yield Item(path, reason="name without a reader")


def _lines(root: Path, name: str) -> Iterator[dict[str, Any]]:
    """Objects of ``*<name>*.jsonl(.gz)`` of a folder, or of its parts; name is recordings, supervisions or cuts."""
    files = sorted(path for path in root.iterdir() if re.fullmatch(rf".*{name}.*\.jsonl(\.gz)?", path.name) and path.is_file())
    for path in files:
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    entry = json.loads(line) if line.strip() else None
                    if entry is not None and not isinstance(entry, dict):
                        raise LayoutError(f"line {number} of {path} is not a JSON object, expected a manifest of Lhotse as JSON lines")
                    if entry:
                        yield entry
        except (OSError, EOFError, ValueError) as error:
            raise LayoutError(f"{path} cannot be read ({error}), expected a manifest of Lhotse as JSON lines") from None


def _cuts(root: Path) -> Iterator[dict[str, Any]]:
    """Lhotse's cuts; in place of a mixed one those that it mixes."""
    for cut in _lines(root, "cuts"):
        yield from [track.get("cut", {}) for track in cut.get("tracks", [])] or [cut]


def _recordings(root: Path) -> Iterator[dict[str, Any]]:
    """Lhotse's recordings, and those that only cuts hold, once."""
    seen = set()
    for recording in _lines(root, "recordings"):
        seen.add(str(recording.get("id")))
        yield recording
    for cut in _cuts(root):
        recording = cut.get("recording")
        if isinstance(recording, dict) and (name := str(recording.get("id"))) not in seen:
            seen.add(name)
            yield recording


def _speakers(root: Path) -> dict[str, dict[int, set[str]]]:
    """Who is heard in Lhotse's recordings, by their ids and channels."""
    found: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    in_cuts = (segment for cut in _cuts(root) for segment in cut.get("supervisions") or ())
    for segment in chain(_lines(root, "supervisions"), in_cuts):
        who, channels = segment.get("speaker"), segment.get("channel", 0)
        for channel in channels if isinstance(channels, list) else [channels]:
            found[str(segment.get("recording_id"))][channel] |= {who} if isinstance(who, str) and who else set()
    return found


def _source(root: Path, recording: dict[str, Any]) -> str | None:
    """Path of a recording that is one file, absolute: as Lhotse has it from the working folder, or else from the manifest's."""
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict) or recording.get("transforms"):
        return None
    name = sources[0].get("source")
    if sources[0].get("type") != "file" or not isinstance(name, str) or not name:
        return None
    return os.path.abspath(name if os.path.exists(name) else root / name)


def _lhotse_root(root: Path) -> Path:
    """The folder that all recordings lie in."""
    folders = {os.path.dirname(path) for recording in _recordings(root) if (path := _source(root, recording))}
    return Path(os.path.commonpath(folders)) if folders else root


def _lhotse(root: Path, kind: Kind, _: int) -> Iterator[Item]:
    """Lhotse's ``recordings.jsonl`` and ``supervisions.jsonl``, or ``cuts.jsonl``, plain or packed with gzip.

    A recording is one utterance if it has one speaker, or one a channel if each of its channels has a speaker of its own.
    """
    speakers = _speakers(root) if kind == "speech" else {}
    base, seen = _lhotse_root(root), set()
    for recording in sorted(_recordings(root), key=lambda one: str(one.get("id"))):
        name, path = str(recording.get("id")), _source(root, recording)
        heard = speakers.get(name, {})
        known = set().union(*heard.values())
        if path is None:
            yield Item(name, reason="not one plain file")
            continue
        short = os.path.relpath(path, base)
        if path in seen:
            yield Item(short, reason="listed twice")
        elif kind == "speech" and not known:
            yield Item(short, reason="no speaker")
        elif len(known) < 2:
            seen.add(path)
            yield Item(short, *known, utterance=name if known else "")
        elif all(len(some) == 1 for some in heard.values()) and set(heard) <= set(order := recording["sources"][0].get("channels") or ()):
            seen.add(path)
            yield from (Item(f"{short}/{order.index(at)}", *heard[at], utterance=f"{name}-{at}") for at in sorted(heard))
        else:
            yield Item(short, reason="several speakers")


LAYOUTS = {
    "folder": Layout("speaker/utterance.{wav,flac,mp3,m4a ...}", KINDS, _folder),
    "vctk": Layout("wav48_silence_trimmed/p225/p225_001_mic1.flac", ("speech",), _vctk),
    "ears": Layout("p001/rainbow_01_regular.wav", ("speech",), _ears),
    "dns": Layout("book_00000_chp_0009_reader_06709_0_seg_1.wav", KINDS, _dns),
    "lhotse": Layout("recordings.jsonl.gz and supervisions.jsonl.gz, or cuts.jsonl.gz", KINDS, _lhotse),
}


def listing(root: Path, layout: str, kind: Kind = "speech", microphone: int = 1) -> tuple[Path, Callable[[], Iterator[Item]]]:
    """The folder that a corpus' paths are relative to, and a function that lists its items again at each call.

    Args:
        root: folder of the corpus, or of Lhotse's manifests.
        layout: a name of ``LAYOUTS``.
        kind: speech, noise or rooms.
        microphone: of VCTK, 1 or 2.

    Raises:
        LayoutError: no such folder or layout, not of this kind, or no file like the layout's.
    """
    for name, value, allowed in (("layout", layout, LAYOUTS), ("kind", kind, KINDS), ("microphone", microphone, MICROPHONES)):
        if value not in allowed:
            raise LayoutError(f"{name} is {value!r}, expected one of {', '.join(map(str, allowed))}")
    if not root.is_dir():
        raise LayoutError(f"{str(root)!r} is not a folder, expected the folder of a corpus")
    like, kinds, items = LAYOUTS[layout]
    if kind not in kinds:
        raise LayoutError(f"layout {layout} holds no {kind}, expected {', '.join(kinds)}; {kind} files have the layout folder")
    try:
        base = _lhotse_root(root) if layout == "lhotse" else root
        if all(item.reason for item in items(root, kind, microphone)):
            also = ", ".join(name for name in LAYOUTS if name != layout)
            like = like.removeprefix("speaker/") if kind != "speech" else like
            raise LayoutError(f"no files like {like} under {root}, expected a folder with some; other layouts are {also}")
    except OSError as error:
        raise LayoutError(f"{root} cannot be listed ({error}), expected a folder that can be read") from None
    return base, lambda: items(root, kind, microphone)


def others(root: Path, layout: str) -> dict[str, int]:
    """How many files below a corpus' folder are not audio by their names, by suffix; of a folder of Lhotse's manifests none."""
    return dict(sorted(Counter(map(suffix_of, _walk(root, audio=False))).items())) if layout != "lhotse" else {}
