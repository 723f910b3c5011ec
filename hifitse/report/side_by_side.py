"""Two runs beside each other on one page: what differs, what was measured, how they learned, how they sound."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hifitse import HifitseError
from hifitse.evaluation import rows
from hifitse.evaluation.experiment import Arm
from hifitse.evaluation.rows import ExperimentError
from hifitse.files import write_text
from hifitse.params import Params
from hifitse.report import figures, listening, players, show, show_arms, tables
from hifitse.report.document import document, image
from hifitse.report.figures import BLUE, GREY, STYLE, VERMILLION, WIDTH
from hifitse.report.side import Side, read
from hifitse.report.style import FRAGMENTS

COLOURS = (BLUE, VERMILLION)
BINS = 60
"""Points of a curve of the loss; each is the mean of as many steps."""
SAME = ("id", "target_speaker", "target_utterance", "target_start_s", "snr_db", "level_db")
"""What a mixture that is made again must share with its row."""
WORDS = {"helped": "B is better", "hurt": "B is worse", "neutral": "not to be told apart"}


def _same(first: Sequence[rows.Row], second: Sequence[rows.Row]) -> bool:
    try:
        rows.check_same_mixtures(first, second)
    except ExperimentError:
        return False
    return True


def paired(a: Side, b: Side) -> tuple[Sequence[rows.Row], Sequence[rows.Row]] | None:
    """The newest evaluations of both that are of the same mixtures, or ``None``."""
    return next(((first, second) for first in a.evaluations for second in b.evaluations if _same(first, second)), None)


def summaries(a: Side, b: Side) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Means with intervals: of the same mixtures where there are such, else of each side's newest evaluation or report."""
    both = paired(a, b)
    if both is not None:
        return rows.summarise(both[0]), rows.summarise(both[1])
    return a.summary, b.summary


def parameters(a: Side, b: Side) -> str:
    """The parameters that differ, as a table."""
    fields = Params.model_fields
    names = [name for name in dict.fromkeys([*fields, *a.params, *b.params]) if a.params.get(name) != b.params.get(name)]
    names = [name for name in names if name in a.params or name in b.params]
    if not names:
        return "<p>No parameter differs.</p>"
    meaning = {name: fields[name].description or "" if name in fields else "" for name in names}
    cells = [[name, str(a.params.get(name, "–")), str(b.params.get(name, "–")), meaning[name]] for name in names]
    return tables.table(["parameter", "A", "B", "meaning"], cells, f"{len(names)} parameter{'s differ' if len(names) > 1 else ' differs'}")


def metrics(a: Side, b: Side) -> str:
    """Every metric of both, with the paired difference where the mixtures are the same."""
    both, (first, second) = paired(a, b), summaries(a, b)
    cells = []
    for metric, (label, unit, digits) in tables.LABELS.items():
        values = [side.get(metric) or {"mean": None, "n": 0} for side in (first, second)]
        if not any(value["n"] for value in values):
            continue
        signed = metric in tables.SIGNED
        shown = [f"{tables.number(value['mean'], digits, signed)} ({tables.interval(value, digits, signed)})" for value in values]
        shown = [text if value["n"] else "–" for text, value in zip(shown, values, strict=True)]
        change, word = "–", "–"
        if both is not None:
            found = rows.difference(both[1], both[0], metric)
            change = tables.measured(found, digits, True)
            word = WORDS[rows.verdict(found, metric)] if found.n >= show.LEAST_MIXTURES else "too few mixtures"
        cells.append([label, unit, *shown, change, word])
    if not cells:
        return "<p>Neither was evaluated.</p>"
    return tables.table(["metric", "unit", "A", "B", "B less A, paired", "verdict"], cells, "means with 95 % intervals")


def answer(a: Side, b: Side) -> str:
    """The verdict by the paired difference of SI-SDRi, or why there is none, in a box."""
    both = paired(a, b)
    if both is None:
        known = "were tested on different mixtures" if a.evaluations and b.evaluations else "do not both have rows of an evaluation"
        text = f"The two {known}: their means are no contest, and there is no paired difference."
        return show.box("weak", "No verdict.", "", text).data
    found = rows.difference(both[1], both[0])
    text = f"Difference of SI-SDRi, B less A, on the same {found.n} test mixtures of unseen voices."
    if found.n < show.LEAST_MIXTURES:
        mark, line = "weak", f"Too few mixtures ({found.n}) to compare the two."
    else:
        word = rows.verdict(found, "si_sdri_db")
        line = {"helped": "B is better than A.", "hurt": "B is worse than A.", "neutral": "B is not to be told from A."}[word]
        mark = show_arms.MARKS[word]
    return show.box(mark, line, show.card("B less A, SI-SDRi", found), text).data


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array([(row["step"], row[key]) for row in history if isinstance(row.get(key), int | float)], float).reshape(-1, 2)
    parts = np.array_split(pairs, min(BINS, len(pairs))) if key == "loss" and len(pairs) else [pairs]
    binned = np.array([part.mean(0) for part in parts]) if key == "loss" and len(pairs) else pairs
    return binned[:, 0], binned[:, 1]


@matplotlib.rc_context(STYLE)
def learning(a: Side, b: Side) -> Figure | None:
    """Loss and SI-SDRi of unseen voices over the steps, both runs in each panel; ``None`` where neither left a history."""
    panels = (("history", "loss", "loss, all terms"), ("validation", "si_sdri_db", "SI-SDRi of unseen voices, dB"))
    if not any(getattr(side, place) for side in (a, b) for place, _, _ in panels):
        return None
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    for axis, (place, key, title) in zip(figure.subplots(1, 2), panels, strict=True):
        for side, colour, line in zip((a, b), COLOURS, ("-", "--"), strict=True):
            steps, values = _curve(getattr(side, place), key)
            axis.plot(steps, values, line, color=colour, label=side.letter, marker="o" if len(steps) == 1 else None, ms=4)
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        axis.set_xlim(left=0)
    axis.axhline(0, color=GREY, lw=0.8)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def examples(a: Side, b: Side) -> list[listening.Example]:
    """The test mixtures that differ most, each with the estimates of both.

    Raises:
        HifitseError: there are no weights, no common mixtures, or the mixtures cannot be made again here.
    """
    both = paired(a, b)
    if both is None or a.run is None or b.run is None:
        raise HifitseError("players need the weights of both runs and an evaluation of both on the same mixtures")
    evaluation = next((side.run.params for side in (a, b) if _rebuilds(both[0], side.run.params)), None)
    if evaluation is None:
        raise HifitseError("the mixtures of the evaluation are not those of either run's own parameters: they cannot be made again")
    arms = []
    for side, mine in zip((a, b), both, strict=True):
        seed = side.run.params.seed
        arms.append(Arm(side.letter, side.run.params, side.run, [{**row, "seed": seed} for row in mine], evaluation))
    before = {row["index"]: row["si_sdri_db"] for row in both[0] if row["list"] == "test"}
    found = []
    for example, name in zip(listening.contrasts(*arms), ("B gains most", "B loses most"), strict=False):
        values = [tables.number(value, 1, True) for value in (before[example.row["index"]], example.row["si_sdri_db"])]
        found.append(replace(example, name=name, note=f"SI-SDRi of A {values[0]} dB, of B {values[1]} dB"))
    return found


def _rebuilds(mine: Sequence[rows.Row], params: Params) -> bool:
    """Whether these parameters make the mixtures of the rows."""
    row = next((row for row in mine if row["list"] == "test" and row["present"]), None)
    if row is None or row["index"] >= params.eval_mixtures:
        return False
    known = listening.rebuild(row, params).metadata
    return all(known.get(key) == row.get(key) for key in SAME)


def sounds(a: Side, b: Side) -> str:
    """Spectrograms and players of both, or why there are none."""
    try:
        found = examples(a, b)
    except HifitseError as error:
        return f"<p>Nothing to listen to: {html.escape(str(error))}.</p>"
    parts = []
    for example in found:
        about = f"{example.note}, {listening.caption(replace(example, note='')).partition(', ')[2]}"  # B's SI-SDRi once
        drawn = figures.spectrograms({name: example.clips[name] for name in example.pictured})
        parts.append(f"<h3>{example.name}</h3><p>{html.escape(about)}</p>")
        parts.append(image(figures.png(drawn), f"Spectrograms of {', '.join(example.pictured)}; {example.name}: {about}"))
        parts.append(players.players(example.clips, f"mixture {example.row['index']}, {example.name}"))
    return "".join(parts) or "<p>Nothing to listen to: fewer than two mixtures have a value with both.</p>"


def page(a: Side, b: Side) -> str:
    """The page's HTML; all text in it is escaped."""
    facts = [[side.letter, side.name, side.kind, side.said] for side in (a, b)]
    drawn = learning(a, b)
    alt = "Loss and SI-SDRi of unseen voices over the training steps, A as a solid and B as a broken line"
    parts = [f"<style>{FRAGMENTS}</style><h1>A and B side by side</h1>", answer(a, b)]
    parts += [tables.table(["", "name", "what", "trained"], facts), "<h2>Parameters</h2>", parameters(a, b)]
    parts += ["<h2>Metrics</h2>", metrics(a, b), "<h2>Training</h2>"]
    parts += [image(figures.png(drawn), alt) if drawn else "<p>Neither left a history of its training here.</p>"]
    parts += ["<h2>Listen</h2><p>The test mixtures that differ most; players of one mixture share one gain.</p>", sounds(a, b)]
    return document(f"{a.name} and {b.name}", "\n".join(parts), "main { max-width: 1000px; }")


def write(first: str, second: str, target: Path) -> Path:
    """Compare two runs and write the page, whole or not at all.

    Args:
        first, second: each the name of a run, its folder, or the folder of a report.
        target: file of the page.

    Raises:
        HifitseError: one is not found or not readable, both are the same, or the page cannot be written.
    """
    a, b = read(first, "A"), read(second, "B")
    if Path(a.place).resolve() == Path(b.place).resolve():
        raise HifitseError(f"both are {a.place}, allowed are two that differ")
    write_text(target, page(a, b))
    return target
