"""One voice out of a recording in memory, whatever its rate, length and channels.

Files that are read and written piece by piece are the business of :mod:`hifitse.model.extract_files`, by the same steps.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE
from hifitse.audio import RATES_HZ, AudioError, crop_or_pad, level_db, resample
from hifitse.model.chunks import Chunks, overlap_add

Signal = np.ndarray | Tensor
MAX_CHANNELS = 32
SILENT_DB = -80.0
"""dBFS: an enrolment at or below this level holds no voice."""
ENROLL_MIN_S, ENROLL_MAX_S = 0.25, 30.0
"""s: the shortest enrolment; and what is heard of a longer one, from its beginning."""


def extract(extractor: Any, mix: Signal, enroll: Signal | Sequence[Signal], sample_rate: int = SAMPLE_RATE) -> Signal:
    """The enrolled speaker's voice in a recording. More than some 17 s are worked on in chunks of that length, cross-faded.

    Args:
        extractor: a :class:`hifitse.model.Extractor`; works where its weights are.
        mix: the recording, floating point with full scale at 1: ``(T,)``, or ``(channels, T)`` or ``(T, channels)``, of which the
            shorter axis is the channels', at most 32. They are averaged: the estimate has one channel.
        enroll: one recording of the speaker alone, or a list of several, each as ``mix``; at least 0.25 s each, of which the first
            30 s are used. Their level does not matter.
        sample_rate: Hz of the mixture and of all enrolments, 1 000 to 1 000 000. Both are resampled to 48 kHz and the estimate back.

    Returns:
        ``(T,)`` of the mixture's type (array or tensor), number format, device, rate, length and level.

    Raises:
        AudioError: an empty or silent enrolment, or one too short; an empty mixture; values that are not finite or not floating
            point; wrong dimensions or an impossible rate.
    """
    check_rate(sample_rate)
    audio = mono(mix, "mix")
    speaker = encode(extractor, enroll, sample_rate)
    blocks = [torch.from_numpy(resample(audio, sample_rate, SAMPLE_RATE))]
    est = torch.cat(list(stream(extractor, blocks, speaker))).numpy()
    est = crop_or_pad(resample(est, SAMPLE_RATE, sample_rate), len(audio))
    if isinstance(mix, Tensor):
        return torch.from_numpy(np.ascontiguousarray(est)).to(mix.device, mix.dtype)
    return est.astype(mix.dtype, copy=False)


def stream(extractor: Any, blocks: Iterable[Tensor], speaker: Any, chunks: Chunks | None = None) -> Iterator[Tensor]:
    """Pieces of the mixture at 48 kHz -> pieces of the estimate, on the CPU; ``speaker`` as :func:`encode` gives it."""
    chunks = chunks or Chunks.of_seconds(extractor.config.hop_length)
    return overlap_add(blocks, partial(_one, extractor, speaker), chunks)


def _one(extractor: Any, speaker: Any, mix: Tensor) -> Tensor:
    device = next(extractor.parameters()).device
    with torch.inference_mode():
        return extractor.extract_speaker(mix[None].to(device), speaker)[0].float().cpu()


def encode(extractor: Any, enroll: Signal | Sequence[Signal], sample_rate: int = SAMPLE_RATE) -> Any:
    """The speaker of one or several recordings; arguments and errors as :func:`extract`."""
    recordings = list(enroll) if isinstance(enroll, list | tuple) else [enroll]
    if not recordings:
        raise AudioError("enroll is an empty list, allowed is at least one recording of the speaker")
    names = ["enroll"] if len(recordings) == 1 else [f"enroll[{number}]" for number in range(len(recordings))]
    device = next(extractor.parameters()).device
    heard = [voice(mono(one, name), sample_rate, name) for one, name in zip(recordings, names, strict=True)]
    with torch.no_grad():  # not inference_mode: what is kept may be used in a training
        return extractor.encode_each([torch.from_numpy(one).to(device) for one in heard])


def voice(audio: np.ndarray, sample_rate: int, name: str) -> np.ndarray:
    """The part of an enrolment ``(T,)`` that is used, at 48 kHz.

    Raises:
        AudioError: too short or silent.
    """
    check_rate(sample_rate)
    if len(audio) < ENROLL_MIN_S * sample_rate:
        raise AudioError(f"{name} lasts {len(audio) / sample_rate:.2f} s, allowed is at least {ENROLL_MIN_S} s of the speaker's voice")
    audio = audio[: round(ENROLL_MAX_S * sample_rate)]
    level = level_db(audio)
    if level <= SILENT_DB:
        where = f"in its first {ENROLL_MAX_S:g} s " if len(audio) >= ENROLL_MAX_S * sample_rate else ""
        raise AudioError(f"{name} is silent {where}({level:.0f} dBFS), allowed is a recording of the speaker above {SILENT_DB:.0f} dBFS")
    return resample(audio, sample_rate, SAMPLE_RATE)


def mono(audio: Signal, name: str) -> np.ndarray:
    """An array or tensor as ``(T,)`` float32, channels averaged; shapes and errors as :func:`extract`."""
    if not isinstance(audio, np.ndarray | Tensor):
        raise AudioError(f"{name} is a {type(audio).__name__}, allowed is an array or a tensor of samples")
    floating = audio.is_floating_point() if isinstance(audio, Tensor) else np.issubdtype(audio.dtype, np.floating)
    if not floating:
        raise AudioError(f"{name} holds {audio.dtype}, allowed are floating point values with full scale at 1")
    values = audio.detach().cpu().float().numpy() if isinstance(audio, Tensor) else np.asarray(audio, np.float32)
    shape = tuple(values.shape)
    channels = min(shape) if len(shape) == 2 else 1
    if len(shape) not in (1, 2) or 0 in shape or not channels <= MAX_CHANNELS or (len(shape) == 2 and shape[0] == shape[1] > 1):
        allowed = f"(T,), (channels, T) or (T, channels) with at least 1 sample and at most {MAX_CHANNELS} channels"
        raise AudioError(f"{name} has the shape {shape}, allowed is {allowed}")
    if len(shape) == 2:
        values = values.mean(int(np.argmin(shape)), dtype=np.float32)  # (channels, T) or (T, channels) -> (T,)
    if not np.isfinite(values).all():
        raise AudioError(f"{name} holds NaN or infinite values, allowed are finite ones")
    return np.ascontiguousarray(values)


def check_rate(sample_rate: int) -> None:
    """Raises:
    AudioError: a rate that no recording has.
    """
    number = isinstance(sample_rate, int | float | np.number) and not isinstance(sample_rate, bool)
    if not number or not RATES_HZ[0] <= sample_rate <= RATES_HZ[1]:
        raise AudioError(f"sample_rate is {sample_rate!r}, allowed are {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
