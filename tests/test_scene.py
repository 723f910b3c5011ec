"""Test scenes: how hard they are, who speaks when, where talkers were recorded, and the round trip through JSON."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import entry, manifest, small, speech_folder

from hifitse import SAMPLE_RATE, audio
from hifitse.audio import level_db
from hifitse.data.lists import from_json, to_json, write_scenes
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions, evaluation_conditions, training_conditions, turns, validation_conditions

HARD = Conditions("test", 1.0, 0.0, 2, 2, -5.0, 15.0, 0.5)
TALK = Conditions("turns", 9.0, 0.0, 2, 2, -5.0, 15.0, turns=5)
CASES = {
    "plain": (HARD, {}),
    "partial": (replace(HARD, seconds=2.0, active_from_s=0.5, active_to_s=1.5), {}),
    "turns": (replace(HARD, seconds=3.0, turns=3), {"similarity": [0.2]}),
    "changed": (replace(HARD, enroll_augment_prob=1.0), {"enrollments": 4, "enroll_augment_prob": 1.0}),
    "elsewhere": (HARD, {"acoustics_prob": 1.0}),
    "another pitch": (HARD, {"pitch_prob": 1.0}),
    "dry, absent, alone": (replace(HARD, absent_prob=1.0, interferers_min=0, interferers_max=0), {"reverb_prob": 0.0}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_scene_comes_back_from_json_and_gives_the_same_mixture(case, sources, tmp_path):
    conditions, values = CASES[case]
    mixer = Mixer(small(sources, **values), "train")
    scenes = [mixer.draw(3, index, conditions, wrong_enroll=True) for index in range(3)]
    assert [from_json(to_json(scene)) for scene in scenes] == scenes
    assert write_scenes(tmp_path / "list.jsonl", scenes) == 3
    for index, scene in enumerate(map(from_json, (tmp_path / "list.jsonl").read_text().splitlines())):
        again, first = mixer.renderer.mixture(scene), mixer.mixture(3, index, conditions, wrong_enroll=True)
        assert np.array_equal(again.mix, first.mix) and np.array_equal(again.enroll, first.enroll)
        assert again.metadata == first.metadata


@pytest.mark.parametrize("workers", [0, 2])
def test_a_look_beforehand_changes_no_scene(workers, sources):
    fresh, looked = (Mixer(small(sources), "train") for _ in range(2))
    looked.look(most=2, workers=workers)
    looked.look(workers=workers)
    assert looked.draw(0, 3, HARD, wrong_enroll=True) == fresh.draw(0, 3, HARD, wrong_enroll=True)


def test_drawing_reads_a_recording_once_to_see_where_sound_is(sources, monkeypatch):
    mixer, read, opened = Mixer(small(sources), "train"), audio.read, []
    monkeypatch.setattr(audio, "read", lambda path, *stretch: (opened.append(path), read(path, *stretch))[1])
    mixer.look()
    assert len(opened) == sum(map(len, mixer.corpus.speakers.values()))
    scenes = [mixer.draw(0, index, HARD, wrong_enroll=True) for index in range(20)]
    noises = {scene.noise.file.path for scene in scenes} | {each.noise.file.path for scene in scenes for each in scene.enroll if each.noise}
    assert len(noises) > 1 and len(opened) == len(set(opened))  # nothing is read twice


def test_interferers_of_the_same_source_as_often_as_asked_for(sources, tmp_path):
    for source in "ab":
        for folder in [*speech_folder(tmp_path / source, speakers=8, utterances=3).iterdir()]:
            folder.rename(folder.with_name(f"{source}_{folder.name[-1]}"))
    both = sources | {"corpus": f"{tmp_path / 'a'}, {tmp_path / 'b'}"}
    for share in (0.0, 0.5, 1.0):
        mixer = Mixer(small(both, same_source_prob=share, reverb_prob=0.0, noise_prob=0.0), "train")
        drawn = [mixer.draw(0, index, HARD).talkers for index in range(60)]
        same = np.mean([len({each.speaker[0] for each in talkers}) == 1 for talkers in drawn])
        assert same == 1.0 if share == 1.0 else 0.1 < same < 0.5 if share == 0.0 else 0.5 < same < 0.9
        assert all(len({each.speaker for each in talkers}) == 3 for talkers in drawn)


@pytest.mark.parametrize("size", [2, 4])
def test_nobody_of_the_targets_group_interferes(size, sources, tmp_path):
    speech_folder(tmp_path, utterances=3)
    groups = {f"s{number:02d}": "family" if number < size else f"g{number}" for number in range(9)}
    sides = 5 * ["train"] + 2 * ["valid"] + 2 * ["test"]
    manifest(tmp_path, [entry(s, u, group=groups[f"s{s:02d}"], split=sides[s]) for s in range(9) for u in range(3)])
    mixer = Mixer(small(sources | {"corpus": str(tmp_path)}, reverb_prob=0.0, noise_prob=0.0), "train")
    for index in range(40):
        target, *others = (groups[each.speaker] for each in mixer.draw(0, index, HARD).talkers)
        outside = [name for name in mixer.speakers if groups[name] != target]
        assert target not in others or not outside
        assert len(others) == min(2, len(outside)) or not outside  # fewer than asked for where the group leaves fewer


def test_lone_targets_and_talkers_recorded_elsewhere_in_the_training_only(sources):
    values = {"reverb_prob": 0.0, "test_share": 0.34}
    plain, other, alone = (Mixer(small(sources, **values, **more), "train") for more in ({}, {"acoustics_prob": 0.5}, {"lone_prob": 0.5}))
    changed = []
    for index in range(12):
        one, two = plain.draw(1, index, HARD), other.draw(1, index, HARD)
        assert [each.segment for each in one.talkers] == [each.segment for each in two.talkers] and one.noise == two.noise
        changed += [each.elsewhere is not None for each in (*two.talkers, *two.enroll)]
        mixture, twin = plain.renderer.mixture(one), other.renderer.mixture(two)
        assert np.array_equal(mixture.enroll, twin.enroll) == (two.enroll[0].elsewhere is None)
        assert twin.metadata["sir_db"] == mixture.metadata["sir_db"]
    assert 0.3 < np.mean(changed) < 0.7
    assert 0.3 < np.mean([len(alone.draw(0, index, HARD).talkers) == 1 for index in range(40)]) < 0.7
    for test in (Mixer(each.params, "test").draw(1, 0, HARD) for each in (other, alone)):
        assert len(test.talkers) == 3 and all(each.elsewhere is None for each in (*test.talkers, *test.enroll))


def test_curriculum_phases(sources):
    params = small(sources, steps=100, batch_size=2, accumulation=3, phase_starts=[0.0, 0.5], interferers_max=[1, 3])
    first, edge, quarter, last = (training_conditions(params, index) for index in (0, 100, 150, 200))
    assert (first.phase, first.absent_prob, first.noisy_enroll_prob, first.interferers_max) == (0, 0.0, 0.0, 1)
    assert training_conditions(params, 99).phase == 0
    assert (edge.phase, edge.absent_prob, edge.noisy_enroll_prob, edge.interferers_max) == (1, 0.2, 0.0, 3)
    assert quarter.noisy_enroll_prob == pytest.approx(0.25)
    assert last.noisy_enroll_prob == training_conditions(params, 10**9).noisy_enroll_prob == pytest.approx(0.5)
    mixer = Mixer(params, "train")
    assert all(mixer.mixture(0, index, first).metadata["present"] for index in range(40))
    absent = sum(not mixer.mixture(0, index, last).metadata["present"] for index in range(150))
    assert 15 <= absent <= 46  # 30 expected, standard deviation 4.9


def test_evaluation_lists(sources):
    params = small(sources, eval_mixtures=200, eval_seconds=4.0)
    lists = evaluation_conditions(params)
    absent = [index for index, each in enumerate(lists["test"]) if each.absent]
    assert (len(lists["test"]), len(absent)) == (200, 42)
    assert set(np.diff(absent)) == {4, 5}  # evenly spread
    assert all(each.absent_prob in (0, 1) and each.noisy_enroll_prob == 0.5 for each in lists["test"])
    assert {(each.seconds, each.active_from_s, each.active_to_s) for each in lists["partial"]} == {(8.0, 2.0, 5.5)}
    lengths = [each.seconds for each in lists["long"]]
    assert (lengths[0], lengths[-1], len(set(lengths))) == (5.0, 8.0, 20)
    assert len(validation_conditions(params)) == 50 and not any(each.absent_prob for each in validation_conditions(params))


@given(st.integers(2, 30), st.floats(1, 3), st.integers(0, 1000))
def test_turns_fill_the_time_overlap_their_neighbours_and_nobody_meets_themselves(count, each, seed):
    samples = round(count * each * SAMPLE_RATE)
    spans = turns(samples, count, np.random.default_rng(seed))
    assert spans[0][0] == 0 and spans[-1][1] == samples and len(spans) == count
    assert all(start < stop for start, stop in spans)
    assert all(before[1] > after[0] for before, after in itertools.pairwise(spans))
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[2:], strict=False))


def test_talkers_are_there_in_their_turns_and_nowhere_else_and_ratios_are_those_of_that_time(sources):
    mixer = Mixer(small(sources), "train")
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
        reference = level_db(mixture.target[mine])
        ratios = [reference - level_db(each[each != 0]) for each in mixture.interferers]
        assert ratios == pytest.approx(meta["sir_db"], abs=0.01)
        assert reference - level_db(mixture.noise) == pytest.approx(meta["snr_db"], abs=0.01)
