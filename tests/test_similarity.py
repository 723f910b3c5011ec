"""Test the similarity of voices: how it is measured, interferers chosen by it, and test mixtures sorted by it."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sounds import save, small, speech_folder

from hifitse import HifitseError
from hifitse.data import similarity
from hifitse.data.corpus import load_corpus
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions
from hifitse.data.similarity import Voices, describe, pitch_hz
from hifitse.data.synthetic import make_speech
from hifitse.studies import levers

TWO = Conditions("test", 1.0, 0.0, 1, 2, -5.0, 15.0)


@pytest.fixture(scope="module")
def corpus():
    """Return 40 synthetic speakers with two utterances each."""
    return load_corpus(make_speech(40, 2, 3))


@pytest.mark.parametrize("hertz", [75, 110, 160, 240, 400])
def test_pitch_of_a_buzz_and_of_a_tone(hertz):
    time = np.arange(32000) / similarity.RATE
    buzz = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 7))
    for signal in (buzz, np.sin(2 * np.pi * hertz * time)):
        assert pitch_hz(signal.astype(np.float32), np.ones(100, bool)) == pytest.approx(hertz, rel=0.02)
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    assert pitch_hz(noise, np.ones(50, bool)) == similarity.UNVOICED_HZ


def test_description_does_not_depend_on_the_level_and_silence_has_none(corpus):
    speech = corpus.read(next(iter(corpus.speakers.values()))[0])
    assert np.allclose(describe(speech), describe(0.1 * speech), atol=0.05)
    assert describe(np.zeros(48000, np.float32)) is None and describe(speech[:100]) is None


def test_utterances_of_one_speaker_are_nearer_than_those_of_two(corpus):
    names = list(corpus.speakers)
    described = [[describe(corpus.read(utterance)) for utterance in corpus.speakers[name][:2]] for name in names]
    parts = Voices([f"{name} {number}" for name in names for number in (0, 1)], np.array(described).reshape(2 * len(names), -1))
    same = [1 - parts.similarity(f"{name} 0", f"{name} 1") for name in names]
    other = [1 - parts.similarity(f"{one} 0", f"{two} 1") for one in names for two in names if one != two]
    assert np.mean(same) < 0.4 * np.mean(other)
    first = [parts.nearest(f"{name} 0", [f"{each} 1" for each in names])[0] == f"{name} 1" for name in names]
    assert np.mean(first) > 0.7  # by chance it would be 1 in 40
    assert parts.similarity(f"{names[0]} 0", f"{names[0]} 0") == pytest.approx(1, abs=1e-9)
    with pytest.raises(HifitseError, match="speaker is 'c', expected one of the 80"):
        parts.similarity("c", f"{names[0]} 0")


def test_broken_and_silent_utterances_are_passed_over(tmp_path):
    folder = speech_folder(tmp_path, speakers=5, utterances=3)
    whole = Voices.of(load_corpus(folder))
    save(folder / "s00/a.flac", np.zeros(72000))
    packed = (folder / "s01/u0.flac").read_bytes()
    (folder / "s01/u0.flac").write_bytes(packed[: len(packed) // 2])
    for number in range(3):
        save(folder / f"s04/u{number}.flac", np.zeros(72001 + number))
    voices = Voices.of(load_corpus(folder))
    near = [name for name in voices.nearest("s00", ["s04", "s03", "s02", "s01"]) if name != "s04"]
    assert near[0] == whole.nearest("s00", ["s03", "s02", "s01"])[0] == "s01"
    assert voices.similarity("s00", "s04") == 0


def test_interferers_come_from_the_nearest_share(sources):
    mixer = Mixer(small(sources, similarity=[0.5], valid_share=0.2, test_share=0.2), "train")
    seen = {0.5: set(), 1.0: set()}
    for share, names in seen.items():
        for index in range(25):
            plain = mixer.mixture(0, index, TWO)
            close = mixer.mixture(0, index, replace(TWO, similarity=share))
            target, chosen = close.metadata["target_speaker"], close.metadata["interferer_speakers"]
            assert target == plain.metadata["target_speaker"] and len(chosen) == plain.metadata["n_interferers"]
            others = [name for name in mixer.speakers if name != target]
            allowed = max(len(chosen), -(-len(others) // 2) if share == 0.5 else 0)
            assert set(chosen) <= set(mixer.voices.nearest(target, others)[:allowed])
            best = max(mixer.voices.similarity(target, name) for name in chosen)
            assert close.metadata["similarity"] == pytest.approx(best, abs=1e-4)
            names.add((target, *chosen))
    assert len(seen[0.5]) > len({pair[0] for pair in seen[0.5]})  # there is still a choice


def test_similarity_of_zero_is_the_draw_without_a_table(sources):
    without, loaded = Mixer(small(sources), "train"), Mixer(small(sources, similarity=[0.3]), "train")
    assert without.voices is None and loaded.voices is not None
    for index in range(5):
        one, other = without.mixture(0, index, TWO, wrong_enroll=True), loaded.mixture(0, index, TWO, wrong_enroll=True)
        assert np.array_equal(one.mix, other.mix) and np.array_equal(one.wrong_enroll, other.wrong_enroll)
        assert one.metadata["similarity"] is None
        assert one.metadata == other.metadata | {"similarity": None}


HZ = {"low": 100.0, "lower": 90.0, "high": 220.0, "middle": 160.0}
DESCRIBED = np.random.default_rng(0).standard_normal((4, 5))
KNOWN = Voices(list(HZ), np.column_stack([DESCRIBED, np.log2(list(HZ.values()))]))


def row(index: int, target: str, *others: str, **more) -> dict:
    told = {"target_speaker": target, "target_speed": 1.0, "interferer_speakers": list(others), "n_interferers": len(others)}
    return {"list": "test", "index": index, "present": True} | told | more


def test_thirds_by_likeness_hold_each_mixture_with_both_once_and_the_same_for_all_arms():
    pairs = list(itertools.permutations(HZ, 2))
    rows = [row(i, *pair) for i, pair in enumerate(pairs)]
    left_out = [row(90, "low"), row(91, "low", "high", present=False), row(92, "low", "high", list="long")]
    arms = {name: SimpleNamespace(rows=[dict(each, arm=name) for each in rows + left_out]) for name in ("baseline", "other")}
    found = levers.by_likeness(arms, KNOWN)
    assert list(found) == list(levers.THIRDS)
    thirds, others = ([list(condition[name]["index"]) for condition in found.values()] for name in arms)
    assert thirds == others and sum(map(len, thirds)) == len(rows) and min(map(len, thirds)) >= 2
    alike = [[KNOWN.similarity(*pairs[index]) for index in third] for third in thirds]
    assert max(alike[0]) < min(alike[1]) and max(alike[1]) < min(alike[2])


def test_likeness_is_that_of_the_interferer_most_like_the_target():
    alike = max(KNOWN.similarity("low", each) for each in ("lower", "high"))
    assert levers.likeness(row(0, "low", "lower", "high"), KNOWN) == alike
