"""Test notebook 15: its arms, trainings of equal duration, curves on one list, what they predict, and a run as a user does it."""

import json

import numpy as np
import pytest
from arms import made_up_arm
from headless import explained

from hifitse.evaluation.comparison import Comparison, vary
from hifitse.metrics import Interval
from hifitse.params import ParameterError, resolve
from hifitse.studies import scaling
from hifitse.training import abreast
from hifitse.training.train import train

SMOKE = resolve("smoke", arms=True, device="cpu", threads=1)


@pytest.mark.parametrize("preset", ["smoke", "people", "gpu", "full"])
def test_every_arm_is_an_allowed_change_of_its_preset(preset):
    kinds = scaling.arms(resolve(preset, arms=True, arm_kinds=""))
    names = [name for mine in kinds.values() for name in mine]
    assert set(kinds) == {"size", "segment", "batch", "rate", "cues", "mixtures"} and len(names) == len(set(names)) >= 19
    base = resolve(preset, arms=True, start_from="")
    runs = {vary(base, changes).run_id for mine in kinds.values() for changes in mine.values()}
    assert len(runs) == len(names)
    if preset == "people":
        wanted = {"20 features", "44 features", "64 features", "2 blocks", "6 blocks", "hop 480, window 960", "hop 480, window 1920"}
        assert wanted < set(kinds["size"]) and list(kinds["batch"]) == ["batch 12", "batch 48"] and "no verifier" in kinds["cues"]
        assert kinds["segment"] == {"3 s": {"seconds": 3.0, "batch_size": 16}, "4 s": {"seconds": 4.0, "batch_size": 12}}


def test_kinds_can_be_chosen_and_a_wrong_one_is_refused():
    assert list(scaling.arms(resolve("people", arm_kinds="rate , size"))) == ["size", "rate"]
    with pytest.raises(ParameterError, match="holds 'sizes', expected some of size"):
        scaling.arms(resolve("people", arm_kinds="size, sizes"))


def test_steps_fill_the_time_in_whole_updates():
    params = resolve("smoke", accumulation=4, warmup_steps=50)
    assert abreast.fill(params, 100.0, 0.3) == {"steps": 332, "warmup_steps": 33}
    assert abreast.fill(params, 0.1, 1.0) == {"steps": 4, "warmup_steps": 0}, "at least one update"


@pytest.mark.parametrize("together", [1, 2])
def test_paces_are_measured_once_leave_nothing_and_grow_with_the_batch(together, runs, monkeypatch):
    monkeypatch.setattr(abreast, "PROBE", 4)
    params = SMOKE.model_copy(update={"arms_together": together, "arm_minutes": 0.1})
    trainings = {"baseline": params, "large": params.model_copy(update={"batch_size": 16, "seconds": 3.0})}
    found = scaling.paces(trainings, params)
    assert 0 < found["baseline"] < found["large"] and [path.name for path in runs.iterdir()] == ["scaling"]
    monkeypatch.setattr(abreast, "paces", None)
    assert scaling.paces(trainings, params) == found
    with pytest.raises(TypeError):
        scaling.paces({"other": params.model_copy(update={"lr": 1e-4})}, params)


def test_no_test_speaker_is_heard_and_the_verdict_counts_the_arms(monkeypatch):
    monkeypatch.setattr(scaling, "run_all", lambda params, *_, **__: params)
    monkeypatch.setattr(scaling, "paces", lambda trainings, _: dict.fromkeys(trainings, 1.0))
    assert scaling.train_all(resolve("people", arms=True)).eval_unseen == ""
    arms = {name: made_up_arm(seconds=60.0) for name in ("baseline", "a", "b")}
    guesses = {name: dict.fromkeys(scaling.HOURS) for name in arms}
    assert "The 2 best of 2 arms:" in scaling.answer(Comparison(arms.pop("baseline"), arms), guesses).data


def test_a_curve_begins_after_the_warm_up_and_ends_with_the_time(runs):
    run = train(SMOKE.model_copy(update={"steps": 6, "validate_every": 2, "warmup_steps": 3}), progress=False, judge=SMOKE)
    hours, values = scaling.curve(run)
    assert len(hours) == 2 and hours[-1] * 60 == pytest.approx(SMOKE.arm_minutes) and values[-1] == run.validation[-1]["si_sdri_db"]


def test_a_power_law_is_found_and_what_points_do_not_determine_is_not_said():
    rng, hours = np.random.default_rng(0), np.linspace(1 / 16, 1, 16)
    law, log = (lambda t: 9 - 3 * t**-0.4), (lambda t: 5 + 1.1 * np.log(t))
    for truth in (law, log):
        exact = scaling.predicted(hours, truth(hours))
        assert {t: exact[t].mean for t in scaling.HOURS} == pytest.approx({t: truth(t) for t in scaling.HOURS}, abs=0.02)
        many = [scaling.predicted(hours, truth(hours) + 0.01 * rng.standard_normal(16), (3.0,))[3.0] for _ in range(200)]
        assert 0.85 < np.mean([each.low <= truth(3.0) <= each.high for each in many]) <= 1
    rough = scaling.predicted(hours, law(hours) + 0.3 * rng.standard_normal(16))
    assert rough[1.0] and rough[10.0] is None
    assert set(scaling.predicted(hours, 0.1 * rng.standard_normal(16)).values()) == {None}, "nothing is learned"
    assert scaling.predicted(hours / 10, law(hours))[10.0] is None, "a hundred times as long"
    assert set(scaling.predicted(hours[:5], law(hours[:5])).values()) == {None}, "too few points"


def test_leaders_are_the_best_and_what_is_not_told_from_it():
    found = {"a": {1.0: Interval(5.0, 4.9, 5.1, 16)}, "b": {1.0: Interval(5.1, 5.0, 5.2, 16)}, "c": {1.0: Interval(4.0, 3.9, 4.1, 16)}}
    assert scaling.leaders(found | {"d": {1.0: None}}, 1.0) == ["b", "a"] and scaling.leaders({"d": {1.0: None}}, 1.0) == []


def test_notebook_15_runs_as_typed(tmp_path):
    found, text = explained(tmp_path, "15_scaling")
    assert list(found["arms"])[:5] == ["baseline", "1.5 s", "2 s", "rate / 3", "rate x 3"]
    assert {each["list"] for each in found["comparisons"]} == {"validation"}
    for each in found["scaling"].values():
        assert each["seconds"] > 0 and each["items"] and each["predicted_db"] == {"1 h": None, "3 h": None, "10 h": None}
    rows = [json.loads(line) for path in (tmp_path / "notebooks/runs").glob("*/rows-*.jsonl") for line in path.read_text().splitlines()]
    assert rows and {row["split"] for row in rows} == {"valid"}, "no test speaker is heard"
    for words in ("not determined", "no test speaker was heard", "items per second", "the clock showed"):
        assert words in text
    assert text.count("<img") == 2
