"""One voice out of a recording in memory, whatever its rate, length and channels; :mod:`hifitse.model.extract_files` does the same to
files, piece by piece. Long signals are worked on in chunks of one length, cross-faded where they overlap."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE
from hifitse.audio import AudioError, cancelled, crop_or_pad, downmix, level_db, resample
from hifitse.decode import RATES_HZ

Signal = np.ndarray | Tensor
RUMBLE_HZ = (10.0, 20.0)  # below the first nothing, above the second all of a signal reaches the network; between them the gain rises
SILENT_DB = -80.0  # dBFS: an enrolment at or below this level holds no voice
ENROLL_MIN_S, ENROLL_MAX_S = 0.25, 30.0  # s: the shortest enrolment; and what is heard of a longer one, from its beginning


class Chunks(NamedTuple):
    """How a signal is cut, in samples, all multiples of ``hop``, the step between the network's frames: a network of limited reach then
    gives inside a chunk what it gives for the whole signal."""

    step: int  # from one chunk's output to the next one's
    fade: int  # in which one chunk's output fades over into the next one's, above 0, at most ``step``
    context: int  # what a chunk hears beyond its output, on both sides
    hop: int = 1

    @classmethod
    def of_seconds(cls, hop: int, step_s: float = 14.0, fade_s: float = 0.5, context_s: float = 1.5) -> "Chunks":
        """Lengths in seconds, rounded up to whole frames of ``hop`` samples at 48 kHz."""
        return cls(*(max(1, -(-round(seconds * SAMPLE_RATE) // hop)) * hop for seconds in (step_s, fade_s, context_s)), hop)

    @property
    def length(self) -> int:
        """Samples of the longest chunk, and of the longest signal that is worked on as a whole."""
        return self.step + self.fade + 2 * self.context


def overlap_add(blocks: Iterable[Tensor], process: Callable[[Tensor], Tensor], chunks: Chunks) -> Iterator[Tensor]:
    """Run ``process`` over a stream, chunk by chunk; no more than two chunks are held at a time.

    Every chunk but that of a short signal has the full length, because the network judges levels by what it hears at once: the last
    one begins earlier instead.

    Args:
        blocks: the signal's pieces ``(T_i,)`` or ``(T_i, C)``, of any lengths; the output's pieces are as long together.
        process: ``(T, ...) -> (T, ...)``; T is at most ``chunks.length`` and begins at a multiple of ``chunks.hop``.
    """
    source, held, first = iter(blocks), torch.zeros(0), 0  # the newest stretch of the stream, and its place in the whole
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, chunks.fade + 2)[1:-1]).square()  # and 1 - ramp is the ramp turned round
    tail, done = None, 0  # nothing before the first chunk; samples that are out
    while True:
        start = max(0, done - chunks.context)
        # one more says whether there is a next chunk
        while first + len(held) <= start + chunks.length and (block := next(source, None)) is not None:
            held = torch.cat([held, block]) if len(held) else block
        end = first + len(held)
        last = end <= start + chunks.length
        if last:
            start = max(0, -(-(end - chunks.length) // chunks.hop) * chunks.hop)
        stop = end if last else start + chunks.length
        if stop == 0:
            return
        output = process(held[start - first : stop - first])[done - start :]
        ramp = ramp.reshape(-1, *[1] * (output.dim() - 1))
        if tail is not None:
            output = torch.cat([tail + ramp * output[: chunks.fade], output[chunks.fade :]])
        if last:
            yield output
            return
        kept = stop - chunks.context - done  # the first chunk has no context before it, and gives that much more
        tail = output[kept - chunks.fade : kept] * (1 - ramp)
        yield output[: kept - chunks.fade]
        done += kept - chunks.fade
        held, first = held[start - first :].clone(), start  # a view would keep all of it


def extract(
    extractor: Any, mix: Signal, enroll: Signal | Sequence[Signal | tuple[Signal, int]], sample_rate: int = SAMPLE_RATE
) -> Signal:
    """The enrolled speaker's voice in a recording. More than some 17 s are worked on in chunks of that length, cross-faded.

    Args:
        extractor: a :class:`hifitse.model.Extractor`; works where its weights are.
        mix: the recording: ``(T,)``, or ``(2, T)`` or ``(T, 2)``, whose channels are averaged. Floating point with full scale at 1,
            or integers, whose full scale is that of their type.
        enroll: one recording of the speaker alone, or a list of several, each as ``mix``, or ``(recording, rate)``; at least 0.25 s
            each, of which the first 30 s are used.
        sample_rate: Hz of the mixture and of the enrolments, 1 000 to 1 000 000. They are resampled to 48 kHz and the estimate back.

    Returns:
        ``(T,)`` of the mixture's type, number format, device, rate, length and level, without what lies below 20 Hz.

    Raises:
        AudioError: a silent or too short enrolment, an empty mixture, wrong dimensions, values or rate.
    """
    check_rate(sample_rate)
    audio = mono(mix, "mix")
    speaker = encode(extractor, enroll, sample_rate)
    blocks = [torch.from_numpy(resample(audio, sample_rate, SAMPLE_RATE))]
    est = torch.cat(list(stream(extractor, blocks, speaker))).numpy()
    est = crop_or_pad(resample(est, SAMPLE_RATE, sample_rate), len(audio))
    return _like(est, mix)


def _like(est: np.ndarray, mix: Signal) -> Signal:
    """In the mixture's type and number format."""
    tensor = isinstance(mix, Tensor)
    if not (mix.is_floating_point() if tensor else np.issubdtype(mix.dtype, np.floating)):
        limits = torch.iinfo(mix.dtype) if tensor else np.iinfo(mix.dtype)
        scale = (limits.max - limits.min + 1) / 2
        est = np.clip(np.rint(est * scale + (limits.min + scale)), limits.min, limits.max)
    if tensor:
        return torch.from_numpy(np.ascontiguousarray(est)).to(mix.device, mix.dtype)
    return est.astype(mix.dtype, copy=False)


def stream(extractor: Any, blocks: Iterable[Tensor], speaker: Any) -> Iterator[Tensor]:
    """Pieces of the mixture at 48 kHz -> pieces of the estimate, on the CPU; ``speaker`` as :func:`encode` gives it."""
    return overlap_add(blocks, partial(_one, extractor, speaker), Chunks.of_seconds(extractor.config.hop_length))


def _one(extractor: Any, speaker: Any, mix: Tensor) -> Tensor:
    mix = without_rumble((mix if mix.dim() == 1 else mix.T).to(next(extractor.parameters()).device))
    with torch.inference_mode():
        if mix.dim() == 1:
            return extractor.extract_speaker(mix[None], speaker)[0].float().cpu()
        est = extractor.extract_speaker(mix[:1], speaker, channels=mix[1:])  # the first is what the network hears
        return est.float().cpu().T


def without_rumble(audio: Tensor) -> Tensor:
    """A signal (..., T) at 48 kHz without what lies below 20 Hz, no sample delayed: an offset of 0.3 costs 9 dB of SI-SDR."""
    samples = audio.shape[-1]
    low, high = RUMBLE_HZ
    hertz = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE, device=audio.device)
    gain = torch.sin(torch.pi / 2 * ((hertz - low) / (high - low)).clamp(0, 1)).square()
    return torch.fft.irfft(torch.fft.rfft(audio) * gain, samples) if samples > 1 else audio


def encode(
    extractor: Any, enroll: Signal | Sequence[Signal | tuple[Signal, int]], sample_rate: int = SAMPLE_RATE, names: Sequence[str] = ()
) -> Any:
    """The speaker of one or several recordings; arguments and errors as :func:`extract`, in which they are called ``names``."""
    one = not isinstance(enroll, list | tuple) or (isinstance(enroll, tuple) and len(enroll) == 2 and np.isscalar(enroll[1]))
    recordings = [enroll] if one else list(enroll)
    if not recordings:
        raise AudioError("enroll is an empty list, expected at least one recording of the speaker")
    names = names or (["enroll"] if len(recordings) == 1 else [f"enroll[{number}]" for number in range(len(recordings))])
    device = next(extractor.parameters()).device
    pairs = [each if isinstance(each, tuple) else (each, sample_rate) for each in recordings]
    heard = [voice(mono(each, name), rate, name) for (each, rate), name in zip(pairs, names, strict=True)]
    with torch.no_grad():  # not inference_mode: what is kept may be used in a training
        return extractor.encode_each([torch.from_numpy(each).to(device) for each in heard])


def voice(audio: np.ndarray, sample_rate: int, name: str) -> np.ndarray:
    """The part of an enrolment ``(T,)`` that is used, at 48 kHz. Raises AudioError: too short or silent."""
    check_rate(sample_rate)
    if len(audio) < ENROLL_MIN_S * sample_rate:
        raise AudioError(f"{name} lasts {len(audio) / sample_rate:.2f} s, expected at least {ENROLL_MIN_S} s of the speaker's voice")
    audio = audio[: round(ENROLL_MAX_S * sample_rate)]
    level = level_db(audio)
    if level <= SILENT_DB:
        where = f"in its first {ENROLL_MAX_S:g} s " if len(audio) >= ENROLL_MAX_S * sample_rate else ""
        raise AudioError(f"{name} is silent {where}({level:.0f} dBFS), expected a recording of the speaker above {SILENT_DB:.0f} dBFS")
    return without_rumble(torch.from_numpy(resample(audio, sample_rate, SAMPLE_RATE))).numpy()


def mono(audio: Signal, name: str) -> np.ndarray:
    """An array or tensor as ``(T,)`` float32, as :func:`extract`; of two channels that cancel each other the louder, with a warning."""
    if not isinstance(audio, np.ndarray | Tensor):
        raise AudioError(f"{name} is a {type(audio).__name__}, expected an array or a tensor of samples")
    shape = tuple(audio.shape)
    if len(shape) not in (1, 2) or 0 in shape or (len(shape) == 2 and (min(shape) > 2 or shape == (2, 2))):
        expected = "(T,), (2, T) or (T, 2) with at least 1 sample; several recordings are several calls"
        raise AudioError(f"{name} has the shape {shape}, expected {expected}")
    values = _floating(audio, name)
    if not np.isfinite(values).all():
        raise AudioError(f"{name} holds NaN or infinite values, expected finite ones")
    if len(shape) == 1:
        return np.ascontiguousarray(values)
    channels = values if shape[1] <= 2 else values.T  # (T, C)
    mixed = downmix(channels)
    loudest = cancelled(np.square(channels, dtype=np.float64).mean(0), np.square(mixed, dtype=np.float64).mean())
    if loudest is not None:
        warnings.warn(f"the channels of {name} cancel each other; channel {loudest + 1} alone is used", stacklevel=4)
        mixed = channels[:, loudest]
    return np.ascontiguousarray(mixed)


def _floating(audio: Signal, name: str) -> np.ndarray:
    """As float32 with full scale at 1."""
    if isinstance(audio, Tensor):
        audio = audio.detach().cpu()
        audio = audio.float().numpy() if audio.is_floating_point() else audio.numpy()
    if np.issubdtype(audio.dtype, np.integer) and audio.dtype.itemsize < 8:  # 64 bit ones hold values of some other scale
        low, scale = np.iinfo(audio.dtype).min, 2.0 ** (8 * audio.dtype.itemsize - 1)
        return ((audio - (low + scale)) / scale).astype(np.float32)  # of unsigned types silence is in the middle
    if not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(f"{name} holds {audio.dtype}, expected floating point values with full scale at 1, or integers of up to 32 bit")
    return np.asarray(audio, np.float32)


def taken_db(extractor: Any, enroll: np.ndarray) -> float:
    """Level of what is taken away from a recording (T,) at 48 kHz that is its own enrolment, relative to it. Of one voice little is; of two
    at once one is rarely kept whole."""
    return level_db(enroll - extract(extractor, enroll, enroll)) - level_db(enroll)


def check_rate(sample_rate: int) -> None:
    """Raises AudioError: a rate that no recording has."""
    number = isinstance(sample_rate, int | float | np.number) and not isinstance(sample_rate, bool)
    if not number or not RATES_HZ[0] <= sample_rate <= RATES_HZ[1]:
        raise AudioError(f"sample_rate is {sample_rate!r}, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
