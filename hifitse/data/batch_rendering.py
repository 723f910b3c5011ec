"""Render scenes to a batch in torch, on a GPU or the CPU: gather, change speed, convolve, scale and sum a whole batch at once.

A scene gives the same mixture as in :mod:`hifitse.data.rendering`, to 1e-4 relative to its peak. Only the changes of enrolments
(:mod:`hifitse.data.augment`) are computed on the CPU.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE, audio
from hifitse.data.augment import changed, recorded_elsewhere, restore_formants
from hifitse.data.reader import KEPT_S, PCM_16, as_int16
from hifitse.data.rendering import PEAK, Mixture, Renderer, gain_below, gate, loop, put, transform_length
from hifitse.data.scene import Elsewhere, Enrollment, File, Noise, Scene, Segment, length

ROWS = 256  # recordings to transform together: more would take too much memory
THREADS = 8  # recordings to decode at a time


class Part(NamedTuple):
    """Samples ``start`` to ``start + samples`` of the sound ``key``, times ``gain``, at sample ``at`` of a row; ``load`` decodes it."""

    key: tuple
    start: int
    samples: int
    at: int
    gain: float
    load: Callable[[], np.ndarray]


class DeviceStore:
    """Recordings on a device, up to ``limit`` bytes; the least recently used are dropped first, except those that the current call needs.
    Recordings whose samples are all 16-bit values are stored as int16."""

    def __init__(self, device: torch.device | str, limit: int) -> None:
        self.device, self.limit, self.bytes = torch.device(device), limit, 0
        self._kept: OrderedDict[tuple, Tensor] = OrderedDict()

    def rows(self, rows: Sequence[Sequence[Part]], samples: int) -> Tensor:
        """Return rows (R, T) float32 made of non-overlapping parts of recordings; 0 elsewhere."""
        wanted = {part.key: part.load for row in rows for part in row}
        self._require(wanted)
        whole = all(self._kept[key].dtype == torch.int16 for key in wanted)  # pieces of one type are joined by one kernel
        silence = torch.zeros(samples, dtype=torch.int16 if whole else torch.float32, device=self.device)
        pieces, gains = [], []
        for row in rows:
            done = 0
            for part in sorted(row, key=lambda part: part.at):
                kept = self._kept[part.key]
                sound = kept[part.start : part.start + min(part.samples, samples - part.at)].to(silence.dtype)
                pieces += [silence[: part.at - done], sound]
                gains += [0.0, part.gain / (1 if kept.is_floating_point() else PCM_16)]
                done = part.at + len(sound)
            pieces.append(silence[: samples - done])
            gains.append(0.0)
        lengths = torch.tensor([len(piece) for piece in pieces]).to(self.device)
        gain = torch.repeat_interleave(torch.tensor(gains).to(self.device), lengths, output_size=len(rows) * samples)
        return (torch.cat(pieces).float() * gain).view(len(rows), samples)

    def _require(self, wanted: dict[tuple, Callable[[], np.ndarray]]) -> None:
        """Load these recordings unless they are stored; each value decodes one, (T,) float32."""
        for key in wanted.keys() & self._kept.keys():
            self._kept.move_to_end(key)
        missing = [key for key in wanted if key not in self._kept]
        with ThreadPoolExecutor(THREADS) as pool:  # decoding releases the GIL
            sounds = pool.map(lambda key: wanted[key](), missing)
            for key, sound in zip(missing, sounds, strict=True):
                small = as_int16(sound)
                self._kept[key] = torch.from_numpy(sound if small is None else small).to(self.device)
                self.bytes += self._kept[key].nbytes
        while self.bytes > self.limit and next(iter(self._kept)) not in wanted:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes


class BatchRenderer:
    """Renders many scenes of one length at once, on a device; ``limit``: bytes of decoded recordings to keep there."""

    def __init__(self, renderer: Renderer, device: torch.device | str, limit: int) -> None:
        self.renderer, self.device = renderer, torch.device(device)
        self.store = DeviceStore(device, limit)
        self._speeds: dict[int, Any] = {}

    @torch.no_grad()
    def render(self, scenes: Sequence[Scene]) -> list[Mixture]:
        """Render scenes to mixtures of tensors on the device. Raise HifitseError if a recording is missing or broken."""
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if self.device.type == "cuda" else nullcontext()
        with exact:
            speech, noise = self._talkers(scenes), self._noises([scene.noise for scene in scenes], scenes[0].samples)
            clips_db = self._balance(scenes, speech, noise)
            speech[:, 0] *= self._of([scene.present for scene in scenes])[:, None]
            mix = speech.sum(1) + noise
            enrolled = self._enroll([scene.enroll for scene in scenes])
            mistaken = self._enroll([scene.wrong_enroll for scene in scenes])
        heard_db, made = _db(mix.square().mean(-1)).clamp_min(audio.FLOOR_DB).tolist(), []
        for number, (scene, clip, right, wrong) in enumerate(zip(scenes, clips_db, enrolled, mistaken, strict=True)):
            levels = {"level_db": round(scene.level_db + clip, 4), "clip_gain_db": round(clip, 4), "enroll_level_db": right[1]}
            levels |= {"wrong_enroll_level_db": wrong[1], "mix_level_db": round(heard_db[number], 4)}
            talkers = speech[number, : len(scene.talkers)]
            parts = talkers[0], talkers[1:], noise[number], right[0], wrong[0]
            made.append(Mixture(mix[number], *parts, scene.metadata() | levels))
        return made

    def _of(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, device=self.device)

    # ---- recordings

    def _part(self, kind: str, file: File, start: int, samples: int, at: int = 0, gain: float = 1.0) -> Part:
        """Return a piece of a "speech" or "noise" recording. Of long or looped recordings the store keeps only this piece."""
        root = (self.renderer.speech if kind == "speech" else self.renderer.noise).root
        if kind == "noise" and file.samples - start < samples:
            whole = partial(audio.read, root / file.path, start)
            return Part(("loop", file.path, start, samples), 0, samples, at, gain, lambda: loop(whole(), samples))
        if file.samples > KEPT_S * SAMPLE_RATE:
            return Part((kind, file.path, start, samples), 0, samples, at, gain, partial(audio.read, root / file.path, start, samples))
        return Part((kind, file.path), start, samples, at, gain, partial(audio.read, root / file.path))

    def _segments(self, segments: Sequence[Segment]) -> Tensor:
        """Return speech segments of one length, (R, T); those of the same speed are computed together."""
        order = sorted(range(len(segments)), key=lambda number: segments[number].speed)
        rows = [[self._part("speech", p.file, p.start, p.samples, p.at, p.gain) for p in segments[number].pieces] for number in order]
        crops = self.store.rows(rows, max(each.crop for each in segments))
        out, done = crops.new_zeros(len(segments), segments[0].samples), 0
        for speed, same in groupby((segments[number] for number in order), key=lambda each: each.speed):
            together = list(same)
            chosen = slice(done, done + len(together))
            sound = self._faster(crops[chosen, : max(each.crop for each in together)], speed)[:, : out.shape[1]]
            out[chosen, : sound.shape[1]] = sound
            done = chosen.stop
        out = out[torch.from_numpy(np.argsort(order)).to(self.device)]
        if other := [number for number, each in enumerate(segments) if each.pitch != 1]:
            out[other] = restore_formants(out[other], [segments[number].pitch for number in other])
        return out

    def _faster(self, crops: Tensor, speed: float) -> Tensor:
        percent = round(100 * speed)
        if percent == 100:
            return crops
        if percent not in self._speeds:
            self._speeds[percent] = copy.deepcopy(audio.speed_changer(percent)).to(self.device)
        return self._speeds[percent](crops)

    def _noises(self, noises: Sequence[Noise | None], samples: int) -> Tensor:
        """Return pieces of noise, (R, T); zeros for ``None``."""
        parts = [[self._part("noise", noise.file, noise.start, samples, 0, noise.gain)] if noise else [] for noise in noises]
        return self.store.rows(parts, samples)

    # ---- mixtures

    def _talkers(self, scenes: Sequence[Scene]) -> Tensor:
        """Return talkers (B, S, T), the target first, placed in time and in the room; zeros where a scene has fewer talkers."""
        samples, count = scenes[0].samples, max(len(scene.talkers) for scene in scenes)
        speech = torch.zeros(len(scenes), count, samples, device=self.device)
        flat = speech.view(-1, samples)
        rows = {number * count + place: talker for number, scene in enumerate(scenes) for place, talker in enumerate(scene.talkers)}
        for size in {talker.segment.samples for talker in rows.values()}:
            mine = {row: talker for row, talker in rows.items() if talker.segment.samples == size}
            sound = self._segments([talker.segment for talker in mine.values()])
            sound = self._elsewhere(sound, [talker.elsewhere for talker in mine.values()])
            if size == samples:
                flat[self._of([*mine])] = sound
                continue
            for (row, talker), each in zip(mine.items(), sound, strict=True):
                put(flat[row], talker.spans, each)
        if wet := {row: talker.response for row, talker in rows.items() if talker.response}:
            chosen = self._of([*wet])
            flat[chosen] = self._reverberate(flat[chosen], [*wet.values()])
        for row, talker in rows.items():
            if length(talker.spans) < samples:
                flat[row] *= torch.from_numpy(gate(samples, talker.spans)).to(self.device)
        return speech

    def _reverberate(self, dry: Tensor, responses: Sequence[File]) -> Tensor:
        samples = dry.shape[-1]
        longest = min(max(file.samples for file in responses), samples)
        size = transform_length(samples + longest)
        parts = [[Part(("room", file.path), 0, longest, 0, 1.0, partial(self.renderer.response, file))] for file in responses]
        rows = self.store.rows(parts, longest)
        return torch.fft.irfft(torch.fft.rfft(dry, size) * torch.fft.rfft(rows, size), size)[..., :samples]

    def _elsewhere(self, speech: Tensor, told: Sequence[Elsewhere | None]) -> Tensor:
        """Render rows (R, T) as if recorded elsewhere, except those for which ``told`` has ``None``."""
        rows = [number for number, each in enumerate(told) if each]
        for some in (rows[first : first + ROWS] for first in range(0, len(rows), ROWS)):
            chosen = self._of(some)
            speech[chosen] = recorded_elsewhere(speech[chosen], [told[number] for number in some])
        return speech

    def _balance(self, scenes: Sequence[Scene], speech: Tensor, noise: Tensor) -> list[float]:
        """Scale the parts in place as :func:`hifitse.data.rendering.balance` does; return the gains in dB that avoid clipping."""
        power = _power(speech)
        for number, scene in enumerate(scenes):
            for place, talker in enumerate(scene.talkers):
                if length(talker.spans) < scene.samples:
                    power[number, place] = _power(torch.cat([speech[number, place, slice(*span)] for span in talker.spans]))
        others = speech.shape[1] - 1
        ratios = self._of([[0.0, *scene.sir_db, *[0.0] * (others - len(scene.sir_db))] for scene in scenes])
        speech *= gain_below(power[:, :1], power, ratios)[..., None]
        noise *= gain_below(power[:, 0], _power(noise), self._of([scene.snr_db for scene in scenes]))[:, None]
        mix = speech.sum(1) + noise
        gain = 10 ** (self._of([scene.level_db for scene in scenes]) / 20) / _power(mix).sqrt()
        peak = torch.stack([mix, mix - speech[:, 0], noise]).abs().amax((0, -1)).maximum(speech.abs().amax((-1, -2)))
        clip = (PEAK / (peak * gain).clamp_min(1e-12)).clamp_max(1.0)
        speech *= (gain * clip)[:, None, None]
        noise *= (gain * clip)[:, None]
        return (20 * clip.log10()).tolist()

    # ---- enrolments

    def _enroll(self, enrollments: Sequence[Sequence[Enrollment]]) -> list[tuple[Tensor, list[float]] | tuple[None, None]]:
        """Return each scene's enrolments (N, T') and their levels in dBFS before they are recorded elsewhere; ``None`` twice if none."""
        flat = [each for row in enrollments for each in row]
        if not flat:
            return [(None, None)] * len(enrollments)
        sound = self._segments([each.segment for each in flat])
        if wet := [number for number, each in enumerate(flat) if each.response]:
            sound[wet] = self._reverberate(sound[wet], [flat[number].response for number in wet])
        if noisy := [number for number, each in enumerate(flat) if each.noise]:
            noise, snr = self._noises([flat[number].noise for number in noisy], sound.shape[1]), [flat[number].snr_db for number in noisy]
            sound[noisy] += noise * gain_below(_power(sound[noisy]), _power(noise), self._of(snr))[:, None]
        for number, each in enumerate(flat):
            for change in each.changes:
                row = changed(sound[number].cpu().numpy(), change)
                sound[number] = torch.from_numpy(np.ascontiguousarray(row)).to(self.device)
        power, wanted = _power(sound), self._of([each.level_db for each in flat])
        gain = torch.where(power <= 10 ** (audio.FLOOR_DB / 10), 1.0, 10 ** (wanted / 20) / power.sqrt())
        clip = (PEAK / (sound.abs().amax(-1) * gain).clamp_min(1e-9)).clamp_max(1.0)
        sound *= (gain * clip)[:, None]
        levels = iter(_db(_power(sound)).clamp_min(audio.FLOOR_DB).tolist())
        rows = iter(self._elsewhere(sound, [each.elsewhere for each in flat]).split([len(row) for row in enrollments if row]))
        return [(next(rows), [round(next(levels), 4) for _ in row]) if row else (None, None) for row in enrollments]


def _power(signal: Tensor) -> Tensor:
    """Return the mean square over the last axis, never 0."""
    return signal.square().mean(-1).clamp_min(1e-20)


def _db(power: Tensor) -> Tensor:
    return 10 * power.clamp_min(1e-30).log10()
