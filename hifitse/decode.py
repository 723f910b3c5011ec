"""Decode any sound or video file at its own sample rate: libsndfile, which can seek, where it reads correctly, else FFmpeg (PyAV).

libsndfile reads only the first part of concatenated MP3s and chained Ogg files, guesses the length of MP3s without a Xing frame, and
refuses files of unspecified length. From damaged files, whatever can be decoded is used; ``Sound.missing`` describes what is missing.
"""

import contextlib
import mmap
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hifitse import HifitseError

RATES_HZ = (1_000, 1_000_000)  # Hz: a header with a rate outside this range is damaged, and resampling could exhaust the memory
SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .m4a .m4b .aac .ac3 .aif .aiff .aifc .amr .ape .au .caf .mka .snd .tta .w64 .wma .wv .rf64 "
    ".3gp .avi .flv .m4v .mkv .mov .mp4 .mpg .mpeg .ts .webm .wmv".split()
)
"""Suffixes of sound and video files, by which folders are searched."""
FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv,xwma"
)
"""FFmpeg demuxers that may be used. Those for playlists are excluded, because they open other files and URLs."""
SAYS_LENGTH = ("aiff", "asf", "au", "caf", "flac", "matroska", "mov", "w64", "wav")  # FFmpeg demuxers that do not guess the length
OPEN_SIZES, ENDLESS = (0, 2_000_000_000), 0x7FFF_F000  # header sizes that mean "unknown" (a pipe): these two, and all from ENDLESS on
MP3_MARGIN_S = 1.0  # s: audio decoded before a section of an MP3, because frames need bytes of earlier ones
NO_END = "its last page is missing, so it is unknown how much sound is lost"
NOTICED_S = 0.1  # s: smaller differences between header and sound are encoder padding


class AudioError(HifitseError):
    """An audio file or signal cannot be used."""


def channel_of(path: str | Path) -> tuple[Path, int | None]:
    """Split a path into file and channel index: ``call.wav/1`` is the second channel of ``call.wav``. Without index it is ``None``."""
    path = Path(path)
    inside = path.name.isdecimal() and os.path.isfile(path.parent)
    return (path.parent, int(path.name)) if inside else (path, None)


def audio_files(folder: Path) -> Iterator[Path]:
    """Yield the audio files below a folder in order of their names, the same on every machine; hidden files are left out. Links to
    folders are followed at the top level only, after all other files."""
    linked = (inner for inner in sorted(folder.iterdir()) if inner.is_symlink() and inner.is_dir())
    for top in (folder, *linked):
        for path in sorted(top.rglob("*")):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
                yield path


class Sound:
    """An open sound file with ``sample_rate`` in Hz and ``channels``; a context manager. ``missing`` describes what is missing, or is
    empty; it is final once all was read. Raises AudioError: missing, not a file, without sound, an impossible rate, or no such channel."""

    def __init__(self, path: str | Path) -> None:
        (self.path, self.channel), self.missing = channel_of(path), ""
        if not os.path.isfile(self.path):  # unlike Path.is_file, False for names too long for the file system
            reason = "is a folder" if os.path.isdir(path) else "is no regular file" if os.path.exists(path) else "does not exist"
            raise AudioError(f"audio file {str(path)!r} {reason}, expected a readable audio file")
        if not os.path.getsize(self.path):
            raise AudioError(f"file {str(path)!r} is not readable as audio (it holds 0 bytes), expected a sound or video file")
        wrong = ""
        try:
            self.file = _libsndfile(self.path)
        except OSError as error:  # no permission, or a failing disk
            raise AudioError(f"file {str(path)!r} is not readable as audio ({error.strerror}), expected a readable audio file") from None
        if self.file is not None:
            self.sample_rate, self.channels, self.subtype = self.file.samplerate, self.file.channels, self.file.subtype
            self.missing = (NO_END if _pages(self.path)[1] else "") if self.file.format == "OGG" else _said_missing(self.file)
        else:
            self.sample_rate, first = next(self._decoded(), (0, np.zeros((0, 1), np.float32)))
            self.channels, self.subtype = first.shape[1], "FFMPEG"
        if not RATES_HZ[0] <= self.sample_rate <= RATES_HZ[1]:
            wrong = f"has the sample rate {self.sample_rate} Hz, expected {RATES_HZ[0]} to {RATES_HZ[1]}"
            wrong = wrong if self.sample_rate else "holds 0 samples, expected at least 1"
        elif self.channel is not None and self.channel >= self.channels:
            wrong = f"has {self.channels} channels, expected one of them, got {self.channel}"
        if wrong:
            self.close()
            raise AudioError(f"audio file {str(self.path)!r} {wrong}")
        self.channels = self.channels if self.channel is None else 1

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    @cached_property
    def frames(self) -> int:
        """Samples per channel, from the header if libsndfile reads the file, else counted by decoding."""
        return self.file.frames if self.file is not None else sum(len(block) for _, block in self._decoded())

    def read(self, first: int, last: int) -> np.ndarray:
        """Read samples ``first`` to ``last`` (exclusive): ``(T, channels)`` float32, shorter if the file ends earlier."""
        if self.file is not None:
            try:
                before = min(first, round(MP3_MARGIN_S * self.sample_rate)) if self.file.format == "MP3" else 0
                self.file.seek(first - before)
                audio = self.file.read(last - first + before, dtype="float32", always_2d=True)[before:]
                if len(audio) == last - first:
                    return self._chosen(audio)
            except (soundfile.LibsndfileError, MemoryError, ValueError):  # the last two: a damaged header that promises days of sound
                pass
        parts, at = [np.zeros((0, self.channels), np.float32)], 0
        for block in self.blocks():
            parts.append(block[max(0, first - at) : max(0, last - at)])
            if (at := at + len(block)) >= last:
                break
        return np.concatenate(parts)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the whole sound in pieces ``(T_i, channels)`` of about a second, float32. Raises AudioError: not finite."""
        done = 0
        for block in self._pieces():
            if not np.isfinite(block).all():
                raise AudioError(f"audio file {str(self.path)!r} holds NaN or infinite values, expected finite ones")
            done += len(block)
            yield self._chosen(block)
        if self.file is not None and done < self.file.frames:
            self.missing = _cut(done / self.sample_rate, self.file.frames / self.sample_rate)

    def _chosen(self, audio: np.ndarray) -> np.ndarray:
        """Select the channel that the path names from ``(T, channels)``."""
        return audio if self.channel is None else audio[:, [self.channel]]

    def _pieces(self) -> Iterator[np.ndarray]:
        done = 0
        if self.file is not None:
            with contextlib.suppress(soundfile.LibsndfileError):  # seeking fails if the file was cut right after its header
                self.file.seek(0)
            with contextlib.suppress(soundfile.LibsndfileError):
                while len(block := self.file.read(self.sample_rate, dtype="float32", always_2d=True)):
                    done += len(block)
                    yield block
            if done == self.file.frames:
                return
        at = 0  # FFmpeg decodes a damaged file further than libsndfile, which drops the whole block
        try:
            for _, block in self._decoded():
                if at + len(block) > done:
                    yield block[max(0, done - at) :]
                at += len(block)
        except AudioError:
            if not done:
                raise

    def _decoded(self) -> Iterator[tuple[int, np.ndarray]]:
        """Decode with FFmpeg and yield sample rate and pieces ``(T_i, channels)`` of about a second."""
        import av  # slow to import, and rarely needed

        with open(self.path, "rb") as raw:  # opened here, because FFmpeg accepts UTF-8 names only
            try:
                container = av.open(raw, metadata_errors="ignore", options={"format_whitelist": FORMATS})
                stream = container.streams.best("audio")
            except (av.FFmpegError, ValueError) as error:
                said = f"file {str(self.path)!r} is not readable as audio ({getattr(error, 'strerror', None) or error})"
                raise AudioError(f"{said}, expected a sound or video file such as wav, flac, ogg, mp3, m4a or mp4") from None
            with container:
                if stream is None:
                    raise AudioError(f"file {str(self.path)!r} has no audio track, expected a file with at least one")
                yield from self._frames(container, stream)

    def _frames(self, container: Any, stream: Any) -> Iterator[tuple[int, np.ndarray]]:
        import av

        held, rate, samples, bad = [], 0, 0, 0
        resampler = form = layout = None  # parts of a chained file may differ in rate: that of the first is used
        packets = iter(container.demux(stream))
        while bad <= 1000:
            try:
                frames = next(packets).decode()
            except StopIteration:
                break
            except av.FFmpegError:
                bad += 1
                continue
            for frame in frames:
                if form != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
                    rate, layout = rate or frame.sample_rate, layout if rate else frame.layout
                    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
                frame.pts = None  # time stamps restart in a chained file
                held += [part.to_ndarray().T for part in resampler.resample(frame)]
            if sum(map(len, held)) >= rate > 0:
                block, held = np.concatenate(held), []
                samples += len(block)
                yield rate, block
        if held:
            samples += sum(map(len, held))
            yield rate, np.concatenate(held)
        name = container.format.name.split(",")[0]
        told = name in SAYS_LENGTH or (name == "mp3" and _xing(self.path))
        there_s, said_s = samples / max(rate, 1), stream.frames / max(rate, 1) if name == "caf" else _said_s(container, stream)
        if told and there_s < said_s - NOTICED_S:
            self.missing = _cut(there_s, said_s)
        elif bad > 1:  # a single one is the end of a cut file
            self.missing = f"{bad} of its packets cannot be decoded"
        elif rate and _pages(self.path)[1]:
            self.missing = NO_END


def _said_s(container: Any, stream: Any) -> float:
    """Return the length of the sound in seconds according to its container: that of the picture may differ."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if ends := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):  # Matroska states the end
        hours, minutes, seconds = map(float, ends.groups())
        return 3600 * hours + 60 * minutes + seconds - float((stream.start_time or 0) * stream.time_base)
    return (container.duration or 0) / 1e6


def _cut(there_s: float, said_s: float) -> str:
    return f"{said_s - there_s:.1f} s of its {said_s:.1f} s are missing at the end"


def _libsndfile(path: Path) -> soundfile.SoundFile | None:
    """Open the file with libsndfile, or return ``None`` if libsndfile cannot read all of it."""
    with open(path, "rb") as raw:
        head = raw.read(4)
    if head == b"OggS" and _pages(path)[0]:
        return None
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):  # an MP3, whose Xing frame must give its length to a frame
        said, there = _xing(path) or (0, 1e9)
        if abs(said - there) >= 1_500:
            return None  # before it is opened, because libmpg123 would write to the terminal
    elif path.suffix.lower() == ".mp3":  # libsndfile would trust the name, and libmpg123 complain
        return None
    try:
        file = soundfile.SoundFile(os.fsencode(path))  # bytes, because soundfile rejects names that are not UTF-8
    except (soundfile.LibsndfileError, TypeError):  # TypeError: the suffix .raw, which has no header
        return None
    if 0 < file.frames < 1 << 62:
        return file
    file.close()
    return None


def _said_missing(file: soundfile.SoundFile) -> str:
    """Return what is missing according to libsndfile's parser, or an empty string."""
    if file.format in ("FLAC", "MP3"):  # the parser reports no sizes for these
        return ""
    sizes = re.search(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    said, there = (int(sizes[1]), int(sizes[2])) if sizes else (0, 0)
    if said in OPEN_SIZES or not there < said < ENDLESS:
        return ""
    seconds = file.frames / file.samplerate
    return _cut(seconds, seconds * said / there)


def _pages(path: Path) -> tuple[bool, bool]:
    """Return whether an Ogg file is chained, and whether it lacks its last page; (False, False) for other files."""
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        last = data.rfind(b"OggS") if data[:4] == b"OggS" else -1
        return last >= 0 and data.find(b"OggS\0\2", 4) > 0, last >= 0 and not (last + 5 < len(data) and data[last + 5] & 4)


def _xing(path: Path) -> tuple[int, int] | None:
    """Return the bytes of sound stated in an MP3's Xing frame, and those from this frame to the end of the file; ``None`` without one."""
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = 0
        while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
            start += 10 + sum(data[start + 6 + place] << 7 * (3 - place) for place in range(4))
        head, size = data[start : start + 200], len(data) - (128 if data[-128:-125] == b"TAG" else 0)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 16 or head[at + 7] & 3 != 3:
        return None
    return int.from_bytes(head[at + 12 : at + 16], "big"), size - start
