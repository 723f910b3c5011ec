"""The built-in sources of sound: synthetic speech, noise and rooms, made on demand and cached on disk.

The voices are **synthetic**. They demonstrate and test the whole pipeline without a download; results on them say
little about people. They come from espeak-ng, in the PyPI wheel ``espeakng-loader``, which is licensed under the GPL,
version 3. It runs in a separate process, and only these sources need it.

A room response is that of a shoebox room: the image-source method (``pyroomacoustics``) for the early part, then a diffuse
tail of decaying noise. Treble decays faster, as air and furniture absorb it.
"""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from scipy.signal import fftconvolve, istft, stft

from hifitse import SAMPLE_RATE, audio
from hifitse.data.manifest import sources
from hifitse.data.sampling import align
from hifitse.data.speakers import BABBLE_VARIANTS, ENGLISH, speak, speaker, variant_group, words
from hifitse.files import made_once
from hifitse.params import Params

VERSION, ROOMS_VERSION = 5, 1  # increase when the same arguments give other speech and noise, or other rooms
LEVEL_DB = -26.0  # dBFS: of a clip of noise, unless its peaks (clicks) require a lower level
POSITIONS = 4  # per room, so that target and interferers can share one
SOUND_SPEED = 343.0  # m/s, as in pyroomacoustics
ROOM_T60_S = 0.9  # s: longest T60 of rooms of normal size; for a longer one, the room grows with it
IMAGE_ORDER = 25  # highest order of reflection of image sources; the tail takes over where higher orders would be missing


def source_folders(params: Params, kind: Literal["corpus", "noise", "rooms"]) -> list[Path | str]:
    """Return the folders or manifests of one kind of sound; synthetic ones are made first."""
    seed = params.corpus_seed
    made = {
        "corpus": partial(make_speech, params.synthetic_speakers, params.synthetic_utterances, seed),
        "noise": partial(make_noise, seed, params.synthetic_noises),
        "rooms": partial(make_bank, params.synthetic_rooms, seed, params.synthetic_t60_s),
    }
    return [made[kind]() if each == "synthetic" else each for each in sources(getattr(params, kind))]


def make_speech(speakers: int, utterances: int, seed: int) -> Path:
    """Make the synthetic corpus, a folder of ``<speaker>/<utterance>.wav`` (16 bit, 3.5 to 6 s) and ``manifest.jsonl``.

    It is made on the first call (some 40 s for 200 speakers with 8 utterances on 2 cores, 0.8 GB), then cached. It is not compressed:
    decoding FLAC took nearly half the time of a mixture. A larger corpus begins with the speakers and utterances of a smaller one of the
    same seed. The manifest's ``group`` is the family of the voice variant. Raise HifitseError without ``espeakng-loader``."""
    def one(folder: Path, index: int) -> list[dict]:
        who, lines = speaker(seed, index), []
        texts = [words(np.random.default_rng([seed, index, 4, number]), who.accent in ENGLISH) for number in range(utterances)]
        voice_seed = int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:3], "little")
        (folder / who.name).mkdir()
        for number, speech in enumerate(speak(who, texts, voice_seed)):
            path = f"{who.name}/{number:03d}.wav"
            soundfile.write(folder / path, speech, SAMPLE_RATE, subtype="PCM_16")
            said = {"speaker": who.name, "utterance": f"{number:03d}", "path": path, "samples": len(speech), "sample_rate": SAMPLE_RATE}
            lines.append(said | {"group": variant_group(who.variant)})
        return lines

    def make(folder: Path) -> None:
        lines = [line for made in _each(partial(one, folder), speakers) for line in made]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (folder / "README.txt").write_text("Synthetic voices, made by espeak-ng. No recordings of people.\n", encoding="utf-8")

    return made_once(f"speech-v{VERSION}-{speakers}x{utterances}-seed{seed}", make)


def _each(make: Callable[[int], Any], count: int) -> list[Any]:
    # Threads suffice: espeak-ng is another process, and numpy and soxr release the GIL.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(make, range(count)))


def make_noise(seed: int, clips: int = 80, seconds: float = 10) -> Path:
    """Make a folder of synthetic noise, ``<kind>_<number>.wav`` (16 bit), with the ``KINDS`` in turn.
    It is made on the first call, then cached. A longer list begins with the clips of a shorter one.
    The voices in babble are variants that no speaker of the corpus has. Raise HifitseError without ``espeakng-loader``."""
    def one(folder: Path, index: int) -> None:
        number, kind = divmod(index, len(KINDS))
        name = list(KINDS)[kind]
        noise = audio.set_level(KINDS[name](np.random.default_rng([seed, index, 5]), round(seconds * SAMPLE_RATE)), LEVEL_DB)
        noise *= np.float32(min(1.0, 0.89 / np.abs(noise).max()))
        soundfile.write(folder / f"{name}_{number:02d}.wav", noise, SAMPLE_RATE, subtype="PCM_16")

    return made_once(f"noise-v{VERSION}-{clips}x{seconds:g}s-seed{seed}", lambda folder: _each(partial(one, folder), clips))


# ---- kinds of noise, each a function of a random generator and a length in samples


def coloured(rng: np.random.Generator, samples: int, slope_db: float) -> np.ndarray:
    """Return Gaussian noise ``(T,)`` with a spectral slope in dB per octave (0 white, -3 pink, -6 brown), flat below 40 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 40) / 1000)
    spectrum[0] = 0  # no DC
    return np.fft.irfft(spectrum * 10 ** (slope_db * octaves / 20), samples)


def modulated(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return coloured noise that swells and fades by up to 20 dB, at 0.3 to 6 Hz."""
    seconds = np.arange(samples) / SAMPLE_RATE
    waves = [np.sin(2 * np.pi * (rate * seconds + rng.random())) for rate in rng.uniform(0.3, 6, 3)]
    swell_db = rng.uniform(5, 10) * np.mean(waves, axis=0)
    return coloured(rng, samples, rng.uniform(-6, 0)) * 10 ** (swell_db / 20)


def hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return mains or machine hum: a fundamental of 45 to 130 Hz, 60 harmonics, and faint pink noise."""
    harmonics = np.arange(1, 61)
    fundamental = rng.choice([50, 60, rng.integers(45, 131)])  # Hz, whole, so that one second repeats seamlessly
    second = np.zeros(SAMPLE_RATE // 2 + 1, complex)
    gains = harmonics ** -rng.uniform(0.6, 1.4) * rng.uniform(0.2, 1, len(harmonics))
    second[harmonics * fundamental] = gains * np.exp(2j * np.pi * rng.random(len(harmonics)))
    total = np.resize(np.fft.irfft(second), samples)
    floor = coloured(rng, samples, -3)
    return total + floor * (0.05 * total.std() / floor.std())


def clicks(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return 2 to 12 short ringing knocks per second over a floor of pink noise."""
    floor = coloured(rng, samples, -3)
    total = 0.02 * floor / floor.std()
    for start in rng.integers(0, samples, round(rng.uniform(2, 12) * samples / SAMPLE_RATE)):
        seconds = np.arange(min(samples - start, SAMPLE_RATE // 5)) / SAMPLE_RATE
        ring = np.sin(2 * np.pi * rng.uniform(300, 9000) * seconds) + 0.3 * rng.standard_normal(len(seconds))
        total[start : start + len(seconds)] += rng.uniform(0.2, 1) * ring * np.exp(-seconds / rng.uniform(0.002, 0.03))
    return total


def rain(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return hundreds to thousands of drops per second, of uneven strength, on one surface."""
    drops = np.zeros(samples)
    places = rng.integers(0, samples, round(rng.uniform(300, 4000) * samples / SAMPLE_RATE))
    np.add.at(drops, places, rng.lognormal(0, 1, len(places)) * rng.choice([-1, 1], len(places)))
    seconds = np.arange(SAMPLE_RATE // 50) / SAMPLE_RATE
    surface = coloured(rng, len(seconds), rng.uniform(-4, 0)) * np.exp(-seconds / rng.uniform(0.0005, 0.004))
    return fftconvolve(drops, surface)[:samples]


def babble(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return 4 to 8 synthetic voices at once, of variants that the speech corpus does not use."""
    total = np.zeros(samples)
    for variant in rng.permutation(BABBLE_VARIANTS)[: rng.integers(4, 9)]:
        who = replace(speaker(int(rng.integers(2**31)), 0), variant=str(variant))
        texts = [words(rng, who.accent in ENGLISH) for _ in range(-(-samples // (4 * SAMPLE_RATE)))]
        speech = np.concatenate(speak(who, texts, int(rng.integers(2**24))))
        total += 10 ** (rng.uniform(-6, 0) / 20) * np.roll(np.resize(speech, samples), rng.integers(samples))
    return total


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "white": partial(coloured, slope_db=0),
    "pink": partial(coloured, slope_db=-3),
    "brown": partial(coloured, slope_db=-6),
    "tilted": lambda rng, samples: coloured(rng, samples, rng.uniform(-8, 2)),
    **{make.__name__: make for make in (modulated, hum, clicks, rain, babble)},
}
"""Kinds of noise, by the beginning of their files' names."""


# ---- rooms


def make_bank(rooms: int, seed: int, t60_s: float = ROOM_T60_S) -> Path:
    """Make a folder of synthetic responses, ``room_<room>_<position>.flac`` (24 bit), with 4 positions per room.
    Rooms have 12 to 250 m3 and a T60 of 0.15 s to ``t60_s``, less in the treble; sources are 0.4 to 2.5 m from the microphone. For a
    T60 above 0.9 s, all lengths grow in proportion. Each response starts with its direct path; its largest value is 0.9. The folder is
    made on the first call, then cached."""
    def make(folder: Path) -> None:
        for room in range(rooms):
            for position, rir in enumerate(make_room(np.random.default_rng([seed, room, 6]), t60_s)):
                audio.write(folder / f"room_{room:03d}_{position}.flac", rir * (0.9 / np.abs(rir).max()))

    longest = "" if t60_s == ROOM_T60_S else f"-t60-{t60_s:g}"
    return made_once(f"rooms-v{ROOMS_VERSION}-{rooms}-seed{seed}{longest}", make)


def make_room(rng: np.random.Generator, t60_s: float = ROOM_T60_S) -> list[np.ndarray]:
    """Return responses of ``POSITIONS`` sources to one microphone in a random room, each ``(T,)`` from the direct path on."""
    import pyroomacoustics  # slow to import, and needed only to make rooms

    size = np.array([rng.uniform(2.4, 9), rng.uniform(2.2, 7), rng.uniform(2.2, 4)])  # m
    wanted_t60 = rng.uniform(0.15, t60_s)
    growth = max(1.0, wanted_t60 / ROOM_T60_S)
    size *= growth
    try:
        absorption, order = pyroomacoustics.inverse_sabine(wanted_t60, size)
    except ValueError:  # even bare absorbers would leave a longer decay in so large a room
        absorption, order = 0.9, IMAGE_ORDER
    walls = pyroomacoustics.Material(absorption)
    room = pyroomacoustics.ShoeBox(size, fs=SAMPLE_RATE, materials=walls, max_order=min(order, IMAGE_ORDER))
    microphone = rng.uniform(0.3, 0.7, 3) * size
    room.add_microphone(microphone)
    for _ in range(POSITIONS):
        room.add_source(_source(rng, size, microphone, growth))
    room.compute_rir()
    complete = IMAGE_ORDER * size.min() / SOUND_SPEED  # s: no image of a higher order would arrive earlier
    return [_finish(align(rir), wanted_t60, complete, rng) for rir in room.rir[0]]


def _source(rng: np.random.Generator, size: np.ndarray, microphone: np.ndarray, growth: float) -> np.ndarray:
    """Draw a position 0.4 to 2.5 m, times ``growth``, from the microphone and at least 0.3 m from the walls.

    The distance is a whole number of samples, because ``align`` would cut off half of a fractional delay's ringing."""
    step = SOUND_SPEED / SAMPLE_RATE
    while True:
        direction = rng.standard_normal(3)
        distance = round(rng.uniform(0.4, 2.5) * growth / step) * step
        place = microphone + direction / np.linalg.norm(direction) * distance
        if (place > 0.3).all() and (place < size - 0.3).all():
            return place


def _finish(rir: np.ndarray, wanted_t60: float, complete: float, rng: np.random.Generator) -> np.ndarray:
    """Add the diffuse tail, damp the treble, and cut 0.1 s after a decay by 60 dB."""
    length = round((wanted_t60 + 0.1) * SAMPLE_RATE)
    seconds = np.arange(length) / SAMPLE_RATE
    early = audio.crop_or_pad(rir, length).astype(np.float64)
    change = round(0.8 * complete * SAMPLE_RATE)
    if change < length:
        before = slice(change // 2, change)
        noise = rng.standard_normal(length) * np.exp(-np.log(1000) * seconds / wanted_t60)
        noise *= np.sqrt(np.square(early[before]).sum() / np.square(noise[before]).sum())
        fade = np.clip((seconds - seconds[change // 2]) / (seconds[change] - seconds[change // 2]), 0, 1)  # over the second half
        early = early * np.sqrt(1 - fade) + noise * np.sqrt(fade)
    hertz, times, spectrum = stft(early, SAMPLE_RATE, nperseg=256)  # (F, L)
    extra_db = 60 * (hertz[:, None] / 8000) ** 1.5 * times  # 60 dB/s at 8 kHz: air and soft furniture
    damped = istft(spectrum * 10 ** (-extra_db / 20), SAMPLE_RATE, nperseg=256)[1][:length]
    damped[-480:] *= np.linspace(1, 0, 480)
    return damped.astype(np.float32)
