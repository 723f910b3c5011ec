"""Pack a preset's recordings into a given size for transport: speech and noise as Ogg Opus, rooms unchanged; and unpack them."""

import gzip
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import soundfile

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Clips, Corpus, load_clips, load_corpus
from hifitse.data.manifest import MANIFESTS, Utterance, locate, manifest_of, opened, sources
from hifitse.decode import channel_of
from hifitse.files import unfinished_in
from hifitse.machine import usable_cores
from hifitse.params import Params
from hifitse.pool import Pool
from hifitse.prepare.prepare import write_lines

KBPS = 26  # kbit/s, upper bound at ``LEVEL``: measured 24.6 for 60 short utterances, 23.2 for noise
LEVEL = 0.93  # compression level of libsndfile: about 25 kbit/s
RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz: sample rates of Opus
MANIFEST = "manifest.jsonl.gz"
NOISE_SHARE = 0.15  # largest share of the space that rooms leave


def pack(params: Params, folder: Path, megabytes: float) -> dict[str, float]:
    """Pack ``corpus``, ``eval_unseen``, ``noise`` and ``rooms`` into an empty or new folder of at most ``megabytes`` (10^6 bytes). Each
    source becomes a subfolder named like its folder or manifest; synthetic sources are skipped. Returns the megabytes of each by name.

    Once ``HIFITSE_DATA`` names ``folder``, a preset with ``$HIFITSE_DATA/people`` reads the packed recordings. All speakers are kept, so
    the same ones are held out. Of speakers with much speech, and of long noises, only the beginning is kept.
    Raises HifitseError: bad sources, two recordings or source folders that get the same name, a folder that is not empty, or too little
    space. The folder is then left empty."""
    if params.eval_list:
        raise HifitseError(f"eval_list is {params.eval_list!r}, whose recordings packing changes; expected none: copy them as they are")
    named = {name: _by_folder(getattr(params, name), name) for name in ("corpus", "eval_unseen", "noise", "rooms")}
    _refuse_one_name([(path.name, source) for pairs in named.values() for path, source in pairs])
    speech, noise, rooms = dict(named["corpus"] + named["eval_unseen"]), dict(named["noise"]), dict(named["rooms"])
    with _unfinished(folder) as work:
        return _packed(speech, noise, rooms, work, megabytes)


def _packed(
    speech: dict[Path, Path], noise: dict[Path, Path], rooms: dict[Path, Path], folder: Path, megabytes: float
) -> dict[str, float]:
    """Pack sources, given by their folders, into ``folder``. Return the megabytes of each."""
    for path, source in rooms.items():
        _copy_rooms(source, folder / path.name)

    def seconds_beside(*there: Path) -> float:
        """Return the seconds of sound that still fit beside these folders."""
        return (megabytes - sum(_size(folder / path.name) for path in there)) * 1e6 / (KBPS * 1000 / 8)

    if speech and seconds_beside(*rooms) < 1:
        raise HifitseError(f"rooms alone take more than {megabytes:g} MB, expected more space")
    with ThreadPoolExecutor(usable_cores()) as threads:  # libsndfile releases the GIL
        clips = {path: load_clips(source) for path, source in noise.items()}
        lengths = [clip.samples for each in clips.values() for clip in each.clips]
        most = fair_share(lengths, NOISE_SHARE * seconds_beside(*rooms) * SAMPLE_RATE)
        for path, each in clips.items():
            _refuse_one_name([(_packed_name(clip), clip.path) for clip in each.clips])
            rows = list(threads.map(partial(_one, each, folder / path.name, most), each.clips))
            if manifest_of(noise[path]):
                _write_manifest(rows, folder / path.name / MANIFEST)
            _copy_notices(path, folder / path.name)
        corpora = {path: load_corpus(source) for path, source in speech.items()}
        spoken = [sum(said.samples for said in each) / SAMPLE_RATE for corpus in corpora.values() for each in corpus.speakers.values()]
        most = fair_share(spoken, seconds_beside(*rooms, *noise))
        for path, corpus in corpora.items():
            chosen = [said for each in corpus.speakers.values() for said in _first(each, most)]
            _refuse_one_name([(_packed_name(said), said.path) for said in chosen])
            _write_manifest(threads.map(partial(_one, corpus, folder / path.name, math.inf), chosen), folder / path.name / MANIFEST)
    sizes = {path.name: _size(folder / path.name) for path in (*speech, *noise, *rooms)}
    if sum(sizes.values()) > megabytes:
        raise HifitseError(f"the recordings take {sum(sizes.values()):.1f} MB, expected at most {megabytes:g} MB: ask for more space")
    return sizes


def unpack(packed: Path, folder: Path) -> float:
    """Decode the output of :func:`pack` into 48 kHz WAV files in an empty or new folder, on all cores, so that training workers need not
    decode or resample. An hour takes 350 MB. Returns the seconds of sound. Raises HifitseError: folder not empty, or nothing packed."""
    files = [path for path in sorted(packed.rglob("*")) if path.is_file()]
    sounds = {path.relative_to(packed): path for path in files if path.suffix == ".ogg"}
    if not sounds:
        raise HifitseError(f"folder {packed} holds no .ogg files, expected what hifitse pack wrote")
    with _unfinished(folder) as work:
        with Pool(_decode, usable_cores()) as pool:
            tasks = [pool.start(path, work / name.with_suffix(".wav")) for name, path in sounds.items()]
            samples = dict(zip(sounds, map(pool.result, tasks), strict=True))
        for path in files:
            name = path.relative_to(packed)
            if path.name == MANIFEST:
                rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
                for row in rows:
                    if count := samples.get(name.parent / row.get("path", "")):  # rooms are unchanged
                        row |= {"path": Path(row["path"]).with_suffix(".wav").as_posix(), "samples": count, "sample_rate": SAMPLE_RATE}
                _write_manifest(rows, work / name)
            elif name not in sounds:
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, work / name)
    return sum(samples.values()) / SAMPLE_RATE


def _decode(source: Path, path: Path) -> int:
    signal = audio.read(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, SAMPLE_RATE, subtype="PCM_16")
    return len(signal)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Yield a folder inside an empty or new one. What is in it at the end moves there; after a failure or a stop, nothing is left.
    Raises HifitseError: the folder is not empty."""
    if folder.is_dir() and any(folder.iterdir()):
        raise HifitseError(f"folder {folder} is not empty, expected an empty or a new one")
    folder.mkdir(parents=True, exist_ok=True)
    with unfinished_in(folder) as work:
        yield work


def _write_manifest(rows: Iterable[dict[str, Any]], path: Path) -> None:
    write_lines(path, (json.dumps(row).encode() + b"\n" for row in rows))


def _by_folder(text: str, what: str) -> list[tuple[Path, Path]]:
    """Return (folder, source) for every source that is not synthetic; ``voices.jsonl.gz`` counts as the folder ``voices`` beside it."""
    found = [locate(source, what) for source in sources(text) if source != "synthetic"]
    return [(path.parent if path.name in MANIFESTS else path.with_name(path.name.partition(".jsonl")[0]), path) for path in found]


def _refuse_one_name(found: Iterable[tuple[str, str | Path]]) -> None:
    """Raise HifitseError if two different sources would be packed under one name, from pairs (name, source)."""
    known: dict[str, str | Path] = {}
    for name, source in found:
        if (other := known.setdefault(name, source)) != source:
            raise HifitseError(f"{other} and {source} would both be packed as {name}, expected different names")


def _copy_rooms(source: Path, folder: Path) -> None:
    """Copy a folder as it is. From a manifest, copy the listed files, and all lines except damaged ones and the one with the root."""
    if (manifest := manifest_of(source)) is None:
        shutil.copytree(source, folder)
        return
    listed, rows = load_clips(source, "rooms"), []
    for clip in listed.clips:
        path = channel_of(listed.root / clip.path)[0]
        copy = folder / path.relative_to(listed.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    _copy_notices(manifest.parent, folder)
    with opened(manifest) as lines:
        for line in lines:
            with suppress(ValueError):
                rows.append(json.loads(line))
    _write_manifest((row for row in rows if isinstance(row, dict) and "path" in row), folder / MANIFEST)


def _copy_notices(source: Path, folder: Path) -> None:
    for notice in source.glob("ATTRIBUTION*"):
        shutil.copy(notice, folder)


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def fair_share(lengths: Sequence[float], total: float) -> float:
    """Return the length to which all items must be cut so that they sum to ``total``; infinite if no cut is needed."""
    for number, length in enumerate(sorted(lengths)):
        share = total / (len(lengths) - number)
        if length > share:
            return share
        total -= length
    return math.inf


def _first(said: Sequence[Utterance], seconds: float) -> Iterator[Utterance]:
    """Yield the first utterances, up to ``seconds`` in total but at least two: one to enrol, one to mix."""
    gone = 0.0
    for number, each in enumerate(said):
        gone += each.samples / SAMPLE_RATE
        if number < 2 or gone <= seconds:
            yield each


def _packed_name(said: Utterance) -> str:
    return Path(said.path).with_suffix(".ogg").as_posix()


def _one(listed: Corpus | Clips, folder: Path, most: float, said: Utterance) -> dict[str, str | int]:
    """Write up to ``most`` samples (at 48 kHz) of a recording; speech keeps its rate if Opus has it. Return its manifest line."""
    signal = None
    if said.speaker and said.sample_rate in RATES and said.sample_rate != SAMPLE_RATE:
        with suppress(soundfile.LibsndfileError):  # one channel of a file, or a format that only FFmpeg reads
            signal, rate = soundfile.read(listed.root / said.path, dtype="float32", always_2d=True)
            signal = audio.downmix(signal)
    if signal is None:
        signal, rate = listed.read(said, 0, int(min(most, said.samples))), SAMPLE_RATE
    path = _packed_name(said)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / path, signal, rate, format="OGG", subtype="OPUS", compression_level=LEVEL)
    row = {"speaker": said.speaker, "utterance": said.utterance, "path": path, "samples": len(signal), "sample_rate": rate}
    row |= {name: getattr(said, name) for name in ("group", "source", "split")}
    return {name: value for name, value in row.items() if value != ""}
