"""A part of a preset's recordings that is small enough to travel: speech and noise as Ogg Opus, rooms as they are."""

import gzip
import json
import math
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.corpus import Corpus, Utterance, audio_files, load_corpus
from hifitse.data.manifest import locate, sources
from hifitse.files import write_atomic
from hifitse.machine import usable_cores
from hifitse.params import Params

KBPS = 26
"""kbit/s of speech at ``LEVEL`` at most: 60 short utterances had 24.6, noise 23.2."""
LEVEL = 0.93
"""libsndfile's compression level: about 25 kbit/s."""
RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz: rates of Opus."""
MANIFEST = "manifest.jsonl.gz"
NOISE_SHARE = 0.15
"""At most, of the space that rooms leave."""


def pack(params: Params, folder: Path, megabytes: float) -> dict[str, float]:
    """Write recordings of ``corpus``, ``noise`` and ``rooms`` below ``folder``, under the names of their own folders.

    With ``HIFITSE_DATA`` naming ``folder``, a preset that names ``$HIFITSE_DATA/people`` reads the packed ones. Every speaker stays, so
    that the same are held out; of those with much speech, and of long noises, the beginning is kept. Synthetic sources need no room.

    Args:
        params: name the sources.
        folder: that does not exist yet, or is empty.
        megabytes: 10^6 bytes of all files, at most.

    Returns:
        10^6 bytes by name of the source.

    Raises:
        HifitseError: bad sources, a folder with something in it, or not enough space.
    """
    _refuse_full(folder)
    speech, noise, rooms = (_paths(getattr(params, name), name) for name in ("corpus", "noise", "rooms"))
    for path in rooms:
        shutil.copytree(path, folder / path.name)
    seconds = _seconds(megabytes, folder, rooms)
    if speech and seconds < 1:
        raise HifitseError(f"rooms alone take more than {megabytes:g} MB, expected more space")
    with ThreadPoolExecutor(usable_cores()) as threads:  # libsndfile lets other threads run
        _pack_noise(noise, folder, NOISE_SHARE * seconds, threads)
        _pack_speech(speech, folder, _seconds(megabytes, folder, [*rooms, *noise]), threads)
    found = {path.name: _size(folder / path.name) for path in (*speech, *noise, *rooms)}
    if sum(found.values()) > megabytes:
        raise HifitseError(f"the recordings take {sum(found.values()):.1f} MB, expected at most {megabytes:g} MB: ask for more space")
    return found


def unpack(packed: Path, folder: Path) -> float:
    """Decode what :func:`pack` made into WAV files of 48 kHz, by all cores: no worker of a training then decodes or resamples.

    Args:
        packed: folder that :func:`pack` wrote.
        folder: that does not exist yet, or is empty; an hour of sound takes 350 MB.

    Returns:
        Seconds of sound.

    Raises:
        HifitseError: a folder with something in it, or nothing packed.
    """
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
            _write_manifest([row | _decoded(row, samples[name.parent / row["path"]]) for row in rows], folder / name)
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


def _decoded(row: dict[str, Any], samples: int) -> dict[str, Any]:
    return {"path": Path(row["path"]).with_suffix(".wav").as_posix(), "samples": samples, "sample_rate": SAMPLE_RATE}


def _refuse_full(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise HifitseError(f"folder {folder} has something in it, expected an empty or a new one")


def _write_manifest(rows: Sequence[dict[str, Any]], path: Path) -> None:
    text = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)
    write_atomic(path, lambda place: place.write_bytes(text))


def _paths(text: str, what: str) -> list[Path]:
    found = [locate(source, what) for source in sources(text) if source != "synthetic"]
    return [path if path.is_dir() else path.parent for path in found]


def _seconds(megabytes: float, folder: Path, there: Sequence[Path]) -> float:
    """Of sound that still fits beside the sources that are there."""
    return (megabytes - sum(_size(folder / path.name) for path in there)) * 1e6 / (KBPS * 1000 / 8)


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def fair_share(lengths: Sequence[float], total: float) -> float:
    """The length to which all have to be cut for a sum of ``total``; infinite where they need not."""
    for number, length in enumerate(sorted(lengths)):
        share = total / (len(lengths) - number)
        if length > share:
            return share
        total -= length
    return math.inf


def _pack_noise(paths: Sequence[Path], folder: Path, seconds: float, threads: ThreadPoolExecutor) -> None:
    files = {file: folder / path.name / file.relative_to(path).with_suffix(".ogg") for path in paths for file in audio_files(path)}
    lengths = {file: audio.info(file).samples for file in files}
    most = fair_share(list(lengths.values()), seconds * SAMPLE_RATE)
    list(threads.map(lambda file: _write(files[file], audio.read(file, 0, int(min(most, lengths[file]))), SAMPLE_RATE), files))
    for path in paths:
        for notice in path.glob("ATTRIBUTION*"):
            shutil.copy(notice, folder / path.name)


def _pack_speech(paths: Sequence[Path], folder: Path, seconds: float, threads: ThreadPoolExecutor) -> None:
    corpora = [load_corpus(path) for path in paths]
    spoken = [sum(said.samples for said in each) / SAMPLE_RATE for corpus in corpora for each in corpus.speakers.values()]
    most = fair_share(spoken, seconds) if spoken else 0.0
    for path, corpus in zip(paths, corpora, strict=True):
        chosen = [said for each in corpus.speakers.values() for said in _first(each, most)]
        rows = list(threads.map(lambda said, corpus=corpus, path=path: _one(corpus, said, folder / path.name), chosen))
        _write_manifest(rows, folder / path.name / MANIFEST)


def _first(said: Sequence[Utterance], seconds: float) -> Iterator[Utterance]:
    """Utterances up to so many seconds, but two at least: one to enrol, one to mix."""
    gone = 0.0
    for number, each in enumerate(said):
        gone += each.samples / SAMPLE_RATE
        if number < 2 or gone <= seconds:
            yield each


def _one(corpus: Corpus, said: Utterance, folder: Path) -> dict[str, str | int]:
    """Write an utterance at its own rate where Opus has it. Returns its line of the manifest."""
    if said.sample_rate in RATES and said.sample_rate != SAMPLE_RATE:
        signal, rate = soundfile.read(corpus.root / said.path, dtype="float32", always_2d=True)
        signal = audio.downmix(signal)
    else:
        signal, rate = corpus.read(said), SAMPLE_RATE
    path = Path(said.path).with_suffix(".ogg")
    _write(folder / path, signal, rate)
    row = {"speaker": said.speaker, "utterance": said.utterance, "path": path.as_posix(), "samples": len(signal), "sample_rate": rate}
    return row | {name: value for name in ("group", "source", "split") if (value := getattr(said, name))}


def _write(path: Path, signal: np.ndarray, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate, format="OGG", subtype="OPUS", compression_level=LEVEL)
