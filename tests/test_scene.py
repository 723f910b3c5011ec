"""Scenes: plain data that comes back from JSON, drawn without the sound; sources, lone targets, talkers recorded elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from sounds import folders, hum, pitch, save, small

from hifitse import HifitseError, audio
from hifitse.data.lists import from_json, read_scenes, to_json, write_scenes
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions

HARD = Conditions("test", 1.0, 0.0, 2, 2, -5.0, 15.0, 0.5)
CASES = {
    "plain": (HARD, {}),
    "partial": (replace(HARD, seconds=2.0, active_from_s=0.5, active_to_s=1.5), {}),
    "turns": (replace(HARD, seconds=3.0, turns=3), {"similarity": [0.2]}),
    "changed": (replace(HARD, enroll_augment_prob=1.0), {"enrollments": 4, "enroll_augment_prob": 1.0}),
    "elsewhere": (HARD, {"acoustics_prob": 1.0}),
    "dry, absent, alone": (replace(HARD, absent_prob=1.0, interferers_min=0, interferers_max=0), {"reverb_prob": 0.0}),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return folders(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory):
    """Parameters with speech of two corpora: six speakers hum in each."""
    root = tmp_path_factory.mktemp("two")
    for corpus in "ab":
        for speaker in range(8):
            for number in range(3):
                at = root / f"speech_{corpus}" / f"{corpus}_{speaker}" / f"{number}.flac"
                save(at, hum(pitch(speaker), 1.5, 10 * speaker + number))
    return {"corpus": f"{root / 'speech_a'}, {root / 'speech_b'}"}


@pytest.mark.parametrize("case", CASES)
def test_a_scene_comes_back_from_json_and_gives_the_same_mixture(case, sources, tmp_path):
    conditions, values = CASES[case]
    mixer = Mixer(small(sources, **values), "train")
    scenes = [mixer.draw(3, index, conditions, wrong_enroll=True) for index in range(3)]
    assert [from_json(to_json(scene)) for scene in scenes] == scenes
    assert write_scenes(tmp_path / "list.jsonl", scenes) == 3
    for index, scene in enumerate(read_scenes(tmp_path / "list.jsonl")):
        again, first = mixer.renderer.mixture(scene), mixer.mixture(3, index, conditions, wrong_enroll=True)
        assert np.array_equal(again.mix, first.mix) and np.array_equal(again.enroll, first.enroll)
        assert again.metadata == first.metadata


@pytest.mark.parametrize("line", ["", "{}", "nonsense", "[1]"])
def test_a_line_that_is_no_scene_is_named(line, tmp_path, sources):
    good = to_json(Mixer(small(sources), "train").draw(0, 0, HARD))
    (tmp_path / "list.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(HifitseError, match=r"line 2: .*expected the JSON of a scene"):
        read_scenes(tmp_path / "list.jsonl")
    with pytest.raises(HifitseError, match="cannot be read"):
        read_scenes(tmp_path / "none.jsonl")


def test_drawing_reads_a_recording_once_to_see_where_sound_is(sources, monkeypatch):
    mixer, read, opened = Mixer(small(sources), "train"), audio.read, []
    monkeypatch.setattr(audio, "read", lambda path, *stretch: (opened.append(path), read(path, *stretch))[1])
    mixer.look()
    assert len(opened) == sum(map(len, mixer.corpus.speakers.values()))
    scenes = [mixer.draw(0, index, HARD, wrong_enroll=True) for index in range(20)]
    noises = {scene.noise.file.path for scene in scenes} | {each.noise.file.path for scene in scenes for each in scene.enroll if each.noise}
    assert len(noises) > 1 and len(opened) == len(set(opened))  # nothing again


def test_interferers_of_the_same_source_as_often_as_asked_for(two_sources, sources):
    for share in (0.0, 0.5, 1.0):
        mixer = Mixer(small(sources | two_sources, same_source_prob=share, reverb_prob=0.0, noise_prob=0.0), "train")
        drawn = [mixer.draw(0, index, HARD).talkers for index in range(60)]
        same = np.mean([len({each.speaker[0] for each in talkers}) == 1 for talkers in drawn])
        assert same == 1.0 if share == 1.0 else 0.1 < same < 0.5 if share == 0.0 else 0.5 < same < 0.9
        assert all(len({each.speaker for each in talkers}) == 3 for talkers in drawn)


def test_nobody_of_the_targets_group_interferes(sources, tmp_path):
    lines = []
    for speaker in range(9):
        for number in range(3):
            save(tmp_path / f"x{speaker}_{number}.flac", hum(pitch(speaker), 1.5, number))
            group = "twins" if speaker < 2 else f"g{speaker}"
            text = f'"speaker": "x{speaker}", "utterance": "{number}", "path": "x{speaker}_{number}.flac", "group": "{group}"'
            lines.append(f'{{{text}, "samples": 72000, "sample_rate": 48000}}\n')
    (tmp_path / "manifest.jsonl").write_text("".join(lines))
    params = small(sources | {"corpus": str(tmp_path)}, reverb_prob=0.0, noise_prob=0.0, corpus_seed=1)
    mixer = next(each for each in (Mixer(params, split) for split in ("train", "valid", "test")) if "x0" in each.speakers)
    for index in range(40):
        speakers = {each.speaker for each in mixer.draw(0, index, HARD).talkers}
        assert not {"x0", "x1"} <= speakers or len(mixer.speakers) == 2


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
