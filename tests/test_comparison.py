"""Test variants as declared changes: what they are, what is refused, and that every notebook changes what it declares and nothing else."""

import pytest
from arms import SMOKE, made_up_rows
from made_up import content, row, write
from sounds import speech_folder

from hifitse import HifitseError
from hifitse.data.lists import drawn, write_scenes
from hifitse.data.scene import evaluation_conditions, training_conditions
from hifitse.evaluation import comparison
from hifitse.evaluation.comparison import UNSEEN, equal_seconds, run_all, vary, with_phase
from hifitse.evaluation.experiment import Arm, declared_diff
from hifitse.evaluation.rows import of_list
from hifitse.params import ParameterError, Params, resolve
from hifitse.report import show_arms
from hifitse.studies import gan_finetune
from hifitse.studies.levers import declared
from hifitse.training.run import Run

CURRICULUM = {"phase_starts", "absent_prob", "noisy_enroll_prob", "interferers_min", "interferers_max", "similarity"}
CURRICULUM |= {"snr_min_db", "snr_max_db"}
AUGMENTATION = {"specaug", "specaug_masks", "enroll_augment_prob", "enrollments", "enrollments_min", "pitch_prob"}
SEGMENTS = {"seconds", "batch_size", "accumulation", "steps", "warmup_steps"}
SHAPE = {"lstm_hidden", "blocks", "bands_fine", "bands_medium", "bands_coarse", "hop_length", "win_length", "n_fft", "features"}
ALLOWED = {"02": SHAPE, "03": SEGMENTS, "04": AUGMENTATION, "05": CURRICULUM, "09": SHAPE | SEGMENTS | AUGMENTATION | CURRICULUM}


@pytest.fixture
def fake(monkeypatch):
    """Replace ``run_arm`` by one that does not train; the list records its arguments."""
    called = []

    def run_arm(name, params, *, evaluation, seeds, **_):
        called.append((name, params, evaluation, list(seeds)))
        gain = {"worse": 2.0, "near": 3.6}.get(name, 4.0 + len(called) - 1)
        return Arm(name, params, None, made_up_rows(gain), evaluation)

    monkeypatch.setattr(comparison, "run_arm", run_arm)
    return called


def test_all_arms_share_the_baselines_mixtures_and_seeds(fake):
    base = SMOKE.model_copy(update={"arm_seeds": 2, "seed": 5})
    changes = {"larger": {"features": 32}, "longer": {"seconds": 2.0}}
    compared = run_all(base, changes, {"larger": (0.5, 1.5)})
    assert [name for name, *_ in fake] == list(compared.all) == ["baseline", "larger", "longer"]
    assert all(evaluation == base and seeds == [5, 6] for _, _, evaluation, seeds in fake)
    skipping = run_all(base.model_copy(update={"skip_arms": ["longer"]}), changes, {"longer": (0.5, 1.5)})
    assert list(skipping.arms) == ["larger"] and not skipping.expected and "longer" in show_arms.declared(skipping).data
    assert compared.changes("larger") == {"features": (16, 32)} and compared.changes("longer") == {"seconds": (1.0, 2.0)}
    first, second = compared.results()
    assert first["difference"] == pytest.approx(1.0, abs=1e-9) and first["expected"] == [0.5, 1.5] and first["verdict"] == "helped"
    assert second["difference"] == pytest.approx(2.0, abs=1e-9) and second["expected"] is None
    assert [each["metric"] for each in compared.results(("stoi", "pesq"))] == ["stoi", "stoi", "pesq", "pesq"]


@pytest.mark.parametrize(("changes", "expected", "error", "words"), [
    ({"x": {"featurs": 32}}, {}, ParameterError, "'features'"),
    ({"x": {"features": 0}}, {}, ParameterError, "'features' is 0"),
    ({"x": {"features": 16}}, {}, HifitseError, "the baseline itself"),
    ({"x": {"eval_seed": 7}}, {}, HifitseError, "the baseline itself"),
    ({"x": {"seed": 7, "lr": 1e-4}}, {}, HifitseError, "expected no seed"),
    ({"baseline": {"features": 32}}, {}, HifitseError, "any other name"),
    ({"x": {"features": 32}}, {"y": (0, 1)}, HifitseError, "expected names y"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_trained(changes, expected, error, words, fake):
    with pytest.raises(error, match=words):
        run_all(SMOKE, {"good": {"lr": 2e-3}} | changes, expected)
    assert not fake


@pytest.mark.parametrize("preset", ["smoke", "demo", "full", "gpu"])
@pytest.mark.parametrize("factor", [1.5, 2.0])
def test_longer_segments_hear_as_much_a_step(preset, factor):
    base = resolve(preset, arms=True)
    longer = vary(base, equal_seconds(base, factor * base.seconds))
    before, after = (each.batch_size * each.accumulation * each.seconds for each in (base, longer))
    assert longer.seconds == factor * base.seconds
    assert abs(after - before) <= longer.seconds * max(1, longer.batch_size if base.accumulation > 1 else 1) / 2
    if preset == "demo":
        assert after == before
    assert (longer.accumulation == base.accumulation) == (base.accumulation == 1)
    assert longer.steps / longer.accumulation == pytest.approx(base.steps / base.accumulation, rel=1e-3), "as many updates"


def test_a_further_phase_leaves_what_was_before_it():
    base = resolve("full")
    hard = vary(base, with_phase(base, 2 / 3, snr_min_db=-10.0, snr_max_db=10.0, interferers_max=4, absent_prob=0.3))
    total = base.steps * base.batch_size
    for share in (0.0, 0.1, 0.2, 0.6):
        before, after = (training_conditions(each, int(share * total)) for each in (base, hard))
        if share < 2 / 15:
            assert before == after
        else:  # noisy enrolments become more frequent over the phase, which is shorter now
            for name in ("snr_min_db", "absent_prob", "interferers_max", "similarity"):
                assert getattr(before, name) == getattr(after, name)
    last = training_conditions(hard, int(0.7 * total))
    assert (last.phase, last.snr_min_db, last.snr_max_db, last.interferers_max, last.absent_prob) == (2, -10.0, 10.0, 4, 0.3)
    assert last.interferers_min == 1 and last.noisy_enroll_prob == base.noisy_enroll_prob[1]  # not named, so unchanged
    assert evaluation_conditions(hard)["test"][0].snr_min_db == -10.0  # hence variants are evaluated with the baseline's parameters
    with pytest.raises(HifitseError, match="sir_min_db is not a curriculum parameter, expected absent_prob"):
        with_phase(SMOKE, 0.5, sir_min_db=-10.0)


@pytest.fixture(autouse=True)
def no_reports(tmp_path, monkeypatch):
    """Hide existing reports, because notebook 09 combines what the preset's reports say."""
    monkeypatch.setenv("HIFITSE_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("HIFITSE_DATA", str(tmp_path))


def variants(stem: str, preset: str) -> tuple[Params, dict[str, Params]]:
    """Return the baseline of a notebook and its variants."""
    arms = declared(stem, resolve(preset, arms=True))
    return arms.pop("baseline"), arms


@pytest.mark.parametrize("preset", ["smoke", "demo", "full", "gpu"])
@pytest.mark.parametrize("stem", ["02_capacity", "03_long_segments", "04_augmentation", "05_curriculum", "09_combined"])
def test_a_notebook_is_its_baseline_and_a_declared_difference(stem, preset):
    base, arms = variants(stem, preset)
    assert base == resolve(preset, arms=True) and len(arms) >= 2
    for name, variant in arms.items():
        different = set(declared_diff(variant, base))
        assert different and different <= ALLOWED[stem[:2]], name


def test_the_full_arms_are_the_plans():
    base, arms = variants("02_capacity", "full")
    assert arms["A wider"] == vary(base, {"lstm_hidden": 384}) and arms["B deeper"] == vary(base, {"blocks": 8})
    assert arms["C both"] == vary(base, {"lstm_hidden": 384, "blocks": 8})
    assert [each.seconds for each in variants("03_long_segments", "full")[1].values()] == [6.0, 8.0]
    _, arms = variants("05_curriculum", "full")
    for name, most in (("1-4 interferers", 4), ("2-5 interferers", 5)):
        variant = arms[name]
        assert variant.steps * variant.phase_starts[-1] == pytest.approx(1_000_000)
        assert (variant.snr_min_db[-1], variant.snr_max_db[-1], variant.absent_prob[-1]) == (-10.0, 10.0, 0.3)
        assert (variant.interferers_min[-1], variant.interferers_max[-1]) == (most - 3, most)


def test_all_together_has_the_changes_of_its_parts():
    base, arms = variants("09_combined", "demo")
    together = {name: value for each in list(arms.values())[:-1] for name, (_, value) in declared_diff(each, base).items()}
    assert declared_diff(arms["all together"], base) == declared_diff(vary(base, together), base)


def test_what_helped_in_the_reports_is_put_together(tmp_path):
    helped, less, hurt = row("multi-resolution", 0.9), row("learned weights", 0.5), row("3 s", -0.5)
    write(tmp_path / "reports", "demo/06_losses", content("demo/06_losses", less, helped))
    write(tmp_path / "reports", "demo/03_long_segments", content("demo/03_long_segments", hurt))
    assert "all that helped" not in variants("09_combined", "demo")[1]
    write(tmp_path / "reports", "demo/05_curriculum", content("demo/05_curriculum", row("similar voices", 0.4)))
    base, arms = variants("09_combined", "demo")
    assert set(declared_diff(arms["06 multi-resolution"], base)) == {"loss_multires"}
    assert arms["all that helped"] == vary(arms["05 similar voices"], {"loss_multires": 0.5})


STEMS = [
    "01_gan_finetune", "02_capacity", "03_long_segments", "04_augmentation", "05_curriculum", "06_losses", "07_conditioning", "09_combined",
    "13_best",
]  # fmt: skip


@pytest.mark.parametrize("stem", STEMS)
def test_arms_on_people_begin_from_nothing_and_hear_enough(stem):
    base, arms = variants(stem, "people")
    assert {"02": 3, "03": 2, "04": 3, "05": 3, "06": 4, "07": 3}.get(stem[:2], len(arms)) == len(arms)  # the others are in skip_arms
    assert base.steps * base.batch_size >= 60_000 and base.validate_every == base.steps // 8 and base.arm_seeds == 3
    for name, each in arms.items():
        assert each.start_from == ("" if stem[:2] != "01" else Run.of(base).folder.name), name
        if stem[:2] == "01":
            assert each.steps - gan_finetune.held_steps(each) >= 3000
        elif "seconds" in (changed := declared_diff(each, base)) or "batch_size" in changed:
            assert each.steps * each.batch_size * each.seconds >= 120_000 or stem[:2] == "13"
        else:
            assert each.steps * each.batch_size >= 60_000


def test_only_arms_that_are_not_clearly_worse_get_further_seeds(fake):
    base, changes = SMOKE.model_copy(update={"arm_seeds": 3, "arm_seeds_within": 0.5}), {"good": 2e-3, "worse": 3e-3, "near": 4e-3}
    run_all(base, {name: {"lr": lr} for name, lr in changes.items()})
    called = [(name, seeds) for name, _, _, seeds in fake]
    assert called[:4] == [(name, [0]) for name in ("baseline", *changes)]
    assert called[4:] == [(name, [1, 2]) for name in ("baseline", "good", "near")]


def test_speech_that_no_training_hears_is_a_list_of_its_own(tmp_path):
    """One of the two sources is missing. The model returns the mixture, so it gains nothing."""
    told = SMOKE.model_copy(update={"eval_unseen": f"{speech_folder(tmp_path / 'voices')}, {tmp_path / 'gone'}", "eval_pesq": False})
    told = told.model_copy(update={"eval_mixtures": 8, "eval_partial": 0, "eval_long": 0, "steps": 1})
    write_scenes(tmp_path / "list.jsonl", drawn(told))
    told = told.model_copy(update={"eval_list": str(tmp_path / "list.jsonl")})
    compared = run_all(told, {"nothing": lambda mix, enroll: mix}, progress=False)
    for arm in compared.all.values():
        rows = of_list(arm.rows, UNSEEN)
        assert len(rows) == 4 and rows["present"].all() and rows["snr_db"].isna().all()
    (claim,) = [each for each in compared.results() if each.get("list") == UNSEEN]
    assert claim["arm"] == "nothing" and claim["n"] == 4
    assert UNSEEN in show_arms.results(compared).data and "difference there" in show_arms.results(compared).data
