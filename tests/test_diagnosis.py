"""Test the faults of the plan's baseline as arms and how they are shown, on made-up rows with known differences."""

import html
from dataclasses import replace

import numpy as np
import pytest
from arms import made_up_arm, made_up_rows

from hifitse.evaluation.comparison import Comparison, vary
from hifitse.metrics import unpaired
from hifitse.params import NOT_TRAINING, Params, resolve
from hifitse.studies import diagnosis
from hifitse.studies.diagnosis import CONTROL, FAULTS, RIGHT_TEST, TOGETHER

DEMO = resolve("demo", arms=True)


def test_each_fault_is_an_arm_of_its_own_and_one_has_them_all():
    arms = diagnosis.arms(DEMO)
    assert list(arms) == [*(fault.name for fault in FAULTS[:-1]), CONTROL, "beta 0.8", TOGETHER] and len(arms) <= 8
    runs = {Params(**(DEMO.model_dump() | changes)).run_id for changes in arms.values()} | {DEMO.run_id}
    assert len(runs) == 9
    assert all(arms[TOGETHER].items() >= changes.items() for changes in arms.values())
    assert set(arms["beta 0.8"].items()) - set(arms[CONTROL].items()) == {("adam_beta1", 0.8)}
    assert not {name for changes in arms.values() for name in changes} & NOT_TRAINING


@pytest.mark.parametrize("preset", ["people", "gpu", "demo"])
def test_a_preset_takes_the_faults_also_one_with_a_verifier(preset):
    params = resolve(preset)
    assert TOGETHER in {name for name, changes in diagnosis.arms(params).items() if vary(params, changes)}


def test_a_fault_that_the_preset_has_itself_is_no_arm():
    full = diagnosis.arms(resolve("full"))
    assert not {"attention band by band", "enrolment only band by band", CONTROL} & set(full)
    assert full["beta 0.8"] == {"adam_beta1": 0.8} and "lr" not in full[TOGETHER]


@pytest.fixture
def compared():
    base = made_up_arm([each | {"split": "test"} for each in made_up_rows(4.0, -2.0)])

    def worse(name, cost):
        keys = ["si_sdri_db", "si_sdr_db"]
        return replace(base, name=name, rows=base.rows.assign(**{key: base.rows[key] - cost for key in keys}))

    costs = {fault.name: 0.1 * number for number, fault in enumerate(FAULTS) if fault.name != "beta 0.8"}
    costs |= {CONTROL: 1.0, "beta 0.8": 1.25, TOGETHER: 3.0}
    return Comparison(base, {name: worse(name, cost) for name, cost in costs.items()})


def test_unpaired_is_the_difference_of_the_means_and_as_wide_as_two_independent_samples():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 1, 400), rng.normal(1, 2, 900)
    value = unpaired(a, b)
    error = np.sqrt(a.var(ddof=1) / 400 + b.var(ddof=1) / 900)  # Welch's standard error
    assert value.mean == pytest.approx(a.mean() - b.mean()) and value.n == 400
    assert [value.low, value.high] == pytest.approx([value.mean - 1.96 * error, value.mean + 1.96 * error], abs=0.25 * error)
    assert unpaired(np.append(a, np.nan), b).mean == pytest.approx(value.mean)
    assert np.isnan(unpaired([1.0], b).low) and unpaired([], b).n == 0


def test_the_table_has_each_fault_with_its_cost_and_the_decay_against_adamw(compared):
    shown = diagnosis.faults(compared).data
    assert all(word in html.unescape(shown) for fault in FAULTS for word in (fault.name, fault.was, fault.here))
    assert "−0.40 (−0.40 to −0.40)" in shown and "−0.25 (−0.25 to −0.25)" in shown, "1.25 less the 1.00 of the control"
    less = replace(compared, arms={name: arm for name, arm in compared.arms.items() if name not in (CONTROL, FAULTS[3].name)})
    shown = diagnosis.faults(less).data
    assert "−1.25 (−1.25 to −1.25)" in shown and "the preset has this fault itself" in shown


def test_ways_of_testing_are_not_paired_where_the_voices_differ(compared):
    base = compared.baseline.rows.to_dict("records")
    better = [{"si_sdri_db": each["si_sdri_db"] + 1} if each["present"] else {} for each in base]
    trained = [each | {"split": "train"} | more for each, more in zip(base[::-1], better[::-1], strict=True)]
    both = {"baseline": base, TOGETHER: compared.arms[TOGETHER].rows}
    shown = diagnosis.protocol_table({RIGHT_TEST: both, "training speakers": both | {"baseline": trained}}).data
    assert "+1.00 (+0.5" in shown or "+1.00 (+0.6" in shown, "a paired difference would be exactly 1"


def test_claims_against_the_control_say_so(compared):
    claims = diagnosis.against_control(compared, ("si_sdri_db",))
    assert [each["arm"] for each in claims] == ["beta 0.8", TOGETHER]
    assert {(each["baseline"], each["verdict"]) for each in claims} == {(CONTROL, "hurt")}
    assert claims[0]["difference"] == pytest.approx(-0.25)
    none = replace(compared, arms={name: arm for name, arm in compared.arms.items() if name != CONTROL})
    assert diagnosis.against_control(none, ("si_sdri_db",)) == []
