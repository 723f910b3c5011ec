import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from sounds import save, small

from hifitse import SAMPLE_RATE
from hifitse.data.corpus import CorpusError
from hifitse.data.dataset import Batches, Items, training_loader
from hifitse.data.mixing import Mixer
from hifitse.data.scene import Conditions, training_conditions

PLAIN = Conditions("valid", 0.5)


@pytest.fixture(scope="module")
def sources(sources):
    return sources | {"seconds": 0.5, "enroll_seconds": 0.5}


def listed(mixer, seed, conditions, batch_size=1, **values):
    return Batches(Items(mixer, seed, conditions.__getitem__, **values), 0, len(conditions), batch_size, mixer.params.workers)


def test_batches_are_the_same_with_any_number_of_workers(sources):
    params = small(sources, batch_size=2, absent_prob=[0.3], enroll_augment_prob=0.5)
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # workers use one thread each, which must not change the sound
    torch.randn(512, 512) @ torch.randn(512, 512)  # start the threads before the workers are forked
    try:
        runs = []
        for workers in (0, 1, 2):
            given = params.model_copy(update={"workers": workers})
            runs.append(list(training_loader(given, Mixer(given, "train"), 5, 9)))
    finally:
        torch.set_num_threads(before)
    assert [[meta["index"] for meta in batch["metadata"]] for batch in runs[0]] == [[5, 6], [7, 8], [9, 10], [11, 12], [13]]
    first = runs[0][0]
    assert first["mix"].shape == first["target"].shape == (2, SAMPLE_RATE // 2) and first["enroll"].shape == (2, 1, SAMPLE_RATE // 2)
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            assert one.keys() == two.keys()
            for name, value in one.items():
                pairs = zip(value, two[name], strict=True) if name == "shared" else [(value, two[name])]
                assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_batches_of_a_list_have_wrong_enrolments_and_several_lengths(sources):
    params = small(sources)
    mixer = Mixer(params, "test")
    conditions = [replace(PLAIN, name="long", seconds=seconds) for seconds in (0.5, 0.75)]
    batches = list(listed(mixer, 42, conditions, wrong_enroll=True))
    assert [batch["mix"].shape[1] for batch in batches] == [24_000, 36_000]
    expected = mixer.mixture(42, 1, conditions[1], wrong_enroll=True)
    assert torch.equal(batches[1]["wrong_enroll"][0], torch.from_numpy(expected.wrong_enroll))
    alone = [PLAIN, replace(PLAIN, interferers_min=0, interferers_max=0)]
    batch = next(iter(listed(mixer, 0, alone, batch_size=2, wrong_enroll=True)))
    assert batch["wrong_enroll"][0].any() and not batch["wrong_enroll"][1].any(), "silence where nobody interferes"


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_worker_arrives_as_its_one_sentence(sources, tmp_path, workers):
    for speaker in range(6):
        for number in range(2):
            save(tmp_path / f"s{speaker}/{number}.flac", [0.0] * 48_000)
    params = small(sources | {"corpus": str(tmp_path)}, workers=workers)
    with pytest.raises(CorpusError, match=r"^speaker s\d has only silent or broken utterances") as caught:
        list(training_loader(params, Mixer(params, "train")))
    assert "\n" not in str(caught.value)


STOPPED = """
import os, signal, sys, torch
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.params import Params
params = Params(**eval(sys.argv[1]))
stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append("TERM"))
signal.signal(signal.SIGINT, lambda *_: stops.append("INT"))
batches = iter(training_loader(params, Mixer(params, "train")))
next(batches)
for number in (signal.SIGINT, signal.SIGTERM):
    os.killpg(0, number)
more = [next(batches) for _ in range(12)]
print(sorted(stops), len(more), len(torch.multiprocessing.active_children()))
"""


def test_stop_signals_to_the_whole_group_leave_the_workers_alive(sources):
    values = repr(sources | {"workers": 2, "steps": 1000, "batch_size": 1})
    command = [sys.executable, "-c", STOPPED, values]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, start_new_session=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.split("\n")[0] == "['INT', 'TERM'] 12 2"


@pytest.mark.parametrize("workers", [0, 2])
def test_both_talkers_of_a_mixture_are_asked_for_in_turn(sources, workers):
    params = small(sources, batch_size=4, both_talkers=True, absent_prob=[0.4], workers=workers, interferers_max=[2])
    mixer = Mixer(params, "train")
    for batch in training_loader(params, mixer, 0, 16):
        for first in (0, 2):
            asked, other = batch["metadata"][first], batch["metadata"][first + 1]
            whole = mixer.mixture(params.seed, asked["index"], training_conditions(params, asked["index"]), wrong_enroll=True)
            assert torch.equal(batch["mix"][first], batch["mix"][first + 1]), "the same sound"
            assert torch.equal(batch["target"][first], torch.from_numpy(whole.target))
            assert torch.equal(batch["target"][first + 1], torch.from_numpy(whole.interferers[0]))
            assert torch.equal(batch["enroll"][first + 1], torch.from_numpy(whole.wrong_enroll))
            assert other["id"] == asked["id"] + "-swapped" and other["present"] and bool(batch["present"][first]) == asked["present"]
