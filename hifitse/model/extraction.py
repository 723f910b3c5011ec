"""Extract a voice from a recording in memory, mono or stereo, of any sample rate and length. :mod:`hifitse.model.extract_files` does the
same for files, piece by piece. Long signals are processed in chunks of equal length, cross-faded where they overlap."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hifitse import SAMPLE_RATE
from hifitse.audio import AudioError, cancelled, crop_or_pad, downmix, level_db, resample
from hifitse.decode import RATES_HZ

Signal = np.ndarray | Tensor
RUMBLE_HZ = (10.0, 20.0)  # high-pass before the network: nothing passes below the first, everything above the second
SILENT_DB = -80.0  # dBFS: an enrolment at or below this level counts as silent
ENROLL_MIN_S, ENROLL_MAX_S = 0.25, 30.0  # s: the shortest enrolment; only the beginning of a longer one is used
FRAME = 960  # samples (20 ms) per level of :func:`paused`
PAUSE, LOUD = 50, 50  # frames of half a pause, and how many exceed the loud level
SILENT_BELOW, SILENT_MARGIN, MARGIN = 30.0, 3, 20  # dB below the loud level: silence, and frames at its ends; frames at the ends of pauses


class Chunks(NamedTuple):
    """How to cut a signal, in samples. All lengths are multiples of ``hop``, the step between the network's frames, so that a network with
    a limited receptive field gives the same output inside a chunk as for the whole signal."""

    step: int  # from the start of one chunk's output to the next
    fade: int  # cross-fade between the outputs of two chunks, above 0, at most ``step``
    context: int  # input beyond the output, on both sides
    hop: int = 1

    @classmethod
    def of_seconds(cls, hop: int, step_s: float = 14.0, fade_s: float = 0.5, context_s: float = 1.5) -> "Chunks":
        """Convert lengths in seconds at 48 kHz, rounded up to multiples of ``hop`` samples."""
        return cls(*(max(1, -(-round(seconds * SAMPLE_RATE) // hop)) * hop for seconds in (step_s, fade_s, context_s)), hop)

    @property
    def length(self) -> int:
        """Samples of a full chunk; signals up to this length are processed whole."""
        return self.step + self.fade + 2 * self.context


def overlap_add(blocks: Iterable[Tensor], process: Callable[[Tensor], Tensor], chunks: Chunks) -> Iterator[Tensor]:
    """Run ``process`` over a stream, chunk by chunk, buffering no more than one chunk and one block.

    The network normalises the level of each chunk, so all chunks have the full length, to within a hop, unless the whole signal is
    shorter. The last chunk therefore begins earlier.

    Args:
        blocks: pieces of the signal, ``(T_i,)`` or ``(T_i, C)``, of any lengths. The output has the same total length.
        process: ``(T, ...) -> (T, ...)``. T is at most ``chunks.length``; each chunk begins at a multiple of ``chunks.hop``.
    """
    source, held, first = iter(blocks), torch.zeros(0), 0  # the buffered input, and its position in the stream
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, chunks.fade + 2)[1:-1]).square()  # 1 - ramp is the ramp reversed
    tail, done = None, 0  # faded end of the last output; number of samples yielded
    while True:
        start = max(0, done - chunks.context)
        # one sample beyond the chunk shows that another one follows
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
        kept = stop - chunks.context - done  # the first chunk has no context before it, so its output is that much longer
        tail = output[kept - chunks.fade : kept] * (1 - ramp)
        yield output[: kept - chunks.fade]
        done += kept - chunks.fade
        held, first = held[start - first :].clone(), start  # a view would keep the whole buffer alive


def extract(
    extractor: Any, mix: Signal, enroll: Signal | Sequence[Signal | tuple[Signal, int]], sample_rate: int = SAMPLE_RATE
) -> Signal:
    """Extract the enrolled speaker's voice. Recordings longer than about 17 s are processed in cross-faded chunks of that length.

    Args:
        extractor: a :class:`hifitse.model.Extractor`; runs on the device of its weights.
        mix: the recording: ``(T,)``, or ``(2, T)`` or ``(T, 2)``, whose channels are averaged. Floating point with full scale at 1,
            or integers with the full scale of their type.
        enroll: one recording of the speaker alone, or a list of several. Each has the format of ``mix``, or is ``(recording, rate)``,
            and lasts at least 0.25 s. Only its first 30 s are used.
        sample_rate: Hz of the mixture and the enrolments, 1 000 to 1 000 000. They are resampled to 48 kHz, and the estimate back.

    Returns:
        The estimate ``(T,)`` with the mixture's type, dtype, device, sample rate, length and level, high-passed at 20 Hz.

    Raises:
        AudioError: a silent or too short enrolment, an empty mixture, or an invalid shape, value or sample rate.
    """
    check_rate(sample_rate)
    audio = mono(mix, "mix")
    speaker = encode(extractor, enroll, sample_rate)
    blocks = [torch.from_numpy(resample(audio, sample_rate, SAMPLE_RATE))]
    est = torch.cat([torch.zeros(0), *stream(extractor, blocks, speaker)]).numpy()  # a few samples at a high rate are none at 48 kHz
    est = crop_or_pad(resample(est, SAMPLE_RATE, sample_rate), len(audio))
    return _like(est, mix)


def _like(est: np.ndarray, mix: Signal) -> Signal:
    """Convert the estimate to the mixture's type and dtype."""
    tensor = isinstance(mix, Tensor)
    if not (mix.is_floating_point() if tensor else np.issubdtype(mix.dtype, np.floating)):
        limits = torch.iinfo(mix.dtype) if tensor else np.iinfo(mix.dtype)
        scale = (limits.max - limits.min + 1) / 2
        est = est.astype(np.float64)  # float32 cannot hold the largest 32-bit integer, and the next larger number wraps around
        est = np.clip(np.rint(est * scale + (limits.min + scale)), limits.min, limits.max)
    if tensor:
        return torch.from_numpy(np.ascontiguousarray(est)).to(mix.device, mix.dtype)
    return est.astype(mix.dtype, copy=False)


def stream(extractor: Any, blocks: Iterable[Tensor], speaker: Any) -> Iterator[Tensor]:
    """Turn pieces of the mixture at 48 kHz into pieces of the estimate, on the CPU; ``speaker`` comes from :func:`encode`."""
    return overlap_add(blocks, partial(_one, extractor, speaker), Chunks.of_seconds(extractor.config.hop_length))


def _one(extractor: Any, speaker: Any, mix: Tensor) -> Tensor:
    rows = without_rumble((mix[None] if mix.dim() == 1 else mix.T).to(next(extractor.parameters()).device))
    quiet, est = paused(rows[0]), torch.zeros(max(1, len(rows) - 1), rows.shape[1])
    for part in (~quiet, quiet):
        heard = rows[:, part]
        channels = {"channels": heard[1:]} if len(rows) > 1 else {}  # the first row is the network's input
        if heard.any():
            with torch.inference_mode():
                est[:, part.cpu()] = extractor.extract_speaker(heard[:1], speaker, **channels).float().cpu()
    return est[0] if mix.dim() == 1 else est.T


def paused(audio: Tensor, below_db: float = 8.0) -> Tensor:
    """Mark pauses of at least 2 s in a signal (T,) at 48 kHz, where all frames are at least ``below_db`` below the level exceeded for 1 s.
    The network hears them apart from the speech, because it normalises each band over all frames: 4 s of speech lost 2 dB within 10 s of
    noise 15 dB below it, and 4 dB within 12 s of silence. Frames next to speech belong to it: 0.4 s of noise, 0.06 s of silence."""
    power = F.pad(audio, (0, -len(audio) % FRAME)).view(1, -1, FRAME).square().mean(-1)
    loud = power.topk(min(LOUD, power.shape[1])).values[:, -1:]  # a bang is shorter
    pauses = torch.zeros_like(power)
    for below, margin in ((below_db, MARGIN), (SILENT_BELOW, SILENT_MARGIN)):
        near = F.max_pool1d((power > loud * 10 ** (-below / 10)).float(), 2 * PAUSE + 1, 1, PAUSE)
        pauses = torch.maximum(pauses, F.max_pool1d(1 - near, 2 * (PAUSE - margin) + 1, 1, PAUSE - margin))
    return (pauses[0] > 0).repeat_interleave(FRAME)[: len(audio)]


def without_rumble(audio: Tensor) -> Tensor:
    """High-pass a signal (..., T) at 48 kHz at 20 Hz, without delay: an offset of 0.3 would cost 9 dB of SI-SDR."""
    samples = audio.shape[-1]
    low, high = RUMBLE_HZ
    hertz = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE, device=audio.device)
    gain = torch.sin(torch.pi / 2 * ((hertz - low) / (high - low)).clamp(0, 1)).square()
    return torch.fft.irfft(torch.fft.rfft(audio) * gain, samples) if samples > 1 else audio


def encode(
    extractor: Any, enroll: Signal | Sequence[Signal | tuple[Signal, int]], sample_rate: int = SAMPLE_RATE, names: Sequence[str] = ()
) -> Any:
    """Encode a speaker from one or several recordings. Arguments and errors as in :func:`extract`; error messages use ``names``."""
    one = not isinstance(enroll, list | tuple) or (isinstance(enroll, tuple) and len(enroll) == 2 and np.isscalar(enroll[1]))
    recordings = [enroll] if one else list(enroll)
    if not recordings:
        raise AudioError("enroll is an empty list, expected at least one recording of the speaker")
    names = names or (["enroll"] if len(recordings) == 1 else [f"enroll[{number}]" for number in range(len(recordings))])
    device = next(extractor.parameters()).device
    pairs = [each if isinstance(each, tuple) and len(each) == 2 else (each, sample_rate) for each in recordings]
    heard = [voice(mono(each, name), rate, name) for (each, rate), name in zip(pairs, names, strict=True)]
    with torch.no_grad():  # not inference_mode, so that the result can be used in training
        return extractor.encode_each([torch.from_numpy(each).to(device) for each in heard])


def voice(audio: np.ndarray, sample_rate: int, name: str) -> np.ndarray:
    """Return the used part of an enrolment ``(T,)``, at 48 kHz, high-passed, without pauses. Raises AudioError: too short or silent."""
    check_rate(sample_rate)
    if len(audio) < ENROLL_MIN_S * sample_rate:
        raise AudioError(f"{name} lasts {len(audio) / sample_rate:.2f} s, expected at least {ENROLL_MIN_S} s of the speaker's voice")
    audio = audio[: round(ENROLL_MAX_S * sample_rate)]
    level = level_db(audio)
    if level <= SILENT_DB:
        where = f"in its first {ENROLL_MAX_S:g} s " if len(audio) >= ENROLL_MAX_S * sample_rate else ""
        raise AudioError(f"{name} is silent {where}({level:.0f} dBFS), expected a recording of the speaker above {SILENT_DB:.0f} dBFS")
    heard = without_rumble(torch.from_numpy(resample(audio, sample_rate, SAMPLE_RATE)))
    return heard[~paused(heard, 15.0)].numpy()  # quiet speech would be lost


def mono(audio: Signal, name: str) -> np.ndarray:
    """Convert a signal as in :func:`extract` to ``(T,)`` float32. If its channels cancel each other, warn and use the louder one."""
    if not isinstance(audio, np.ndarray | Tensor):
        raise AudioError(f"{name} is a {type(audio).__name__}, expected an array or a tensor of samples")
    shape = tuple(audio.shape)
    if len(shape) not in (1, 2) or 0 in shape or (len(shape) == 2 and (min(shape) > 2 or shape == (2, 2))):
        expected = "(T,), (2, T) or (T, 2) with at least 1 sample, one recording per call"
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
    """Convert to a float32 array with full scale at 1."""
    if isinstance(audio, Tensor):
        audio = audio.detach().cpu()
        audio = audio.float().numpy() if audio.is_floating_point() else audio.numpy()
    if np.issubdtype(audio.dtype, np.integer) and audio.dtype.itemsize < 8:  # the full scale of 64-bit samples is unknown
        low, scale = np.iinfo(audio.dtype).min, 2.0 ** (8 * audio.dtype.itemsize - 1)
        return ((audio - (low + scale)) / scale).astype(np.float32)  # silence is in the middle of the range of unsigned types
    if not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(f"{name} holds {audio.dtype}, expected floating point values with full scale at 1, or integers of up to 32 bit")
    return np.asarray(audio, np.float32)


def taken_db(extractor: Any, enroll: np.ndarray) -> float:
    """Use a recording (T,) at 48 kHz as its own enrolment and return the level of what is removed, in dB relative to the recording.
    Little is removed from a single voice, usually more if two people speak at once."""
    return level_db(enroll - extract(extractor, enroll, enroll)) - level_db(enroll)


def check_rate(sample_rate: int) -> None:
    """Raise AudioError if the sample rate is invalid or out of range."""
    number = isinstance(sample_rate, int | float | np.number) and not isinstance(sample_rate, bool)
    if not number or not RATES_HZ[0] <= sample_rate <= RATES_HZ[1]:
        raise AudioError(f"sample_rate is {sample_rate!r}, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
