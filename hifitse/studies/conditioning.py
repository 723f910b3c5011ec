"""Notebook 07: results by how alike the voices are.

Corpora do not say whether a voice is a man's or a woman's, and a synthetic one is neither: what is compared is measured on the
speakers' recordings (:mod:`hifitse.data.similarity`), for all corpora alike.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hifitse.data.mixing import Mixer
from hifitse.data.similarity import Voices
from hifitse.evaluation.experiment import Arm
from hifitse.evaluation.rows import BASELINE, of_list
from hifitse.params import Params

THIRDS = ("least alike", "in between", "most alike")
Conditions = dict[str, dict[str, pd.DataFrame]]
"""Condition -> arm -> rows of the test list."""


def voices_of(params: Params) -> Voices:
    """The voices of the test speakers."""
    return Voices.of(Mixer(params, "test").corpus)


def likeness(row: Mapping[str, Any], voices: Voices) -> float:
    """Cosine between the target's voice and the interferer's most like it, -1 to 1; speeds are not considered."""
    return max(voices.similarity(row["target_speaker"], name) for name in row["interferer_speakers"])


def by_likeness(arms: Mapping[str, Arm], voices: Voices) -> Conditions:
    """The test mixtures with target and interferer in three parts of about one size, by :func:`likeness`; empty ones are left out.

    Args:
        arms: by name, evaluated on the same mixtures, one of them the baseline.
        voices: of the test speakers.
    """
    tests = {name: of_list(arm.rows, "test") for name, arm in arms.items()}
    tests = {name: rows[rows["present"].astype(bool) & (rows["n_interferers"] > 0)] for name, rows in tests.items()}
    values = {row["index"]: likeness(row, voices) for row in tests[BASELINE].to_dict("records")}
    edges = np.quantile(list(values.values()), (1 / 3, 2 / 3)) if values else []
    third = {index: THIRDS[int(np.searchsorted(edges, value, side="left"))] for index, value in values.items()}
    filled = [label for label in THIRDS if label in third.values()]
    return {label: {name: rows[rows["index"].map(third) == label] for name, rows in tests.items()} for label in filled}
