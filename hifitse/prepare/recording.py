"""Measure one recording: length, level, clipping and true bandwidth, or the reason why it cannot be used.

A file is read once, in blocks, so its length does not matter. Only a room response, which must be short, is read as a whole.

True bandwidth is the frequency up to which a file holds sound, whatever its sample rate. It is the lower of two ends of its long-term
spectrum:

- The last band that is 10 dB above the rounding noise of the file's sample format (for 16 bit, a flat -101 dBFS in total), and less than
  110 dB below the loudest band. Further down, resamplers and codecs leave a residue of their own.
- A cliff: a drop of 25 dB or more within a fifth of its frequency, from which the spectrum does not recover. Filters of resamplers and
  codecs cause one. Speech does not, as it fades by a few dB per kHz, nor does microphone noise, which continues to the end.

The band edge of a steep resampler is found within about 5 %. A short filter leaves images above the edge, up to 25 % above it with the
defaults of torchaudio, and linear interpolation leaves them everywhere. Images count as bandwidth.
"""

import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.signal import welch

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import sampling
from hifitse.data.corpus import MIN_SAMPLES
from hifitse.data.manifest import Kind
from hifitse.decode import Sound, channel_of

KINDS: tuple[Kind, ...] = get_args(Kind)

VERSION = 4  # of the measurements: increase it when results for the same file change, so that old ones are not reused
SILENT_DB = -70.0  # dBFS, without DC
FULL_SCALE = 0.999
CLIPPED_SHARE = 1e-3  # share of clipped samples above which a recording is left out
OFFSET = 0.01  # mean of a channel from which the recording is marked "dc"
NARROW = 0.9  # share of the Nyquist frequency below which a cliff marks a recording as upsampled
FADED = 0.75  # share of the Nyquist frequency below which a bandwidth without a cliff is marked as narrow
LONGEST_RESPONSE_S = 20.0
LONGEST_T60 = 2.0  # largest T60 in multiples of the file's length: with a longer one, the file does not decay
EARLY = 0.25  # largest duration of the first 10 dB of a decay, as a share of the T60; 1/6 for an even decay
BEFORE = 0.02  # largest share of a response's energy more than 10 ms before the direct path

N_FFT = 4096  # samples per frame: 11.7 Hz per bin at 48 kHz
BAND_HZ = 200.0  # width of the bands over which the median of the spectrum is taken
ABOVE_DB = 10.0  # a band holds sound if it is this far above the rounding noise
RANGE_DB = 110.0  # anything further below the loudest band does not count as sound
CLIFF_DB = 25.0  # drop of the spectrum that a filter causes, but speech does not
CLIFF_WIDTH = 0.2  # largest width of a cliff as a share of its frequency: that of common resampling filters
FIRST_CLIFF = 5  # first band searched for a cliff: below 1 kHz, speech itself may drop as fast
BITS = {"PCM_S8": 8, "PCM_U8": 8, "ULAW": 13, "ALAW": 13, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Sample format, as named by libsndfile, -> bits. The rounding of all others (floats, codecs) is too fine to matter."""

Found = dict[str, Any]
"""Measurements of a recording by name; if it is left out, ``{"reason": ...}`` and whatever else is known."""


def measure(path: str | Path, kind: Kind = "speech") -> Found:
    """Measure a file. Room responses must decay.
    Returns ``samples`` and ``sample_rate`` (of the file), ``channels``, ``level_db`` (mean of the channels, dBFS without DC),
    ``clipped_share`` (samples at full scale between two others at full scale), ``dc`` (largest mean of a channel), ``bandwidth_hz`` (see
    above), ``checksum`` (of the decoded samples), for rooms ``t60_s``, and ``flags``: "upsampled", "narrow", "below 48 kHz", "stereo",
    "dc", "cut short".
    Or ``reason``: "broken", "empty", "too short", "silent", "clipped" or "no decay", with a sentence in ``detail``."""
    try:
        with Sound(path) as file:
            found = _pass(file)
    except (HifitseError, OSError) as error:
        file = channel_of(path)[0]
        detail = str(error).replace(str(file), file.name)
        return {"reason": "empty" if "holds 0 " in detail else "broken", "detail": detail}
    if not found["samples"]:
        return {"reason": "empty", "detail": "it holds 0 samples"}
    samples = round(found["samples"] * SAMPLE_RATE / found["sample_rate"])
    reason, detail = _reason(found, samples, kind)
    if not reason and kind == "rooms":
        found["t60_s"], detail = _decay(path, samples)
        reason = "no decay" if detail else ""
    return {"reason": reason, "detail": detail, **found} if reason else found | {"flags": _flags(found)}


def _pass(file: Sound) -> Found:
    """Compute everything that can be accumulated block by block."""
    spectrum = np.zeros(N_FFT // 2 + 1)
    samples = clipped = checksum = 0
    total, offset, square = np.zeros(file.channels), 0.0, 0.0
    last = np.zeros((0, file.channels), np.float32)
    for block in file.blocks():  # (T, channels)
        samples += len(block)
        checksum = zlib.crc32(block.tobytes(), checksum)
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
        "bandwidth_hz": round(hertz), "cliff": cliff, "missing": file.missing, "checksum": checksum,
    }  # fmt: skip


def _reason(found: Found, samples: int, kind: Kind) -> tuple[str, str]:
    """Return why a readable recording is left out, and the details; two empty strings if it is kept."""
    if samples < MIN_SAMPLES and kind != "rooms":
        return "too short", f"{samples} samples at 48 kHz, expected at least {MIN_SAMPLES}"
    if found["level_db"] < SILENT_DB:
        return "silent", f"its level is {found['level_db']:.0f} dBFS, expected at least {SILENT_DB:.0f}"
    if found["clipped_share"] > CLIPPED_SHARE and kind != "rooms":  # the direct path of a response may be at full scale
        return "clipped", f"{100 * found['clipped_share']:.2g} % of its samples are clipped, expected at most {100 * CLIPPED_SHARE:g} %"
    return "", ""


def _flags(found: Found) -> list[str]:
    """Return the marks of a recording that is kept."""
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
    """Return the T60 of a room response in s, or why it is not one: noise and speech do not decay evenly from their first peak."""
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
    first = int(np.argmax(energy[start:] <= energy[start] / 10)) / SAMPLE_RATE  # s, duration of the first 10 dB
    if t60 > LONGEST_T60 * seconds or first > EARLY * t60:
        return None, f"it falls by 10 dB in {first:.2g} s, and by its slope 60 dB would take {t60:.2g} s of a file of {seconds:.2g} s"
    return round(t60, 3), ""


# ---- true bandwidth


def density(block: np.ndarray) -> np.ndarray:
    """Return the mean power per bin of a signal, (T,) -> (F,), scaled so that white noise of power 1 has 1 in every bin."""
    padded = np.pad(block, (0, max(0, N_FFT - len(block))))
    # side lobes of this window are at least 92 dB below the loudest bins, and lower further away
    return welch(padded, 2.0, "blackmanharris", N_FFT, 0, detrend=False)[1]


def bandwidth(spectrum: np.ndarray, sample_rate: int, subtype: str = "FLOAT") -> tuple[float, bool]:
    """Return where a spectrum (F,) from :func:`density` ends, in Hz (0: no sound), and whether it ends in a filter edge.
    ``subtype``, the sample format as named by libsndfile, determines the rounding noise."""
    width = max(1, round(BAND_HZ * N_FFT / sample_rate))
    bands = spectrum[: len(spectrum) // width * width].reshape(-1, width)
    # The median ignores a lone tone (whine of a screen, pilot tone). The lower limit gives digital silence a finite level.
    level_db = 10 * np.log10(np.maximum(np.median(bands, axis=1), 1e-30))  # (bands,)
    hertz = np.arange(1, len(level_db) + 1) * width * sample_rate / N_FFT  # upper band edges
    rounding_db = 10 * float(np.log10(4.0 ** (1 - BITS[subtype]) / 12)) if subtype in BITS else -200.0  # quantisation step squared, over 12
    floor_db = max(rounding_db + ABOVE_DB, level_db.max() - RANGE_DB, -150.0)
    sounding = np.flatnonzero(level_db > floor_db)
    if not len(sounding):
        return 0.0, False
    end = int(sounding[-1])
    edge = _cliff(np.maximum(level_db, floor_db - ABOVE_DB))
    cliff = edge is not None and edge <= end + 1
    return float(hertz[min(edge, end) if cliff else end]), cliff


def _cliff(level_db: np.ndarray) -> int | None:
    """Return the band in the middle of the lowest drop of ``CLIFF_DB`` or more from which the level does not recover, or ``None``."""
    rest = np.maximum.accumulate(level_db[::-1])[::-1]  # level of the loudest band from here on
    best, place, last = CLIFF_DB, None, len(level_db)
    for band in range(FIRST_CLIFF, len(level_db)):
        foot = band + max(2, round(CLIFF_WIDTH * band))
        if band > last or foot >= len(level_db):
            break
        before = level_db[band - 2 : band + 1].mean()
        if before - rest[foot] > best:
            best = before - rest[foot]
            last = foot if place is None else last  # the steepest part of this cliff begins before its foot
            place = band + int(np.flatnonzero(level_db[band : foot + 1] >= before - best / 2)[-1])
    return place
