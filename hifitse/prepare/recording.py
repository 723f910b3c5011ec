"""What one recording is: length, level, clipping, true bandwidth; and the reason where it cannot be used.

A file is read once, in blocks, so that its length does not matter. Only a room response, which must be short, is read as a whole.

True bandwidth is the frequency up to which it holds sound, whatever its sample rate says: of two ends of the long-term spectrum the lower.

- Where it last stands 10 dB above the rounding noise of the file's own format (for 16 bit a flat -101 dBFS in all), or above 110 dB below
  its loudest band, beyond which resamplers and codecs leave their own residue.
- A cliff: a fall by 25 dB or more within a fifth of its frequency, to a level that is not left again. The filter of a resampler or of a
  codec makes one; speech, which fades by some dB a kilohertz, does not, nor does a microphone's noise, which goes on to the end.

A steep resampler's end is found within some 5 %. A short filter leaves mirrored sound above the old end, by 25 % with torchaudio's default
settings, and linear interpolation leaves it everywhere: that is then the bandwidth.
"""

from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.signal import welch

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import sampling
from hifitse.data.corpus import MIN_SAMPLES
from hifitse.data.manifest import Kind
from hifitse.decode import Sound

KINDS: tuple[Kind, ...] = get_args(Kind)

VERSION = 3  # of the measurements: raise it when the same file gives other ones, and none from before are taken over
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

N_FFT = 4096  # samples of a frame: 11.7 Hz a bin at 48 kHz
BAND_HZ = 200.0  # width of the bands in which the spectrum is averaged
ABOVE_DB = 10.0  # a band holds sound where it stands this far above the rounding noise
RANGE_DB = 110.0  # below the loudest band by more than this nothing counts as sound
CLIFF_DB = 25.0  # fall of the spectrum that a filter makes, and speech does not
CLIFF_WIDTH = 0.2  # a cliff falls within this share of its frequency: as slowly as common resamplers' filters do
FIRST_CLIFF = 5  # band above which a cliff is looked for: below 1 kHz speech itself may fall like that
BITS = {"PCM_S8": 8, "PCM_U8": 8, "ULAW": 13, "ALAW": 13, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Format of the samples as libsndfile names it -> bits; others, floats and codecs, round too finely to be heard."""

Found = dict[str, Any]
"""Measurements of a recording by name, or ``{"reason": ...}`` and what is known besides, where it is left out."""


def measure(path: str | Path, kind: Kind = "speech") -> Found:
    """One pass over a file; responses of rooms must decay.
    Gives ``samples`` and ``sample_rate`` (the file's own), ``channels``, ``level_db`` (of the channels' mean, dBFS without its constant
    part), ``clipped_share`` (samples that like both neighbours are at full scale), ``dc`` (largest mean of a channel), ``bandwidth_hz``
    (see above), for rooms ``t60_s``, and ``flags``: "upsampled", "narrow", "below 48 kHz", "stereo", "dc", "cut short".
    Or ``reason``, one of "broken", "empty", "too short", "silent", "clipped", "no decay", with ``detail`` in words."""
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
        found["t60_s"], detail = _decay(path, samples)
        reason = "no decay" if detail else ""
    return {"reason": reason, "detail": detail, **found} if reason else found | {"flags": _flags(found)}


def _pass(file: Sound) -> Found:
    """Everything that adds up block by block."""
    spectrum = np.zeros(N_FFT // 2 + 1)
    samples = clipped = 0
    total, offset, square = np.zeros(file.channels), 0.0, 0.0
    last = np.zeros((0, file.channels), np.float32)
    for block in file.blocks():  # (T, channels)
        samples += len(block)
        total += block.sum(0, dtype=np.float64)
        high = np.abs(np.concatenate([last, block])) >= FULL_SCALE
        clipped += int((high[:-2] & high[1:-1] & high[2:]).any(1).sum())
        last = block[-2:]
        mono = audio.downmix(block)  # (T,)
        offset += float(mono.sum(dtype=np.float64))
        square += float(np.square(mono, dtype=np.float64).sum())
        spectrum += len(mono) * density(mono)
    count = max(samples, 1)
    hertz, cliff = bandwidth(spectrum / count, file.sample_rate, file.subtype)
    variance = max(square / count - (offset / count) ** 2, 0.0)
    return {
        "samples": samples, "sample_rate": file.sample_rate, "channels": file.channels,
        "level_db": round(max(10 * float(np.log10(max(variance, 1e-30))), audio.FLOOR_DB), 2),
        "clipped_share": round(clipped / count, 6), "dc": round(float(np.abs(total).max()) / count, 5),
        "bandwidth_hz": round(hertz), "cliff": cliff, "missing": file.missing,
    }  # fmt: skip


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


def _decay(path: str | Path, samples: int) -> tuple[float | None, str]:
    """T60 in s of a room response, and why it is none: noise and speech do not decay evenly from their first sound on."""
    seconds = samples / SAMPLE_RATE
    if seconds > LONGEST_RESPONSE_S:
        return None, f"it lasts {seconds:.0f} s, a response {LONGEST_RESPONSE_S:.0f} s at most"
    rir = audio.read(path)
    try:
        t60 = sampling.t60(rir)
    except HifitseError as error:
        return None, str(error)
    start = sampling.direct_path(rir)
    energy = np.cumsum(np.square(rir, dtype=np.float64)[::-1])[::-1]
    before = 1 - energy[max(0, start - SAMPLE_RATE // 100)] / energy[0]
    if before > BEFORE:
        return None, f"{100 * before:.2g} % of its energy come before its first peak, expected at most {100 * BEFORE:g} %"
    first = int(np.argmax(energy[start:] <= energy[start] / 10)) / SAMPLE_RATE  # s: of the first 10 dB
    if t60 > LONGEST_T60 * seconds or first > EARLY * t60:
        return None, f"it falls by 10 dB in {first:.2g} s, and by its slope 60 dB would take {t60:.2g} s of a file of {seconds:.2g} s"
    return round(t60, 3), ""


# ---- true bandwidth


def density(block: np.ndarray) -> np.ndarray:
    """Mean power of each bin of a signal, (T,) -> (F,), so scaled that white noise of power 1 has 1 in every bin."""
    padded = np.pad(block, (0, max(0, N_FFT - len(block))))
    # with this window what leaks from the loudest bins stays 92 dB below them at once, and more further away
    return welch(padded, 2.0, "blackmanharris", N_FFT, 0, detrend=False)[1]


def bandwidth(spectrum: np.ndarray, sample_rate: int, subtype: str = "FLOAT") -> tuple[float, bool]:
    """Where a spectrum (F,) as of :func:`density` ends, Hz, 0 where there is no sound; and whether it ends in a filter's edge.
    ``subtype`` of the file, as libsndfile names it, decides the rounding noise."""
    width = max(1, round(BAND_HZ * N_FFT / sample_rate))
    bands = spectrum[: len(spectrum) // width * width].reshape(-1, width)
    # The median, so that a lone tone (a screen's whine, a pilot) makes no bandwidth; exact silence must have a logarithm.
    level_db = 10 * np.log10(np.maximum(np.median(bands, axis=1), 1e-30))  # (bands,)
    hertz = np.arange(1, len(level_db) + 1) * width * sample_rate / N_FFT  # upper edges
    rounding_db = 10 * float(np.log10(4.0 ** (1 - BITS[subtype]) / 12)) if subtype in BITS else -200.0  # a step's square over twelve
    floor_db = max(rounding_db + ABOVE_DB, level_db.max() - RANGE_DB, -150.0)
    sounding = np.flatnonzero(level_db > floor_db)
    if not len(sounding):
        return 0.0, False
    end = int(sounding[-1])
    edge = _cliff(np.maximum(level_db, floor_db - ABOVE_DB))
    cliff = edge is not None and edge <= end + 1
    return float(hertz[min(edge, end) if cliff else end]), cliff


def _cliff(level_db: np.ndarray) -> int | None:
    """Band in the middle of the lowest fall that is ``CLIFF_DB`` or more and below which all that follows stays."""
    rest = np.maximum.accumulate(level_db[::-1])[::-1]  # loudest band from here on
    best, place, last = CLIFF_DB, None, len(level_db)
    for band in range(FIRST_CLIFF, len(level_db)):
        foot = band + max(2, round(CLIFF_WIDTH * band))
        if band > last or foot >= len(level_db):
            break
        before = level_db[band - 2 : band + 1].mean()
        if before - rest[foot] > best:
            best = before - rest[foot]
            last = foot if place is None else last  # its steepest part begins before its foot
            place = band + int(np.flatnonzero(level_db[band : foot + 1] >= before - best / 2)[-1])
    return place
