"""What one recording is: length, level, peak, clipping, pauses, true bandwidth; and the reason where it cannot be used.

A file is read once, in blocks, so that its length does not matter. Only a room response, which must be short, is read as a whole.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import rooms
from hifitse.data.manifest import MIN_SAMPLES
from hifitse.data.talker import ACTIVE_DB
from hifitse.decode import Sound
from hifitse.prepare.bandwidth import Spectrum

Kind = Literal["speech", "noise", "rooms"]
KINDS: tuple[Kind, ...] = ("speech", "noise", "rooms")

VERSION = 2  # of the measurements: raise it when the same file gives other ones, and none from before are taken over
SILENT_DB = -70.0  # dBFS, without the constant part
FULL_SCALE = 0.999
CLIPPED_SHARE = 1e-3  # of samples, above which a recording is left out
OFFSET = 0.01  # mean of a channel's samples from which on it is marked
NARROW = 0.9  # share of half the sample rate below which a cliff marks a recording as upsampled
FADED = 0.75  # share of half the sample rate below which a bandwidth without a cliff is marked as narrow
LONGEST_RESPONSE_S = 20.0
LONGEST_T60 = 2.0  # a T60 longer than this many times its file is none: such a file does not decay
EARLY = 0.25  # largest time of the first 10 dB of a decay, as a share of the T60; an even decay has 1/6
BEFORE = 0.02  # largest share of a response's energy that may lie more than 10 ms before its direct path

Found = dict[str, Any]
"""Measurements of a recording by name, or ``{"reason": ...}`` and what is known besides, where it is left out."""


def measure(path: str | Path, kind: Kind = "speech") -> Found:
    """One pass over a file; responses of rooms must decay.

    Returns:
        ``samples`` and ``sample_rate`` (the file's own), ``channels``, ``level_db`` and ``peak`` (of the channels' mean, dBFS without its
        constant part, and of the highest channel), ``clipped_share`` (samples that like both neighbours are at full scale),
        ``dc`` (largest mean of a channel), ``active_share`` (20 ms frames at most 35 dB below the 95th percentile), ``bandwidth_hz``
        (see :mod:`hifitse.prepare.bandwidth`), for rooms ``t60_s``, and ``flags``: "upsampled", "narrow", "below 48 kHz", "stereo", "dc",
        "cut short" (what is there is used).
        Or ``reason``, one of "broken", "empty", "too short", "silent", "clipped", "no decay", with ``detail`` in words.
    """
    try:
        with Sound(path) as file:
            found = _pass(file)
    except (HifitseError, OSError) as error:
        detail = str(error).replace(str(path), Path(path).name)
        return {"reason": "empty" if "holds 0 samples" in detail else "broken", "detail": detail}
    if not found["samples"]:
        return {"reason": "empty", "detail": "it holds 0 samples"}
    samples = round(found["samples"] * SAMPLE_RATE / found["sample_rate"])
    reason, detail = _reason(found, samples, kind)
    if not reason and kind == "rooms":
        reason, detail, found["t60_s"] = _decay(path, samples)
    return {"reason": reason, "detail": detail, **found} if reason else found | {"flags": _flags(found)}


def _pass(file: Sound) -> Found:
    """Everything that adds up block by block."""
    rate, frame = file.sample_rate, max(1, file.sample_rate // 50)
    spectrum, frames = Spectrum(rate), []
    samples = clipped = 0
    total, offset, square, peak = np.zeros(file.channels), 0.0, 0.0, 0.0
    last = np.zeros((0, file.channels), np.float32)
    rest = np.zeros(0)
    for block in file.blocks():  # (T, channels)
        samples += len(block)
        total += block.sum(0, dtype=np.float64)
        size = np.abs(np.concatenate([last, block]))
        peak = max(peak, float(size.max()))
        high = size >= FULL_SCALE
        clipped += int((high[:-2] & high[1:-1] & high[2:]).any(1).sum())
        last = block[-2:]
        mono = audio.downmix(block)  # (T,)
        offset += float(mono.sum(dtype=np.float64))
        power = np.square(mono, dtype=np.float64)
        square += float(power.sum())
        power = np.concatenate([rest, power])
        frames.append(power[: len(power) // frame * frame].reshape(-1, frame).mean(1))
        rest = power[len(power) // frame * frame :]
        spectrum.add(mono)
    end = spectrum.bandwidth(file.subtype)
    count = max(samples, 1)
    variance = max(square / count - (offset / count) ** 2, 0.0)
    return {
        "samples": samples, "sample_rate": rate, "channels": file.channels,
        "level_db": round(max(10 * float(np.log10(max(variance, 1e-30))), audio.FLOOR_DB), 2), "peak": round(peak, 4),
        "clipped_share": round(clipped / count, 6), "dc": round(float(np.abs(total).max()) / count, 5),
        "active_share": _active(np.concatenate(frames) if frames else np.zeros(0)),
        "bandwidth_hz": round(end.hertz), "cliff": end.cliff, "missing": file.missing,
    }  # fmt: skip


def _active(power: np.ndarray) -> float:
    """Share of the frames that are loud enough to be speech, as the mixing counts them; 1 for less than one frame."""
    return round(float(np.mean(power > np.percentile(power, 95) * 10 ** (ACTIVE_DB / 10))), 4) if len(power) else 1.0


def _reason(found: Found, samples: int, kind: Kind) -> tuple[str, str]:
    """Why a readable recording is left out, and the same in words; empty texts where it is not."""
    if samples < MIN_SAMPLES and kind != "rooms":
        return "too short", f"{samples} samples at 48 kHz, expected at least {MIN_SAMPLES}"
    if found["level_db"] < SILENT_DB:
        return "silent", f"its level is {found['level_db']:.0f} dBFS, expected at least {SILENT_DB:.0f}"
    if found["clipped_share"] > CLIPPED_SHARE and kind != "rooms":  # a response's direct path may stand at full scale
        return "clipped", f"{100 * found['clipped_share']:.2g} % of its samples are clipped, expected at most {100 * CLIPPED_SHARE:g} %"
    return "", ""


def _flags(found: Found) -> list[str]:
    """What is kept, and marked."""
    share = found["bandwidth_hz"] / (min(found["sample_rate"], SAMPLE_RATE) / 2)
    marks = {
        "upsampled": found.pop("cliff") and share < NARROW,
        "narrow": share < FADED,
        "below 48 kHz": found["sample_rate"] < SAMPLE_RATE,
        "stereo": found["channels"] > 1,
        "dc": found["dc"] >= OFFSET,
        "cut short": bool(found.pop("missing")),
    }
    return [name for name, holds in marks.items() if holds and not (name == "narrow" and marks["upsampled"])]


def _decay(path: str | Path, samples: int) -> tuple[str, str, float | None]:
    """Reason, its words and T60 in s of a room response: noise and speech do not decay evenly from their first sound on."""
    seconds = samples / SAMPLE_RATE
    if seconds > LONGEST_RESPONSE_S:
        return "no decay", f"it lasts {seconds:.0f} s, a response {LONGEST_RESPONSE_S:.0f} s at most", None
    rir = audio.read(path)
    try:
        t60 = rooms.t60(rir)
    except HifitseError as error:
        return "no decay", str(error), None
    start = rooms.direct_path(rir)
    energy = np.cumsum(np.square(rir, dtype=np.float64)[::-1])[::-1]
    before = 1 - energy[max(0, start - SAMPLE_RATE // 100)] / energy[0]
    if before > BEFORE:
        return "no decay", f"{100 * before:.2g} % of its energy come before its first peak, expected at most {100 * BEFORE:g} %", None
    energy = energy[start:]
    first = int(np.argmax(energy <= energy[0] / 10)) / SAMPLE_RATE  # s: of the first 10 dB
    if t60 > LONGEST_T60 * seconds or first > EARLY * t60:
        words = f"it falls by 10 dB in {first:.2g} s, and by its slope 60 dB would take {t60:.2g} s of a file of {seconds:.2g} s"
        return "no decay", words, None
    return "", "", round(t60, 3)
