"""Test summaries, comparisons and contrasts on rows whose answer is known."""

import json
import math
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from arms import SMOKE, made_up_rows

from hifitse import HifitseError
from hifitse.evaluation import experiment
from hifitse.evaluation.experiment import run_arm
from hifitse.evaluation.rows import METRICS, compare, contrast, difference, mean, summarise, verdict
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report import show


def make_rows(gain: float = 0.0, noise: float = 0.3, seed: int = 0, mixtures: int = 100) -> list[dict]:
    """Return a test list of the same difficulty for all arms; every fifth mixture has no target."""
    difficulty = np.random.default_rng(99).normal(4, 4, mixtures)
    values = difficulty + np.random.default_rng(seed).normal(gain, noise, mixtures)
    rows = zip(made_up_rows(count=mixtures), values.tolist(), strict=True)
    return [row | ({"si_sdri_db": value, "pesq": None} if row["present"] else {}) for row, value in rows]


def test_summary_has_every_metric_of_its_own_mixtures():
    rows = make_rows()
    summary = summarise(rows)
    assert list(summary) == list(METRICS)
    assert summary["si_sdri_db"]["n"] == 80 and summary["absent_level_db"]["n"] == 20
    assert summary["si_sdri_db"]["mean"] == pytest.approx(np.mean([row["si_sdri_db"] for row in rows if row["present"]]))
    assert summary["si_sdri_db"]["low"] < summary["si_sdri_db"]["mean"] < summary["si_sdri_db"]["high"]
    assert summary["confusion_rate"]["mean"] == pytest.approx(np.mean([row["confused"] for row in rows if row["present"]]))
    assert summary["pesq"] == {"mean": None, "low": None, "high": None, "n": 0}  # a metric without values is reported, not left out
    json.dumps(summary, allow_nan=False)


def test_a_small_gain_is_found_when_paired_though_mixtures_differ_much():
    baseline, better = make_rows(seed=1), make_rows(gain=0.3, seed=2)
    found = compare("better", better, baseline, "si_sdri_db", (0.2, 0.5))
    assert found["verdict"] == "helped" and found["difference"] == pytest.approx(0.3, abs=0.12)
    assert found["n"] == 80 and found["expected"] == [0.2, 0.5] and found["baseline"] == "baseline" and found["arm"] == "better"
    assert summarise(better)["si_sdri_db"]["low"] < summarise(baseline)["si_sdri_db"]["high"]  # unpaired, the gain would not show
    assert compare("worse", baseline, better, "si_sdri_db")["verdict"] == "hurt"
    assert compare("same", make_rows(seed=1), baseline, "si_sdri_db")["verdict"] == "neutral"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("metric", METRICS)
def test_verdict_follows_the_direction_of_the_metric(metric):
    more, less, unclear = Interval(1.0, 0.5, 1.5, 9), Interval(-1.0, -1.5, -0.5, 9), Interval(1.0, -0.5, 2.5, 9)
    expected = {1: ("helped", "hurt"), -1: ("hurt", "helped"), 0: ("neutral", "neutral")}[METRICS[metric].direction]
    assert (verdict(more, metric), verdict(less, metric)) == expected
    assert verdict(unclear, metric) == "neutral"
    assert verdict(Interval(5.0, math.nan, math.nan, 1), metric) == "neutral"


def test_one_lucky_seed_among_three_is_not_a_gain():
    baseline = [row | {"seed": seed} for seed in range(3) for row in make_rows(seed=seed)]
    lucky = [row | {"seed": seed} for seed, gain in enumerate((1.5, 0.0, 0.0)) for row in make_rows(gain=gain, seed=10 + seed)]
    assert compare("lucky", [row for row in lucky if row["seed"] == 0], baseline)["verdict"] == "helped"
    found = compare("lucky", lucky, baseline)
    assert found["verdict"] == "neutral" and found["difference"] == pytest.approx(0.5, abs=0.15) and found["n"] == 80


def test_arms_on_different_mixtures_are_not_compared():
    with pytest.raises(HifitseError, match="100 and 50 mixtures of the list 'test'"):
        compare("arm", make_rows(), make_rows(mixtures=50))
    moved = [row | {"si_sdr_mix_db": row["si_sdr_mix_db"] and row["si_sdr_mix_db"] + 1} for row in make_rows()]
    with pytest.raises(HifitseError, match="evaluate with the baseline's parameters"):
        compare("arm", moved, make_rows())
    with pytest.raises(HifitseError, match="metric is 'sdr', expected one of si_sdr_db"):
        compare("arm", make_rows(), make_rows(), "sdr")


def test_a_contrast_is_what_is_left_beyond_the_sum_of_the_gains():
    """Exact for each mixture: gains of 1 and 2 dB that give 5 dB together leave 2 dB; the difficulty of the mixtures cancels."""
    base, one, two, both = (make_rows(gain, noise=0.0) for gain in (0.0, 1.0, 2.0, 5.0))
    found = contrast([(1, both), (-1, one), (-1, two), (1, base)])
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0)) and found.n == 80
    assert contrast([(1, one), (1, two), (-2, base)]).mean == pytest.approx(3.0)
    assert difference(both, base).mean == pytest.approx(5.0) and mean(both).mean - mean(base).mean == pytest.approx(5.0)
    arms = [(1, make_rows(5.0, 1.0, 1)), (-1, make_rows(1.0, 1.0, 2)), (-1, make_rows(2.0, 1.0, 3)), (1, make_rows(0.0, 1.0, 4))]
    noisy = contrast(arms)
    assert noisy.low < 2.0 < noisy.high and noisy.high - noisy.low > 0.5


def test_a_model_of_ones_own_takes_the_place_of_a_training():
    tests = SMOKE.model_copy(update={"eval_partial": 0, "eval_long": 0, "eval_pesq": False})
    mine = run_arm("mine", lambda mix, enroll: mix, evaluation=tests, progress=False)
    assert mine.rows["si_sdri_db"].dropna().abs().max() < 1e-4 and len(mine.rows) == tests.eval_mixtures
    assert "0.00 million parameters" in show.scale(mine) and difference(mine.rows, mine.rows).mean == 0
    with pytest.raises(HifitseError, match="evaluation is None"):
        run_arm("mine", lambda mix, enroll: mix)


def test_an_arm_is_trained_and_evaluated_once_a_seed(monkeypatch):
    def trained(params, *_):
        return SimpleNamespace(params=params, folder=f"runs/{params.run_id}", extractor=torch.nn.Identity)

    monkeypatch.setattr(experiment, "train", train := mock.Mock(side_effect=trained))
    monkeypatch.setattr(experiment, "evaluate", evaluate := mock.Mock(return_value=[{"list": "test", "index": 0}]))
    baseline = Params(device="cpu")
    variant = baseline.model_copy(update={"snr_min_db": [5.0]})
    arm = run_arm("variant", variant, evaluation=baseline, seeds=(3, 4), progress=False)
    assert [call.args[0].seed for call in train.call_args_list] == [3, 4] == list(arm.rows["seed"])
    assert arm.params.seed == 3 and arm.run.params.seed == 3 and arm.name == "variant"
    mixtures, folders = zip(*(call.args[1:3] for call in evaluate.call_args_list), strict=True)
    assert mixtures == (baseline, baseline) and len(set(folders)) == 2
    one = run_arm("one", baseline)
    assert list(one.rows["seed"]) == [baseline.seed]
    assert arm.evaluation == one.evaluation == baseline != arm.params
