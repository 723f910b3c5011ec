"""One voice out of recordings on disk, read and written piece by piece: an hour needs no more memory than half a minute."""

import re
import time
from collections.abc import Iterator, Sequence
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
from hifitse.audio import FLOOR_DB, SUBTYPES, AudioError, info
from hifitse.files import write_atomic
from hifitse.model.extraction import ENROLL_MAX_S, check_rate, stream, voice

BLOCK_S = 1.0
"""s: what is read and written at a time."""
ENDLESS = 0x7FFF_F000
"""Bytes from which on the size in a wav header is no size: programs that write into a pipe cannot know it."""


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
    """dBFS of the recording, its channels averaged."""
    clipped: int
    """Samples of the estimate beyond full scale, which a flac file cannot hold."""

    def __str__(self) -> str:
        speed = f"{self.seconds / max(self.took_s, 1e-9):.1f} times as fast as it plays"
        clipped = f"; {self.clipped} samples clipped" if self.clipped else ""
        level = f"level {self.level_db:.1f} dBFS of {self.mix_level_db:.1f}{clipped}"
        return f"{self.mix.name} -> {self.out}: {self.seconds:.1f} s in {self.took_s:.1f} s ({speed}), {level}"


def plan(mixes: Sequence[str | Path], enrolments: Sequence[str | Path], out: str | Path) -> list[tuple[Path, Path]]:
    """Which file goes where, before anything is done: every header is read, no name may stand twice, no input is overwritten.

    Args:
        mixes: recordings, one or more.
        enrolments: of the one speaker, one or more.
        out: of one mixture a file that ends in .wav or .flac, or a folder that exists; of several a folder, made where it does not.

    Returns:
        (mixture, output) of each; in a folder under the mixture's name, as .wav where it is neither .wav nor .flac.

    Raises:
        AudioError: a file is missing, empty or no audio, or the output cannot be there.
    """
    mixes, out = [Path(mix) for mix in mixes], Path(out)
    for path in (*mixes, *enrolments):
        check_rate(info(path).sample_rate)
    if len(mixes) == 1 and not out.is_dir():
        if out.suffix.lower() not in SUBTYPES:
            raise AudioError(f"output is {str(out)!r}, allowed are a name that ends in {' or '.join(SUBTYPES)} and a folder that exists")
        pairs = [(mixes[0], out)]
    else:
        if out.suffix.lower() in SUBTYPES and not out.is_dir():
            raise AudioError(f"output is {str(out)!r} for {len(mixes)} mixtures, allowed is a folder")
        kept = [mix if mix.suffix.lower() in SUBTYPES else mix.with_suffix(".wav") for mix in mixes]
        pairs = [(mix, out / name.name) for mix, name in zip(mixes, kept, strict=True)]
    inputs = {Path(path).resolve(): path for path in (*mixes, *enrolments)}
    for number, (mix, target) in enumerate(pairs):
        if target.resolve() in inputs:
            raise AudioError(f"output {str(target)!r} is an input, allowed is another place")
        if target.is_dir():
            raise AudioError(f"output {str(target)!r} is a folder, allowed is a file")
        if target in (before := {other: source for source, other in pairs[:number]}):
            raise AudioError(f"{str(before[target])!r} and {str(mix)!r} would both go to {str(target)!r}, allowed are different names")
    return pairs


def encode_files(extractor: Any, enrolments: Sequence[str | Path]) -> Any:
    """The speaker of recordings on disk, of each the first 30 s.

    Raises:
        AudioError: as :func:`hifitse.model.extraction.encode` and :func:`read_blocks`.
    """
    heard = []
    device = next(extractor.parameters()).device
    for path in enrolments:
        rate, parts, samples = info(path).sample_rate, [], 0
        for block in read_blocks(path):
            parts.append(block)
            samples += len(block)
            if samples >= ENROLL_MAX_S * rate:
                break
        heard.append(torch.from_numpy(voice(np.concatenate(parts), rate, f"enrolment {str(path)!r}")).to(device))
    with torch.no_grad():
        return extractor.encode_each(heard)


def extract_file(extractor: Any, speaker: Any, mix: Path, out: Path, progress: bool = True) -> Extracted:
    """Extract from one file into another, which appears when it is whole.

    Args:
        extractor: a :class:`hifitse.model.Extractor`.
        speaker: as :func:`encode_files` gives it.
        mix: any rate, length and number of channels, which are averaged.
        out: ends in .wav (float32) or .flac (24 bit, clipped at full scale); has the mixture's rate and length, one channel.
        progress: show a progress bar, where there is a terminal.

    Raises:
        AudioError: the mixture is cut short, damaged or not finite.
        CheckpointError: the output cannot be written.
    """
    began, rate = time.monotonic(), info(mix).sample_rate
    levels, file_format = {"mix": _Level(), "est": _Level()}, SUBTYPES[out.suffix.lower()]
    with soundfile.SoundFile(mix) as file:
        total = file.frames

    def write(temporary: Path) -> None:
        bar = tqdm(total=total / rate, desc=mix.name, unit="s", disable=None if progress else True, dynamic_ncols=True, leave=False)
        bar.bar_format = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
        blocks = _noted(read_blocks(mix), levels["mix"])
        pieces = resampled(stream(extractor, map(torch.from_numpy, resampled(blocks, rate, SAMPLE_RATE)), speaker), SAMPLE_RATE, rate)
        try:
            with bar, soundfile.SoundFile(temporary, "w", rate, 1, format=file_format[0], subtype=file_format[1]) as file:
                for piece in _noted(_fitted(pieces, total), levels["est"]):
                    file.write(piece if file_format[0] == "WAV" else np.clip(piece, -1, 1))
                    bar.update(len(piece) / rate)
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all was written
            raise OSError(str(error) or "the disk is full") from None

    write_atomic(out, write)
    clipped = 0 if file_format[0] == "WAV" else levels["est"].clipped
    return Extracted(mix, out, total / rate, time.monotonic() - began, levels["est"].db, levels["mix"].db, clipped)


def read_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """An audio file in pieces ``(T_i,)`` of a second at its own rate, channels averaged.

    Raises:
        AudioError: missing, empty, damaged, cut short, or not finite.
    """
    info(path)  # says what is wrong with a file that cannot be opened
    with soundfile.SoundFile(path) as file:
        sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
        if sizes and int(sizes[2]) < int(sizes[1]) < ENDLESS:
            raise AudioError(f"audio file {str(path)!r} has {sizes[2]} of its {sizes[1]} bytes of sound, allowed is a whole file")
        done = 0
        while done < file.frames:
            try:
                block = file.read(max(1, round(BLOCK_S * file.samplerate)), dtype="float32", always_2d=True)  # (T, channels)
            except soundfile.LibsndfileError as error:
                where = f"cannot be decoded at sample {done} ({error})"
                raise AudioError(f"audio file {str(path)!r} {where}, allowed is a whole file") from None
            if not len(block):
                raise AudioError(f"audio file {str(path)!r} ends after {done} of its {file.frames} samples, allowed is a whole file")
            if not np.isfinite(block).all():
                raise AudioError(f"audio file {str(path)!r} holds NaN or infinite values, allowed are finite ones")
            yield block.mean(1, dtype=np.float32)
            done += len(block)


def resampled(blocks: Iterator[np.ndarray | Tensor], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """A stream at another rate, piece by piece: the same samples as :func:`hifitse.audio.resample` gives for the whole."""
    if from_rate == to_rate:
        yield from map(np.asarray, blocks)
        return
    converter = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield converter.resample_chunk(np.ascontiguousarray(block))
    yield converter.resample_chunk(np.zeros(0, np.float32), last=True)


def _fitted(blocks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """The stream with exactly that length: two resamplings may give or take a sample."""
    left = samples
    for block in blocks:
        yield block[:left]
        left -= len(block[:left])
    if left:
        yield np.zeros(left, np.float32)


class _Level:
    """RMS level and clipped samples of a stream."""

    def __init__(self) -> None:
        self.energy, self.samples, self.clipped = 0.0, 0, 0

    def add(self, block: np.ndarray) -> None:
        self.energy += float(np.square(block, dtype=np.float64).sum())
        self.samples += len(block)
        self.clipped += int((np.abs(block) > 1).sum())

    @property
    def db(self) -> float:
        return max(10 * float(np.log10(self.energy / self.samples)), FLOOR_DB) if self.energy else FLOOR_DB


def _noted(blocks: Iterator[np.ndarray], level: _Level) -> Iterator[np.ndarray]:
    for block in blocks:
        level.add(block)
        yield block
