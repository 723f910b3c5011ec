import json

import numpy as np
import pytest
from sounds import folders, small

from hifitse import HifitseError
from hifitse.data.lists import from_json, to_json
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions, evaluation_conditions, training_conditions, validation_conditions

HARD = Conditions("test", 1.0, 0.0, 2, 2, -5.0, 15.0, 0.5)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return folders(tmp_path_factory.mktemp("sources"))


def test_curriculum_phases(sources):
    params = small(sources, steps=100, batch_size=2, accumulation=3, phase_starts=[0.0, 0.5], interferers_max=[1, 3])
    first, edge, quarter, last = (training_conditions(params, index) for index in (0, 100, 150, 200))
    assert (first.phase, first.absent_prob, first.noisy_enroll_prob, first.interferers_max) == (0, 0.0, 0.0, 1)
    assert training_conditions(params, 99).phase == 0
    assert (edge.phase, edge.absent_prob, edge.noisy_enroll_prob, edge.interferers_max) == (1, 0.2, 0.0, 3)
    assert quarter.noisy_enroll_prob == pytest.approx(0.25)
    assert last.noisy_enroll_prob == training_conditions(params, 10**9).noisy_enroll_prob == pytest.approx(0.5)
    mixer = Mixer(params, "train")
    assert all(mixer.mixture(0, index, first).metadata["present"] for index in range(40))
    absent = sum(not mixer.mixture(0, index, last).metadata["present"] for index in range(150))
    assert 15 <= absent <= 46  # 30 expected, standard deviation 4.9


def test_evaluation_lists(sources):
    params = small(sources, eval_mixtures=200, eval_seconds=4.0)
    lists = evaluation_conditions(params)
    absent = [index for index, each in enumerate(lists["test"]) if each.absent]
    assert (len(lists["test"]), len(absent)) == (200, 42)
    assert set(np.diff(absent)) == {4, 5}  # spread evenly
    assert all(each.absent_prob in (0, 1) and each.noisy_enroll_prob == 0.5 for each in lists["test"])
    assert {(each.seconds, each.active_from_s, each.active_to_s) for each in lists["partial"]} == {(8.0, 2.0, 5.5)}
    lengths = [each.seconds for each in lists["long"]]
    assert (lengths[0], lengths[-1], len(set(lengths))) == (5.0, 8.0, 20)
    assert len(validation_conditions(params)) == 50 and not any(each.absent_prob for each in validation_conditions(params))


@pytest.mark.parametrize("changes", [
    {"interferers_max": 9}, {"interferers_min": -1}, {"similarity": 1.1}, {"enroll_augment_prob": -0.1}, {"enroll_as": "loud"},
    {"turns": -2}, {"seconds": 0},
])  # fmt: skip
def test_impossible_conditions_of_a_list_are_named(changes, sources):
    line = json.loads(to_json(Mixer(small(sources), "train").draw(0, 0, HARD)))
    with pytest.raises(HifitseError, match=f"conditions.{next(iter(changes))}"):
        from_json(json.dumps(line | {"conditions": line["conditions"] | changes}))
