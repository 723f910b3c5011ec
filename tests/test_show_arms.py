"""Test what a comparison's report says, on rows whose answer is known."""

import re
from dataclasses import replace

import numpy as np
import pytest
from arms import SMOKE, made_up_arm, made_up_rows

from hifitse import HifitseError
from hifitse.evaluation.comparison import Comparison, vary
from hifitse.evaluation.cost import Cost
from hifitse.evaluation.experiment import Arm, OwnModel
from hifitse.metrics import Interval
from hifitse.report import report, show_arms
from hifitse.studies import levers


def variant(name: str, gain: float, changes: dict, seed: int = 0, count: int = 100, **run) -> Arm:
    made = made_up_arm(made_up_rows(gain, seed=seed, count=count), vary(SMOKE, changes), **run)
    return Arm(name, made.params, made.run, made.rows, SMOKE)


@pytest.fixture
def compared() -> Comparison:
    base = made_up_arm(made_up_rows(4.0, count=100))
    arms = [variant("larger", 6.0, {"features": 32}), variant("<b>same", 4.0, {"lr": 2e-3})]
    arms += [variant("worse", 2.5, {"seconds": 2.0})]
    return Comparison(base, {arm.name: arm for arm in arms}, {"larger": (0.5, 1.5), "worse": (1.0, 1.0)})


def text(html) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html.data, flags=re.DOTALL))


BETTER, WORSE, FEW = Interval(1.0, 0.5, 1.5, 80), Interval(-1.0, -1.5, -0.5, 80), Interval(3.0, 2.0, 4.0, 12)


@pytest.mark.parametrize(("means", "mark", "words"), [
    ({"x": BETTER}, "good", "X: better than the baseline."),
    ({"x": Interval(0.3, -0.1, 0.7, 80)}, "weak", "X: no measurable difference from the baseline."),
    ({"x": WORSE}, "bad", "X: worse than the baseline."),
    ({"x": WORSE, "y": BETTER, "z": BETTER}, "good", "Y, z: better than the baseline. X: worse"),
    ({"x": FEW, "y": BETTER}, "weak", "Too few mixtures (12)"),
])  # fmt: skip
def test_headline_goes_by_the_intervals(means, mark, words):
    found = show_arms.headline(means)
    assert found[0] == mark and found[1].startswith(words)


def test_the_answer_names_gain_expectation_data_and_luck(compared):
    said = text(show_arms.answer(compared))
    assert "Larger: better than the baseline. Worse: worse than the baseline. &lt;b&gt;same: no measurable" in said
    assert "+2.00 dB" in said and "the plan expects +0.5 to +1.5" in said and "the plan expects about +1.0" in said and "−1.50 dB" in said
    assert "80 test mixtures of unseen synthetic voices" in said and "do not cover seed-to-seed variance" in said
    assert "one in twenty" in said and "trained for 4 steps" in said
    assert "<b>same" not in show_arms.answer(compared).data


def test_the_tables_have_every_arm_and_every_change(compared):
    declared = text(show_arms.declared(compared))
    assert "larger features 16 32" in declared and "worse seconds 1.0 2.0" in declared and "lr 0.001 0.002" in declared
    results = text(show_arms.results(compared))
    assert "larger" in results and "0.5 to +1.5" in results and "about +1.0" in results
    assert results.count("helped") == results.count("hurt") == results.count("neutral") == 1
    assert show_arms.judged(FEW) == "too few"


def test_groups_compare_within_a_condition(compared):
    rows = {name: arm.rows for name, arm in compared.all.items()}
    quiet = {name: mine[mine["list"] == "test"] for name, mine in rows.items()}
    said = text(show_arms.grouped_table({"clean": quiet, "noisy": quiet}, "baseline"))
    assert said.count("helped") == 2 and said.count("clean") == len(rows) and "baseline" in said
    picture = show_arms.grouped({"clean": quiet}, xlabel="enrolment")
    assert "clean" in picture.alt and picture.data.startswith(b"\x89PNG")
    mixed = made_up_rows(count=5) + [{**row, "list": "long"} for row in made_up_rows(count=5)]
    with pytest.raises(HifitseError, match=r"\['long', 'test'\], expected those of one list"):
        show_arms.grouped({"clean": {"larger": mixed}})


@pytest.mark.parametrize(("gain", "mark", "words"), [(9.0, "good", "more than"), (7.0, "weak", "as far as"), (5.0, "bad", "less than")])
def test_adding_up(gain, mark, words):
    """Gains of 1 and 2 dB alone, and of 5, 3 or 1 dB together."""
    base = made_up_arm(made_up_rows(4.0, count=200))
    arms = {}
    for number, (name, mean) in enumerate({"one": 5.0, "two": 6.0, "both": gain}.items()):
        arms[name] = variant(name, mean, {"lr": 1e-3 * (number + 2)}, number * (gain == 7.0), count=200)
        arms[name].rows["si_sdr_mix_db"] = base.rows["si_sdr_mix_db"]  # the same mixtures
    found = show_arms.adding_up(Comparison(base, arms), "both")
    assert f'class="verdict {mark}"' in found.data and words in text(found)
    assert "sum of the separate gains" in text(found) and "160 test mixtures" in text(found)


def test_costs_stand_beside_the_decibels(compared):
    costs = {}
    for n, name in enumerate(compared.all, 1):
        costs[name] = Cost(10**6 * n, 1.5 * n, 60.0, 0.25, Interval(n, n - 0.1, n + 0.1, 5))
    said = text(show_arms.cost_table(compared, costs))
    assert "larger 2.00 3.00 60 2 2.00 (1.90 to 2.10) 0.250 +5.9" in said
    assert "larger 3.00 GFLOP" in show_arms.against_cost(compared, costs).alt
    own = replace(compared.arms["larger"], run=OwnModel(lambda mix, enroll: mix, SMOKE))
    mine = replace(compared, arms={"larger": own})
    assert "larger – – – – – – +5.9" in text(show_arms.cost_table(mine, costs)), "not the costs of the baseline's parameters"
    assert "larger" not in show_arms.against_cost(mine, costs).alt
    assert "gflops_per_second" not in report.metrics("02_capacity", SMOKE, mine.all.values(), costs=costs)["arms"]["larger"]


def test_learning_curves_and_schedules_name_their_arms(compared):
    validation = [{"step": 1, "si_sdri_db": 0.5}, {"step": 4, "si_sdri_db": 1.0}]
    arms = {"harder": variant("harder", 4.0, {"phase_starts": [0.0, 0.5, 0.75], "absent_prob": [0.0, 0.2, 0.3],
            "noisy_enroll_prob": [0.0, 0.5, 0.5]}, validation=validation)}  # fmt: skip
    drawn = Comparison(made_up_arm(validation=validation), arms)
    assert "baseline, harder" in show_arms.learning(drawn).alt
    assert "phases from 0 %, 50 %, 75 %" in levers.schedule(arms["harder"], drawn.baseline)[1].alt
    assert "No arm was validated" in show_arms.growth(drawn).data


def test_the_gain_by_items_heard_is_paired_at_shares_of_the_training_and_other_mixtures_are_left_out():
    gains, params = np.random.default_rng(0).normal(3.0, 2.0, 40), SMOKE.model_copy(update={"steps": 80})

    def rows(gain: float, mix_db: float = 1.0) -> list[dict]:
        every = {"si_sdri_db": 3.0, "mix_db": mix_db}
        return [every | {"step": step, "gains_db": [*(gains + gain * step / 80), None]} for step in (10, 20, 41, 80)]

    arms = {name: Arm(name, params, made_up_arm(validation=found).run, [], params) for name, found in
            {"fades": rows(-0.8), "grows": rows(0.8), "elsewhere": rows(9.0, 2.0), "tuned": rows(1.0)}.items()}  # fmt: skip
    arms["tuned"] = replace(arms["tuned"], params=params.model_copy(update={"start_from": "0123456789abcdef"}))
    base = Arm("baseline", params, made_up_arm(validation=rows(0.0)).run, [], params)
    shown = show_arms.growth(Comparison(base, arms))
    assert shown.alt.endswith("heard: fades −0.10, −0.20, −0.41, −0.80 dB; grows +0.10, +0.20, +0.41, +0.80 dB")


def test_seeds_their_range_and_the_rule_stand_in_the_tables(compared):
    seeds = [make_up for seed in (0, 1, 2) for make_up in ({**row, "seed": seed} for row in made_up_rows(4.0 + 0.25 * seed, count=100))]
    several = {name: replace(arm, rows=seeds, others=(arm.run,) * 2, evaluation=arm.evaluation.model_copy(update={"arm_seeds_within": 0.3}))
               for name, arm in compared.all.items() if name != "worse"}  # fmt: skip
    found = Comparison(several.pop("baseline"), several | {"worse": compared.arms["worse"]})
    own = replace(several["larger"], run=OwnModel(lambda mix, enroll: mix, SMOKE), others=())
    assert show_arms.trainings(Comparison(found.baseline, {"own": own})) == "Each arm was trained 3 times."
    said = text(show_arms.answer(found))
    assert "Each arm was trained 3 times, or only once if the interval of its first training lay entirely below −0.3 dB." in said
    assert "trainings range of means, dB" in text(show_arms.results(found)) and " 3 0.50 " in text(show_arms.results(found))
