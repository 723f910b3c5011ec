"""From which likeness of the estimate to the enrolment on a voice counts as present: measured where the wanted speaker is absent."""

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.data.conditions import evaluation_conditions
from hifitse.data.mixing import Mixer
from hifitse.model import Extractor
from hifitse.model.extract_files import PRESENCE_S, Levels
from hifitse.model.verifier import likeness
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
        ``threshold_likeness``, its ``false_alarm_rate``, the ``detection_rate`` where the speaker speaks, and ``absent``, the number of
        100 ms without them; ``None`` where the list has no mixture without the speaker, or the extractor no verifier.
    """
    absent, speaking = [], []
    conditions = evaluation_conditions(params)["test"]
    if extractor.verifier is None or not any(each.absent for each in conditions):
        return None
    mixer = Mixer(params, "valid")
    for index, each in enumerate(conditions):
        found = absent if each.absent else speaking
        if len(found) == MIXTURES:
            continue
        mixture = mixer.mixture(params.eval_seed, index, each)
        est = estimate(extractor, [mixture], "right", next(extractor.parameters()).device)[0].numpy()
        alike = likeness(extractor.verifier, est, mixture.enroll, PRESENCE_S)
        if not each.absent:
            target = Levels(len(est), SAMPLE_RATE)
            target.add(mixture.mix, mixture.target)
            alike = alike[(target.power[1] > np.percentile(target.power[1], 95) * 10 ** (ACTIVE_DB / 10))[: len(alike)]]
        found.append(alike)
    alike = np.concatenate(absent)
    threshold = round(float(np.quantile(alike, 1 - FALSE_ALARM_RATE)), 3)
    detected = float(np.mean(np.concatenate(speaking) >= threshold)) if speaking else float("nan")
    rates = {"false_alarm_rate": round(float(np.mean(alike >= threshold)), 3), "detection_rate": round(detected, 3)}
    return {"threshold_likeness": threshold, **rates, "absent": len(alike)}
