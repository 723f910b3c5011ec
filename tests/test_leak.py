"""Nobody is in two splits of the default model's recordings, and its test is still the one that it was trained without."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from hifitse.data import synthetic
from hifitse.data.mixing import Mixer
from hifitse.model import Extractor
from hifitse.params import resolve
from hifitse.studies import default_model

SIDES = ("train", "valid", "test")
PARAMS = {"synthetic_speakers": 12, "synthetic_utterances": 2, "device": "cpu"}
"""Fewer synthetic voices than the preset has: they are of the training alone, and the others are dealt without them."""
TEST = {
    "speakers": (99, "bca9a6f285c4fb69ec1856c84cd183fadc8369ea6abafc6736381c2b4f1a8d2d"),
    "noises": (9, "146081a64f7fb7a7ba44ee945104e57829178bcfbf723bd991f04ccba02df824"),
}
"""How many test speakers and noises the default model has not been trained on, and the SHA-256 of their sorted names."""

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def people(hifitse_data, tmp_path_factory):
    """Speech, noises and rooms of each split of the preset ``people``; responses of the made rooms stand in by name."""
    for name in ("people", "noise", "noise2", "rir2"):
        if not (hifitse_data / name).exists():
            pytest.skip(f"HIFITSE_DATA has no folder '{name}'")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "make_room", lambda *_: [np.r_[0.9, np.zeros(9_599)]] * synthetic.POSITIONS)
        patch.setenv("HIFITSE_CACHE", str(tmp_path_factory.mktemp("stand-ins")))
        drawn = {side: Mixer(resolve("people", **PARAMS), side) for side in SIDES}
    return {side: (drawing.corpus, drawing.acoustics.noises, drawing.acoustics.rooms) for side, drawing in drawn.items()}


def names(part) -> dict[str, list[str]]:
    corpus, noises, responses = part
    return {
        "speakers": sorted(corpus.speakers),
        "noises": sorted(Path(clip.path).name for clip in noises.clips),
        "rooms": sorted("/".join(Path(clip.path).parts[-2:]) for clip in responses.clips),
    }


def test_no_speaker_noise_or_room_is_in_two_splits_nor_is_a_group(people):
    for kind in (*TEST, "rooms"):
        listed = [name for side in SIDES for name in names(people[side])[kind]]
        assert len(set(listed)) == len(listed) > 70, kind
    groups = [{said[0].group for said in people[side][0].speakers.values()} for side in SIDES]
    assert all(groups) and sum(map(len, groups)) == len(set.union(*groups)) < sum(len(people[side][0].speakers) for side in SIDES)
    for number in (1, 2):
        held = [set(people[side][number].groups) for side in SIDES]
        assert all(held) and sum(map(len, held)) == len(set.union(*held))


def test_speakers_of_the_training_alone_are_not_held_out(people):
    kept = [each.strip() for each in resolve("people", **PARAMS).train_only.split(",")]
    held = [name for side in ("valid", "test") for name in people[side][0].speakers]
    assert len(kept) == 6 and not [name for name in held if name.startswith(tuple(kept))]
    assert all(any(name.startswith(each) for name in people["train"][0].speakers) for each in kept)


@pytest.mark.parametrize("kind", TEST)
def test_the_test_is_the_one_that_the_default_model_was_trained_without(people, kind):
    listed = names(people["test"])[kind]
    assert (len(listed), hashlib.sha256("\n".join(listed).encode()).hexdigest()) == TEST[kind]


def test_rooms_of_the_conditions_are_those_that_no_training_names():
    tested = [each.params(resolve("people")) for each in default_model.CONDITIONS]
    rooms = {params.rooms for params in tested if params.reverb_prob or params.eval_enroll == "reverberant"}
    trained = [Extractor.from_pretrained().origin.params["rooms"], *(resolve(name).rooms for name in ("people", "gpu"))]
    assert rooms == {default_model.MEASURED} and not rooms & {each.strip() for text in trained for each in text.split(",")}
