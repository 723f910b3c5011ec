"""Variants as declared changes: what they are, what is refused, and that every notebook changes what it says and nothing else."""

import ast
from pathlib import Path

import nbformat
import pytest
from arms import SMOKE, made_up_rows

from hifitse import HifitseError
from hifitse.data.conditions import evaluation_conditions, training_conditions
from hifitse.evaluation import comparison
from hifitse.evaluation.comparison import Comparison, equal_seconds, run_all, vary, with_phase
from hifitse.evaluation.experiment import Arm
from hifitse.params import ParameterError, resolve

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
CURRICULUM = {"phase_starts", "absent_prob", "noisy_enroll_prob", "interferers_min", "interferers_max", "similarity"}
CURRICULUM |= {"snr_min_db", "snr_max_db"}
AUGMENTATION = {"specaug", "enroll_augment_prob", "enrollments", "enrollments_min"}
SEGMENTS = {"seconds", "batch_size", "accumulation", "steps", "warmup_steps"}
SHAPE = {"lstm_hidden", "blocks", "bands_fine", "bands_medium", "bands_coarse", "hop_length", "win_length", "n_fft", "features"}
ALLOWED = {"02": SHAPE, "03": SEGMENTS, "04": AUGMENTATION, "05": CURRICULUM, "09": SHAPE | SEGMENTS | AUGMENTATION | CURRICULUM}


def made_up_arm(name, params, gain=4.0, evaluation=None):
    return Arm(name, params, None, made_up_rows(gain), evaluation or params)


@pytest.fixture
def fake(monkeypatch):
    """``run_arm`` without training; the list has what it was called with."""
    called = []

    def run_arm(name, params, *, evaluation, seeds, progress, others, trained):
        called.append((name, params, evaluation, list(seeds)))
        return made_up_arm(name, params, 4.0 + len(called) - 1, evaluation)

    monkeypatch.setattr(comparison, "run_arm", run_arm)
    return called


def test_all_arms_share_the_baselines_mixtures_and_seeds(fake):
    base = SMOKE.model_copy(update={"arm_seeds": 2, "seed": 5})
    compared = run_all(base, {"larger": {"features": 32}, "longer": {"seconds": 2.0}}, {"larger": (0.5, 1.5)})
    assert [name for name, *_ in fake] == list(compared.all) == ["baseline", "larger", "longer"]
    assert all(evaluation == base and seeds == [5, 6] for _, _, evaluation, seeds in fake)
    assert compared.changes("larger") == {"features": (16, 32)} and compared.changes("longer") == {"seconds": (1.0, 2.0)}
    first, second = compared.results()
    assert first["difference"] == pytest.approx(1.0, abs=1e-9) and first["expected"] == [0.5, 1.5] and first["verdict"] == "helped"
    assert second["difference"] == pytest.approx(2.0, abs=1e-9) and second["expected"] is None
    assert [each["metric"] for each in compared.results(("stoi", "pesq"))] == ["stoi", "stoi", "pesq", "pesq"]


@pytest.mark.parametrize(
    ("changes", "expected", "error", "words"),
    [
        ({"x": {"featurs": 32}}, {}, ParameterError, "'features'"),
        ({"x": {"features": 0}}, {}, ParameterError, "'features' is 0"),
        ({"x": {"features": 16}}, {}, HifitseError, "the baseline itself"),
        ({"x": {"eval_seed": 7}}, {}, HifitseError, "the baseline itself"),
        ({"baseline": {"features": 32}}, {}, HifitseError, "any other name"),
        ({"x": {"features": 32}}, {"y": (0, 1)}, HifitseError, "expected names y"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(changes, expected, error, words, fake):
    with pytest.raises(error, match=words):
        run_all(SMOKE, {"good": {"lr": 2e-3}} | changes, expected)
    assert not fake


@pytest.mark.parametrize("preset", ["smoke", "demo", "full"])
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
        else:  # noise comes into the enrolments over the phase, which is shorter now
            for name in ("snr_min_db", "absent_prob", "interferers_max", "similarity"):
                assert getattr(before, name) == getattr(after, name)
    last = training_conditions(hard, int(0.7 * total))
    assert (last.phase, last.snr_min_db, last.snr_max_db, last.interferers_max, last.absent_prob) == (2, -10.0, 10.0, 4, 0.3)
    assert last.interferers_min == 1 and last.noisy_enroll_prob == base.noisy_enroll_prob[1]  # not named: as before
    assert evaluation_conditions(hard)["test"][0].snr_min_db == -10.0  # so variants are evaluated with the baseline's parameters


def test_a_phase_of_something_else_is_refused():
    with pytest.raises(HifitseError, match="sir_min_db is no parameter of a phase, expected absent_prob"):
        with_phase(SMOKE, 0.5, sir_min_db=-10.0)


def changes_of(stem: str, preset: str, monkeypatch) -> tuple:
    """What a notebook gives to ``run_all``: its cells up to that call are run, the call itself is caught."""

    class Caught(Exception):
        pass

    def run_all(*given):
        raise Caught(given)

    monkeypatch.setattr(comparison, "run_all", run_all)
    namespace: dict = {"p": resolve(preset, arms=True)}
    notebook = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        tree = ast.parse(cell.source)
        if "from_notebook" in cell.source or cell.metadata.get("tags"):
            continue
        try:
            exec(compile(tree, stem, "exec"), namespace)
        except Caught as caught:
            return caught.args[0]
    raise AssertionError(f"{stem} never calls run_all")


@pytest.mark.parametrize("preset", ["smoke", "demo", "full"])
@pytest.mark.parametrize("stem", ["02_capacity", "03_long_segments", "04_augmentation", "05_curriculum", "09_combined"])
def test_a_notebook_is_its_baseline_and_a_declared_difference(stem, preset, monkeypatch):
    base, changes, expected = changes_of(stem, preset, monkeypatch)
    assert base == resolve(preset, arms=True) and len(changes) >= 2 and set(expected) <= set(changes)
    for name, each in changes.items():
        variant = vary(base, each)
        different = set(Comparison(made_up_arm("baseline", base), {name: made_up_arm(name, variant)}).changes(name))
        assert different and different <= ALLOWED[stem[:2]], name


def test_the_full_arms_are_the_plans(monkeypatch):
    base, changes, _ = changes_of("02_capacity", "full", monkeypatch)
    assert changes["A wider"] == {"lstm_hidden": 384} and changes["B deeper"] == {"blocks": 8}
    assert changes["C both"] == {"lstm_hidden": 384, "blocks": 8}
    _, changes, _ = changes_of("03_long_segments", "full", monkeypatch)
    assert [each["seconds"] for each in changes.values()] == [6.0, 8.0]
    _, changes, _ = changes_of("05_curriculum", "full", monkeypatch)
    for name, most in (("1-4 interferers", 4), ("2-5 interferers", 5)):
        variant = vary(base, changes[name])
        assert variant.steps * variant.phase_starts[-1] == pytest.approx(1_000_000)
        assert (variant.snr_min_db[-1], variant.snr_max_db[-1], variant.absent_prob[-1]) == (-10.0, 10.0, 0.3)
        assert (variant.interferers_min[-1], variant.interferers_max[-1]) == (most - 3, most)


def test_all_together_has_the_changes_of_02_to_05(monkeypatch):
    base, combined, _ = changes_of("09_combined", "demo", monkeypatch)
    stems = ("02_capacity", "03_long_segments", "04_augmentation", "05_curriculum")
    alone = {stem: changes_of(stem, "demo", monkeypatch)[1] for stem in stems}
    assert vary(base, combined["02 capacity"]) == vary(base, alone["02_capacity"]["C both"])
    assert vary(base, combined["03 segments"]) == vary(base, list(alone["03_long_segments"].values())[-1])
    assert vary(base, combined["04 augmentation"]) == vary(base, alone["04_augmentation"]["all three"])
    assert vary(base, combined["05 curriculum"]) == vary(base, alone["05_curriculum"]["1-4 interferers"])
    together = {name: value for part in list(combined.values())[:-1] for name, value in part.items()}
    assert combined["all together"] == together
