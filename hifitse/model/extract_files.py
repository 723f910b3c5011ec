"""Extract a voice from files, read and written piece by piece: an hour needs no more memory than half a minute."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from hifitse import SAMPLE_RATE
from hifitse.audio import FLOOR_DB, SUBTYPES, AudioError, cancelled, downmix
from hifitse.decode import Sound
from hifitse.files import write_atomic
from hifitse.model.extraction import ENROLL_MAX_S, stream
from hifitse.model.verifier import Likeness

FULL_SCALE, CLIPPED_SHARE = 0.999, 1e-4  # two samples in a row this high count as clipped; share of clipped samples that is reported
WAV_BYTES = 2**32 - 2**20  # bytes of sound above which a WAV file is written as RF64, because WAV has 32-bit sizes
PRESENCE_S = 0.1  # s: step of :attr:`Extracted.presence`


@dataclass
class Survey:
    """Result of a first pass over a recording, or over the selected channel of it. ``power`` (C,) holds the summed squares of the channels,
    ``mixed`` those of their mix."""

    sample_rate: int
    channels: int
    samples: int = 0
    power: np.ndarray = field(default_factory=lambda: np.zeros(1))
    mixed: float = 0.0
    clipped: int = 0
    missing: str = ""

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def warnings(self) -> list[str]:
        """Return messages about the recording that the user should see."""
        said = [self.missing] if self.missing else []
        if self.clipped > CLIPPED_SHARE * self.samples:
            said.append(f"{100 * self.clipped / self.samples:.2g} % of its samples are clipped")
        if (loudest := cancelled(self.power, self.mixed)) is not None:
            said.append(f"its channels cancel each other, so only channel {loudest + 1} is used; --channel selects another")
        return said


def survey(path: str | Path, channel: int | None = None) -> Survey:
    """Read a recording once and summarise it. Raises AudioError: no sound, values that are not finite, or no such channel."""
    with Sound(path) as sound:
        if channel is not None and not 1 <= channel <= sound.channels:
            raise AudioError(f"channel is {channel}, expected 1 to {sound.channels} in {str(path)!r}")
        found = Survey(sound.sample_rate, sound.channels, power=np.zeros(sound.channels if channel is None else 1))
        highest = 1.0 if sound.subtype in ("FLOAT", "DOUBLE") else np.inf  # these formats hold more without clipping, decoders overshoot
        for block in sound.blocks():
            block = block if channel is None else block[:, [channel - 1]]
            found.samples += len(block)
            found.power += np.square(block, dtype=np.float64).sum(0)
            found.mixed += float(np.square(downmix(block), dtype=np.float64).sum())
            high = (np.abs(block) >= FULL_SCALE) & (np.abs(block) <= highest)
            found.clipped += int((high[1:] & high[:-1]).any(1).sum())
        found.missing = sound.missing
    if not found.samples:
        raise AudioError(f"audio file {str(path)!r} holds 0 samples, expected at least 1")
    return found


def heard(block: np.ndarray, found: Survey, channel: int | None) -> np.ndarray:
    """Mix a block ``(T, C)`` down to ``(T,)``, or select ``channel``, or the loudest channel if the channels cancel each other."""
    loudest = cancelled(found.power, found.mixed) if channel is None else channel - 1
    return downmix(block) if loudest is None else block[:, loudest]


def enrolment(path: str | Path, start_s: float = 0.0, stop_s: float = float("inf"), channel: int | None = None) -> tuple[np.ndarray, int]:
    """Load a recording of the speaker, or a section of it: at most 30 s as ``(T,)``, and its sample rate.
    Raises AudioError: as :func:`survey`, or the section begins after the end."""
    found = survey(path, channel)
    if start_s >= found.seconds:
        raise AudioError(f"the piece begins at {start_s:g} s of {str(path)!r}, expected one in its {found.seconds:.1f} s")
    rate = found.sample_rate
    with Sound(path) as sound:
        block = sound.read(round(start_s * rate), round(min(stop_s, found.seconds, start_s + ENROLL_MAX_S) * rate))
    return heard(block, found, channel), rate


@dataclass(frozen=True)
class How:
    """Options of an extraction."""

    channel: int | None = None  # channel to use, counted from 1; ``None``: downmix of all
    keep_stereo: bool = False  # apply the mask to every channel; the estimate then has as many
    keep_db: float | None = None  # lower everything but the voice by this many dB; ``None``: remove it
    likeness: bool = False  # also measure the similarity of estimate and enrolment, if the extractor has a verifier
    comment: str = ""  # stored in the output files


@dataclass(frozen=True)
class Extracted:
    """Result of extracting from one recording."""

    mix: Path
    out: Path
    seconds: float
    took_s: float
    level_db: float  # dBFS of the estimate
    mix_level_db: float  # dBFS of the recording, downmixed
    clipped: int  # samples of the output clipped at full scale; only FLAC files clip
    presence: np.ndarray  # (P,) level of the estimate relative to the mixture in dB, every 100 ms; nan where the mixture is silent
    likeness: np.ndarray | None  # (P,) similarity of estimate and enrolment, 0 to 1, every 100 ms, if requested

    def __str__(self) -> str:
        speed = f"{self.seconds / max(self.took_s, 1e-9):.1f} times real time"
        clipped = f"; {self.clipped} samples clipped" if self.clipped else ""
        level = f"voice {self.level_db:.1f} dBFS, mixture {self.mix_level_db:.1f} dBFS{clipped}"
        return f"{self.mix.name} -> {self.out}: {self.seconds:.1f} s in {self.took_s:.1f} s ({speed}), {level}"


def extract_file(
    extractor: Any, speaker: Any, mix: Path, out: Path, how: How = How(), residual: Path | None = None, found: Survey | None = None
) -> Extracted:
    """Extract a voice from one file. An output file appears only once it is complete.

    Args:
        extractor, speaker: a :class:`hifitse.model.Extractor`, and the result of :func:`hifitse.model.extraction.encode`.
        mix: recording of any sample rate, length and number of channels.
        out: .wav (float32, RF64 beyond 4 GiB) or .flac (24 bit, clipped at full scale), with the mixture's sample rate and length.
        residual: file for what was removed, the mixture minus the estimate.
        found: result of :func:`survey`, if already known.

    Raises AudioError: the mixture has no sound, or is not finite; CheckpointError: an output cannot be written.
    """
    began = time.monotonic()
    found = found or survey(mix, how.channel)
    rate, stereo = found.sample_rate, how.keep_stereo and found.channels > 1
    levels, likeness = Levels(found.samples, rate), None
    if how.likeness and extractor.verifier is not None:
        likeness = Likeness(extractor.verifier, speaker.voice)
    shown = os.fsencode(mix.name).decode(errors="backslashreplace")
    bar = tqdm(total=found.seconds, desc=shown, unit="s", disable=None, dynamic_ncols=True, leave=False)
    bar.bar_format = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
    files = [path for path in (out, residual) if path is not None]

    def extracted(blocks: Iterable[Tensor]) -> Iterable[Tensor]:
        ests = stream(extractor, blocks, speaker)
        return likeness.through(ests) if likeness else ests

    def write(temporaries: list[Path]) -> None:
        with Sound(mix) as sound, bar, ExitStack() as stack:
            pairs = zip(temporaries, files, strict=True)
            writers = [stack.enter_context(_writer(at, file, found, found.channels if stereo else 1, how.comment)) for at, file in pairs]
            for mixed, est in _pairs(extracted, sound, found, how, stereo):
                rest = mixed - est
                levels.add(mixed, est)
                kept = est if how.keep_db is None else est + np.float32(10 ** (-how.keep_db / 20)) * rest
                clipped = [write_piece(piece) for write_piece, piece in zip(writers, (kept, rest), strict=False)]
                levels.clipped += clipped[0]
                bar.update(len(est) / rate)

    _all_written(files, write, [])
    level_db, took = levels.presence(), time.monotonic() - began
    alike = likeness.curve(len(level_db), PRESENCE_S) if likeness else None
    return Extracted(mix, out, found.seconds, took, levels.db(1), levels.db(0), levels.clipped, level_db, alike)


def _all_written(files: Sequence[Path], write: Callable[[list[Path]], None], temporaries: list[Path]) -> None:
    """Write several files at once, each as :func:`hifitse.files.write_atomic` does."""
    if len(temporaries) == len(files):
        write(temporaries)
    else:
        write_atomic(files[len(temporaries)], lambda temporary: _all_written(files, write, [*temporaries, temporary]))


def _pairs(
    extract: Callable[[Iterable[Tensor]], Iterable[Tensor]], sound: Sound, found: Survey, how: How, stereo: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pieces of mixture and estimate, equally long, at the recording's sample rate: ``(T_i,)`` or, in stereo, ``(T_i, C)`` each."""
    rate = found.sample_rate
    waiting = np.zeros((0, found.channels) if stereo else 0, np.float32)  # samples read that have no estimate yet

    def told() -> Iterator[np.ndarray]:
        nonlocal waiting
        for block in sound.blocks():
            mono = heard(block, found, how.channel)
            waiting = np.concatenate([waiting, block if stereo else mono])
            yield np.concatenate([mono[:, None], block], 1) if stereo else mono

    blocks = map(torch.from_numpy, resampled(told(), rate, SAMPLE_RATE))
    for est in resampled(extract(blocks), SAMPLE_RATE, rate):
        est = est[: len(waiting)]  # resampling twice may add or drop a sample
        mixed, waiting = waiting[: len(est)], waiting[len(est) :]
        if len(est):
            yield mixed, est
    if len(waiting):
        yield waiting, np.zeros_like(waiting)


@contextmanager
def _writer(temporary: Path, path: Path, found: Survey, channels: int, comment: str) -> Iterator[Callable[[np.ndarray], int]]:
    """Yield a function that appends to a sound file and returns the number of samples it had to clip."""
    name, subtype = SUBTYPES[path.suffix.lower()]
    if name == "WAV" and 4 * channels * found.samples > WAV_BYTES:
        name = "RF64"

    def write(piece: np.ndarray) -> int:
        beyond = int((np.abs(piece) > 1).sum()) if name == "FLAC" else 0
        try:
            file.write((np.clip(piece, -1, 1) if beyond else piece).astype(np.float32, copy=False))
        except AssertionError:  # soundfile asserts that everything was written
            raise OSError("the disk is full") from None
        return beyond

    try:
        with soundfile.SoundFile(os.fsencode(temporary), "w", found.sample_rate, channels, format=name, subtype=subtype) as file:
            if comment:
                file.comment = comment
            yield write
    except soundfile.LibsndfileError as error:
        raise OSError(str(error)) from None


def resampled(blocks: Iterable[np.ndarray | Tensor], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream piece by piece, with the same result as :func:`hifitse.audio.resample` on the whole signal."""
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
    """RMS levels of mixture and estimate, overall and every 100 ms, and the number of clipped output samples."""

    def __init__(self, samples: int, rate: int) -> None:
        self.rate, self.per_second = rate, round(1 / PRESENCE_S)  # a step is not always a whole number of samples
        self.power = np.zeros((2, -(-samples * self.per_second // rate)))
        self.samples, self.at, self.clipped = samples, 0, 0

    def add(self, *pair: np.ndarray) -> None:
        places = (self.at + np.arange(len(pair[0]))) * self.per_second // self.rate
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
