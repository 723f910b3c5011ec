"""Notebook 07: how much each arm needs the enrolment, what it spends on it, and results by how alike the voices are.

Corpora do not say whether a voice is a man's or a woman's, and a synthetic one is neither: what is compared is measured on the
speakers' recordings (:mod:`hifitse.data.similarity`), for all corpora alike.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from IPython.display import HTML, Image

from hifitse.config import ExtractorConfig
from hifitse.data.mixing import Mixer
from hifitse.data.similarity import Voices
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.cost import build
from hifitse.evaluation.experiment import Arm
from hifitse.evaluation.rows import BASELINE, SELECTIVITY, Row, mean, of_list
from hifitse.params import Params
from hifitse.report import comparison_figures, tables
from hifitse.report.show import ENROLMENTS, picture, table

REGISTER_HZ = 165.0
"""Hz: between the median pitches of most men and of most women."""
THIRDS = ("least alike", "in between", "most alike")
REGISTERS = ("different registers", "both low", "both high", "pitch not known")
SPEAKER_PATH = {
    "encoder": ("speaker_blocks", "pooling"),
    "cross-attention": ("usef", "reinject", "resolutions"),
    "modulation": ("film",),
}
"""Parts of the extractor that exist for the enrolment alone -> names of their modules."""
Conditions = dict[str, dict[str, list[Row]]]
"""Condition -> arm -> rows of the test list."""


def voices_of(params: Params) -> Voices:
    """The voices of the test speakers."""
    return Voices.of(Mixer(params, "test").corpus)


def likeness(row: Mapping[str, Any], voices: Voices) -> float:
    """Cosine between the target's voice and the interferer's most like it, -1 to 1; speeds are not considered."""
    return max(voices.similarity(row["target_speaker"], name) for name in row["interferer_speakers"])


def registers(row: Mapping[str, Any], voices: Voices) -> str:
    """Whether an interferer's median pitch, with its speed factor, lies on the target's side of 165 Hz."""
    pitch = voices.pitch(row["target_speaker"]) * row["target_speed"]
    speeds = zip(row["interferer_speakers"], row["interferer_speeds"], strict=True)
    others = [voices.pitch(name) * speed for name, speed in speeds]
    if not all(map(math.isfinite, (pitch, *others))):
        return "pitch not known"
    side = "low" if pitch < REGISTER_HZ else "high"
    if all((other < REGISTER_HZ) != (side == "low") for other in others):
        return "different registers"
    return f"both {side}"


def by_likeness(arms: Mapping[str, Arm], voices: Voices) -> Conditions:
    """The test mixtures with target and interferer in three parts of about one size, by :func:`likeness`.

    Args:
        arms: by name, evaluated on the same mixtures, one of them the baseline.
        voices: of the test speakers.
    """
    values = {row["index"]: likeness(row, voices) for row in _with_both(arms[BASELINE])}
    edges = np.quantile(list(values.values()), (1 / 3, 2 / 3)) if values else []
    return _sorted(arms, lambda row: THIRDS[int(np.searchsorted(edges, values[row["index"]], side="left"))], THIRDS)


def by_register(arms: Mapping[str, Arm], voices: Voices) -> Conditions:
    """The same mixtures by :func:`registers`; arguments as :func:`by_likeness`."""
    return _sorted(arms, lambda row: registers(row, voices), REGISTERS)


def _with_both(arm: Arm) -> list[Row]:
    return [row for row in of_list(arm.rows, "test").to_dict("records") if row["present"] and row["n_interferers"]]


def _sorted(arms: Mapping[str, Arm], label: Callable[[Row], str], order: tuple[str, ...]) -> Conditions:
    """Rows by label and arm; labels without a row are left out."""
    found: Conditions = {name: {} for name in order}
    for name, arm in arms.items():
        for row in _with_both(arm):
            found[label(row)].setdefault(name, []).append(row)
    return {condition: rows for condition, rows in found.items() if rows}


def sensitivity(comparison: Comparison) -> Image:
    """SI-SDRi of each arm with the right, a wrong and a silent enrolment."""
    arms = comparison.all.items()
    means = {f"{kind} enrolment": {name: mean(arm.rows, metric) for name, arm in arms} for kind, metric in ENROLMENTS.items()}
    shown = ", ".join(f"{name} {tables.number(value.mean, 2, True)} dB" for name, value in means["wrong enrolment"].items())
    figure = comparison_figures.grouped(means, "SI-SDRi, dB")
    return picture(figure, f"SI-SDRi of each arm with the right, a wrong and a silent enrolment; with a wrong one: {shown}")


def sensitivity_table(comparison: Comparison) -> HTML:
    """SI-SDRi by enrolment, the paired difference right minus wrong, and confusions, arm by arm."""
    rows = [
        {"arm": name}
        | {f"{kind} enrolment, dB": mean(arm.rows, metric) for kind, metric in ENROLMENTS.items()}
        | {"right minus wrong, dB": mean(arm.rows, SELECTIVITY), "confusions": tables.measured(mean(arm.rows, "confusion_rate"))}
        for name, arm in comparison.all.items()
    ]
    return table(rows, "SI-SDRi, means with 95 % intervals; a wrong enrolment is that of the interferer")


def speaker_path(config: ExtractorConfig) -> tuple[int, dict[str, int]]:
    """Number of the model's weights, and of those of each part of :data:`SPEAKER_PATH`."""
    every, parts = 0, dict.fromkeys(SPEAKER_PATH, 0)
    for name, parameter in build(config).named_parameters():
        every += parameter.numel()
        if part := next((part for part, modules in SPEAKER_PATH.items() if set(modules) & set(name.split("."))), None):
            parts[part] += parameter.numel()
    return every, parts


def speaker_share(comparison: Comparison) -> HTML:
    """How many of each arm's weights exist for the enrolment alone, and where."""
    rows = []
    for name, arm in comparison.all.items():
        every, parts = speaker_path(arm.params)
        mine = sum(parts.values())
        counts = {"arm": name, "weights": f"{every:,}", "in the speaker path": f"{mine:,}", "share": f"{100 * mine / every:.1f} %"}
        rows.append(counts | {part: f"{count:,}" for part, count in parts.items()})
    return table(rows, "weights that exist for the enrolment alone; the band split serves mixture and enrolment")
