"""How fast mixtures are made: the old path beside the present one, stage by stage, in turns in one run; workers; memory.

Seconds are the CPU time of this process on one thread unless they are said to be of the clock, so that another program on the
machine weighs on them little; ratios are of the same mixtures made in the same round.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from hifitse import SAMPLE_RATE
from hifitse.data import synthetic
from hifitse.data.corpus import load_corpus
from hifitse.data.dataset import training_loader
from hifitse.data.manifest import CorpusError
from hifitse.data.mixing import Mixer, validation_conditions
from hifitse.data.scene import File
from hifitse.evaluation.cost import ratios
from hifitse.files import made_once
from hifitse.machine import resident_mb
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.studies.old_path import OldMixer

OLD, NEW, KEPT = "old path", "present path", "present path, recordings kept"
STAGES = ("decode", "speed", "room", "level", "rest")
KEPT_MB = 512
JOINED_S = 15.0
"""s: the shortest file of :func:`long_files`."""
JOINED_SPEAKERS = 40


def plan_mixing(params: Params) -> Params:
    """The parameters with mixtures as hard as the plan's own: 1 to 3 interferers, noise, always a room; lengths as they are, or the
    plan's 4 s where they are longer than 1 s; nothing is kept in memory, which one of the paths is there to measure."""
    plan = Params()
    names = ("interferers_min", "interferers_max", "snr_min_db", "snr_max_db", "noise_prob", "reverb_prob", "speed_min", "speed_max")
    update = {name: getattr(plan, name) for name in names} | {"both_talkers": False, "accumulation": 1, "cache_mb": 0}
    if params.seconds > 1:
        update |= {"seconds": plan.seconds, "enroll_seconds": plan.enroll_seconds}
    return params.model_copy(update=update)


def long_files(params: Params) -> Params:
    """The parameters with a corpus of files of 15 s and more, 16 bit FLAC, joined from those of the first 40 synthetic speakers: as long
    as those of corpora of read speech. A corpus of recordings stays what it is."""
    if params.corpus != "synthetic":
        return params
    source = synthetic.make_speech(params.synthetic_speakers, params.synthetic_utterances, params.corpus_seed)
    return params.model_copy(update={"corpus": str(made_once(f"joined-{source.name}", partial(_join, source)))})


def _join(source: Path, folder: Path) -> None:
    corpus, lines = load_corpus(source), []
    for name, said in list(corpus.speakers.items())[:JOINED_SPEAKERS]:
        sounds = [corpus.read(utterance) for utterance in said]
        for first in range(2):
            parts, number = [], first
            while sum(map(len, parts)) < JOINED_S * SAMPLE_RATE:
                parts.append(sounds[number % len(sounds)])
                number += 1
            path = f"{name}_{first}.flac"
            soundfile.write(folder / path, np.concatenate(parts), SAMPLE_RATE, subtype="PCM_16")
            text = f'"speaker": "{name}", "utterance": "{first}", "path": "{path}", "group": "{said[0].group}"'
            lines.append(f'{{{text}, "samples": {sum(map(len, parts))}, "sample_rate": {SAMPLE_RATE}}}\n')
    (folder / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")


class Timed:
    """A mixer whose stages are timed: replaces the methods of this one object by ones that add up their CPU time."""

    def __init__(self, mixer: Mixer) -> None:
        self.mixer, self.spent = mixer, dict.fromkeys(STAGES, 0.0)
        readers, renderer = [each for each in (mixer.reader, mixer.acoustics.reader) if each], mixer.renderer
        parts = [*((reader, "read", "decode") for reader in readers), (renderer, "faster", "speed")]
        for owner, name, stage in [*parts, (renderer, "reverberate", "room"), (renderer, "balance", "level")]:
            setattr(owner, name, self._timed(getattr(owner, name), stage))

    def _timed(self, method: Callable, stage: str) -> Callable:
        def run(*arguments: Any) -> Any:
            started = time.process_time()
            try:
                return method(*arguments)
            finally:
                self.spent[stage] += time.process_time() - started

        return run

    def warm(self, params: Params) -> None:
        """Look at every recording once, and have every response in memory that may be kept: as after a first round through all."""
        self.mixer.look()
        if params.cache_mb:
            silence = np.zeros((1, round(params.seconds * SAMPLE_RATE)), np.float32)
            for clip in self.mixer.acoustics.rooms.clips:
                self.mixer.renderer.reverberate(silence, [File(clip.path, clip.samples)])

    def make(self, params: Params, first: int, count: int) -> dict[str, float]:
        """CPU seconds a mixture by stage and in all, over ``count`` mixtures from number ``first`` on."""
        self.spent = dict.fromkeys(STAGES, 0.0)
        conditions = validation_conditions(params)[0]
        started = time.process_time()
        for index in range(first, first + count):
            self.mixer.mixture(params.seed, index, conditions)
        total = time.process_time() - started
        self.spent["rest"] = total - sum(self.spent.values())
        return {stage: spent / count for stage, spent in self.spent.items()} | {"total": total / count}


def paths(params: Params, rounds: int, mixtures: int = 16) -> dict[str, dict[str, list[float]]]:
    """CPU seconds a mixture: path -> stage or "total" -> one value a round; all paths make the same mixtures, in turns.

    Each path has a process of its own, for what one does to memory (:mod:`hifitse.machine`) another would feel. Before the first round, and
    a round that is not counted, each has looked at every recording.

    Args:
        params: of the mixtures.
        rounds: 1 or more.
        mixtures: of a round.
    """
    kept = params.model_copy(update={"cache_mb": KEPT_MB})
    arranged = {OLD: (OldMixer, params), NEW: (Mixer, params), KEPT: (Mixer, kept)}
    found: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in (*STAGES, "total")} for name in arranged}
    with ExitStack() as held:
        pools = {name: held.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _begin, each)) for name, each in arranged.items()}
        for turn in range(rounds + 1):
            for name in list(pools) if turn % 2 else reversed(pools):
                values = pools[name].submit(_make, turn * mixtures, mixtures).result()
                if turn:
                    for stage, value in values.items():
                        found[name][stage].append(value)
    return found


_here: dict[str, Any] = {}
"""In a process of :func:`paths`: its mixer and parameters."""


def _begin(mixer: type[Mixer], params: Params) -> None:
    torch.set_num_threads(1)
    _here.update(mixer=Timed(mixer(params, "train")), params=params)
    _here["mixer"].warm(params)


def _make(first: int, count: int) -> dict[str, float]:
    return _here["mixer"].make(_here["params"], first, count)


def gains(found: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, Interval]]:
    """Old time divided by that of each other path: stage -> path -> median over the rounds with its 95 % bootstrap interval."""
    said: dict[str, dict[str, Interval]] = {}
    for stage in (*STAGES, "total"):
        times = {name: [max(1 / value, 1e-9) if value > 0 else 1e9 for value in found[name][stage]] for name in found}
        said[stage] = {name: value for name, value in ratios(times, OLD).items() if name != OLD}
    return said


def alike(params: Params, mixtures: int = 8) -> dict[str, float]:
    """Largest difference of the old path's mixtures to the present ones': dB of the difference's power re the mixture's."""
    old, new = OldMixer(params, "train"), Mixer(params, "train")
    kept = Mixer(params.model_copy(update={"cache_mb": KEPT_MB}), "train")
    worst, same = -np.inf, True
    conditions = validation_conditions(params)[0]
    for index in range(mixtures):
        one, other, third = (mixer.mixture(params.seed, index, conditions) for mixer in (old, new, kept))
        same &= bool(np.array_equal(other.mix, third.mix) and np.array_equal(other.enroll, third.enroll))
        error = np.mean((one.mix - other.mix).astype(np.float64) ** 2) / np.mean(other.mix.astype(np.float64) ** 2)
        worst = max(worst, 10 * np.log10(max(float(error), 1e-20)))
    return {"old_to_present_db": worst, "kept_bit_equal": float(same)}


def loaders(params: Params, workers: Sequence[int] = (0, 1, 2), mixtures: int = 64) -> dict[str, dict[str, float]]:
    """Mixtures, and seconds of audio, a second of the clock, from the training's loader: workers, and batches of 4 beside 2.

    The first two batches, for which workers start, are not counted. Each arrangement makes the same mixtures.
    """
    found = {}
    shapes = [(count, 4) for count in workers] + [(workers[-1], 2)]
    for count, size in shapes:
        p = params.model_copy(update={"workers": count, "batch_size": size})
        batches = iter(training_loader(p, Mixer(p, "train"), 0, 2 * size + mixtures))
        next(batches), next(batches)
        started = time.perf_counter()
        done = sum(len(batch["mix"]) for batch in batches)
        rate = done / (time.perf_counter() - started)
        found[f"{count} workers, {size} x {64 // size}"] = {"mixtures_per_s": rate, "audio_s_per_s": rate * params.seconds}
    return found


def memory(params: Params, mixtures: int) -> list[tuple[float, float]]:
    """Minutes of mixtures made so far, and resident memory added since the first tenth of them, MB."""
    mixer = Mixer(params, "train")
    conditions = validation_conditions(params)[0]
    curve, first = [], float("nan")
    for index in range(mixtures):
        mixer.mixture(params.seed, index, conditions)
        if (index + 1) % max(1, mixtures // 20) == 0:
            first = resident_mb() if np.isnan(first) or index < mixtures // 10 else first
            curve.append(((index + 1) * params.seconds / 60, resident_mb() - first))
    return curve


def cores_needed(mixtures_per_s: float, step_seconds: float, mixtures: int = 64) -> float:
    """Cores that keep an accelerator fed which takes ``step_seconds`` for a step of ``mixtures`` mixtures.

    Raises:
        CorpusError: a rate or time that is not above 0.
    """
    if not (mixtures_per_s > 0 and step_seconds > 0):
        raise CorpusError(f"rate and step time are {mixtures_per_s} and {step_seconds}, allowed are numbers above 0")
    return mixtures / step_seconds / mixtures_per_s
