"""The embedded sources of sound: synthetic speech and noise, made on the spot and cached on disk.

The voices are **synthetic**. They serve to show and test the whole path without a download; results on them say
little about people. They come from espeak-ng, in the PyPI wheel ``espeakng-loader``, which is licensed under the GPL,
version 3; it runs as a process of its own, and nothing but these sources needs it.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from hifitse import SAMPLE_RATE
from hifitse.data import noises
from hifitse.data.speakers import ENGLISH, Speaker, speak, speaker, variant_group, words
from hifitse.files import made_once

VERSION = 5
"""Part of the cache's key: raise it when the same arguments give other sound."""


def make_speech(speakers: int, utterances: int, seed: int) -> Path:
    """Folder of the synthetic corpus: ``<speaker>/<utterance>.wav`` (16 bit), ``manifest.jsonl``, ``speakers.jsonl``.

    Made at the first call (some 40 s for 200 speakers with 8 utterances on 2 cores, 0.8 GB), then found in the cache. Not
    compressed: decoding FLAC took nearly half of the time of a mixture. The
    first speakers and utterances of a larger corpus are those of a smaller one with the same seed. A manifest's
    ``group`` is the family of the voice variant.

    Args:
        speakers: 1 or more.
        utterances: of each speaker, 1 or more, of 3.5 to 6 s.
        seed: 0 or more.

    Raises:
        HifitseError: ``espeakng-loader`` is not installed.
    """
    return made_once(f"speech-v{VERSION}-{speakers}x{utterances}-seed{seed}", partial(_make_speech, speakers, utterances, seed))


def _make_speech(speakers: int, utterances: int, seed: int, folder: Path) -> None:
    people = [speaker(seed, index) for index in range(speakers)]
    with _pool() as pool:
        lines = [line for made in pool.map(partial(_make_speaker, folder, utterances, seed), range(speakers), people) for line in made]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "speakers.jsonl").write_text("".join(json.dumps(asdict(who)) + "\n" for who in people), encoding="utf-8")
    (folder / "README.txt").write_text("Synthetic voices, made by espeak-ng. No recordings of people.\n", encoding="utf-8")


def _pool() -> ThreadPoolExecutor:
    """Threads are enough: espeak-ng is another process, and numpy and soxr let go of Python's lock."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def _make_speaker(folder: Path, utterances: int, seed: int, index: int, who: Speaker) -> list[dict]:
    texts = [words(np.random.default_rng([seed, index, 4, number]), who.accent in ENGLISH) for number in range(utterances)]
    voice_seed = int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:3], "little")
    (folder / who.name).mkdir()
    lines = []
    for number, speech in enumerate(speak(who, texts, voice_seed)):
        path = f"{who.name}/{number:03d}.wav"
        soundfile.write(folder / path, speech, SAMPLE_RATE, subtype="PCM_16")
        lines.append(
            {"speaker": who.name, "utterance": f"{number:03d}", "path": path, "samples": len(speech),
             "sample_rate": SAMPLE_RATE, "group": variant_group(who.variant)}
        )  # fmt: skip
    return lines


def make_noise(seed: int, clips: int = 80, seconds: float = 10) -> Path:
    """Folder of synthetic noise: ``<kind>_<number>.wav`` (16 bit), the kinds of :data:`hifitse.data.noises.KINDS` in turn.

    Made at the first call, then found in the cache. Clip by clip the first of a longer list are those of a shorter one.
    The voices in babble are variants that no speaker of the corpus has.

    Args:
        seed: 0 or more.
        clips: 1 or more.
        seconds: length of a clip, 0.5 or more.

    Raises:
        HifitseError: ``espeakng-loader`` is not installed.
    """
    return made_once(f"noise-v{VERSION}-{clips}x{seconds:g}s-seed{seed}", partial(_make_noise, seed, clips, seconds))


def _make_noise(seed: int, clips: int, seconds: float, folder: Path) -> None:
    with _pool() as pool:
        list(pool.map(partial(_make_clip, folder, seed, round(seconds * SAMPLE_RATE)), range(clips)))


def _make_clip(folder: Path, seed: int, samples: int, index: int) -> None:
    number, kind = divmod(index, len(noises.KINDS))
    name = list(noises.KINDS)[kind]
    noise = noises.make(name, np.random.default_rng([seed, index, 5]), samples)
    soundfile.write(folder / f"{name}_{number:02d}.wav", noise, SAMPLE_RATE, subtype="PCM_16")
