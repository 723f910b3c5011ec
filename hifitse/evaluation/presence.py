"""From which level of the estimate on a voice counts as present: measured where the wanted speaker is absent."""

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.data.conditions import evaluation_conditions
from hifitse.data.mixing import Mixer
from hifitse.model import Extractor
from hifitse.model.extract_files import Levels
from hifitse.params import Params
from hifitse.training.validation import estimate

FALSE_ALARM_RATE = 0.05
"""Share of the 100 ms without the speaker that are taken for presence."""
MIXTURES = 24
"""Most mixtures with the speaker, and without."""
ACTIVE_DB = -20.0
"""The speaker counts as speaking above this, relative to the 95th percentile of 100 ms."""


def calibrate(extractor: Extractor, params: Params) -> dict[str, float | int] | None:
    """The threshold of ``hifitse extract --presence``, on mixtures of validation speakers drawn as the test list is.

    Returns:
        ``threshold_db`` of the estimate relative to the mixture in 100 ms, its ``false_alarm_rate``, the ``detection_rate`` where the
        speaker speaks, and ``absent``, the number of 100 ms without them; ``None`` where the list has no mixture without the speaker.
    """
    mixer, absent, speaking = Mixer(params, "valid"), [], []
    for index, conditions in enumerate(evaluation_conditions(params)["test"]):
        found = absent if conditions.absent else speaking
        if len(found) == MIXTURES:
            continue
        mixture = mixer.mixture(params.eval_seed, index, conditions)
        est = estimate(extractor, [mixture], "right", next(extractor.parameters()).device)[0].numpy()
        level = _level_db(mixture.mix, est)
        if not conditions.absent:
            target = Levels(len(est), SAMPLE_RATE)
            target.add(mixture.mix, mixture.target)
            level = level[target.power[1] > np.percentile(target.power[1], 95) * 10 ** (ACTIVE_DB / 10)]
        found.append(level[np.isfinite(level)])
    if not absent:
        return None
    levels = np.concatenate(absent)
    threshold = round(float(np.quantile(levels, 1 - FALSE_ALARM_RATE)), 1)
    detected = float(np.mean(np.concatenate(speaking) >= threshold)) if speaking else float("nan")
    rates = {"false_alarm_rate": round(float(np.mean(levels >= threshold)), 3), "detection_rate": round(detected, 3)}
    return {"threshold_db": threshold, **rates, "absent": len(levels)}


def _level_db(mix: np.ndarray, est: np.ndarray) -> np.ndarray:
    levels = Levels(len(mix), SAMPLE_RATE)
    levels.add(mix, est)
    return levels.presence()
