import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import folders, small

from hifitse import SAMPLE_RATE
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions, turns
from hifitse.evaluation.evaluate import evaluate

TALK = Conditions("turns", 9.0, 0.0, 2, 2, -5.0, 15.0, turns=5)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return folders(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def mixer(sources):
    return Mixer(small(sources), "train")


def power(signal):
    return np.mean(np.square(signal, dtype=np.float64))


@given(st.integers(2, 30), st.floats(1, 3), st.integers(0, 1000))
def test_turns_fill_the_time_overlap_their_neighbours_and_nobody_meets_themselves(count, each, seed):
    samples = round(count * each * SAMPLE_RATE)
    spans = turns(samples, count, np.random.default_rng(seed))
    assert spans[0][0] == 0 and spans[-1][1] == samples and len(spans) == count
    assert all(start < stop for start, stop in spans)
    assert all(before[1] > after[0] for before, after in itertools.pairwise(spans))
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[2:], strict=False))


def test_talkers_are_there_in_their_turns_and_nowhere_else(mixer):
    for index in range(4):
        mixture = mixer.mixture(0, index, TALK, wrong_enroll=True)
        meta = mixture.metadata
        mine = np.zeros(len(mixture.mix), bool)
        for start, stop in meta["turns"]:
            mine[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)] = True
        edges = np.concatenate([[0], np.cumsum(np.abs(np.diff(mine.astype(int))))])
        assert len(meta["turns"]) == 3 and edges[-1] == 4
        assert not mixture.target[~mine].any() and mixture.target[mine].any()
        theirs = mixture.interferers.any(axis=0)
        assert theirs[~mine].mean() > 0.99  # somebody else speaks wherever the target does not
        both = (theirs & mine).mean() * TALK.seconds
        assert 4 * 0.2 < both < 4 * 0.7  # the four overlaps
        assert np.allclose(mixture.mix, mixture.target + mixture.interferers.sum(0) + mixture.noise, rtol=0, atol=1e-6)
        there = mixture.interferers[0] != 0
        begin, end = np.flatnonzero(there)[[0, -1]]
        assert begin > SAMPLE_RATE * 0.4 and end < len(mixture.mix) - SAMPLE_RATE * 0.4
        assert mixture.wrong_enroll is not None and json.loads(json.dumps(meta)) == meta


def test_sir_is_that_over_the_time_in_which_each_is_there(sources):
    mixer = Mixer(small(sources, reverb_prob=0.0), "train")
    for index in range(4):
        mixture = mixer.mixture(0, index, TALK)
        spans = turns(len(mixture.mix), TALK.turns, mixer._rng(0, index, 7))
        mine, theirs = (np.concatenate([np.arange(*span) for span in spans[first::2]]) for first in (0, 1))
        assert mixture.metadata["turns"] == [[round(edge / SAMPLE_RATE, 6) for edge in span] for span in spans[::2]]
        reference = power(mixture.target[mine])
        found = [10 * np.log10(reference / power(each[theirs])) for each in mixture.interferers]
        assert found == pytest.approx(mixture.metadata["sir_db"], abs=0.01)
        assert 10 * np.log10(reference / power(mixture.noise)) == pytest.approx(mixture.metadata["snr_db"], abs=0.01)


def test_evaluation_of_the_turns_alone(sources):
    params = small(sources, eval_turns=2, eval_pesq=True, test_share=0.34)
    rows = evaluate(lambda mix, enroll: mix, params, progress=False, lists=("turns",))
    assert [(row["list"], row["index"]) for row in rows] == [("turns", 0), ("turns", 1)]
    for row in rows:
        assert row["si_sdri_db"] == row["si_sdri_wrong_enroll_db"] == row["si_sdri_zero_enroll_db"] == 0
        assert np.isfinite(row["swap_si_sdri_db"]) and row["confused"] in (True, False)
        assert row["pesq"] is None and row["stoi"] is None and row["inside_db"] is None
        assert (row["enroll_as"], row["similarity"]) == ("drawn", None) and len(row["turns"]) >= 2
    json.dumps(rows, allow_nan=False)
    assert evaluate(lambda mix, enroll: mix, small(sources), progress=False, lists=("turns",)) == []
