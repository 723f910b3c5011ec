"""Pack a preset's recordings into a given size for transport: speech and noise as Ogg Opus, rooms unchanged; and unpack them."""

import gzip
import json
import math
import multiprocessing
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import soundfile

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Clips, Corpus, load_clips, load_corpus
from hifitse.data.manifest import Utterance, locate, manifest_of, opened, sources
from hifitse.decode import channel_of
from hifitse.machine import usable_cores
from hifitse.params import Params
from hifitse.prepare.prepare import write_lines

KBPS = 26  # kbit/s, upper bound at ``LEVEL``: measured 24.6 for 60 short utterances, 23.2 for noise
LEVEL = 0.93  # compression level of libsndfile: about 25 kbit/s
RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz: sample rates of Opus
MANIFEST = "manifest.jsonl.gz"
NOISE_SHARE = 0.15  # largest share of the space that rooms leave


def pack(params: Params, folder: Path, megabytes: float) -> dict[str, float]:
    """Pack ``corpus``, ``eval_unseen``, ``noise`` and ``rooms`` into an empty or new folder of at most ``megabytes`` (10^6 bytes). Each
    source becomes a subfolder with the name of its own folder; synthetic sources are skipped. Returns the megabytes of each by name.

    Once ``HIFITSE_DATA`` names ``folder``, a preset with ``$HIFITSE_DATA/people`` reads the packed recordings. All speakers are kept, so
    the same ones are held out. Of speakers with much speech, and of long noises, only the beginning is kept.
    Raises HifitseError: bad sources, two source folders with the same name, a folder that is not empty, or too little space."""
    _refuse_full(folder)
    named = {name: _by_folder(getattr(params, name), name) for name in ("corpus", "eval_unseen", "noise", "rooms")}
    _refuse_one_name([pair for pairs in named.values() for pair in pairs])
    speech, noise, rooms = dict(named["corpus"] + named["eval_unseen"]), dict(named["noise"]), dict(named["rooms"])
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
            rows = list(threads.map(partial(_one, each, folder / path.name, most), each.clips))
            if manifest_of(noise[path]):
                _write_manifest(rows, folder / path.name / MANIFEST)
            for notice in path.glob("ATTRIBUTION*"):
                shutil.copy(notice, folder / path.name)
        corpora = {path: load_corpus(source) for path, source in speech.items()}
        spoken = [sum(said.samples for said in each) / SAMPLE_RATE for corpus in corpora.values() for each in corpus.speakers.values()]
        most = fair_share(spoken, seconds_beside(*rooms, *noise))
        for path, corpus in corpora.items():
            chosen = [said for each in corpus.speakers.values() for said in _first(each, most)]
            _write_manifest(threads.map(partial(_one, corpus, folder / path.name, math.inf), chosen), folder / path.name / MANIFEST)
    sizes = {path.name: _size(folder / path.name) for path in (*speech, *noise, *rooms)}
    if sum(sizes.values()) > megabytes:
        raise HifitseError(f"the recordings take {sum(sizes.values()):.1f} MB, expected at most {megabytes:g} MB: ask for more space")
    return sizes


def unpack(packed: Path, folder: Path) -> float:
    """Decode the output of :func:`pack` into 48 kHz WAV files in an empty or new folder, on all cores, so that training workers need not
    decode or resample. An hour takes 350 MB. Returns the seconds of sound. Raises HifitseError: folder not empty, or nothing packed."""
    _refuse_full(folder)
    files = [path for path in sorted(packed.rglob("*")) if path.is_file()]
    sounds = {path.relative_to(packed): path for path in files if path.suffix == ".ogg"}
    if not sounds:
        raise HifitseError(f"folder {packed} holds no .ogg files, expected what hifitse pack wrote")
    with ProcessPoolExecutor(usable_cores(), multiprocessing.get_context("spawn")) as pool:
        pairs = [(path, folder / name.with_suffix(".wav")) for name, path in sounds.items()]
        samples = dict(zip(sounds, pool.map(_decode, pairs, chunksize=16), strict=True))
    for path in files:
        name = path.relative_to(packed)
        if path.name == MANIFEST:
            rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
            for row in rows:
                if count := samples.get(name.parent / row.get("path", "")):  # rooms are unchanged
                    row |= {"path": Path(row["path"]).with_suffix(".wav").as_posix(), "samples": count, "sample_rate": SAMPLE_RATE}
            _write_manifest(rows, folder / name)
        elif name not in sounds:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
    return sum(samples.values()) / SAMPLE_RATE


def _decode(pair: tuple[Path, Path]) -> int:
    source, path = pair
    signal = audio.read(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, SAMPLE_RATE, subtype="PCM_16")
    return len(signal)


def _refuse_full(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise HifitseError(f"folder {folder} is not empty, expected an empty or a new one")


def _write_manifest(rows: Iterable[dict[str, Any]], path: Path) -> None:
    write_lines(path, (json.dumps(row).encode() + b"\n" for row in rows))


def _by_folder(text: str, what: str) -> list[tuple[Path, Path]]:
    """Return (folder, source) for every source that is not synthetic."""
    found = [locate(source, what) for source in sources(text) if source != "synthetic"]
    return [(path if path.is_dir() else path.parent, path) for path in found]


def _refuse_one_name(found: Sequence[tuple[Path, Path]]) -> None:
    for number, (path, source) in enumerate(found):
        for other, another in found[:number]:
            if path.name == other.name and source != another:
                raise HifitseError(f"{source} and {another} would both be packed as {path.name}, expected folders of different names")


def _copy_rooms(source: Path, folder: Path) -> None:
    """Copy a folder as it is. From a manifest, copy the listed files, and all lines except damaged ones and the one with the root."""
    if source.is_dir():
        shutil.copytree(source, folder)
        return
    listed, rows = load_clips(source), []
    for clip in listed.clips:
        path = channel_of(listed.root / clip.path)[0]
        copy = folder / path.relative_to(listed.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    with opened(source) as lines:
        for line in lines:
            with suppress(ValueError):
                rows.append(json.loads(line))
    _write_manifest((row for row in rows if isinstance(row, dict) and "path" in row), folder / MANIFEST)


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


def _one(listed: Corpus | Clips, folder: Path, most: float, said: Utterance) -> dict[str, str | int]:
    """Write up to ``most`` samples (at 48 kHz) of a recording; speech keeps its rate if Opus has it. Return its manifest line."""
    signal = None
    if said.speaker and said.sample_rate in RATES and said.sample_rate != SAMPLE_RATE:
        with suppress(soundfile.LibsndfileError):  # one channel of a file, or a format that only FFmpeg reads
            signal, rate = soundfile.read(listed.root / said.path, dtype="float32", always_2d=True)
            signal = audio.downmix(signal)
    if signal is None:
        signal, rate = listed.read(said, 0, int(min(most, said.samples))), SAMPLE_RATE
    path = Path(said.path).with_suffix(".ogg")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / path, signal, rate, format="OGG", subtype="OPUS", compression_level=LEVEL)
    row = {"speaker": said.speaker, "utterance": said.utterance, "path": path.as_posix(), "samples": len(signal), "sample_rate": rate}
    row |= {name: getattr(said, name) for name in ("group", "source", "split")}
    return {name: value for name, value in row.items() if value != ""}
