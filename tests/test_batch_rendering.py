"""Test that torch renders batches of scenes as the numpy renderer does, and that recordings on the device stay under their limit."""

import threading
import time
from dataclasses import replace
from functools import partial
from itertools import count
from unittest.mock import MagicMock

import numpy as np
import pytest
import soundfile
import torch
from sounds import folders, hum, pitch, small
from test_scene import CASES, HARD

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.batch_rendering import BatchRenderer, DeviceStore, Part
from hifitse.data.dataset import AHEAD, Batches, Items, ahead
from hifitse.data.mixing import Mixer
from hifitse.data.reader import KEPT_S
from hifitse.data.scene import training_conditions

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return sources with half of the speech in 24 bit at 44.1 kHz, and one noise clip that is too long to be kept whole."""
    root = tmp_path_factory.mktemp("sources")
    named = folders(root)
    for speaker in range(0, 9, 2):
        for number in range(4):
            sound = hum(pitch(speaker), 1.5, 100 * speaker + number)[: round(1.5 * 44_100)]
            soundfile.write(root / "speech" / f"s{speaker:02d}" / f"u{number}.flac", sound, 44_100, subtype="PCM_24")
    long = 0.1 * np.random.default_rng(9).standard_normal(round((KEPT_S + 2) * SAMPLE_RATE))
    soundfile.write(next((root / "noise").glob("hiss_1*")), long, SAMPLE_RATE, subtype="PCM_16")
    return named


def differences(made, mixtures):
    """Return the largest difference in each part of each mixture, relative to the peak of the mixture or enrolment."""
    found = []
    for one, mixture in zip(made, mixtures, strict=True):
        assert (one.wrong_enroll is None) == (mixture.wrong_enroll is None)
        for name in ("mix", "target", "noise", "interferers", "enroll", "wrong_enroll")[: 6 if mixture.wrong_enroll is not None else 5]:
            got, wanted = getattr(one, name).cpu().numpy(), getattr(mixture, name)
            peak = np.abs(mixture.enroll if "enroll" in name else mixture.mix).max()
            found.append(np.abs(got - wanted).max(initial=0.0) / peak)
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_the_numpy_renderers(case, device, sources):
    conditions, values = CASES[case]
    mixer = Mixer(small(sources, **{"noisy_enroll_prob": [0.5]} | values), "train")
    conditions = replace(conditions, noisy_enroll_prob=0.5, interferers_min=min(1, conditions.interferers_min))
    scenes = [mixer.draw(3, index, conditions, wrong_enroll=index != 2) for index in range(6)]
    batch = BatchRenderer(mixer.renderer, device, 2**26).render(scenes)
    mixtures = [mixer.renderer.mixture(scene) for scene in scenes]
    assert max(differences(batch, mixtures)) < 1e-4
    for got, mixture in zip((each.metadata for each in batch), mixtures, strict=True):
        levels = {key: value for key, value in mixture.metadata.items() if key.endswith("level_db") and value is not None}
        close = {key: pytest.approx(value, abs=0.01) for key, value in levels.items()}
        assert got == mixture.metadata | close | {"clip_gain_db": pytest.approx(mixture.metadata["clip_gain_db"], abs=0.01)}


@pytest.mark.parametrize("device", DEVICES)
def test_parts_of_recordings_come_back_and_the_oldest_goes_first(device):
    rng = np.random.default_rng(0)
    exact = [(rng.integers(-(2**15), 2**15, 2900) / 2**15).astype(np.float32) for _ in range(5)]
    fine, decoded = (3 * rng.standard_normal(1005)).astype(np.float32), []
    store = DeviceStore(device, 3 * 2 * 2900)  # room for three
    for number in (0, 1, 2, 0, 3, 0, 2, 1):
        store.rows([[Part(number, 0, 1, 0, 1.0, lambda number=number: decoded.append(number) or exact[number])]], 1)
        assert 0 < store.bytes <= store.limit
    assert decoded == [0, 1, 2, 3, 1]
    parts = [Part(0, 50, 2000, 10, 1.0, None), Part(0, 7, 100, 2010, 0.5, None), Part(0, 2899, 99, 3000, 1.0, None)]
    wanted = np.zeros((2, 4000), np.float32)
    wanted[0, 10:2110] = np.concatenate([exact[0][50:2050], 0.5 * exact[0][7:107]])
    wanted[0, 3000] = exact[0][-1]  # nothing beyond the end of the recording
    assert np.array_equal(store.rows([parts, []], 4000).cpu().numpy(), wanted)
    every = [[Part(number, 0, 2900, 0, 1.0, lambda number=number: exact[number])] for number in range(5)]  # more than fits
    got = store.rows([*every, [Part("fine", 0, 1005, 0, 2.0, lambda: fine)]], 2900).cpu().numpy()
    assert np.array_equal(got[:5], exact) and np.array_equal(got[5, :1005], 2 * fine)


def test_a_broken_recording_is_said(sources):
    mixer = Mixer(small(sources), "train")
    scene = mixer.draw(0, 0, HARD)
    lost = replace(scene, noise=replace(scene.noise, file=replace(scene.noise.file, path="nowhere.wav")))
    with pytest.raises(HifitseError, match="does not exist"):
        BatchRenderer(mixer.renderer, "cpu", 0).render([lost])


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_made_together_are_those_made_one_by_one(both, workers, sources):
    params = small(sources, both_talkers=both, interferers_min=[0], interferers_max=[2], batch_size=5, workers=workers)
    mixer = Mixer(params, "train")
    items = Items(mixer, 1, partial(training_conditions, params), both, both)
    renderer = BatchRenderer(mixer.renderer, "cpu", 2**26)
    for got, wanted in zip(Batches(items, 3, 13, 5, workers, renderer=renderer), Batches(items, 3, 13, 5, 0), strict=True):
        assert got.keys() == wanted.keys() and torch.equal(got["present"], wanted["present"])
        assert [each["id"] for each in got["metadata"]] == [each["id"] for each in wanted["metadata"]]
        for name in ("mix", "target", "enroll", "wrong_enroll")[: 4 if both else 3]:
            assert torch.allclose(got[name], wanted[name], rtol=0, atol=1e-4 * wanted[name].abs().max().item())
        if both:
            assert all(map(torch.equal, got["shared"], wanted["shared"]))


@pytest.fixture()
def streams(monkeypatch):
    """Replace CUDA streams, so that the tests run without a GPU."""
    for name in ("Stream", "stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())


def test_batches_made_ahead_come_in_order_two_wait_and_the_thread_ends_with_the_training(streams):
    begun = []
    batches = (begun.append(number) or {"number": number} for number in count())
    made = ahead(batches, torch.device("cpu"))
    assert [next(made)["number"] for _ in range(3)] == [0, 1, 2]
    deadline = time.monotonic() + 10
    while len(begun) < 3 + AHEAD + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert begun == list(range(3 + AHEAD + 1))  # the training took three, two are ready, one waits to be handed over
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_what_fails_in_the_thread_is_raised_where_the_batch_is_asked_for(streams):
    def batches():
        yield {"number": 0}
        raise HifitseError("a recording is broken")

    made = ahead(batches(), torch.device("cpu"))
    next(made)
    with pytest.raises(HifitseError, match="is broken"):
        next(made)
