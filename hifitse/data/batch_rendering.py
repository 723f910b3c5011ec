"""Scenes to a batch in torch, on a GPU or the CPU: gather, change speed, convolve, scale, sum, all of a batch together.

The same scene gives the same mixture as :mod:`hifitse.data.rendering` to 1e-4 relative to its peak. Only what is drawn as a change of an
enrolment's file (:mod:`hifitse.data.augment`) goes through the CPU.
"""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE, audio
from hifitse.data.augment import CHANGES
from hifitse.data.conditions import length
from hifitse.data.device_store import DeviceStore, Part
from hifitse.data.elsewhere import Elsewhere, recorded_elsewhere
from hifitse.data.reader import KEPT_S, Reader
from hifitse.data.rendering import PEAK, Renderer, gate, loop, put
from hifitse.data.rooms import transform_length
from hifitse.data.scene import Enrollment, File, Noise, Scene, Segment

ROWS = 256  # recordings that are transformed together, so that memory has room
Want = dict[tuple, Any]
"""By name what decodes a recording."""


class BatchRenderer:
    """Makes the sound of many scenes of one length at once, on a device; ``limit``: bytes of decoded recordings to keep there."""

    def __init__(self, renderer: Renderer, device: torch.device | str, limit: int) -> None:
        self.renderer, self.device = renderer, torch.device(device)
        self.store = DeviceStore(device, limit)
        self._speeds: dict[int, Any] = {}

    @torch.no_grad()
    def render(self, scenes: Sequence[Scene]) -> dict[str, Any]:
        """The mixtures of B scenes; HifitseError where a recording is missing or broken.

        Returns:
            ``mix, target, noise (B, T)``, ``interferers (B, S, T)`` with zeros where a scene has fewer, ``enroll (B, N, T')``,
            ``wrong_enroll`` alike (zeros where there is none; missing where no scene has one), all float32 on the device, and
            ``metadata``: a list of B dicts, as those of :class:`hifitse.data.rendering.Mixture`.
        """
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if self.device.type == "cuda" else nullcontext()
        with exact:
            self.store.require({key: load for scene in scenes for key, load in self._wanted(scene).items()})
            speech, noise = self._talkers(scenes), self._noises([scene.noise for scene in scenes], scenes[0].samples)
            levels = self._balance(scenes, speech, noise)
            there = torch.tensor([scene.present for scene in scenes], device=self.device)
            speech[:, 0] *= there[:, None]
            mix = speech.sum(1) + noise
            made: dict[str, Any] = {"mix": mix, "target": speech[:, 0], "noise": noise, "interferers": speech[:, 1:]}
            made["enroll"], enrolled = self._enroll([scene.enroll for scene in scenes])
            mistaken: list[list[float]] = []
            if any(scene.wrong_enroll for scene in scenes):
                made["wrong_enroll"], mistaken = self._enroll([scene.wrong_enroll for scene in scenes], made["enroll"])
        metadata = []
        heard_db = _db(mix.square().mean(-1)).tolist()
        for number, scene in enumerate(scenes):
            own = {"enroll_level_db": enrolled[number], "mix_level_db": round(max(heard_db[number], audio.FLOOR_DB), 4)}
            wrong = mistaken[number] if scene.wrong_enroll else None
            metadata.append(scene.metadata() | levels[number] | own | {"wrong_enroll_level_db": wrong})
        return made | {"metadata": metadata}

    # ---- recordings

    def _wanted(self, scene: Scene) -> Want:
        """What a scene is made from."""
        wanted: Want = {}
        for said in (*scene.talkers, *scene.enroll, *scene.wrong_enroll):
            for piece in said.segment.pieces:
                key = _key("speech", piece.file, piece.start)
                wanted[key] = partial(self._read, self.renderer.speech, piece.file, piece.start, piece.samples, len(key) == 2)
            if said.response:
                wanted["room", said.response.path] = partial(self.renderer.response, said.response)
        behind = [(scene.noise, scene.samples), *((each.noise, each.segment.samples) for each in (*scene.enroll, *scene.wrong_enroll))]
        for noise, needed in behind:
            if noise:
                key, start = _noise_key(noise, needed)
                if start is None:
                    wanted[key] = partial(_looped, self.renderer.noise.root / noise.file.path, noise.start, needed)
                else:
                    wanted[key] = partial(self._read, self.renderer.noise, noise.file, noise.start, needed, len(key) == 2)
        return wanted

    @staticmethod
    def _read(reader: Reader, file: File, start: int, samples: int, whole: bool) -> np.ndarray:
        return audio.read(reader.root / file.path, *(() if whole else (start, samples)))

    def _segments(self, segments: Sequence[Segment]) -> Tensor:
        """Speech of one length, (R, T): those of one speed together."""
        order = sorted(range(len(segments)), key=lambda number: segments[number].speed)
        crops = self.store.rows([_parts(segments[number]) for number in order], max(each.crop for each in segments))
        out, done = crops.new_zeros(len(segments), segments[0].samples), 0
        for speed, same in groupby((segments[number] for number in order), key=lambda each: each.speed):
            together = list(same)
            rows = slice(done, done + len(together))
            sound = self._faster(crops[rows, : max(each.crop for each in together)], speed)[:, : out.shape[1]]
            out[rows, : sound.shape[1]] = sound
            done = rows.stop
        return out[torch.from_numpy(np.argsort(order)).to(self.device)]

    def _faster(self, crops: Tensor, speed: float) -> Tensor:
        percent = round(100 * speed)
        if percent == 100:
            return crops
        if percent not in self._speeds:
            self._speeds[percent] = copy.deepcopy(audio.speed_changer(percent)).to(self.device)
        return self._speeds[percent](crops)

    def _noises(self, noises: Sequence[Noise | None], samples: int) -> Tensor:
        """Pieces of noise, (R, T); zeros where there is none."""
        rows = []
        for noise in noises:
            key, start = _noise_key(noise, samples) if noise else ((), None)
            rows.append([Part(key, start or 0, samples, 0, noise.gain)] if noise else [])
        return self.store.rows(rows, samples)

    # ---- the mixture

    def _talkers(self, scenes: Sequence[Scene]) -> Tensor:
        """(B, S, T): the target first, in the mixture's time and room; zeros where a scene has fewer talkers."""
        samples = scenes[0].samples
        rows = [(number, place, talker) for number, scene in enumerate(scenes) for place, talker in enumerate(scene.talkers)]
        speech = torch.zeros(len(scenes), max(place for _, place, _ in rows) + 1, samples, device=self.device)
        flat = speech.view(-1, samples)
        at = [number * speech.shape[1] + place for number, place, _ in rows]
        for size in {talker.segment.samples for _, _, talker in rows}:
            mine = [row for row, (_, _, talker) in enumerate(rows) if talker.segment.samples == size]
            said = [rows[row][2] for row in mine]
            sound = self._elsewhere(self._segments([talker.segment for talker in said]), [talker.elsewhere for talker in said])
            if size == samples:
                flat[torch.tensor([at[row] for row in mine], device=self.device)] = sound
                continue
            for row, talker, each in zip(mine, said, sound, strict=True):
                put(flat[at[row]], talker.spans, each)
        wet = [row for row, (_, _, talker) in enumerate(rows) if talker.response]
        if wet:
            chosen = torch.tensor([at[row] for row in wet], device=self.device)
            flat[chosen] = self._reverberate(flat[chosen], [rows[row][2].response for row in wet])
        for row, (_, _, talker) in enumerate(rows):
            if length(talker.spans) < samples:
                flat[at[row]] *= torch.from_numpy(gate(samples, talker.spans)).to(self.device)
        return speech

    def _reverberate(self, dry: Tensor, responses: Sequence[File]) -> Tensor:
        samples, longest = dry.shape[-1], max(file.samples for file in responses)
        longest = min(longest, samples)
        size = transform_length(samples + longest)
        rows = self.store.rows([[Part(("room", file.path), 0, longest, 0, 1.0)] for file in responses], longest)
        return torch.fft.irfft(torch.fft.rfft(dry, size) * torch.fft.rfft(rows, size), size)[..., :samples]

    def _elsewhere(self, speech: Tensor, told: Sequence[Elsewhere | None]) -> Tensor:
        """Rows (R, T) as if recorded elsewhere where they are told so."""
        rows = [number for number, each in enumerate(told) if each]
        for some in (rows[first : first + ROWS] for first in range(0, len(rows), ROWS)):
            chosen = torch.tensor(some, device=self.device)
            speech[chosen] = recorded_elsewhere(speech[chosen], [told[number] for number in some])
        return speech

    def _balance(self, scenes: Sequence[Scene], speech: Tensor, noise: Tensor) -> list[dict[str, Any]]:
        """Scale the parts in place, as :meth:`hifitse.data.rendering.Renderer.balance` does; what is drawn in dB, and what came of it."""
        power = _power(speech)
        for number, scene in enumerate(scenes):
            for place, talker in enumerate(scene.talkers):
                if length(talker.spans) < scene.samples:
                    spans = [speech[number, place, slice(*span)] for span in talker.spans]
                    power[number, place] = _power(torch.cat(spans))
        noise_power = _power(noise)
        ratios = torch.zeros(speech.shape[:2])
        for number, scene in enumerate(scenes):
            ratios[number, 1 : 1 + len(scene.sir_db)] = torch.tensor(scene.sir_db)
        asis = torch.tensor([scene.level_db is None for scene in scenes], device=self.device)
        gains = (power[:, :1] / power).sqrt() * 10 ** (-ratios.to(self.device) / 20)
        speech *= torch.where(asis[:, None], 1.0, gains)[..., None]
        snr = torch.tensor([scene.snr_db or 0.0 for scene in scenes], device=self.device)
        noise *= torch.where(asis, 1.0, (power[:, 0] / noise_power).sqrt() * 10 ** (-snr / 20))[:, None]
        mix = speech.sum(1) + noise
        wanted = torch.tensor([scene.level_db or 0.0 for scene in scenes], device=self.device)
        gain = 10 ** (wanted / 20) / _power(mix).sqrt()
        peak = torch.stack([mix, mix - speech[:, 0], noise]).abs().amax((0, -1)).maximum(speech.abs().amax((-1, -2)))
        clip = (PEAK / (peak * gain).clamp_min(1e-12)).clamp_max(1.0)
        scale = torch.where(asis, 1.0, gain * clip)
        speech *= scale[:, None, None]
        noise *= scale[:, None]
        summed, noise_db, clips = _db(_power(mix)).tolist(), _db(power[:, 0] / noise_power).tolist(), (20 * clip.log10()).tolist()
        apart, levels = _db(power[:, :1] / power).tolist(), []
        for number, scene in enumerate(scenes):
            if scene.level_db is not None:
                levels.append({"level_db": round(scene.level_db + clips[number], 4), "clip_gain_db": round(clips[number], 4)})
                continue
            sir = [round(value, 4) for value in apart[number][1 : len(scene.talkers)]]
            snr_db = round(noise_db[number], 4) if scene.noise else None
            levels.append({"sir_db": sir, "snr_db": snr_db, "level_db": round(summed[number], 4), "clip_gain_db": 0.0})
        return levels

    # ---- the enrolments

    def _enroll(self, enrollments: Sequence[Sequence[Enrollment]], like: Tensor | None = None) -> tuple[Tensor, list[list[float]]]:
        """Enrolments (B, N, T') and the level of each, dBFS; of scenes without any, zeros as many as ``like`` has."""
        flat = [each for row in enrollments for each in row]
        sound = self._segments([each.segment for each in flat])
        wet = [number for number, each in enumerate(flat) if each.response]
        if wet:
            sound[wet] = self._reverberate(sound[wet], [flat[number].response for number in wet])
        noisy = [number for number, each in enumerate(flat) if each.noise]
        if noisy:
            noise = self._noises([flat[number].noise for number in noisy], sound.shape[1])
            snr = torch.tensor([flat[number].snr_db for number in noisy], device=self.device)
            sound[noisy] += noise * ((_power(sound[noisy]) / _power(noise)).sqrt() * 10 ** (-snr / 20))[:, None]
        for number, each in enumerate(flat):
            for change in each.changes:
                changed = CHANGES[change.name].changed(sound[number].cpu().numpy(), change.drawn)
                sound[number] = torch.from_numpy(np.ascontiguousarray(changed)).to(self.device)
        asis = torch.tensor([each.level_db is None for each in flat], device=self.device)
        wanted = torch.tensor([each.level_db or 0.0 for each in flat], device=self.device)
        power = _power(sound)
        silent = power <= 10 ** (audio.FLOOR_DB / 10)
        gain = torch.where(asis | silent, 1.0, 10 ** (wanted / 20) / power.sqrt())
        clip = torch.where(asis, 1.0, (PEAK / (sound.abs().amax(-1) * gain).clamp_min(1e-9)).clamp_max(1.0))
        sound *= (gain * clip)[:, None]
        levels = iter(_db(_power(sound)).clamp_min(audio.FLOOR_DB).tolist())
        sound = self._elsewhere(sound, [each.elsewhere for each in flat])
        count = max(len(row) for row in enrollments)
        out = torch.zeros(len(enrollments), count if like is None else like.shape[1], sound.shape[1], device=self.device)
        full = [number for number, row in enumerate(enrollments) if row]
        out[full] = sound.view(len(full), count, -1)
        return out, [[round(next(levels), 4) for _ in row] for row in enrollments]


def _key(kind: str, file: File, start: int) -> tuple:
    return (kind, file.path, start) if file.samples > KEPT_S * SAMPLE_RATE else (kind, file.path)


def _noise_key(noise: Noise, samples: int) -> tuple[tuple, int | None]:
    """Name of the recording that has a piece of noise, and where in it; ``None``: it is the piece, made for this length."""
    if noise.file.samples - noise.start < samples:
        return ("loop", noise.file.path, noise.start, samples), None
    key = _key("noise", noise.file, noise.start)
    return (key, noise.start) if len(key) == 2 else ((*key, samples), 0)


def _looped(path: Path, start: int, samples: int) -> np.ndarray:
    return loop(audio.read(path, start), samples)


def _parts(segment: Segment) -> list[Part]:
    parts = []
    for piece in segment.pieces:
        key = _key("speech", piece.file, piece.start)
        parts.append(Part(key, piece.start if len(key) == 2 else 0, piece.samples, piece.at, piece.gain))
    return parts


def _power(signal: Tensor) -> Tensor:
    """Mean square over the last axis, never 0."""
    return signal.square().mean(-1).clamp_min(1e-20)


def _db(power: Tensor) -> Tensor:
    return 10 * power.clamp_min(1e-30).log10()
