"""Notebook 08: how fast mixtures are made: old path against present path, in batches, on a GPU, and during training.

The old path is the one that the plan replaces. It decodes a whole recording for each excerpt, changes speed with
``scipy.signal.resample``, and convolves with ``fftconvolve`` and a freshly decoded room response. Draws, crops and levels are those of
the present path, so only the resampler differs. Paths are compared by CPU time of one thread, which other programs hardly affect.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from math import ceil, gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from IPython.display import HTML
from scipy.signal import fftconvolve, resample

from hifitse import SAMPLE_RATE, audio
from hifitse.data import synthetic
from hifitse.data.batch_rendering import BatchRenderer
from hifitse.data.corpus import load_corpus
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.data.reader import Reader, Recording
from hifitse.data.rendering import Renderer
from hifitse.data.scene import File, validation_conditions
from hifitse.evaluation.cost import ratios, turns
from hifitse.files import made_once
from hifitse.machine import device_name, pick_device, threads
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report import tables
from hifitse.report.show import box, card, faster, table
from hifitse.training.train import new_state, train_step

OLD, NEW, KEPT = "old path", "present path", "present path, recordings kept"
KEPT_MB = 512
JOINED_S, JOINED_SPEAKERS = 15.0, 40
"""Length in s of the shortest file of :func:`long_files`, and its number of speakers."""
GOAL = 5.0  # the speed-up that the plan asks for
Paths = Mapping[str, Mapping[str, Sequence[float]]]
"""Kind of files -> path -> CPU seconds per mixture, one value per round."""


class _OldReader(Reader):
    def read(self, file: Recording, start: int, samples: int) -> np.ndarray:
        return self.whole(file)[start : start + samples]


class _OldRenderer(Renderer):
    def faster(self, crop: np.ndarray, speed: float) -> np.ndarray:
        percent = round(100 * speed)
        if percent == 100:
            return crop
        step = percent // gcd(100, percent)
        padded = audio.crop_or_pad(crop, -(-len(crop) // step) * step)  # a multiple of the step, for the exact factor
        return resample(padded, 100 * len(padded) // percent)[: ceil(100 * len(crop) / percent)].astype(np.float32, copy=False)

    def reverberate(self, dry: np.ndarray, responses: Sequence[File]) -> np.ndarray:
        wet = [fftconvolve(row, self.response(file))[: len(row)] for row, file in zip(dry, responses, strict=True)]
        return np.stack(wet).astype(np.float32, copy=False)


class OldMixer(Mixer):
    """A :class:`hifitse.data.mixing.Mixer` that makes its mixtures by the old path."""

    def __init__(self, params: Params, split: str) -> None:
        super().__init__(params, split)
        self.reader = self.sampler.reader = _OldReader(self.corpus.root)
        self.acoustics.reader = _OldReader(self.acoustics.noises.root) if self.acoustics.noises else None
        self.renderer = _OldRenderer(self.reader, self.acoustics.reader, self.renderer.rooms)


def plan_mixing(params: Params) -> Params:
    """Return the parameters with the plan's mixtures: 1 to 3 interferers, noise, always a room, 4 s long unless the preset's last 1 s or
    less. ``cache_mb`` is 0, because caching is measured separately."""
    plan = Params()
    names = ("interferers_min", "interferers_max", "snr_min_db", "snr_max_db", "noise_prob", "reverb_prob", "speed_min", "speed_max")
    update = {name: getattr(plan, name) for name in names} | {"both_talkers": False, "accumulation": 1, "cache_mb": 0}
    if params.seconds > 1:
        update |= {"seconds": plan.seconds, "enroll_seconds": plan.enroll_seconds}
    return params.model_copy(update=update)


def long_files(params: Params) -> Params:
    """Return the parameters with 16-bit FLAC files of at least 15 s, joined from synthetic voices, as in corpora of read speech. A corpus
    of recordings is left unchanged."""
    if params.corpus != "synthetic":
        return params
    source = synthetic.make_speech(params.synthetic_speakers, params.synthetic_utterances, params.corpus_seed)
    return params.model_copy(update={"corpus": str(made_once(f"joined-{source.name}", partial(_join, source)))})


def _join(source: Path, folder: Path) -> None:
    corpus = load_corpus(source)
    for name, said in list(corpus.speakers.items())[:JOINED_SPEAKERS]:
        (folder / name).mkdir()
        whole = np.concatenate([corpus.read(utterance) for utterance in said])
        whole = np.resize(whole, max(len(whole), round(JOINED_S * SAMPLE_RATE)))
        for number in range(2):
            soundfile.write(folder / name / f"{number}.flac", np.roll(whole, number * len(whole) // 2), SAMPLE_RATE, subtype="PCM_16")


def _mixers(params: Params) -> dict[str, Mixer]:
    kept = Mixer(params.model_copy(update={"cache_mb": KEPT_MB}), "train")
    return {OLD: OldMixer(params, "train"), NEW: Mixer(params, "train"), KEPT: kept}


def paths(params: Params, rounds: int, mixtures: int = 16) -> dict[str, list[float]]:
    """Return path -> CPU seconds per mixture, one value per round. All paths make the same mixtures, in turns.

    Before the first round each path has scanned every recording, and the caching path has loaded every room.
    """

    def make(mixer: Mixer, indices: count) -> None:
        for _ in range(mixtures):
            mixer.mixture(params.seed, next(indices), validation_conditions(params)[0])

    mixers, silence = _mixers(params), np.zeros((1, round(params.seconds * SAMPLE_RATE)), np.float32)
    for mixer in mixers.values():
        mixer.look()
    for clip in mixers[KEPT].acoustics.rooms.clips:
        mixers[KEPT].renderer.reverberate(silence, [File(clip.path, clip.samples)])
    with threads(1):
        times = turns({name: partial(make, mixer, count()) for name, mixer in mixers.items()}, rounds, time.process_time)
    return {name: [seconds / mixtures for seconds in each] for name, each in times.items()}


def gains(found: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Return the speed-up of each path over the first one: median over the rounds with its 95 % bootstrap interval."""
    rates, first = {name: [1 / seconds for seconds in each] for name, each in found.items()}, next(iter(found))
    return {name: value for name, value in ratios(rates, first).items() if name != first}


def alike(params: Params, mixtures: int = 8) -> dict[str, float]:
    """Compare the paths' mixtures: largest error power of the old path in dB relative to the mixture, and whether caching is bit-exact."""
    mixers, worst, same = _mixers(params), -np.inf, True
    for index in range(mixtures):
        one, other, third = (each.mixture(params.seed, index, validation_conditions(params)[0]) for each in mixers.values())
        same &= bool(np.array_equal(other.mix, third.mix) and np.array_equal(other.enroll, third.enroll))
        error = np.mean((one.mix - other.mix).astype(np.float64) ** 2) / np.mean(other.mix.astype(np.float64) ** 2)
        worst = max(worst, 10 * np.log10(max(float(error), 1e-20)))
    return {"old_to_present_db": worst, "kept_bit_equal": float(same)}


def renderers(params: Params, rounds: int, scenes: int = 64) -> dict[str, list[float]]:
    """Return renderer -> wall-clock seconds per mixture, one value per round, for the same scenes on one CPU thread and, if available, a
    GPU. Scenes are drawn and recordings decoded beforehand."""
    mixer, limit = Mixer(params.model_copy(update={"cache_mb": KEPT_MB}), "train"), KEPT_MB * 2**20
    drawn = [mixer.draw(params.seed, index, validation_conditions(params)[0]) for index in range(scenes)]
    calls: dict[str, Any] = {"numpy, one by one": lambda: [mixer.renderer.mixture(scene) for scene in drawn]}
    for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]:
        name = device_name(torch.device(device)) if device == "cuda" else "CPU"
        calls[f"torch, {scenes} scenes together, {name}"] = partial(BatchRenderer(mixer.renderer, device, limit).render, drawn)
    with threads(1):
        return {name: [seconds / scenes for seconds in each] for name, each in turns(calls, rounds).items()}


def waiting(params: Params, steps: int) -> dict[str, float]:
    """Return where mixtures are made -> share of the time of ``steps`` training steps, after two for warm-up, spent waiting for them: in
    the training process, by one or ``workers`` processes, or, if available, on the GPU, which renders ahead."""
    workers = max(1, params.workers)
    ways = {"the training's process": (0, 0), f"{workers} worker{'s' * (workers > 1)}": (workers, 0)}
    device, found = pick_device(params.device), {}
    ways |= {"the card": (workers, KEPT_MB)} if device.type == "cuda" else {}
    for name, (helpers, kept) in ways.items():
        own = params.model_copy(update={"workers": helpers, "cache_mb": kept, "accumulation": 1, "steps": steps + 2})
        mixer, state, spent = Mixer(own, "train"), new_state(own), []
        mixer.look()  # a training scans each recording only once, in its first epoch
        for batch in training_loader(own, mixer, device=device):
            if device.type == "cuda":
                torch.cuda.current_stream().synchronize()  # wait for the batch being rendered in another stream
            spent.append(time.perf_counter())
            train_step(state, [batch])
            spent.append(time.perf_counter())  # the step has read its loss: only the weight update may still be running
        found[name] = sum(np.subtract(spent[4::2], spent[3:-1:2])) / (spent[-1] - spent[3])
    return found


def answer(found: Paths, same: Mapping[str, float], params: Params) -> HTML:
    """Return the verdict: speed-up over the old path per core, by kind of files, against the goal of 5."""
    total = {f"{kind}, {name}": value for kind, each in found.items() for name, value in gains(each).items()}
    cards = "".join(card(name, value, "old path = 1", 1, "×") for name, value in total.items())
    text = (
        f"The same mixtures in turns: {params.seconds:g} s, 1 to 3 interferers, all in a room, noise. With recordings kept ({KEPT_MB} MB "
        f"each for speech, noise and rooms) they are {'bit for bit' if same['kept_bit_equal'] else 'NOT'} the same; the old path's differ "
        f"by at most {tables.number(same['old_to_present_db'], 0)} dB, which is the resamplers' difference near the band's edge."
    )
    return box(*faster(total.values(), "Mixtures are made", "the old path", GOAL), cards, text)


def rates(found: Paths, params: Params, measured: str) -> HTML:
    """Return a table with time, rate and speed-up over the first path or renderer; ``measured`` names the kind of time."""
    rows = []
    for kind, each in found.items():
        factor = gains(each)
        for name, seconds in each.items():
            took = float(np.median(seconds))
            row = {"files": kind, "path": name, "ms per mixture": tables.number(1e3 * took, 1)}
            row |= {"mixtures per second": tables.number(1 / took, 1), "seconds of audio per second": f"{params.seconds / took:.0f}"}
            rows.append(row | {"first / this": tables.measured(factor[name], 1) if name in factor else "1"})
    return table(rows, f"{measured}, medians of the rounds; ratios with 95 % intervals")


def waits(found: Mapping[str, float]) -> HTML:
    """Return a table of the result of :func:`waiting`."""
    gone = "" if "the card" in found else "; no GPU here, so rendering on one is not measured"
    rows = [{"mixtures are made by": name, "share of the time spent waiting": f"{100 * share:.0f} %"} for name, share in found.items()]
    return table(rows, f"the preset's own training{gone}")
