"""Test mixtures by how alike their voices are, and the share of weights that exist for the enrolment."""

from types import SimpleNamespace

import numpy as np

from hifitse.data.similarity import Voices
from hifitse.studies import conditioning

HZ = {"low": 100.0, "lower": 90.0, "high": 220.0, "middle": 160.0}


def voices() -> Voices:
    rng = np.random.default_rng(0)
    return Voices(list(HZ), np.column_stack([rng.standard_normal((4, 5)), np.log2(list(HZ.values()))]))


def row(index: int, target: str, *others: str, **more) -> dict:
    told = {"target_speaker": target, "target_speed": 1.0, "interferer_speakers": list(others), "n_interferers": len(others)}
    return {"list": "test", "index": index, "present": True} | told | more


def test_thirds_by_likeness_hold_each_mixture_with_both_once_and_the_same_for_all_arms():
    known, names = voices(), list(HZ)
    pairs = [(a, b) for a in names for b in names if a != b]
    rows = [row(i, *pair) for i, pair in enumerate(pairs)]
    left_out = [row(90, "low"), row(91, "low", "high", present=False), row(92, "low", "high", list="long")]
    arms = {name: SimpleNamespace(rows=[dict(each, arm=name) for each in rows + left_out]) for name in ("baseline", "other")}
    found = conditioning.by_likeness(arms, known)
    assert list(found) == list(conditioning.THIRDS)
    sizes = [len(condition["baseline"]) for condition in found.values()]
    assert sum(sizes) == len(rows) and min(sizes) >= 2
    alike = []
    for condition in found.values():
        assert list(condition["baseline"]["index"]) == list(condition["other"]["index"])
        alike.append([known.similarity(*pairs[index]) for index in condition["baseline"]["index"]])
    assert max(alike[0]) < min(alike[1]) and max(alike[1]) < min(alike[2])


def test_likeness_is_that_of_the_interferer_most_like_the_target():
    known = voices()
    assert conditioning.likeness(row(0, "low", "lower", "high"), known) == max(known.similarity("low", each) for each in ("lower", "high"))
