"""Test fine-tuning: which run it starts from, what it changes, which weights are kept, and what the report says about it."""

from dataclasses import replace

import pytest
import torch
from arms import made_up_arm, made_up_rows

from hifitse.data.scene import training_conditions
from hifitse.evaluation.comparison import Comparison, vary
from hifitse.evaluation.experiment import Arm, OwnModel, fidelity
from hifitse.params import Params, resolve
from hifitse.studies import gan_finetune

FULL = Params()


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
    demo = resolve("demo", arms=True)
    longer, gan = (vary(demo, gan_finetune.changes(demo, kind)) for kind in ("none", "stft"))
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
