"""From which likeness of the estimate to the enrolment on a voice counts as present: measured where the wanted speaker is absent."""

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.data.mixing import Mixer
from hifitse.data.scene import evaluation_conditions
from hifitse.model import Extractor
from hifitse.model.extract_files import PRESENCE_S, Levels
from hifitse.model.extraction import taken_db
from hifitse.model.verifier import likeness
from hifitse.params import Params
from hifitse.training.validation import estimate

FALSE_ALARM_RATE = 0.05
"""Share of the 100 ms without the speaker that are taken for presence."""
MIXTURES = 160
"""Most mixtures with the speaker, and without: by 40 of them the detection rate was anything from 29 to 64 %."""
ACTIVE_DB = -20.0
"""The speaker counts as speaking above this, relative to the 95th percentile of 100 ms."""


def calibrate(extractor: Extractor, params: Params) -> dict[str, float | int] | None:
    """The threshold of ``hifitse extract --presence``, on mixtures of validation speakers drawn as a test list of four times as many is.

    Returns:
        ``threshold_likeness``, its ``false_alarm_rate``, the ``detection_rate`` where the speaker speaks, and ``absent``, the number of
        100 ms without them. ``two_voices_db``: of 95 % of the clean enrolments the extractor takes away less, relative to them; and
        ``two_voices_rate``, the share of enrolments of two people at once from which it takes more. ``None`` where the list has no
        mixture without the speaker, or the extractor no verifier.
    """
    absent, speaking, alone, both = [], [], [], []
    conditions = evaluation_conditions(params.model_copy(update={"eval_mixtures": 4 * params.eval_mixtures}))["test"]
    if extractor.verifier is None or not any(each.absent for each in conditions):
        return None
    mixer = Mixer(params, "valid")
    for index, each in enumerate(conditions):
        found = absent if each.absent else speaking
        if len(found) == MIXTURES:
            continue
        mixture = mixer.mixture(params.eval_seed, index, each, wrong_enroll=True)
        if not mixture.metadata["noisy_enroll"] and mixture.wrong_enroll is not None:
            alone.append(taken_db(extractor, mixture.enroll[0]))
            both.append(taken_db(extractor, mixture.enroll[0] + mixture.wrong_enroll[0]))
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
    limit = round(float(np.quantile(alone, 1 - FALSE_ALARM_RATE)), 1) if alone else None
    two = {"two_voices_db": limit, "two_voices_rate": round(float(np.mean(np.array(both) > limit)), 3)} if alone else {}
    return {"threshold_likeness": threshold, **rates, "absent": len(alike), **two}
