"""HTML tables of a report: metrics with intervals, the plan's published numbers, parameters, provenance."""

import importlib.metadata
import math
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from hifitse.evaluation.experiment import PUBLISHED
from hifitse.evaluation.rows import Rows, frame
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report.document import piece

LABELS = {
    "si_sdri_db": ("SI-SDRi, right enrolment", "dB", 2),
    "si_sdri_wrong_enroll_db": ("SI-SDRi, enrolment of the interferer", "dB", 2),
    "si_sdri_zero_enroll_db": ("SI-SDRi, silent enrolment", "dB", 2),
    "si_sdr_db": ("SI-SDR", "dB", 2),
    "pesq": ("PESQ (16 kHz, wide band)", "MOS", 2),
    "stoi": ("STOI", "0 to 1", 3),
    "absent_level_db": ("output level, target absent", "dBFS", 1),
    "absent_suppression_db": ("suppression, target absent", "dB", 1),
    "confusion_rate": ("confusions: estimate nearer to an interferer", "share", 3),
}
"""Metric of metrics.json -> label, unit, digits."""
SHORT = {"si_sdri_db": "SI-SDRi", "confusion_rate": "confusions"}
"""Where the label is too long for an axis or for a table of one kind of enrolment."""
SIGNED = {"si_sdri_db", "si_sdri_wrong_enroll_db", "si_sdri_zero_enroll_db", "si_sdr_db"}
PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "soundfile", "soxr", "pesq", "pystoi", "papermill")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> Markup:
    """An HTML table that scrolls sideways where the screen is narrow; the first cell of a row is its head.

    Text is escaped; a cell that is HTML already (``Markup``: a link, a badge) stays as it is.
    """
    heads, cells = [], []
    for first, *others in rows:
        heads.append(escape(first))
        cells.append([escape(cell) for cell in others])
    first, *others = map(escape, header)
    frame = pd.DataFrame(cells, heads, pd.Index(others, name=first), dtype=object)
    with pd.option_context("display.max_colwidth", None):
        shown = frame.to_html(escape=False, border=0, justify="unset")
    return piece("scroll", Markup(shown), caption)


def short(metric: str) -> str:
    """A metric's label in few words."""
    return SHORT.get(metric, LABELS[metric][0])


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """A number with a real minus sign, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return text.removeprefix("-")
    return f"{'+' if signed and value > 0 else ''}{text}".replace("-", "−")


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def interval(value: Mapping[str, float | None], digits: int = 2, signed: bool = False) -> str:
    """The 95 % interval as ``low to high``."""
    if value.get("low") is None or not math.isfinite(value["low"]):
        return "–"
    return f"{number(value['low'], digits, signed)} to {number(value['high'], digits, signed)}"


def measured(value: Interval, digits: int = 2, signed: bool = False) -> str:
    """A mean with its 95 % interval: ``mean (low to high)``."""
    if not value.n:
        return "–"
    return f"{number(value.mean, digits, signed)} ({interval(vars(value), digits, signed)})"


def metrics(summaries: Mapping[str, Mapping[str, Mapping]]) -> Markup:
    """Every metric of every arm with its 95 % interval and the number of mixtures behind it.

    Args:
        summaries: name of the arm -> :func:`hifitse.evaluation.experiment.summarise` of its rows.
    """
    several = len(summaries) > 1
    rows = []
    for metric, (label, unit, digits) in LABELS.items():
        for name, summary in summaries.items():
            value = summary.get(metric)
            if value:
                signed = metric in SIGNED
                cells = [label, *([name] if several else []), unit, number(value["mean"], digits, signed), interval(value, digits, signed)]
                rows.append([*cells, str(value["n"])])
    return table(["metric", *(["arm"] if several else []), "unit", "mean", "95 % interval", "n"], rows)


def plan(summary: Mapping[str, Mapping], here: str) -> Markup:
    """This run beside the plan's published baseline.

    Args:
        summary: :func:`hifitse.evaluation.experiment.summarise` of the run's rows.
        here: data and scale of this run in a few words, the head of its column.
    """
    rows = []
    for metric, published in PUBLISHED.items():
        _, unit, digits = LABELS[metric]
        value = summary.get(metric) or {"mean": None}
        signed = metric in SIGNED
        shown = f"{number(value['mean'], digits, signed)} ({interval(value, digits, signed)})"
        rows.append([short(metric), unit, shown, number(published, digits, signed)])
    return table(["metric", "unit", here, "the plan's baseline, 1.5 M steps, its own recordings"], rows)


def parameters(params: Params) -> Markup:
    """The parameters that differ from the defaults, which are the plan's baseline."""
    fields = type(params).model_fields
    rows = [
        [name, str(getattr(params, name)), str(field.get_default(call_default_factory=True)), field.description or ""]
        for name, field in fields.items()
        if getattr(params, name) != field.get_default(call_default_factory=True)
    ]
    return table(["parameter", "here", "default", "meaning"], rows, f"{len(rows)} of {len(fields)} parameters differ from the defaults")


def provenance(facts: Mapping[str, Any]) -> Markup:
    """Where the numbers come from: the given facts, then Python, system and package versions."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    rows = [[name, str(value)] for name, value in facts.items()]
    return table(["fact", "value"], [*rows, ["system", system], ["packages", versions]])


def failures(rows: Rows) -> str:
    """How often PESQ failed and why, in words."""
    reasons = Counter(frame(rows)["pesq_error"].dropna())
    if not reasons:
        return "none"
    counted = "; ".join(f"{count} times: {reason}" for reason, count in reasons.most_common())
    return f"{sum(reasons.values())} of {len(rows)} mixtures ({counted})"
