"""Tones, noise, and small folders of them and of rooms for the tests of corpora, mixtures and batches."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from hifitse import SAMPLE_RATE
from hifitse.params import Params


def pitch(speaker: int) -> float:
    """Return the frequency in Hz of the tone that a speaker of ``speech_folder`` hums."""
    return 300.0 + 50 * speaker


def peak_hz(signal: np.ndarray) -> float:
    """Return the frequency in Hz of the highest peak of a signal's spectrum."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 8 * len(signal)))
    return np.argmax(spectrum) * SAMPLE_RATE / (8 * len(signal))


def save(path: Path, audio: np.ndarray, rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype=subtype)


def tone(hertz: float, peak: float = 0.5, seconds: float = 1.0, rate: int = SAMPLE_RATE) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def hum(frequency: float, seconds: float, seed: int) -> np.ndarray:
    """Return a tone that swells twice a second, with a little noise that makes each one different."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rough = 0.003 * np.random.default_rng(seed).standard_normal(len(time))
    return 0.3 * np.sin(2 * np.pi * frequency * time) * (0.6 + 0.4 * np.sin(4 * np.pi * time + seed)) + rough


def speech_folder(folder: Path, speakers: int = 9, utterances: int = 4, seconds: float = 1.5) -> Path:
    for speaker in range(speakers):
        for number in range(utterances):
            save(folder / f"s{speaker:02d}" / f"u{number}.flac", hum(pitch(speaker), seconds, 100 * speaker + number))
    return folder


def entry(speaker: int, number: int, /, **changes: Any) -> dict[str, Any]:
    """Return the line of a manifest for an utterance of ``speech_folder``; a change to ``None`` leaves the field out."""
    line = {"speaker": f"s{speaker:02d}", "utterance": f"u{number}", "path": f"s{speaker:02d}/u{number}.flac"}
    line |= {"samples": 72_000, "sample_rate": SAMPLE_RATE} | changes
    return {name: value for name, value in line.items() if value is not None}


def manifest(folder: Path, lines: list[dict | str], name: str = "manifest.jsonl") -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder / name


def noise_folder(folder: Path, clips: int = 6, seconds: float = 0.7) -> Path:
    for number in range(clips):
        rng = np.random.default_rng(number)
        save(folder / f"hiss_{number}-{9000 + number}-A.flac", 0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE)))
    return folder


def room_folder(folder: Path, rooms: int = 6, positions: int = 3) -> Path:
    """Write responses of 0.3 s whose direct path comes after 20 samples and is by far the strongest."""
    for room in range(rooms):
        for position in range(positions):
            rng = np.random.default_rng([room, position])
            rir = 0.02 * rng.standard_normal(round(0.3 * SAMPLE_RATE)) * np.exp(-np.linspace(0, 6, round(0.3 * SAMPLE_RATE)))
            rir[:20] = 0
            rir[20] = 0.8
            save(folder / f"room{chr(97 + room)}_{position}.flac", rir)
    return folder


def folders(root: Path) -> dict[str, str]:
    """Make one folder of each kind below ``root``; return the parameters that name them."""
    return {
        "corpus": str(speech_folder(root / "speech")),
        "noise": str(noise_folder(root / "noise")),
        "rooms": str(room_folder(root / "rooms")),
    }


def small(sources: dict[str, str], **values: object) -> Params:
    """Return parameters for short mixtures from these sources."""
    return Params(**({"seconds": 1.0, "enroll_seconds": 1.0, "eval_seconds": 1.0, "steps": 10, "workers": 0} | sources | values))
