"""How fast mixtures are made, as notebook 08 displays it."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML, Image

from hifitse.params import Params
from hifitse.report import comparison_figures, report, tables
from hifitse.report.show import box, picture
from hifitse.studies.data_loading import KEPT_MB, gains

Paths = Mapping[str, Mapping[str, Sequence[float]]]
"""Kind of files -> path -> CPU seconds per mixture, one a round."""
GOAL, LEAST_ROUNDS = 5.0, 3
"""The plan's gain; below this number of rounds no verdict is given."""
NAMES = {"start_s": "start, s", "memory_mb": "memory added, MB", "peak_mb": "peak, MB", "lookups_per_s": "look-ups per second"}


def answer(found: Paths, same: Mapping[str, float], params: Params) -> HTML:
    """The verdict: how many times the old path's mixtures per second and core, by kind of files, against the goal of 5."""
    total = {(kind, name): value for kind, each in found.items() for name, value in gains(each).items()}
    least, best = (end(value.mean for value in total.values()) for end in (min, max))
    rounds = next(iter(total.values())).n
    span = f"{tables.number(least, 1)} to {tables.number(best, 1)} times as fast as the old path"
    said = "is reached" if least >= GOAL else "is reached in part" if best >= GOAL else "is not reached"
    mark, line = "good" if least >= GOAL else "weak", f"{span}: the goal of {GOAL:g} {said}."
    if rounds < LEAST_ROUNDS:
        mark, line = "weak", f"Too few rounds ({rounds}) to say how much faster."
    cards = "".join(
        f'<div class="card"><span>{html.escape(f"{kind}, {name}")}</span> <b>{tables.number(value.mean, 1)} ×</b> '
        f"<small>95 % interval {tables.interval(vars(value), 1)}<br>old path = 1</small></div>"
        for (kind, name), value in total.items()
    )
    equal = "bit for bit the same" if same["kept_bit_equal"] else "NOT the same"
    text = (
        f"The same mixtures in turns: {params.seconds:g} s, 1 to 3 interferers, all in a room, noise. With recordings kept ({KEPT_MB} MB "
        f"each for speech, noise and rooms) they are {equal}; the old path's differ by at most "
        f"{tables.number(same['old_to_present_db'], 0)} dB, which is the resamplers' difference near the band's edge."
    )
    return box(mark, line, cards, text)


def rates(found: Paths, params: Params, measured: str) -> HTML:
    """Time and rate of each path or renderer, and how many times as fast it is as the first; ``measured`` says what the time is."""
    rows = []
    for kind, each in found.items():
        factor = gains(each)
        for name, seconds in each.items():
            took = float(np.median(seconds))
            ratio = tables.measured(factor[name], 1) if name in factor else "1"
            numbers = [tables.number(1e3 * took, 1), tables.number(1 / took, 1), tables.number(params.seconds / took, 0)]
            rows.append([kind, name, *numbers, ratio])
    header = ["files", "path", "ms per mixture", "mixtures per second", "seconds of audio per second", "first / this"]
    return HTML(tables.table(header, rows, f"{measured}, medians of the rounds; ratios with 95 % intervals"))


def waits(found: Mapping[str, float]) -> HTML:
    """Where mixtures are made, and the share of a training step that waits for them."""
    rows = [[name, f"{100 * share:.0f} %"] for name, share in found.items()]
    card = "" if "the card" in found else "; no GPU here, so rendering on one is not measured"
    return HTML(tables.table(["mixtures are made by", "share of a step that waits"], rows, f"the preset's own training{card}"))


def gains_picture(found: Paths) -> Image:
    """The gain of each path with its interval."""
    rows = [(f"{kind}, {name}", value, (GOAL, GOAL)) for kind, each in found.items() for name, value in gains(each).items()]
    shown = "; ".join(f"{name} {value.mean:.1f}" for name, value, _ in rows)
    return picture(comparison_figures.forest(rows, "old time / present time"), f"Times as fast as the old path: {shown}")


def large(found: Mapping[str, Mapping[str, float]], utterances: int) -> HTML:
    """Starts of a simulated corpus."""
    rows = [
        [name, *(f"{each[key]:,.0f}" if each[key] >= 100 else tables.number(each[key]) for key in NAMES)] for name, each in found.items()
    ]
    return HTML(tables.table(["start", *NAMES.values()], rows, f"{utterances:,} utterances, simulated"))


def content(params: Params, found: Paths, **others: Any) -> dict[str, Any]:
    """What ``metrics.json`` holds: ratios with their intervals under ``groups``, all other numbers under ``measured``."""
    groups = {kind: {"total": {name: {"ratio": vars(value)} for name, value in gains(each).items()}} for kind, each in found.items()}
    seconds = {kind: {name: float(np.median(taken)) for name, taken in each.items()} for kind, each in found.items()}
    return report.metrics("08_data_loading", params, []) | {"groups": groups, "measured": {"seconds": seconds} | others}
