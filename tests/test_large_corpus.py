"""Test large corpora: the index on disk against the list in memory, damage, changed manifests; the limit on kept recordings; long ones."""

import os
import pickle
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from bad_case import full_disk
from scipy.signal import correlate
from sounds import entry, manifest, speech_folder

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data import corpus as corpora
from hifitse.data import sampling
from hifitse.data.corpus import CorpusError, load_corpus
from hifitse.data.mixing import Mixer, others
from hifitse.data.reader import Reader
from hifitse.data.rendering import Renderer
from hifitse.data.sampling import WHOLE_S, SpeechSampler
from hifitse.data.scene import File, validation_conditions
from hifitse.params import resolve
from hifitse.studies import data_loading


def listed(folder, extra=()):
    """Make a corpus of 7 speakers with 3 utterances each; its manifest mixes the speakers."""
    speech_folder(folder, speakers=7, utterances=3)
    return manifest(folder, [*(entry(speaker, number) for number in range(3) for speaker in range(7)), *extra]).parent


def same(one, other):
    assert {name: list(said) for name, said in one.speakers.items()} == {name: list(said) for name, said in other.speakers.items()}
    assert list(one.speakers) == list(other.speakers) and one.root == other.root


@pytest.fixture
def indexed(monkeypatch, tmp_path):
    """Index every manifest, in a separate cache."""
    monkeypatch.setenv("HIFITSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpora, "INDEXED_BYTES", 0)
    return tmp_path / "cache"


def test_the_list_on_disk_is_the_list_in_memory_and_so_are_its_splits(tmp_path, monkeypatch):
    alone = entry(0, 0, speaker="alone", path="s00/../s01/u0.flac")
    named = entry(0, 0, path=os.fsdecode(b"caf\xe9"), utterance="\ud800", source="a booth")  # a name that is not UTF-8
    folder = listed(tmp_path / "c", ["{broken", named, entry(0, 0), alone, entry(0, 0, path="nowhere.flac")])
    (folder / os.fsdecode(b"caf\xe9")).write_bytes((folder / "s00/u0.flac").read_bytes())
    memory = load_corpus(folder)
    monkeypatch.setattr(corpora, "INDEXED_BYTES", 0)
    monkeypatch.setenv("HIFITSE_CACHE", str(tmp_path / "cache"))
    for _ in range(2):  # created, then found again
        disk = load_corpus(folder)
        same(disk, memory)
        assert isinstance(next(iter(disk.speakers.values())), corpora.Said)
        for side, part in disk.split(0.2, 0.3, 5).items():
            same(part, memory.split(0.2, 0.3, 5)[side])
        text = " ".join(disk.skipped)
        assert all(words in text for words in ("listed twice", "is missing", "manifest line 22"))
    said = disk.speakers["s02"]
    assert (said[-1], said[:2], len(said)) == (memory.speakers["s02"][-1], memory.speakers["s02"][:2], 3)
    with pytest.raises(IndexError):
        said[3]
    assert list(pickle.loads(pickle.dumps(said))) == list(memory.speakers["s02"])  # as a process that was not forked receives it


def test_a_changed_manifest_is_indexed_anew_and_damage_is_said(indexed, tmp_path):
    folder = listed(tmp_path / "c")
    corpus = load_corpus(folder)
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    (folder / "manifest.jsonl").write_text("\n".join(line for line in lines if "s06" not in line) + "\n")
    assert list(load_corpus(folder).speakers) == list(corpus.speakers)[:-1]
    for path in indexed.glob("index-*/*"):
        path.write_bytes(b"")
    for damaged in (lambda: corpus.speakers["s01"][0], lambda: load_corpus(folder)):
        with pytest.raises(CorpusError, match=r"index .* is damaged .*; remove it"):
            damaged()


def test_an_index_that_the_disk_has_no_room_for_is_one_sentence(indexed, tmp_path):
    folder = listed(tmp_path / "c")
    with full_disk(5000), pytest.raises(HifitseError, match=r"cannot write .*index.*disk"):
        load_corpus(folder)
    assert list(indexed.iterdir()) == []
    assert len(load_corpus(folder).speakers) == 7


def test_others_are_looked_at_no_further_than_asked():
    said = mock.MagicMock()
    said.__getitem__.side_effect = [corpora.Utterance("s", f"u{i}", f"p{i}", 9, "s") for i in range(1000)].__getitem__
    order = np.random.default_rng(0).permutation(1000)
    names = [f"u{i}" for i in order]
    assert next(others(said, order, {names[0]}, {names[1]})).utterance == names[2] and said.__getitem__.call_count == 3
    found = others(said, order[:4], {names[0]}, {names[1]})
    assert [each.utterance for each in found] == [names[2], names[3], names[1]]
    assert [each.utterance for each in others(said, order[:4], set(names), set())] == names[:4]


def test_the_limit_is_kept_whatever_is_read():
    reader, made = Reader(Path(), 20_000), []
    reader.whole = lambda file: made.append(int(file.path)) or np.full(2000, 0.1 + int(file.path), np.float32)
    for number in [0, 1, 2, 3, 0, 0, 9, 1, 2]:
        reader.read(File(str(number), 2000), 0, 5)
        assert reader.bytes <= 20_000
    assert made == [0, 1, 2, 3, 0, 9, 1, 2]  # two fit; the second 0 in a row was still there
    assert not reader.holds(5001) and reader.holds(5000) and not Reader(Path()).holds(1)
    minute, large = 60 * SAMPLE_RATE, Reader(Path(), 2**30)
    assert large.holds(minute) and not large.holds(minute + 1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "anna"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, seconds in (("a", 27), ("b", 31)):
        loud = np.repeat(rng.random(seconds) > 0.4, SAMPLE_RATE)
        audio.write(folder / f"{name}.flac", (0.1 * loud * rng.standard_normal(seconds * SAMPLE_RATE)).astype(np.float32))
    return load_corpus(folder.parent)


def drawn(corpus, seed: int, seconds: float = 4.0):
    """Return a segment, its sound, and the length in samples of every read from disk."""
    said, reader = corpus.speakers["anna"], Reader(corpus.root, 0, WHOLE_S)
    with mock.patch.object(audio, "read", side_effect=audio.read) as read:
        segment = SpeechSampler(reader).draw(np.random.default_rng(seed), said[:1], said[1:], round(seconds * SAMPLE_RATE), 1.0)
        sound = Renderer(reader, None, None).segment(segment)
    return segment, sound, [call.args[2] for call in read.call_args_list]


def test_of_a_long_recording_one_part_is_read_once_and_the_crop_is_a_piece_of_it(corpus):
    whole = corpus.read(corpus.speakers["anna"][0])
    for seed in range(5):
        segment, sound, reads = drawn(corpus, seed)
        assert reads == [round(sampling.PART_S * SAMPLE_RATE)]
        at = int(np.argmax(correlate(whole, sound, "valid", "fft")))
        piece = whole[at : at + len(sound)]
        gain = float(piece @ sound) / float(piece @ piece)
        assert gain > 1 and np.allclose(sound, gain * piece, atol=1e-4)
        assert segment.activity >= sampling.MIN_ACTIVITY
    *_, reads = drawn(corpus, 0, seconds=8.0)
    assert reads == [16 * SAMPLE_RATE]


def test_the_old_path_makes_the_same_mixtures_but_for_the_resampler_and_kept_recordings_change_no_bit():
    dry = data_loading.plan_mixing(resolve("smoke", cache_mb=30, noisy_enroll_prob=[1.0], interferers_max=[2]))
    assert dry.cache_mb == 0  # not 30: keeping recordings is one of the paths to be measured
    still = dry.model_copy(update={"speed_min": 1.0, "speed_max": 1.0})
    old, new = data_loading.OldMixer(still, "train"), Mixer(still, "train")
    for index in range(4):
        one, other = (mixer.mixture(0, index, validation_conditions(still)[0]) for mixer in (old, new))
        assert one.metadata == other.metadata and np.abs(one.mix - other.mix).max() < 2e-6  # rooms differ only by rounding
    found = data_loading.alike(dry, mixtures=3)
    assert found["old_to_present_db"] < -20 and found["kept_bit_equal"] == 1
