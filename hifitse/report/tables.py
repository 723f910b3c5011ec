"""Format numbers and build the HTML tables of a report: metrics with intervals, the plan's published numbers, parameters, provenance."""

import importlib.metadata
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from hifitse.evaluation.experiment import PUBLISHED
from hifitse.evaluation.rows import METRICS
from hifitse.params import Params
from hifitse.report.page import piece

PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "soundfile", "soxr", "pesq", "pystoi", "papermill")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> Markup:
    """Return an HTML table that scrolls sideways on narrow screens. The first cell of each row is its header.

    Text is escaped; cells that are already HTML (``Markup``: a link, a badge) are left unchanged.
    """
    (corner, *columns), *body = [[escape(cell) for cell in row] for row in (header, *rows)]
    frame = pd.DataFrame([row[1:] for row in body], [row[0] for row in body], pd.Index(columns, name=corner), dtype=object)
    with pd.option_context("display.max_colwidth", None):
        return piece("scroll", Markup(frame.to_html(escape=False, border=0, justify="unset")), caption)


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """Format a number with a typographic minus sign; return a dash for ``None`` and non-finite values."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return text.removeprefix("-")
    return f"{'+' if signed and value > 0 else ''}{text}".replace("-", "−")


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def interval(value: Mapping[str, float | None], digits: int = 2, signed: bool = False) -> str:
    """Format the 95 % interval as ``low to high``, or as a dash if there is none."""
    ends = [number(value.get(end), digits, signed) for end in ("low", "high")]
    return "–" if ends[0] == "–" else " to ".join(ends)


def span(expected: Sequence[float] | None) -> str:
    """Format the range of gains in dB that the plan expects, or a dash if there is none."""
    ends = dict.fromkeys(number(end, 1, True) for end in expected or ())
    return f"about {min(ends)}" if len(ends) == 1 else " to ".join(ends) or "–"


def measured(value: Any, digits: int = 2, signed: bool = False) -> str:
    """Format an object with ``mean, low, high, n`` as ``mean (low to high)``, or as a dash if it has no mean."""
    if value is None or value.mean is None or not value.n:
        return "–"
    return f"{number(value.mean, digits, signed)} ({interval(vars(value), digits, signed)})"


def metrics(summary: Mapping[str, Mapping]) -> Markup:
    """Tabulate the metrics of :func:`hifitse.evaluation.experiment.summarise` with 95 % intervals and numbers of mixtures."""
    rows = []
    for metric, (label, unit, _, digits, signed) in METRICS.items():
        value = summary[metric]
        rows.append([label, unit, number(value["mean"], digits, signed), interval(value, digits, signed), str(value["n"])])
    return table(["metric", "unit", "mean", "95 % interval", "n"], rows)


def plan(summary: Mapping[str, Mapping], here: str) -> Markup:
    """Tabulate this run's summary next to the plan's published baseline. ``here``: column header, which names this run's data and scale."""
    rows = []
    for metric, published in PUBLISHED.items():
        (label, unit, _, digits, signed), value = METRICS[metric], summary[metric]
        mine = f"{number(value['mean'], digits, signed)} ({interval(value, digits, signed)})"
        rows.append([label, unit, mine, number(published, digits, signed)])
    return table(["metric", "unit", here, "the plan's baseline, 1.5 M steps, its own recordings"], rows)


def differing(a: Mapping[str, Any], b: Mapping[str, Any], heads: Sequence[str]) -> Markup:
    """Tabulate the parameters in which two sets differ, with their meanings. The caption counts them."""
    fields = Params.model_fields
    names = [name for name in dict.fromkeys([*fields, *a, *b]) if a.get(name) != b.get(name)]
    meaning = {name: field.description or "" for name, field in fields.items()}
    rows = [[name, str(a.get(name, "–")), str(b.get(name, "–")), meaning.get(name, "")] for name in names]
    return table(["parameter", *heads, "meaning"], rows, f"{len(rows)} of {len(fields)} parameters differ")


def parameters(params: Params) -> Markup:
    """Tabulate the parameters that differ from the defaults, which are the plan's baseline."""
    return differing(params.model_dump(), Params().model_dump(), ["here", "default"])


def provenance(facts: Mapping[str, Any]) -> Markup:
    """Tabulate the provenance of the numbers: the given facts, then Python, system and package versions."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    rows = [[name, str(value)] for name, value in facts.items()]
    return table(["fact", "value"], [*rows, ["system", system], ["packages", versions]])
