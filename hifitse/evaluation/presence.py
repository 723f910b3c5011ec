"""From which likeness, or level, of the estimate on a voice counts as present: measured where the wanted speaker is absent."""

import numpy as np
import torch

from hifitse import SAMPLE_RATE
from hifitse.data.conditions import evaluation_conditions
from hifitse.data.mixing import Mixer, Mixture
from hifitse.model import Extractor
from hifitse.model.extract_files import PRESENCE_S, Levels
from hifitse.model.likeness import Likeness
from hifitse.params import Params
from hifitse.training.validation import estimate

FALSE_ALARM_RATE = 0.05
"""Share of the 100 ms without the speaker that are taken for presence."""
MIXTURES = 40
"""Most mixtures with the speaker, and without."""
ACTIVE_DB = -20.0
"""The speaker counts as speaking above this, relative to the 95th percentile of 100 ms."""


def calibrate(extractor: Extractor, params: Params) -> dict[str, float | int] | None:
    """The threshold of ``hifitse extract --presence``, on mixtures of validation speakers drawn as the test list is.

    Returns:
        ``threshold_likeness`` of the estimate to the enrolment, or, of an extractor without verifier, ``threshold_db`` of the estimate
        relative to the mixture in 100 ms; its ``false_alarm_rate``, the ``detection_rate`` where the speaker speaks, and ``absent``,
        the number of 100 ms without them; ``None`` where the list has no mixture without the speaker.
    """
    mixer, absent, speaking = Mixer(params, "valid"), [], []
    for index, conditions in enumerate(evaluation_conditions(params)["test"]):
        found = absent if conditions.absent else speaking
        if len(found) == MIXTURES:
            continue
        mixture = mixer.mixture(params.eval_seed, index, conditions)
        score = _score(extractor, mixture)
        if not conditions.absent:
            target = Levels(len(mixture.mix), SAMPLE_RATE)
            target.add(mixture.mix, mixture.target)
            score = score[target.power[1] > np.percentile(target.power[1], 95) * 10 ** (ACTIVE_DB / 10)]
        found.append(score[np.isfinite(score)])
    if not absent:
        return None
    scores, name, digits = np.concatenate(absent), *(("threshold_db", 1) if extractor.verifier is None else ("threshold_likeness", 3))
    threshold = round(float(np.quantile(scores, 1 - FALSE_ALARM_RATE)), digits)
    detected = float(np.mean(np.concatenate(speaking) >= threshold)) if speaking else float("nan")
    rates = {"false_alarm_rate": round(float(np.mean(scores >= threshold)), 3), "detection_rate": round(detected, 3)}
    return {name: threshold, **rates, "absent": len(scores)}


def _score(extractor: Extractor, mixture: Mixture) -> np.ndarray:
    """Likeness of the estimate to the enrolment each 100 ms, or its level; nan where the mixture is silent."""
    device = next(extractor.parameters()).device
    est = estimate(extractor, [mixture], "right", device)[0]
    levels = Levels(len(est), SAMPLE_RATE)
    levels.add(mixture.mix, est.numpy())
    level_db = levels.presence()
    if extractor.verifier is None:
        return level_db
    likeness = Likeness(extractor.verifier, extractor.verifier(torch.from_numpy(mixture.enroll)[None].to(device)))
    likeness.add(est)
    return np.where(np.isfinite(level_db), likeness.curve(len(level_db), PRESENCE_S), np.nan)
