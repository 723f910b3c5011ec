"""Speed of the model, as notebook 11 displays it."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML, Image

from hifitse.evaluation.cost import ratios
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report import comparison_figures, report, tables
from hifitse.report.show import box, picture, table
from hifitse.studies.performance import PLAIN, exponent

Version = Mapping[str, Mapping[str, Sequence[float]]]
"""Forward pass or training step -> version -> seconds, as :func:`hifitse.studies.performance.versions`."""
Lengths = Mapping[str, Mapping[float, float]]
"""Model -> length of the mixture -> seconds of its forward pass."""
Long = Mapping[float, Mapping[str, float]]
"""As :func:`hifitse.studies.performance.long_recordings`."""
GOAL, FLAT, FULL_S = 1.5, 1.2, 0.35
"""The plan's: times the plain training step; growth of memory; seconds per second of audio of the 11.79 M model at 4 s."""
LEAST_ROUNDS = 3
"""Below this number of rounds no verdict is given."""


def gain(times: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """How many times as fast the first version is as each other one."""
    first = next(iter(times))
    return {name: value for name, value in ratios(times, first).items() if name != first}


def answer(models: Mapping[str, Version], lengths: Lengths, long: Long) -> HTML:
    """The verdict: gain over the plain formulas, growth with the length, the plan's model, memory of long recordings."""
    steps = {name: gain(version["training step"])[PLAIN] for name, version in models.items()}
    worst, best = (end(value.mean for value in steps.values()) for end in (min, max))
    rounds = next(iter(steps.values())).n
    mark, line = "weak", f"Too few rounds ({rounds}) to say how much faster."
    if rounds >= LEAST_ROUNDS:
        said = "the goal of 1.5 is reached" if worst >= GOAL else "the goal of 1.5 is reached in part" if best >= GOAL else "short of 1.5"
        span = f"{tables.number(worst)} to {tables.number(best)}" if len(steps) > 1 else tables.number(worst)
        mark, line = "good" if worst >= GOAL else "weak", f"A training step is {span} times as fast as by the plain formulas: {said}."
    cards = "".join(_card(f"training step, {name}", value) for name, value in steps.items())
    text = [f"{name}: exponent {exponent(each):.2f}" for name, each in lengths.items() if len(each) > 1]
    parts = [f"Time grows with the length: {', '.join(text)}." if text else ""]
    if full := lengths.get("full", {}).get(4.0):
        parts.append(f"The 11.79 M model takes {tables.number(full / 4)} s per second of audio at 4 s; the plan asked for {FULL_S}.")
    peaks = [each["peak_mb"] for each in long.values()]
    if len(peaks) > 1:
        memory = max(peaks) / min(peaks)
        flat = "flat" if memory <= FLAT else "NOT flat"
        ends = f"{min(long):g} to {max(long):g} s"
        parts.append(f"From {ends} the peak of memory grows {tables.number(memory)} times, which is {flat} by the plan's 20 %.")
    return box(mark, line, cards, " ".join(filter(None, parts)))


def _card(label: str, value: Interval) -> str:
    return (
        f'<div class="card"><span>{html.escape(label)}</span> <b>{tables.number(value.mean)} ×</b> '
        f"<small>95 % interval {tables.interval(vars(value))}<br>plain / fast</small></div>"
    )


def versions_table(models: Mapping[str, Version], same: Mapping[str, Mapping[str, float]]) -> HTML:
    """Seconds of each version, how many times as fast the first one is, and how far the results differ."""
    rows = []
    for model, version in models.items():
        for what, times in version.items():
            faster = gain(times)
            for name, each in times.items():
                row = {"model": model, "what": what, "version": name, "median, s": tables.number(float(np.median(each)), 4)}
                row["time / first"] = tables.measured(faster[name]) if name in faster else "1"
                differ = ", ".join(f"{key} {value:.0e}" for key, value in same[model].items()) if name == PLAIN else ""
                rows.append(row | {"largest relative difference, float64": differ})
    return table(rows, "rounds in turns; ratios within a round, with 95 % intervals")


def lengths_picture(found: Lengths) -> Image:
    """Time of a forward pass against the length of the mixture; a straight line is a power law."""
    shown = "; ".join(f"{name} {max(each):g} s: {each[max(each)]:.2f} s" for name, each in found.items())
    curves = {name: list(each.items()) for name, each in found.items()}
    curves["as long as it plays"] = sorted({(length, length) for each in found.values() for length in each})
    figure = comparison_figures.lines({"": curves}, "length of the mixture, s", "forward pass, s", log="xy")
    return picture(figure, f"Time of a forward pass against length: {shown}")


def lengths_table(found: Lengths) -> HTML:
    """The same in seconds per second of audio."""
    rows = []
    for name, each in found.items():
        for length, took in each.items():
            rows.append({"model": name, "length, s": f"{length:g}", "seconds per second of audio": tables.number(took / length, 3)})
    return table(rows, "medians of the rounds")


def busy_picture(found: Mapping[str, Mapping[int, float]]) -> Image:
    """Time of a training step beside other busy programs."""
    shown = "; ".join(f"{name} {', '.join(f'{took:.2f} s beside {n}' for n, took in each.items())}" for name, each in found.items())
    curves = {name: list(each.items()) for name, each in found.items()}
    figure = comparison_figures.lines({"": curves}, "other busy programs", "training step, s", levels={"": 0.0})
    return picture(figure, f"Time of a training step: {shown}")


def long_table(found: Long) -> HTML:
    """Memory and speed of extraction by length."""
    rows = []
    for seconds, one in found.items():
        memory = {"memory before, MB": tables.number(one["before_mb"], 0), "peak, MB": tables.number(one["peak_mb"], 0)}
        rows.append({"length, s": f"{seconds:g}"} | memory | {"seconds per second of audio": tables.number(one["took_s"] / seconds, 3)})
    return table(rows)


def content(params: Params, models: Mapping[str, Version], **others: Any) -> dict[str, Any]:
    """What ``metrics.json`` holds: gains with intervals under ``groups``, all other numbers under ``measured``."""
    groups = {
        model: {what: {name: {"ratio": vars(value)} for name, value in gain(times).items()} for what, times in version.items()}
        for model, version in models.items()
    }
    return report.metrics("11_performance", params, []) | {"groups": groups, "measured": others}
