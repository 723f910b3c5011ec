"""One voice out of recordings on disk, read and written piece by piece: an hour needs no more memory than half a minute."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from hifitse import SAMPLE_RATE
from hifitse.audio import FLOOR_DB, SUBTYPES
from hifitse.decode import Sound
from hifitse.files import write_atomic
from hifitse.model.extraction import encode, stream
from hifitse.model.likeness import Likeness
from hifitse.model.survey import Survey, enrolment, heard, survey

WAV_BYTES = 2**32 - 2**20
"""Bytes from which on a wav file is written as RF64, for its sizes have 32 bits."""
PRESENCE_S = 0.1
"""s: step of :attr:`Extracted.presence`."""


@dataclass(frozen=True)
class How:
    """What is made of a recording.

    Attributes:
        channel: the one to hear, from 1; ``None``: all, mixed down.
        keep_stereo: the mask is laid on each channel, and the estimate has as many.
        keep_db: dB by which all that is not the voice is left lower; ``None``: it is removed.
        likeness: also measure how like the enrolment the estimate sounds, if the extractor has a verifier.
        comment: written into the files.
    """

    channel: int | None = None
    keep_stereo: bool = False
    keep_db: float | None = None
    likeness: bool = False
    comment: str = ""


@dataclass(frozen=True)
class Extracted:
    """What was done to one recording."""

    mix: Path
    out: Path
    seconds: float
    """s: length of the recording."""
    took_s: float
    level_db: float
    """dBFS of the estimate."""
    mix_level_db: float
    """dBFS of the recording, its channels mixed down."""
    clipped: int
    """Samples of the estimate beyond full scale, which a flac file cannot hold."""
    presence: np.ndarray
    """(P,) dB: level of the estimate relative to the mixture, each 100 ms; nan where the mixture is silent."""
    likeness: np.ndarray | None
    """(P,) likeness of the estimate to the enrolment, 0 to 1, each 100 ms; ``None`` where it was not asked for."""

    def __str__(self) -> str:
        speed = f"{self.seconds / max(self.took_s, 1e-9):.1f} times as fast as it plays"
        clipped = f"; {self.clipped} samples clipped" if self.clipped else ""
        level = f"level {self.level_db:.1f} dBFS of {self.mix_level_db:.1f}{clipped}"
        return f"{self.mix.name} -> {self.out}: {self.seconds:.1f} s in {self.took_s:.1f} s ({speed}), {level}"


def encode_files(extractor: Any, enrolments: Sequence[str | Path]) -> Any:
    """The speaker of recordings on disk, of each the first 30 s.

    Raises:
        AudioError: as :func:`hifitse.model.extraction.encode` and :func:`hifitse.model.survey.enrolment`.
    """
    return encode(extractor, [enrolment(path) for path in enrolments], names=[f"enrolment {str(path)!r}" for path in enrolments])


def extract_file(
    extractor: Any,
    speaker: Any,
    mix: Path,
    out: Path,
    progress: bool = True,
    how: How | None = None,
    residual: Path | None = None,
    found: Survey | None = None,
) -> Extracted:
    """Extract from one file into others, each of which appears when it is whole.

    Args:
        extractor: a :class:`hifitse.model.Extractor`.
        speaker: as :func:`encode_files` gives it.
        mix: any rate, length and number of channels.
        out: ends in .wav (float32, beyond 4 GiB as RF64) or .flac (24 bit, clipped at full scale); has the mixture's rate and length.
        progress: show a progress bar, where there is a terminal.
        how: channels, and how much of the rest is left.
        residual: file of what was taken away, the mixture minus the estimate.
        found: of :func:`hifitse.model.survey.survey`, where that was done before.

    Raises:
        AudioError: the mixture is no sound, or not finite.
        CheckpointError: an output cannot be written.
    """
    began, how = time.monotonic(), how or How()
    found = found or survey(mix, how.channel)
    rate, stereo = found.sample_rate, how.keep_stereo and found.channels > 1
    levels, likeness = Levels(found.samples, rate), None
    if how.likeness and extractor.verifier is not None:
        likeness = Likeness(extractor.verifier, speaker.voice)
    shown = os.fsencode(mix.name).decode(errors="backslashreplace")
    bar = tqdm(total=found.seconds, desc=shown, unit="s", disable=None if progress else True, dynamic_ncols=True, leave=False)
    bar.bar_format = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
    files = [path for path in (out, residual) if path is not None]

    def extracted(blocks: Iterable[Tensor]) -> Iterable[Tensor]:
        ests = stream(extractor, blocks, speaker)
        return likeness.through(ests) if likeness else ests

    def write(temporaries: list[Path]) -> None:
        with Sound(mix) as sound, bar, ExitStack() as stack:
            writers = [stack.enter_context(_Writer(at, file, found, stereo, how)) for at, file in zip(temporaries, files, strict=True)]
            for mixed, est in _pairs(extracted, sound, found, how, stereo):
                rest = mixed - est
                levels.add(mixed, est)
                kept = est if how.keep_db is None else est + np.float32(10 ** (-how.keep_db / 20)) * rest
                for writer, piece in zip(writers, (kept, rest), strict=False):
                    writer.write(piece)
                bar.update(len(est) / rate)
        levels.clipped = writers[0].clipped

    _all_written(files, write, [])
    level_db = levels.presence()
    alike = likeness.curve(len(level_db), PRESENCE_S) if likeness else None
    took = time.monotonic() - began
    return Extracted(mix, out, found.seconds, took, levels.db(1), levels.db(0), levels.clipped, level_db, alike)


def _all_written(files: Sequence[Path], write: Any, temporaries: list[Path]) -> None:
    """Several files at once, each as :func:`hifitse.files.write_atomic` does it."""
    if len(temporaries) == len(files):
        write(temporaries)
    else:
        write_atomic(files[len(temporaries)], lambda temporary: _all_written(files, write, [*temporaries, temporary]))


def _pairs(
    extract: Callable[[Iterable[Tensor]], Iterable[Tensor]], sound: Sound, found: Survey, how: How, stereo: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Mixture and estimate at the recording's own rate, piece by piece, of equal lengths: ``(T_i,)``, or ``(T_i, C)`` each."""
    rate, waiting = found.sample_rate, _Waiting()

    def told() -> Iterator[np.ndarray]:
        for block in sound.blocks():
            mono = heard(block, found, how.channel)
            waiting.add(block if stereo else mono)
            yield np.concatenate([mono[:, None], block], 1) if stereo else mono

    blocks = map(torch.from_numpy, resampled(told(), rate, SAMPLE_RATE))
    for est in resampled(extract(blocks), SAMPLE_RATE, rate):
        est = est[: waiting.samples]  # two resamplings may give or take a sample
        if len(est):
            yield waiting.take(len(est)), est
    if waiting.samples:
        rest = waiting.take(waiting.samples)
        yield rest, np.zeros_like(rest)


class _Waiting:
    """What was read of a recording and not yet written."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.samples = 0

    def add(self, block: np.ndarray) -> None:
        self.blocks.append(block)
        self.samples += len(block)

    def take(self, samples: int) -> np.ndarray:
        self.samples -= samples
        taken = []
        while samples:
            block = self.blocks.pop(0)
            if len(block) > samples:
                self.blocks.insert(0, block[samples:])
            taken.append(block[:samples])
            samples -= len(taken[-1])
        return np.concatenate(taken)


class _Writer:
    """A sound file that is being written; clips what it cannot hold, and counts that."""

    def __init__(self, temporary: Path, path: Path, found: Survey, stereo: bool, how: How) -> None:
        name, subtype = SUBTYPES[path.suffix.lower()]
        channels = found.channels if stereo else 1
        if name == "WAV" and 4 * channels * found.samples > WAV_BYTES:
            name = "RF64"
        self.limited, self.clipped = name == "FLAC", 0
        try:
            self.file = soundfile.SoundFile(os.fsencode(temporary), "w", found.sample_rate, channels, format=name, subtype=subtype)
        except soundfile.LibsndfileError as error:
            raise OSError(str(error)) from None
        if how.comment:
            self.file.comment = how.comment

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.file.close()
        except soundfile.LibsndfileError as error:
            raise OSError(str(error)) from None

    def write(self, piece: np.ndarray) -> None:
        if self.limited:
            self.clipped += int((np.abs(piece) > 1).sum())
            piece = np.clip(piece, -1, 1)
        try:
            self.file.write(piece.astype(np.float32, copy=False))
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all was written
            raise OSError(str(error) or "the disk is full") from None


def resampled(blocks: Iterable[np.ndarray | Tensor], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """A stream at another rate, piece by piece: the same samples as :func:`hifitse.audio.resample` gives for the whole."""
    converter = None
    for block in map(np.asarray, blocks):
        if from_rate != to_rate:
            channels = block.shape[1] if block.ndim == 2 else 1
            converter = converter or soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="HQ")
            block = converter.resample_chunk(np.ascontiguousarray(block))
        yield block
    if converter is not None:
        yield converter.resample_chunk(block[:0], last=True)


class Levels:
    """RMS levels of mixture and estimate, of the whole and each 100 ms."""

    def __init__(self, samples: int, rate: int) -> None:
        self.step = max(1, round(PRESENCE_S * rate))
        self.power = np.zeros((2, -(-samples // self.step)))
        self.samples, self.at, self.clipped = samples, 0, 0

    def add(self, *pair: np.ndarray) -> None:
        places = (self.at + np.arange(len(pair[0]))) // self.step
        for power, piece in zip(self.power, pair, strict=True):
            squares = np.square(piece, dtype=np.float64)
            power += np.bincount(places, squares.mean(1) if squares.ndim == 2 else squares, len(power))
        self.at += len(pair[0])

    def db(self, which: int) -> float:
        power = self.power[which].sum() / self.samples
        return max(10 * float(np.log10(power)), FLOOR_DB) if power else FLOOR_DB

    def presence(self) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.maximum(10 * np.log10(self.power[1] / self.power[0]), FLOOR_DB)
