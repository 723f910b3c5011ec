"""Render a scene to sound, on the CPU and in numpy.

Levels. The power of the target is its mean square over the stretch in which it is present (the whole mixture, except with partial
presence); that of an interferer or of the noise is its mean square over the mixture. All are measured after the room. SIR and SNR are
ratios of these powers. If target and interferers take turns, the power of each is measured over its own turns. If the target is
absent, everything else, including the level, is as if it were present.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import next_fast_len, rfft

from hifitse import SAMPLE_RATE, audio
from hifitse.data.augment import changed, recorded_elsewhere, restore_formants
from hifitse.data.reader import Reader, Recent
from hifitse.data.sampling import align, power
from hifitse.data.scene import Elsewhere, Enrollment, File, Noise, Scene, Segment, Spans, length
from hifitse.machine import threads

PEAK = 0.99  # largest absolute value of a mixture, of its parts, and of an enrolment
FADE = round(0.01 * SAMPLE_RATE)  # 10 ms: at the ends of a span inside a mixture, and at the seam of a looped noise
STEP = 32_768  # long transforms are multiples of this: responses of similar length share one, close to the powers of 2, the fastest
COSTS = {2**15: 0.58, 2**16: 0.65, 2**17: 0.74}  # time per sample relative to one long transform: short ones stay in the CPU's cache


@dataclass
class Mixture:
    """A mixture and its parts, float32: arrays, or tensors if made in a batch; ``mix = target + interferers.sum(0) + noise`` to 1e-6."""

    mix: np.ndarray  # (T,)
    target: np.ndarray  # (T,), with its room; zeros if absent
    interferers: np.ndarray  # (S, T), the loudest first; S may be 0
    noise: np.ndarray  # (T,)
    enroll: np.ndarray  # (N, T'), of the speaker to extract
    wrong_enroll: np.ndarray | None  # (N, T'), of the first interferer, noisy if enroll is; None if not requested or without interferers
    metadata: dict[str, Any]  # flat, JSON-serialisable: who, what, where, levels in dB, positions in s


class Renderer:
    """Renders scenes to sound. Keeps spectra of room responses, up to 64 MB or ``limit`` bytes, whichever is more.
    ``speech`` and ``noise`` read recordings; ``rooms`` is the root of the room responses."""

    def __init__(self, speech: Reader, noise: Reader | None, rooms: Path | None, limit: int = 0) -> None:
        self.speech, self.noise, self.rooms = speech, noise, rooms
        self._recent = Recent(max(Recent().limit, limit))

    def mixture(self, scene: Scene) -> Mixture:
        """Render a scene; raise HifitseError if a recording is missing or broken."""
        speech = self._talkers(scene)
        noise = self.piece(scene.noise, scene.samples) if scene.noise else np.zeros(scene.samples, np.float32)
        levels = balance(scene, speech, noise) if scene.level_db is not None else _levels(speech, noise)
        enroll, enrolled = self._enroll(scene.enroll)
        wrong, mistaken = self._enroll(scene.wrong_enroll) if scene.wrong_enroll else (None, None)
        if not scene.present:
            speech[0] = 0
        mix = speech.sum(0) + noise
        metadata = scene.metadata() | levels | {"enroll_level_db": enrolled, "wrong_enroll_level_db": mistaken}
        metadata["mix_level_db"] = round(audio.level_db(mix), 4)
        return Mixture(mix, speech[0], speech[1:], noise, enroll, wrong, metadata)

    def segment(self, segment: Segment) -> np.ndarray:
        """Return speech of one speaker, (T,), at an arbitrary level."""
        crop = np.zeros(segment.crop, np.float32)
        for piece in segment.pieces:
            sound = self.speech.read(piece.file, piece.start, piece.samples)
            crop[piece.at : piece.at + len(sound)] = sound * np.float32(piece.gain)
        speech = audio.crop_or_pad(self.faster(crop, segment.speed), segment.samples)
        return speech if segment.pitch == 1 else restore_formants(torch.from_numpy(speech)[None], [segment.pitch])[0].numpy()

    def piece(self, noise: Noise, samples: int) -> np.ndarray:
        """Return a piece of noise, (T,), looped if the recording is shorter."""
        sound = self.noise.read(noise.file, noise.start, samples)
        sound = loop(sound, samples) if len(sound) < samples else sound.copy()
        return sound if noise.gain == 1.0 else sound * np.float32(noise.gain)

    def faster(self, crop: np.ndarray, speed: float) -> np.ndarray:
        return audio.change_speed(crop, speed)

    def reverberate(self, dry: np.ndarray, responses: Sequence[File]) -> np.ndarray:
        """Convolve each row with its aligned response, (S, T) -> (S, T); the tail beyond the end is cut."""
        samples = dry.shape[-1]
        longest = min(max(response.samples for response in responses), samples)
        size = block_length(samples, longest)

        def spectrum(file: File) -> tuple[np.ndarray, int]:
            found = rfft(self.response(file)[:samples], size)
            return found, found.nbytes

        spectra = [self._recent.get((file.path, samples, size), partial(spectrum, file)) for file in responses]
        return convolve(dry, spectra, longest)

    def response(self, file: File) -> np.ndarray:
        """Load a response and align it, (T,) float32."""
        return align(audio.read(self.rooms / file.path)).astype(np.float32, copy=False)

    def _talkers(self, scene: Scene) -> np.ndarray:
        """Return talkers (S, T), the target first, placed in time and in the room, whose direct paths add no delay."""
        speech = np.zeros((len(scene.talkers), scene.samples), np.float32)
        for row, talker in zip(speech, scene.talkers, strict=True):
            put(row, talker.spans, _elsewhere(self.segment(talker.segment), talker.elsewhere))
        if responses := [talker.response for talker in scene.talkers if talker.response]:
            speech = self.reverberate(speech, responses)
        for row, talker in zip(speech, scene.talkers, strict=True):
            if length(talker.spans) < scene.samples:
                row *= gate(scene.samples, talker.spans)
        return speech

    def _enroll(self, enrollments: Sequence[Enrollment]) -> tuple[np.ndarray, list[float]]:
        """Return enrolments (N, T') of one length and the level of each, in dBFS, before it is recorded elsewhere."""
        rows, levels = [], []
        for each in enrollments:
            row = self.segment(each.segment)
            if each.response:
                row = self.reverberate(row[None], [each.response])[0]
            if each.noise:
                noise = self.piece(each.noise, len(row))
                row = row + noise * np.float32(gain_below(power(row), power(noise), each.snr_db))
            for change in each.changes:
                row = changed(row, change)
            if each.level_db is not None:
                row = audio.set_level(row, each.level_db)
                row *= np.float32(min(1.0, PEAK / max(float(np.abs(row).max()), 1e-9)))
            levels.append(round(audio.level_db(row), 4))
            rows.append(_elsewhere(row, each.elsewhere))
        return np.stack(rows), levels


def _elsewhere(sound: np.ndarray, told: Elsewhere | None) -> np.ndarray:
    return sound if told is None else recorded_elsewhere(torch.from_numpy(sound)[None], [told])[0].numpy()


def put(row: Any, spans: Spans, speech: Any) -> None:
    """Write speech into the spans of a row (T,) in place, one span after the other; it is as long as all spans together."""
    done = 0
    for start, stop in spans:
        row[start:stop] = speech[done : done + stop - start]
        done += stop - start


def heard(row: np.ndarray, spans: Spans) -> np.ndarray:
    """Join the spans of a row, (T,) -> (T',)."""
    return row[slice(*spans[0])] if len(spans) == 1 else np.concatenate([row[start:stop] for start, stop in spans])


def gate(samples: int, spans: Spans) -> np.ndarray:
    """Return 1 in the spans, with short fades inside them, and 0 elsewhere, (T,); no fade at the mixture's own start and end."""
    wave = np.zeros(samples, np.float32)
    for start, stop in spans:
        wave[start:stop] = 1
        fade = min(FADE, (stop - start) // 2)
        ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
        if start > 0:
            wave[start : start + fade] = ramp
        if stop < samples:
            wave[stop - fade : stop] = ramp[::-1]
    return wave


def gain_below(reference: Any, power: Any, ratio_db: Any) -> Any:
    """Return the factor that scales a part from ``power`` to ``ratio_db`` below ``reference``; for numbers or tensors."""
    return (reference / power) ** 0.5 * 10 ** (-ratio_db / 20)


def balance(scene: Scene, speech: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
    """Scale the parts in place to their SIR and SNR, then all to the level; return the level and the gain that avoids clipping."""
    reference = power(heard(speech[0], scene.talkers[0].spans))
    for part, talker, ratio in zip(speech[1:], scene.talkers[1:], scene.sir_db, strict=True):
        part *= np.float32(gain_below(reference, power(heard(part, talker.spans)), ratio))
    if scene.noise:
        noise *= np.float32(gain_below(reference, power(noise), scene.snr_db))
    mix = speech.sum(0) + noise
    gain = 10 ** (scene.level_db / 20) / np.sqrt(power(mix))
    # None of these may clip: the mixture with and without the target, and each part by itself.
    peak = max(max(float(part.max()), -float(part.min())) for part in (mix, mix - speech[0], noise, *speech))
    clip_gain = min(1.0, PEAK / max(peak * gain, 1e-12))  # crops that are not checked may all be silent
    speech *= np.float32(gain * clip_gain)
    noise *= np.float32(gain * clip_gain)
    clip_db = 20 * float(np.log10(clip_gain))
    return {"level_db": round(scene.level_db + clip_db, 4), "clip_gain_db": round(clip_db, 4)}


def _levels(speech: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
    """Return the SIR, SNR and level of parts that are summed without scaling."""
    *sir, snr = (round(10 * float(np.log10(power(speech[0]) / power(other))), 4) for other in (*speech[1:], noise))
    level = round(audio.level_db(speech.sum(0) + noise), 4)
    return {"sir_db": sir, "snr_db": snr if noise.any() else None, "level_db": level, "clip_gain_db": 0.0}


def loop(signal: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a signal up to a length, with equal-power crossfades from its end to its start, (T,) -> (samples,)."""
    fade = min(FADE, len(signal) // 2)
    cycle = signal[: len(signal) - fade].copy()
    angle = np.linspace(0, np.pi / 2, fade, endpoint=False, dtype=np.float32)
    head = cycle[:fade].copy()
    cycle[:fade] = head * np.sin(angle) + signal[len(signal) - fade :] * np.cos(angle)
    tiled = np.resize(cycle, samples)
    tiled[:fade] = signal[: min(fade, samples)]  # nothing comes before the first round
    return tiled


# ---- convolution


def transform_length(samples: int) -> int:
    """Return an even length of at least ``samples`` for a fast Fourier transform."""
    step = STEP if samples >= 2 * STEP else 2
    return step * int(next_fast_len(-(-samples // step), real=True))


def block_length(samples: int, response: int) -> int:
    """Return the transform length that convolves ``samples`` samples with a response fastest, at once or in blocks."""
    whole = transform_length(samples + response)
    costs = {whole: float(whole)}
    costs |= {size: cost * size * blocks(samples, response, size) for size, cost in COSTS.items() if response < size < whole}
    return min(costs, key=costs.__getitem__)


def blocks(samples: int, response: int, size: int) -> int:
    """Return the number of blocks of ``size - response`` samples that a signal takes."""
    return -(-samples // (size - response))


def convolve(dry: np.ndarray, spectra: Sequence[np.ndarray], response: int) -> np.ndarray:
    """Convolve each row with its response and cut the tail beyond the end: (S, T) -> (S, T) float32.
    ``spectra`` are the responses' ``rfft``, (N // 2 + 1,) complex64, of the same even N above ``response``, the length of the longest."""
    (rows, samples), size = dry.shape, 2 * (len(spectra[0]) - 1)
    count = blocks(samples, response, size)
    step = -(-samples // count)
    parts = torch.from_numpy(np.pad(dry, ((0, 0), (0, count * step - samples)))).view(rows, count, step)
    with threads(1):  # multithreaded transforms round differently: mixtures would depend on the number of threads
        spectrum = torch.fft.rfft(parts, size)
        for row, each in zip(spectrum, spectra, strict=True):
            row.mul_(torch.from_numpy(each))
        rung = torch.fft.irfft(spectrum, size).numpy()  # (S, count, N)
    if count == 1:
        return rung[:, 0, :samples].copy()
    wet = np.zeros((rows, samples), np.float32)
    for first in range(0, count * step, step):
        wet[:, first : first + size] += rung[:, first // step, : samples - first]
    return wet
