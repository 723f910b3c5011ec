"""Test evaluation and validation with extractors and mixtures whose numbers are known."""

import json
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from hifitse import SAMPLE_RATE
from hifitse.data.mixing import Mixture
from hifitse.data.scene import evaluation_conditions
from hifitse.evaluation import evaluate
from hifitse.model import AveragedEstimates, Extractor
from hifitse.params import Params, resolve
from hifitse.training import validation
from hifitse.training.validation import EvaluationError, quick_validate, validation_mixtures

SMALL = Params(
    eval_mixtures=8, eval_absent_share=0.25, eval_partial=2, eval_long=2, eval_seconds=1.0, seconds=1.0, valid_mixtures=5,
    enroll_seconds=0.5, eval_pesq=False,
)  # fmt: skip
made: list[tuple] = []  # arguments of all mixtures made so far


class FakeMixer:
    """A mixer whose speakers are white noise and whose enrolments are constant signals: the value tells the oracle who is enrolled."""

    def __init__(self, params: Params, split: str) -> None:
        self.params, self.split = params, split

    def mixture(self, seed, index, conditions, wrong_enroll=False):
        made.append((self.split, seed, index, conditions.name))
        rng = np.random.default_rng([seed, index])
        time = np.arange(round(conditions.seconds * SAMPLE_RATE)) / SAMPLE_RATE
        white = rng.standard_normal((3, len(time))).astype(np.float32)
        target, other, noise = white * np.float32([[0.05], [0.05], [0.005]])
        present = conditions.absent_prob < 1
        start, stop = conditions.active_from_s or 0, conditions.active_to_s or conditions.seconds
        target *= present * (time >= start) * (time < stop)
        enroll = np.ones((1, round(self.params.enroll_seconds * SAMPLE_RATE)), np.float32)
        wrong = 2 * enroll if wrong_enroll and present else None
        metadata = {"id": f"{conditions.name}-{index:05d}", "seed": seed, "present": present, "n_interferers": 1}
        metadata |= {"sir_db": [0.0], "snr_db": 20.0}
        return Mixture(target + other + noise, target, other[None], noise, enroll, wrong, metadata)


class Known(AveragedEstimates):
    """An oracle that knows every mixture of the lists and returns what ``choose`` takes from it, at half the level."""

    def __init__(self, choose) -> None:
        super().__init__(None)
        self.weight = nn.Parameter(torch.zeros(3))
        self.choose, self.parts = choose, {}
        mixer = FakeMixer(SMALL, "test")
        for entries in evaluation_conditions(SMALL).values():
            for index, conditions in enumerate(entries):
                mixture = mixer.mixture(42, index, conditions)
                self.parts[mixture.mix[:64].tobytes(), len(mixture.mix)] = mixture

    def forward(self, mix, enroll):
        assert not self.training and not torch.is_grad_enabled()
        found = [self.parts[signal[:64].numpy().tobytes(), len(signal)] for signal in mix]
        chosen = [self.choose(mixture, float(e.mean())) for mixture, e in zip(found, enroll, strict=True)]
        return 0.5 * torch.from_numpy(np.stack(chosen))


def returns_target_for_anyone(mixture, who):
    return mixture.target + 0.1 * mixture.noise


def follows_enrolment(mixture, who):
    return {0.0: mixture.mix, 1.0: returns_target_for_anyone(mixture, who), 2.0: mixture.interferers[0]}[who]


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(evaluate, "list_mixer", FakeMixer)
    monkeypatch.setattr(validation, "Mixer", FakeMixer)
    validation._kept.cache_clear()
    made.clear()
    yield
    validation._kept.cache_clear()  # no other test may get the fakes


def run(extractor, params=SMALL, **options):
    return evaluate.evaluate(extractor, params, progress=False, **options)


def mean(rows, key):
    return np.mean([row[key] for row in rows if row["list"] == "test" and row[key] is not None])


def identity(mix, enroll):
    return mix


def test_one_row_a_mixture_in_the_order_of_the_lists():
    rows = run(identity)
    counts = {"test": 8, "partial": 2, "long": 2}
    assert [(row["list"], row["index"]) for row in rows] == [(name, i) for name, count in counts.items() for i in range(count)]
    assert len({row["id"] for row in rows}) == 12
    assert sum(not row["present"] for row in rows) == 2
    assert all(set(row) == set(rows[0]) for row in rows)
    assert all((row["snr_db"], row["sir_db"], row["sirs_db"]) == (20.0, 0.0, [0.0]) for row in rows)  # metadata is included
    assert not any("seed" in row for row in rows)  # "seed" would be that of the training
    json.dumps(rows, allow_nan=False)


def test_an_extractor_that_returns_the_mixture_gains_and_suppresses_nothing():
    rows = run(identity)
    for row in rows:
        if row["present"]:
            assert row["si_sdri_db"] == row["si_sdri_wrong_enroll_db"] == row["si_sdri_zero_enroll_db"] == 0
            assert row["absent_suppression_db"] is None
        else:
            assert row["absent_suppression_db"] == 0
            assert row["si_sdri_db"] is None and row["confused"] is None


def test_an_oracle_that_follows_the_enrolment_is_told_from_one_that_does_not():
    follows, ignores = run(Known(follows_enrolment)), run(Known(returns_target_for_anyone))
    assert mean(follows, "si_sdri_db") > 30
    assert mean(follows, "si_sdri_wrong_enroll_db") < -20
    assert mean(follows, "si_sdri_zero_enroll_db") == pytest.approx(0, abs=1e-6)
    assert mean(ignores, "si_sdri_wrong_enroll_db") == pytest.approx(mean(follows, "si_sdri_db"))
    assert mean(follows, "swap_si_sdri_db") > 30 and mean(ignores, "swap_si_sdri_db") < -20
    assert mean(follows, "confused") == 0
    swapped = Known(lambda mixture, who: follows_enrolment(mixture, {0.0: 0.0, 1.0: 2.0, 2.0: 1.0}[who]))
    assert mean(run(swapped), "confused") == 1


def test_absent_target_is_measured_by_level():
    absent = [row for row in run(lambda mix, enroll: 0.01 * mix, lists=("test",)) if not row["present"]]
    assert len(absent) == 2
    for row in absent:
        assert row["absent_suppression_db"] == pytest.approx(40, abs=1e-3)
        assert row["absent_level_db"] == pytest.approx(20 * np.log10(0.05) - 40, abs=0.2)
    assert mean(run(lambda mix, enroll: 0 * mix), "absent_level_db") == -120


def test_partial_presence_is_measured_inside_and_outside_its_time():
    rows = run(Known(returns_target_for_anyone), lists=("partial",))
    for row in rows:  # inside half of the target, which has half of the mixture's energy; outside a twentieth of the noise
        assert row["inside_db"] == pytest.approx(-9.0, abs=0.2)
        assert row["outside_db"] < -40
        assert row["inside_si_sdri_db"] > 30
    assert all(row["inside_db"] is None for row in run(identity, lists=("test",)))


def test_mixtures_are_those_of_split_seed_and_index():
    run(identity, lists=("test",))
    assert made == [("test", 42, i, "test") for i in range(8)]
    made.clear()
    run(identity, lists=("test",), split="valid")
    assert made == [("valid", 43, i, "test") for i in range(8)]


def test_unknown_list_is_refused():
    with pytest.raises(EvaluationError, match="list is 'tset', expected one of test, partial, long"):
        run(identity, lists=("tset",))


def test_an_estimate_that_is_not_finite_names_its_mixture():
    def broken(mixture, who):
        return mixture.mix * (np.nan if mixture.metadata["id"] == "test-00002" and who == 2 else 1)

    with pytest.raises(EvaluationError, match=r"test-00002 \(wrong enrolment\) holds NaN"):
        run(Known(broken))


def test_rows_are_kept_by_weights_and_parameters(tmp_path):
    extractor = Known(follows_enrolment)
    first = run(extractor, folder=tmp_path)
    mixtures = len(made)
    assert run(extractor, folder=tmp_path) == first
    run(extractor, SMALL.model_copy(update={"lr": 1e-3, "workers": 0}), folder=tmp_path)  # neither changes the rows
    assert len(made) == mixtures and len(list(tmp_path.iterdir())) == 1
    run(extractor, SMALL.model_copy(update={"eval_partial": 1}), folder=tmp_path)
    with torch.no_grad():
        extractor.weight += 1
    run(extractor, folder=tmp_path)
    assert len(made) > mixtures
    assert len(list(tmp_path.glob("rows-*.jsonl"))) == len(list(tmp_path.iterdir())) == 3


def test_rows_are_kept_by_the_runs_own_shifts(tmp_path):
    model = Extractor(resolve("smoke").extractor)
    paths = []
    for shifts in (1, 2, 4):
        model.config = model.config.model_copy(update={"shifts": shifts})
        paths += [evaluate._cache_path(each, SMALL, tmp_path, {}) for each in (model, AveragedEstimates(model))]
    assert len(set(paths)) == 6
    function = {"change": repr(lambda mixture: mixture)}  # another one may have the same address
    assert evaluate._cache_path(nn.Linear(1, 1), SMALL, tmp_path, {}) is evaluate._cache_path(model, SMALL, tmp_path, function) is None


def test_rows_whose_scores_could_not_be_measured_at_all_are_not_kept(tmp_path, monkeypatch):
    pool = mock.MagicMock(gave_up=True, submit=lambda row, *_: row.update(pesq_error="its process died"))
    pool.__enter__.return_value = pool
    monkeypatch.setattr(evaluate, "PerceptualPool", lambda: pool)
    rows = run(Known(follows_enrolment), SMALL.model_copy(update={"eval_pesq": True}), folder=tmp_path)
    assert [row for row in rows if row["pesq_error"]] and not list(tmp_path.iterdir())


def test_turns_are_rows_of_their_own():
    params = SMALL.model_copy(update={"eval_turns": 2})
    rows = run(identity, params)
    assert [row["list"] for row in rows[-2:]] == ["turns"] * 2 and rows[:-2] == run(lambda mix, enroll: mix.numpy())  # an array will do
    assert run(identity, params, lists=("turns",)) == rows[-2:]
    assert all(row["si_sdri_db"] == 0 and row["si_sdri_wrong_enroll_db"] == 0 and row["pesq"] is None for row in rows[-2:])


@pytest.mark.parametrize("damage", [lambda t: t[: len(t) // 2], lambda t: "", lambda t: "\x00" + t[1:], lambda t: t.split("\n", 1)[1]])
def test_a_damaged_cache_is_made_again(tmp_path, damage):
    extractor = Known(follows_enrolment)
    first = run(extractor, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    path.write_text(damage(whole))
    assert run(extractor, folder=tmp_path) == first
    assert path.read_text() == whole


def test_evaluation_measures_present_targets_and_tells_failures():
    params = SMALL.model_copy(update={"eval_mixtures": 4})

    def silent_once(mixture, who):
        return mixture.target + mixture.noise if mixture.metadata["id"] != "test-00001" else 0 * mixture.mix

    rows = run(Known(silent_once), params.model_copy(update={"eval_pesq": True}), lists=("test",))
    scored, failed, absent = rows[0], rows[1], rows[3]
    assert scored["stoi"] > scored["stoi_mix"] > 0 and scored["stoi_error"] is None
    assert failed["pesq"] is None and failed["stoi"] is None and failed["stoi_mix"] > 0
    assert failed["pesq_error"] == "the estimate is silent"
    assert not absent["present"] and absent["pesq"] is None and absent["pesq_error"] is None
    assert run(identity, params, lists=("test",))[0]["pesq"] is None  # switched off


def test_validation_mixtures_are_made_once_of_the_validation_split_and_all_present():
    mixtures = validation_mixtures(SMALL)
    assert len(mixtures) == 5 and all(m.metadata["present"] and m.wrong_enroll is not None for m in mixtures)
    assert [(split, seed, index) for split, seed, index, _ in made] == [("valid", 43, i) for i in range(5)]
    assert validation_mixtures(SMALL)[0] is mixtures[0]
    assert len(made) == 5


def test_quick_validation_agrees_with_the_evaluation():
    extractor = Known(follows_enrolment).train()
    conditions, mixer = evaluation_conditions(SMALL)["test"], FakeMixer(SMALL, "test")
    present = [(index, each) for index, each in enumerate(conditions) if not each.absent_prob]
    mixtures = [mixer.mixture(42, index, each, wrong_enroll=True) for index, each in present]
    quick = quick_validate(extractor, mixtures, "cpu")
    rows = run(extractor, lists=("test",))
    assert extractor.training
    assert quick["si_sdri_db"] == pytest.approx(mean(rows, "si_sdri_db"), abs=1e-3)
    assert quick["si_sdri_wrong_enroll_db"] == pytest.approx(mean(rows, "si_sdri_wrong_enroll_db"), abs=1e-3)
    alone = [replace(m, wrong_enroll=None) for m in mixtures]
    assert quick_validate(identity, alone, "cpu") | {"mix_db": 0.0} == {
        "si_sdri_db": 0.0, "si_sdri_wrong_enroll_db": None, "mix_db": 0.0, "gains_db": [0.0] * len(alone),
    }  # fmt: skip
    assert quick["mix_db"] == pytest.approx(mean(rows, "si_sdr_mix_db"), abs=1e-3)
