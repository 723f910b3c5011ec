"""The parts of the report on performance, as a notebook displays them."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from IPython.display import HTML, Image

from hifitse.config import ExtractorConfig
from hifitse.evaluation.cost import ratios
from hifitse.metrics import Interval
from hifitse.model.chunks import Chunks
from hifitse.params import Params
from hifitse.report import report, tables
from hifitse.report.show import box, picture
from hifitse.report.style import FRAGMENTS
from hifitse.studies import performance_figures
from hifitse.studies.performance import Attention, Pass, exponent
from hifitse.studies.versions import ALONE, AS_IS, BATCHED, COMPILED, EAGER, PLAIN

Version = Mapping[str, Mapping[str, Sequence[float]]]
"""Forward pass or training step -> version -> seconds, as :func:`hifitse.studies.versions.versions`."""
GOAL, FLAT, FULL_S = 1.5, 1.2, 0.35
"""The plan's: times the first version's training step; growth of memory; seconds a second of audio of the 11.79 M model at 4 s."""
LEAST_ROUNDS = 3
"""Below this number of rounds no verdict is given."""


def gain(times: Mapping[str, Sequence[float]], of: str = BATCHED) -> dict[str, Interval]:
    """How many times as fast ``of`` is as each other version."""
    return {name: value for name, value in ratios(times, of).items() if name != of}


def growth(found: Mapping[str, Mapping[float, Mapping[str, float]]], kind: str = "in chunks") -> tuple[float, float]:
    """Largest by smallest peak memory, and seconds a second, over the lengths of a way of extraction."""
    memory = [value["peak_mb"] for value in found[kind].values()]
    speed = [value["took_s"] / seconds for seconds, value in found[kind].items()]
    return max(memory) / min(memory), max(speed) / min(speed)


def answer(models: Mapping[str, Version], long: Mapping[str, Mapping], passes: Mapping[str, Sequence[Pass]], peaks: Mapping) -> HTML:
    """The verdict: the gain over plain computation, the share of the machine's peak, and whether long recordings cost more memory.

    Args:
        models: name -> versions in turns.
        long: as :func:`hifitse.studies.long_recordings.by_length`.
        passes: model and threads -> forward passes.
        peaks: threads -> 10^9 operations a second.
    """
    steps = {name: gain(version["training step"])[PLAIN] for name, version in models.items() if "training step" in version}
    worst, best = (end(value.mean for value in steps.values()) for end in (min, max))
    rounds = next(iter(steps.values())).n
    if rounds < LEAST_ROUNDS:
        mark, line = "weak", f"Too few rounds ({rounds}) to say how much faster."
    else:
        said = "the goal of 1.5 is reached" if worst >= GOAL else "the goal of 1.5 is reached in part" if best >= GOAL else "short of 1.5"
        span = f"{tables.number(worst)} to {tables.number(best)}" if len(steps) > 1 else tables.number(worst)
        mark, line = "good" if worst >= GOAL else "weak", f"A training step is {span} times as fast as computed plainly: {said}."
    cards = "".join(_card(f"training step, {name}", value, "plain / batched") for name, value in steps.items())
    for name, version in models.items():
        cards += _card(f"forward pass, {name}", gain(version["forward pass"])[PLAIN], "plain / batched")
    longest = {name: max(each, key=lambda one: one.seconds) for name, each in passes.items()}
    shares = "; ".join(f"{name} {100 * one.rate / peaks[one.threads]:.0f} % ({one.seconds:g} s)" for name, one in longest.items())
    memory, speed = growth(long)
    ends = list(long["in chunks"])
    said = "" if len(ends) < 2 else (
        f" Extraction in chunks from {ends[0]:g} to {ends[-1]:g} s: the peak of memory grows {tables.number(memory)} times, which is "
        f"{'flat' if memory <= FLAT else 'NOT flat'} by the plan's 20 %; the slowest length took {tables.number(speed)} times as long a "
        "second of audio as the fastest."
    )  # fmt: skip
    if full := _fastest(passes, "full"):
        most = full.per_second * full.rate / max(peaks.values())
        said += (
            f" The 11.79 M model takes {tables.number(full.per_second)} s a second of audio at 4 s with {full.threads} "
            f"thread{'s' * (full.threads > 1)}, {full.gflop / 4:.0f} · 10⁹ operations: the plan asked for {FULL_S}, and at this machine's "
            f"peak it would be {tables.number(most)}."
        )
    if other := _fastest(passes, "full-best"):
        said += f" The best recipe at full scale (<code>full-best</code>) takes {tables.number(other.per_second)}."
    return box(mark, line, cards, f"Share of the machine's own peak in float32: {shares}.{said}")


def _fastest(passes: Mapping[str, Sequence[Pass]], model: str) -> Pass | None:
    """Of the passes of 4 s of a model the one that takes the least time."""
    found = [one for name, each in passes.items() if name.startswith(f"{model},") for one in each if one.seconds == 4]
    return min(found, key=lambda one: one.per_second, default=None)


def _card(label: str, value: Interval, note: str) -> str:
    return (
        f'<div class="card"><span>{html.escape(label)}</span> <b>{tables.number(value.mean)} ×</b> '
        f"<small>95 % interval {tables.interval(vars(value))}<br>{html.escape(note)}</small></div>"
    )


def machine(peaks: Mapping[int, float], name: str) -> HTML:
    """The measured peak by threads."""
    rows = [[str(count), tables.number(peak, 0), tables.number(peak / peaks[min(peaks)])] for count, peak in peaks.items()]
    return HTML(tables.table(["threads", "10⁹ operations a second", "re one thread"], rows, f"best float32 matrix product; {name}"))


def passes_table(passes: Mapping[str, Sequence[Pass]], peaks: Mapping[int, float]) -> HTML:
    """Each forward pass: its operations, seconds a second of audio, operations a second, and share of the peak."""
    rows = []
    for name, each in passes.items():
        for one in each:
            share = f"{100 * one.rate / peaks[one.threads]:.0f} %"
            numbers = [tables.number(one.gflop / one.seconds / one.batch, 2), tables.number(one.per_second, 3), tables.number(one.rate, 1)]
            rows.append([name, f"{one.seconds:g}", str(one.batch), *numbers, share])
    header = ["model, threads", "length, s", "batch", "10⁹ operations a second of audio", "seconds a second of audio"]
    return HTML(tables.table([*header, "10⁹ operations a second", "share of the peak"], rows, "medians of the rounds"))


def growth_picture(passes: Mapping[str, Sequence[Pass]]) -> Image:
    """Time against length, with the exponent of the power law beside each name."""
    named = {f"{name}: exponent {exponent(each):.2f}": each for name, each in passes.items() if len({one.seconds for one in each}) > 1}
    return picture(performance_figures.growth(named), f"Time of a forward pass against length: {', '.join(named)}")


def rates_picture(passes: Mapping[str, Sequence[Pass]], peaks: Mapping[int, float], over: str = "batch", xlabel: str = "batch") -> Image:
    """Operations a second against batch or length."""
    shown = ", ".join(f"{name} {each[-1].rate:.0f} at {getattr(each[-1], over):g}" for name, each in passes.items())
    return picture(performance_figures.rates(passes, over, xlabel, peaks), f"10^9 operations a second against {xlabel}: {shown}")


def parts_picture(found: Mapping[str, Mapping[str, tuple[float, float]]]) -> Image:
    """Where the time of a training step goes."""
    words = []
    for name, each in found.items():
        whole = sum(map(sum, each.values()))
        most = sorted(each, key=lambda part: -sum(each[part]))[:3]
        words.append(f"{name}: {', '.join(f'{part} {100 * sum(each[part]) / whole:.0f} %' for part in most)}")
    return picture(performance_figures.parts(found), f"Time of a training step by part: {'; '.join(words)}")


def attention_picture(cost: Attention) -> Image:
    """What frame attention costs by length, and in chunks."""
    chunk = Chunks.of_seconds(ExtractorConfig().hop_length).length / 48_000
    said = f"half of the operations at {cost.half_s:.0f} s, {100 * cost.share(chunk):.0f} % in chunks of {chunk:g} s"
    return picture(performance_figures.attention(cost, chunk), f"Share of frame attention against length: {said}")


def versions_table(models: Mapping[str, Version], same: Mapping[str, Mapping[str, float]]) -> HTML:
    """Seconds of each version, and how many times as fast the batched one is."""
    rows = []
    for model, version in models.items():
        for what, times in version.items():
            faster = gain(times)
            for name in (name for name in (BATCHED, ALONE, PLAIN) if name in times):
                ratio = tables.measured(faster[name]) if name in faster else "1"
                rows.append([model, what, name, tables.number(float(np.median(times[name])), 3), ratio])
    differ = "; ".join(f"{name}: outputs {one['outputs']:.0e}, gradients {one['gradients']:.0e}" for name, one in same.items())
    header = ["model", "what", "computed", "median, s", "re batched"]
    return HTML(tables.table(header, rows, f"largest difference of plain from batched, re the largest value: {differ}"))


def versions_picture(models: Mapping[str, Version]) -> Image:
    """How many times as fast the batched version is."""
    found = {f"{model}, {what}": gain(times)[PLAIN] for model, version in models.items() for what, times in version.items()}
    shown = ", ".join(f"{name} {tables.measured(value)}" for name, value in found.items())
    return picture(performance_figures.gains(found, "time of the plain version / time of the batched one"), f"plain / batched: {shown}")


def settings_table(times: Mapping[str, Sequence[float]], memory: Mapping[str, tuple[float, float]]) -> HTML:
    """Time and memory of a training step with one thing changed."""
    ratio = ratios(times, AS_IS)
    rows = [
        [name, tables.number(float(np.median(each)), 3), tables.measured(ratio[name]), *(tables.number(mb, 0) for mb in memory[name])]
        for name, each in times.items()
    ]
    header = ["training step", "median, s", "time re the preset", "kept for the backward pass, MB, counted"]
    header.append("peak of tensors, MB, measured")
    return HTML(tables.table(header, rows, "1 MB is 10⁶ bytes; the peak is beyond weights, averages and the optimiser's state"))


def compiling(found: Mapping[str, Any]) -> HTML:
    """What ``torch.compile`` gives, or why not."""
    if not found:
        text = "torch.compile was not measured: the parameter bench_compile is false."
    elif "why" in found:
        text = f"torch.compile does not work here ({found['why']})."
    else:
        times = {what: tables.measured(gain(found[what], COMPILED)[EAGER]) for what in ("forward pass", "training step")}
        said = ", ".join(f"{what} {value}" for what, value in times.items())
        text = f"torch.compile: compiled in {found['compile_s']:.0f} s; eager / compiled: {said}."
    return HTML(f"<style>{FRAGMENTS}</style><p>{html.escape(text)}</p>")


def long_picture(found: Mapping[str, Mapping[float, Mapping[str, float]]]) -> Image:
    """Memory and speed of extraction by length."""
    shown = "; ".join(f"{kind} {seconds:g} s: {one['peak_mb']:.0f} MB" for kind, each in found.items() for seconds, one in each.items())
    return picture(performance_figures.long_recordings(found), f"Memory and seconds a second of extraction: {shown}")


def long_table(found: Mapping[str, Mapping[float, Mapping[str, float]]], seam_db: float) -> HTML:
    """Memory and speed of extraction by length, in numbers."""
    rows = []
    for kind, each in found.items():
        for seconds, one in each.items():
            memory = [tables.number(one[name], 0) for name in ("before_mb", "peak_mb")]
            rows.append([kind, f"{seconds:g}", *memory, tables.number(one["took_s"] / seconds, 3)])
    caption = f"in chunks and as a whole differ by {tables.number(seam_db, 1)} dB re the estimate on 60 s"
    return HTML(tables.table(["extraction", "length, s", "before, MB", "peak, MB", "seconds a second"], rows, caption))


def content(params: Params, models: Mapping[str, Version], passes: Mapping[str, Sequence[Pass]], **others: Any) -> dict[str, Any]:
    """What ``metrics.json`` holds: gains with intervals under ``groups``, all other numbers under ``measured``."""
    groups = {
        model: {what: {name: {"ratio": vars(value)} for name, value in gain(times).items()} for what, times in version.items()}
        for model, version in models.items()
    }
    return report.metrics("11_performance", params, []) | {"groups": groups, "measured": {"passes": numbers(passes)} | others}


def numbers(passes: Mapping[str, Sequence[Pass]]) -> dict[str, list[dict[str, float]]]:
    """Forward passes as ``metrics.json`` holds them."""
    return {name: [asdict(one) | {"gflop_per_s": one.rate} for one in each] for name, each in passes.items()}
