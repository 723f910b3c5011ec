"""The parts of the report on data loading, as a notebook displays them."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML, Image

from hifitse.params import Params
from hifitse.report import report, tables
from hifitse.report.show import box, picture
from hifitse.studies import loading_figures
from hifitse.studies.loading import KEPT, KEPT_MB, NEW, OLD, STAGES, cores_needed, gains

Paths = Mapping[str, Mapping[str, Sequence[float]]]
"""Path -> stage -> seconds, one a round."""
GOAL = 5.0
LEAST_ROUNDS = 3
"""Below this number of rounds no verdict is given."""


def answer(found: Mapping[str, Paths], same: Mapping[str, float], params: Params) -> HTML:
    """The verdict: how many times the old path's mixtures a second a core, by kind of corpus, against the goal of 5.

    Args:
        found: kind of files -> :func:`hifitse.studies.loading.paths`.
        same: of :func:`hifitse.studies.loading.alike`.
        params: of the mixtures.
    """
    total = {(kind, name): value for kind, each in found.items() for name, value in gains(each)["total"].items()}
    least, rounds = min(value.mean for value in total.values()), next(iter(total.values())).n
    best = max(total.values(), key=lambda value: value.mean).mean
    if rounds < LEAST_ROUNDS:
        mark, line = "weak", f"Too few rounds ({rounds}) to say how much faster."
    elif least >= GOAL:
        mark, line = "good", f"At least {tables.number(least, 1)} times as fast as the old path: the goal of {GOAL:g} is reached."
    elif best >= GOAL:
        mark, line = "weak", f"{tables.number(least, 1)} to {tables.number(best, 1)} times as fast: the goal of {GOAL:g} in part."
    else:
        mark, line = "weak", f"{tables.number(least, 1)} to {tables.number(best, 1)} times as fast: short of the goal of {GOAL:g}."
    cards = "".join(
        f'<div class="card"><span>{html.escape(f"{kind}, {name}")}</span> <b>{tables.number(value.mean, 1)} ×</b> '
        f"<small>95 % interval {tables.interval(vars(value), 1)}<br>old path = 1</small></div>"
        for (kind, name), value in total.items()
    )
    equal = "bit for bit the same" if same["kept_bit_equal"] else "NOT the same"
    text = (
        f"Mixtures a second a core, of the same mixtures in turns: {params.seconds:g} s, 1 to 3 interferers, all in a room, noise. "
        f"With recordings kept ({KEPT_MB} MB each for speech, noise and rooms, which hold this corpus) they are {equal}; the old path's "
        f"differ by at most {tables.number(same['old_to_present_db'], 0)} dB, which is the resamplers' difference near the band's edge. "
        "Measured on CPU; no GPU was at hand."
    )
    return box(mark, line, cards, text)


def stages_table(found: Paths) -> HTML:
    """Milliseconds by stage and path, and the old path's time divided by each other's."""
    factor, rows = gains(found), []
    for stage in (*STAGES, "total"):
        cells = [tables.number(1e3 * float(np.median(each[stage])), 1) for each in found.values()]
        small = np.median(found[OLD][stage]) < 1e-4
        rows.append([stage, *cells, *("–" if small else tables.measured(factor[stage][name], 1) for name in (NEW, KEPT))])
    header = ["stage", *(f"{name}, ms" for name in found), "old / present", "old / recordings kept"]
    return HTML(tables.table(header, rows, "CPU time of a mixture on one core, median of the rounds; ratios with 95 % intervals"))


def stages_picture(found: Paths) -> Image:
    """Where the time goes."""
    seconds = {name: {stage: float(np.median(each[stage])) for stage in STAGES} for name, each in found.items()}
    shown = ", ".join(f"{name} {1e3 * sum(each.values()):.0f} ms" for name, each in seconds.items())
    return picture(loading_figures.stages(seconds), f"CPU time of a mixture by stage: {shown}")


def resamplers(found: Mapping[str, tuple[float, float]]) -> Image:
    """Time and error of each resampler."""
    shown = ", ".join(f"{name} {ms:.1f} ms {error:.0f} dB" for name, (ms, error) in found.items())
    return picture(loading_figures.resamplers(found), f"Error against time of resamplers: {shown}")


def convolutions(found: Mapping[str, Mapping[float, float]]) -> Image:
    """Time of each way to convolve against length."""
    shown = ", ".join(f"{name} {list(each.values())[-1]:.0f} ms at {list(each)[-1]:g} s" for name, each in found.items())
    return picture(loading_figures.convolutions(found), f"Time of convolutions against the response's length: {shown}")


def memory(curve: Sequence[tuple[float, float]]) -> Image:
    """Memory of a process that makes mixtures."""
    minutes, added = curve[-1]
    return picture(loading_figures.memory(curve), f"Memory added while making {minutes:.0f} minutes of mixtures: {added:.0f} MB at the end")


NAMES = {
    "mixtures_per_s": "mixtures a second", "audio_s_per_s": "s of audio a second", "start_s": "start, s",
    "corpus_mb": "memory added, MB", "peak_mb": "most on the way, MB", "lookups_per_s": "look-ups a second",
    "used_mb": "added after these, MB", "first_mixtures_ms": "a first mixture, ms",
}  # fmt: skip
"""What a table calls a number that was measured."""


def numbers(found: Mapping[str, Mapping[str, float]], head: str, caption: str = "") -> HTML:
    """A table of named numbers, one row a case."""
    header = [head, *(NAMES.get(name, name) for name in next(iter(found.values())))]
    shown = [[name, *(_shown(value) for value in each.values())] for name, each in found.items()]
    return HTML(tables.table(header, shown, caption))


def _shown(value: float) -> str:
    """Two decimals below 100, none and a gap between thousands above."""
    return tables.number(value, 2) if abs(value) < 100 else f"{value:,.0f}".replace(",", "\u202f")


def starvation(found: Paths, step_seconds: Mapping[str, float]) -> HTML:
    """Cores that keep an accelerator busy, by the time that it is assumed to take for a step of 64 mixtures."""
    rate = {name: 1 / float(np.median(each["total"])) for name, each in found.items()}
    rows = [
        [f"{name}: {seconds:g} s a step", *(tables.number(cores_needed(each, seconds), 1) for each in rate.values())]
        for name, seconds in step_seconds.items()
    ]
    header = ["assumed", *(f"cores, {name}" for name in rate)]
    return HTML(tables.table(header, rows, "cores of this machine that 64 mixtures a step keep busy"))


def content(params: Params, found: Mapping[str, Paths], **others: Any) -> dict[str, Any]:
    """What ``metrics.json`` holds: ratios with their intervals under ``groups``, all other numbers under ``measured``."""
    groups = {
        kind: {stage: {name: {"ratio": vars(value)} for name, value in each.items()} for stage, each in gains(paths).items()}
        for kind, paths in found.items()
    }
    rates = {kind: {name: _rate(each["total"], params) for name, each in paths.items()} for kind, paths in found.items()}
    return report.metrics("08_data_loading", params, []) | {"groups": groups, "measured": {"rates": rates} | others}


def _rate(seconds: Sequence[float], params: Params) -> dict[str, float]:
    value = 1 / float(np.median(seconds))
    return {"mixtures_per_s_core": value, "audio_s_per_s_core": value * params.seconds}
