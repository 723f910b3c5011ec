"""Test fine-tuning: which run it starts from, what it changes, which weights are kept, and what the report says about it.

Test the faults of the plan's baseline as arms and how they are shown, on made-up rows with known differences.
"""

import html
from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import made_up_arm, made_up_rows

from hifitse.data.scene import training_conditions
from hifitse.evaluation.comparison import Comparison, vary
from hifitse.evaluation.experiment import Arm, OwnModel, fidelity
from hifitse.metrics import unpaired
from hifitse.params import NOT_TRAINING, Params, resolve
from hifitse.studies import diagnosis, gan_finetune
from hifitse.studies.diagnosis import CONTROL, FAULTS, RIGHT_TEST, TOGETHER

FULL, DEMO = Params(), resolve("demo", arms=True)


def test_at_full_size_it_is_the_plans() -> None:
    changed = vary(FULL, gan_finetune.changes(FULL, "hifigan"))
    assert changed.lr == changed.lr_min == pytest.approx(1e-5) and changed.disc_lr == pytest.approx(8e-5)
    assert (changed.disc_channels, changed.gan_seconds, changed.freeze_norms, changed.steps) == (32, 0.5, True, 450_000)
    assert changed.start_from == FULL.run_id and gan_finetune.before(changed).gan == "none"


def test_it_goes_on_with_the_last_phase_from_its_first_mixture_on() -> None:
    changed = vary(FULL, gan_finetune.changes(FULL))
    last = training_conditions(FULL, FULL.steps * 2)
    for index in (0, changed.steps):
        now = training_conditions(changed, index)
        assert replace(now, phase=0) == replace(last, phase=0)


def test_the_control_lets_the_extractor_learn_for_as_many_steps() -> None:
    longer, gan = (vary(DEMO, gan_finetune.changes(DEMO, kind)) for kind in ("none", "stft"))
    learning = [step for step in range(gan.steps) if gan_finetune.held_steps(gan) <= step]
    assert longer.steps == len(learning) < gan.steps
    same = set(longer.changed()) ^ set(gan.changed())
    assert same == {"gan", "disc_lr", "disc_channels", "gan_seconds"}


def compared(**arms: Arm) -> Comparison:
    return Comparison(made_up_arm(collapsed=""), {name: replace(arm, name=name) for name, arm in arms.items()})


def spectra(gain: float, distance: float, count: int = 40) -> list[dict]:
    keys = {"list": "test", "seed": 0, "present": True, "si_sdr_mix_db": 0.0}
    return [keys | {"index": i, "si_sdri_db": gain, "lsd_high_db": distance} for i in range(count)]


@pytest.mark.parametrize(("gain", "distance", "collapsed", "kept", "words"), [
    (0.0, -0.2, "", True, "not more than 0.1 dB lower"),
    (-0.09, -0.2, "", True, "nearer"),
    (-0.11, -2.0, "", False, "more than 0.1 dB lower"),
    (1.0, 0.0, "", False, "no nearer"),
    (1.0, -2.0, "the adversarial training collapsed at step 9", False, "collapsed at step 9"),
])  # fmt: skip
def test_the_rule_that_keeps_or_drops_fine_tuned_weights(gain, distance, collapsed, kept, words) -> None:
    comparison = compared(tuned=made_up_arm(collapsed=collapsed))
    found = gan_finetune.choose(comparison, {"baseline": spectra(4.0, 10.0), "tuned": spectra(4.0 + gain, 10.0 + distance)})["tuned"]
    assert found["tuned"] is kept and words in found["why"]
    assert (found["si_sdri_db"].mean, found["lsd_high_db"].mean) == pytest.approx((gain, distance))
    assert words in gan_finetune.choices({"tuned": found}).data


def test_what_is_lost_above_8_khz_shows_above_and_not_below() -> None:
    smoke = resolve("smoke", device="cpu", eval_absent_share=0.5)

    def halved(mix: torch.Tensor, enroll: torch.Tensor) -> torch.Tensor:
        above = torch.fft.rfftfreq(mix.shape[-1], 1 / 48_000) > 8000
        return torch.fft.irfft(torch.fft.rfft(mix) * torch.where(above, 0.5, 1.0), mix.shape[-1])

    models = {"whole": lambda mix, enroll: mix, "halved": halved}
    arms = {name: replace(made_up_arm(params=smoke), run=OwnModel(model, smoke)) for name, model in models.items()}
    found = fidelity(arms, smoke, "valid", progress=False)
    assert 0 < len(found["whole"]) < smoke.eval_mixtures and [r["index"] for r in found["whole"]] == [r["index"] for r in found["halved"]]
    for whole, halved in zip(found["whole"], found["halved"], strict=True):
        assert whole["si_sdri_db"] == pytest.approx(0, abs=1e-3)
        assert halved["lsd_low_db"] == pytest.approx(whole["lsd_low_db"], abs=0.1)
        assert abs(halved["lsd_high_db"] - whole["lsd_high_db"]) > 0.5


def test_the_answer_names_the_arm_that_was_stopped() -> None:
    longer, tuned = made_up_arm(made_up_rows(5.0), collapsed=""), made_up_arm(made_up_rows(4.0), collapsed="it collapsed at step 9")
    other = replace(longer, others=(made_up_arm(collapsed="it collapsed at step 7").run,))
    shown = gan_finetune.answer(compared(longer=other, STFT=tuned), "longer").data
    assert all(f"{words}." in shown for words in ("STFT was stopped: it collapsed at step 9", "longer was stopped: it collapsed at step 7"))
    assert "STFT minus longer" in shown and "−1.00 dB" in shown
    assert 'class="verdict bad"' in shown and "STFT: worse than the same further steps" in shown, "more steps are not the discriminators"


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
def faulty():
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


def test_the_table_has_each_fault_with_its_cost_and_the_decay_against_adamw(faulty):
    shown = diagnosis.faults(faulty).data
    assert all(word in html.unescape(shown) for fault in FAULTS for word in (fault.name, fault.was, fault.here))
    assert "−0.40 (−0.40 to −0.40)" in shown and "−0.25 (−0.25 to −0.25)" in shown, "1.25 less the 1.00 of the control"
    less = replace(faulty, arms={name: arm for name, arm in faulty.arms.items() if name not in (CONTROL, FAULTS[3].name)})
    shown = diagnosis.faults(less).data
    assert "−1.25 (−1.25 to −1.25)" in shown and "the preset has this fault itself" in shown


def test_ways_of_testing_are_not_paired_where_the_voices_differ(faulty):
    base = faulty.baseline.rows.to_dict("records")
    better = [{"si_sdri_db": each["si_sdri_db"] + 1} if each["present"] else {} for each in base]
    trained = [each | {"split": "train"} | more for each, more in zip(base[::-1], better[::-1], strict=True)]
    both = {"baseline": base, TOGETHER: faulty.arms[TOGETHER].rows}
    shown = diagnosis.protocol_table({RIGHT_TEST: both, "training speakers": both | {"baseline": trained}}).data
    assert "+1.00 (+0.5" in shown or "+1.00 (+0.6" in shown, "a paired difference would be exactly 1"


def test_claims_against_the_control_say_so(faulty):
    claims = faulty.against(CONTROL, ["beta 0.8", TOGETHER], ("si_sdri_db",))
    assert [each["arm"] for each in claims] == ["beta 0.8", TOGETHER]
    assert {(each["baseline"], each["verdict"]) for each in claims} == {(CONTROL, "hurt")}
    assert claims[0]["difference"] == pytest.approx(-0.25)
    none = replace(faulty, arms={name: arm for name, arm in faulty.arms.items() if name != CONTROL})
    assert none.against(CONTROL, [TOGETHER], ("si_sdri_db",)) == []
