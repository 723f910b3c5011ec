"""Sound files of many kinds, whole and damaged, for test_files.py."""

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

from hifitse import SAMPLE_RATE

SECONDS = 2.0
Make = Callable[[Path], Path]


def signal(seconds: float = SECONDS) -> np.ndarray:
    """Return a tone in noise whose pitch and level change to the very end, so that any missing part is noticed."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rough = 0.02 * np.random.default_rng(0).standard_normal(len(time))
    tone = np.sin(2 * np.pi * (200 + 60 * time) * time) * (0.6 + 0.4 * np.sin(4 * np.pi * time))
    return (0.3 * tone + rough).astype(np.float32)


def bytes_of(kind: str, subtype: str | None = None, sound: np.ndarray | None = None, rate: int = SAMPLE_RATE) -> bytes:
    memory = io.BytesIO()
    soundfile.write(memory, signal() if sound is None else sound, rate, format=kind, subtype=subtype)
    return memory.getvalue()


def raw(name: str | bytes, data: Callable[[], bytes]) -> Make:
    def make(folder: Path) -> Path:
        path = folder / os.fsdecode(name)
        path.write_bytes(data())
        return path

    return make


def by_libsndfile(name: str, kind: str, subtype: str | None = None, change: Callable[[bytes], bytes] = bytes) -> Make:
    return raw(name, lambda: change(bytes_of(kind, subtype)))


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def wav_size(size: int) -> Callable[[bytes], bytes]:
    """Overwrite the data size in a WAV header, as programs that write into a pipe leave it."""

    def change(data: bytes) -> bytes:
        at = data.index(b"data") + 4
        return data[:4] + struct.pack("<I", min(size + 36, 2**32 - 1)) + data[8:at] + struct.pack("<I", size) + data[at + 4 :]

    return change


def flac_without_length(data: bytes) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:]


def flac_of_days(data: bytes) -> bytes:
    return data[:21] + bytes([data[21] | 0x0F, 255, 255, 255, 255]) + data[26:]


def mp3_without_xing(data: bytes) -> bytes:
    rates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    return data[144_000 * rates[data[2] >> 4] // SAMPLE_RATE + (data[2] >> 1 & 1) :]


def by_ffmpeg(name: str, codec: str, rate: int = SAMPLE_RATE, video: bool = False, change: Callable[[bytes], bytes] = bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        with av.open(str(path), "w") as container:
            sound = container.add_stream(codec, rate=rate, layout="mono")
            if video:
                picture = container.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
                for number in range(round(20 * SECONDS)):  # the picture may last longer than the sound
                    image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                    image.pts = number
                    container.mux(picture.encode(image))
                container.mux(picture.encode())
            if codec == "wmav2":
                sound.bit_rate = 128_000
            frame = av.AudioFrame.from_ndarray(signal()[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, 0
            for part in (frame, None):
                container.mux(sound.encode(part))
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


WHOLE: dict[str, Make] = {
    "wav": by_libsndfile("a.wav", "WAV", "PCM_16"),
    "float wav": by_libsndfile("a.wav", "WAV", "FLOAT"),
    "flac": by_libsndfile("a.flac", "FLAC"),
    "mp3": by_libsndfile("a.mp3", "MP3"),
    "ogg": by_libsndfile("a.ogg", "OGG"),
    "opus": by_libsndfile("a.opus", "OGG", "OPUS"),
    "aiff": by_libsndfile("a.aif", "AIFF", "PCM_16"),
    "caf": by_libsndfile("a.caf", "CAF", "PCM_16"),
    "w64": by_libsndfile("a.w64", "W64", "PCM_16"),
    "m4a": by_ffmpeg("a.m4a", "aac"),
    "alac": by_ffmpeg("a.m4a", "alac"),
    "aac": by_ffmpeg("a.aac", "aac"),
    "wma": by_ffmpeg("a.wma", "wmav2"),
    "amr": by_ffmpeg("a.amr", "libopencore_amrnb", rate=8_000),
    "mp4 video": by_ffmpeg("a.mp4", "aac", video=True),
    "mkv video": by_ffmpeg("a.mkv", "libopus", video=True),
    "webm": by_ffmpeg("a.webm", "libopus"),
    "flac of unknown length": by_libsndfile("a.flac", "FLAC", change=flac_without_length),
    "wav of size 0": by_libsndfile("a.wav", "WAV", change=wav_size(0)),
    "wav of size 2e9": by_libsndfile("a.wav", "WAV", change=wav_size(2_000_000_000)),
    "wav of size 2^31": by_libsndfile("a.wav", "WAV", change=wav_size(0x7FFFF000)),
    "au of open size": by_libsndfile("a.au", "AU", change=lambda data: data[:8] + b"\xff" * 4 + data[12:]),
    "mp3 without xing": by_libsndfile("a.mp3", "MP3", change=mp3_without_xing),
    "name of no text": raw(b"\xff\xe9.wav", lambda: bytes_of("WAV")),
    "name of no text, by ffmpeg": raw(b"\xff\xe9.flac", lambda: flac_without_length(bytes_of("FLAC"))),
    "wrong ending": raw("a.ogg", lambda: bytes_of("FLAC")),
    "wav as mp3": raw("a.mp3", lambda: bytes_of("WAV")),
}
"""Files that hold the whole signal."""

JOINED: dict[str, Make] = {
    "joined mp3": by_libsndfile("a.mp3", "MP3", change=lambda data: 2 * data),
    "chained ogg": raw("a.ogg", lambda: bytes_of("OGG") + bytes_of("OGG", sound=0.5 * signal())),
    "chained opus": raw("a.opus", lambda: bytes_of("OGG", "OPUS") + bytes_of("OGG", "OPUS", 0.5 * signal())),
}
"""Files that hold the signal twice."""

DAMAGED: dict[str, tuple[Make, str]] = {
    "cut wav": (by_libsndfile("a.wav", "WAV", change=cut), "0.8 s of its 2.0 s"),
    "cut flac": (by_libsndfile("a.flac", "FLAC", change=cut), "s of its 2.0 s"),
    "cut aiff": (by_libsndfile("a.aif", "AIFF", change=cut), "0.8 s of its 2.0 s"),
    "cut caf": (by_libsndfile("a.caf", "CAF", change=cut), "0.8 s of its 2.0 s"),
    "cut mp3": (by_libsndfile("a.mp3", "MP3", change=cut), "s of its 2.0 s"),
    "cut ogg": (by_libsndfile("a.ogg", "OGG", change=cut), "its last page is missing"),
    "cut opus": (by_libsndfile("a.opus", "OGG", "OPUS", change=cut), "its last page is missing"),
    "cut webm": (by_ffmpeg("a.webm", "libopus", change=cut), "s of its 2.0 s"),
    "size too large": (by_libsndfile("a.wav", "WAV", change=wav_size(1_000_000)), "s of its 10.4 s"),
    "flac of days": (by_libsndfile("a.flac", "FLAC", change=flac_of_days), "s are missing at the end"),
}
"""Incomplete files, and what the warning says about the missing part."""

NONE: dict[str, tuple[Make, str]] = {
    "text": (raw("a.wav", lambda: b"no sound at all"), "not readable as audio"),
    "play list": (raw("a.m3u8", lambda: b"#EXTM3U\n#EXTINF:2,\nother.wav\n#EXT-X-ENDLIST\n"), "not readable as audio"),
    "text as mp3": (raw("a.mp3", lambda: b"no sound at all"), "not readable as audio"),
    "empty": (raw("a.flac", bytes), "not readable as audio"),
    "header cut short": (raw("a.wav", lambda: bytes_of("WAV")[:30]), "not readable as audio"),
    "no samples": (raw("a.wav", lambda: bytes_of("WAV", sound=signal()[:0])), "0 samples"),
    "mp4 without its index": (by_ffmpeg("a.m4a", "aac", change=cut), "not readable as audio"),
    "NaN": (raw("a.wav", lambda: bytes_of("WAV", "FLOAT", np.where(np.arange(9_600) == 7, np.nan, 0.1))), "NaN or infinite"),
    "impossible rate": (raw("a.wav", lambda: bytes_of("WAV", rate=10)), "has the sample rate 10 Hz, expected"),
}
"""Files that are refused, and the reason."""
