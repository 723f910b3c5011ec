import numpy as np
import pytest
from sounds import entry, manifest, noise_folder, room_folder, save, speech_folder, tone

from hifitse import SAMPLE_RATE
from hifitse.data.corpus import CorpusError, load_clips, load_corpus, merged, merged_clips
from hifitse.data.manifest import sources
from hifitse.data.rendering import loop


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.jsonl.gz"])
def test_a_folder_is_listed_in_order_of_names_without_what_cannot_be_used_and_its_manifest_gives_the_same(tmp_path, name, monkeypatch):
    monkeypatch.setenv("SOME_CORPORA", str(tmp_path))
    folder = speech_folder(tmp_path / "x", speakers=3, utterances=2)
    (folder / "s00/broken.flac").write_bytes(b"no audio")
    save(folder / "s01/short.wav", np.zeros(100))
    (folder / "s01/notes.txt").write_text("not audio, not counted")
    scanned = load_corpus("$SOME_CORPORA/x")
    broken, short = scanned.skipped
    assert list(scanned.speakers) == ["s00", "s01", "s02"] and "broken.flac" in broken and "short.wav" in short
    assert [(said.utterance, said.samples) for said in scanned.speakers["s01"]] == [("u0", 72000), ("u1", 72000)]
    path = manifest(folder, [entry(s, u) for s in range(3) for u in range(2)], name)
    assert load_corpus(folder).speakers == load_corpus(path).speakers == scanned.speakers


def test_manifest_counts_samples_at_48k_and_leaves_lone_utterances_and_mixed_groups_out(tmp_path):
    speech_folder(tmp_path, speakers=3, utterances=2)
    lines = [entry(0, n, samples=24_000, sample_rate=16_000) for n in range(2)]
    lines += [entry(1, 0), entry(2, 0, group="a"), entry(2, 1, group="b")]
    corpus = load_corpus(manifest(tmp_path, lines))
    assert [(said.samples, said.sample_rate) for said in corpus.speakers["s00"]] == [(72_000, 16_000)] * 2
    assert list(corpus.speakers) == ["s00"]
    assert [reason[:11] for reason in sorted(corpus.skipped)] == ["speaker s01", "speaker s02"]


@pytest.mark.parametrize("use, words", [
    (lambda folder: load_corpus(folder / "nothing"), "does not exist"),
    (lambda folder: load_corpus("$HIFITSE_NO_SUCH_VARIABLE/x"), "environment variable is not set"),
    (lambda folder: load_corpus(folder), "no usable speaker"),
    (lambda folder: load_corpus(manifest(folder, ["{", "}"])), "the first of 2 reasons: manifest line 1"),
    (lambda folder: load_clips(folder / "none", "noise"), "does not exist"),
    (lambda folder: load_clips(folder, "noise"), r"no usable audio file \(1 were skipped\)"),
    (lambda folder: load_clips(folder / "x.wav", "noise"), "which is a file"),
    (lambda folder: load_clips(noise_folder(folder, 2), "noise").split(0.1, 0.2, 0), "there are 2 recordings or rooms"),
])  # fmt: skip
def test_nothing_usable_is_one_clear_sentence(tmp_path, use, words):
    (tmp_path / "x.wav").write_bytes(b"broken")
    with pytest.raises(CorpusError, match=words):
        use(tmp_path)


def test_split_is_disjoint_complete_and_repeatable_and_keeps_groups_together(tmp_path):
    corpus = load_corpus(speech_folder(tmp_path, speakers=20, utterances=2, seconds=0.2))
    sides = corpus.split(0.1, 0.2, 3)
    assert {side: len(part.speakers) for side, part in sides.items()} == {"train": 14, "valid": 2, "test": 4}
    assert sorted(name for part in sides.values() for name in part.speakers) == list(corpus.speakers)
    again = corpus.split(0.1, 0.2, 3)
    assert all(list(again[side].speakers) == list(part.speakers) for side, part in sides.items())
    assert any(list(corpus.split(0.1, 0.2, seed)["test"].speakers) != list(sides["test"].speakers) for seed in range(4, 8))
    lines = [entry(s, u, samples=9600, group=f"g{s // 3}") for s in range(12) for u in range(2)]
    grouped = load_corpus(manifest(tmp_path, lines)).split(0.1, 0.2, 0)
    groups = [{said[0].group for said in part.speakers.values()} for part in grouped.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 4
    few = load_corpus(manifest(tmp_path, [entry(s, u, samples=9600) for s in range(5) for u in range(2)]))
    with pytest.raises(CorpusError, match=r"there are 5 speakers .*, expected 2 or more per side, got train 1"):
        few.split(0.1, 0.2, 0)


def test_speakers_of_the_training_alone_are_not_held_out_and_the_shares_are_of_the_others(tmp_path):
    speech_folder(tmp_path, speakers=20, utterances=2, seconds=0.2)
    lines = [entry(s, u, samples=9600, **({"group": "pair"} if s in (4, 15) else {})) for s in range(20) for u in range(2)]
    corpus = load_corpus(manifest(tmp_path, lines))
    for seed in range(5):
        sides = corpus.split(0.2, 0.2, seed, ["s00", "s1"])  # s00, s10 to s19, and s04, which is in the group of s15
        assert {"s00", "s04", "s15", "s19"} <= set(sides["train"].speakers)
        assert {side: len(part.speakers) for side, part in sides.items()} == {"train": 16, "valid": 2, "test": 2}
    assert all(list(corpus.split(0.2, 0.2, 1)[side].speakers) == list(corpus.split(0.2, 0.2, 1, [])[side].speakers) for side in sides)


def test_a_split_in_the_manifest_is_honoured_and_the_others_are_dealt(tmp_path):
    speech_folder(tmp_path, speakers=12, utterances=3, seconds=0.2)
    named = {0: "test", 1: "test", 2: "valid", 3: "valid", 4: "train"}
    lines = [entry(s, u, samples=9600, split=named.get(s, "")) for s in range(12) for u in range(2)]
    sides = load_corpus(manifest(tmp_path, lines)).split(0.1, 0.3, 0)
    assert all(f"s{s:02d}" in sides[side].speakers for s, side in named.items())
    assert {side: len(part.speakers) for side, part in sides.items()} == {"train": 5, "valid": 3, "test": 4}
    for changes, words in (({"split": "dev"}, "split is 'dev', expected one of train, valid, test"), ({"source": 1}, "source is 1"),
                           ({"samples": 10**400}, "expected a positive whole number")):
        assert words in load_corpus(manifest(tmp_path, [*lines, entry(11, 2, samples=9600) | changes])).skipped[0]
    both = [line | ({"split": "valid"} if line["path"] == "s00/u1.flac" else {}) for line in lines]
    assert load_corpus(manifest(tmp_path, both)).skipped == ["speaker s00: utterances in different splits"]
    with pytest.raises(CorpusError, match="group all has members in test and in valid"):
        load_corpus(manifest(tmp_path, [line | {"group": "all"} for line in lines])).split(0.1, 0.3, 0)
    assert "recursion" in load_corpus(manifest(tmp_path, [*lines, "[" * 100_000])).skipped[0]


def test_sources_are_separated_by_commas_unless_such_a_path_exists(tmp_path, monkeypatch):
    assert sources(" a/b , synthetic,,$X/c") == ["a/b", "synthetic", "$X/c"] and sources("one") == ["one"]
    (tmp_path / "x, y").mkdir()
    monkeypatch.setenv("HERE", str(tmp_path))
    assert sources("$HERE/x, y") == ["$HERE/x, y"] and sources(f"{tmp_path}/x, z") == [f"{tmp_path}/x", "z"]


def test_corpora_are_merged_by_speakers_whose_names_differ(tmp_path):
    one = load_corpus(speech_folder(tmp_path / "b", speakers=2, utterances=2, seconds=0.2))
    (tmp_path / "b").joinpath("s00").rename(tmp_path / "b" / "t00")
    other = load_corpus(tmp_path / "b")
    assert merged([one]) is one
    with pytest.raises(CorpusError, match="speaker s01 is in two of the corpora"):
        merged([one, other])
    (tmp_path / "b").joinpath("s01").rename(tmp_path / "b" / "t01")
    speech_folder(tmp_path / "c", speakers=2, utterances=2, seconds=0.3)
    both = merged([load_corpus(tmp_path / "b"), load_corpus(tmp_path / "c")])
    assert list(both.speakers) == ["s00", "s01", "t00", "t01"] and both.skipped == []
    assert [len(both.read(said[1])) for said in both.speakers.values()] == [14_400, 14_400, 9600, 9600]


def test_merged_noises_and_rooms_keep_their_groups_apart_wherever_their_folders_lie(tmp_path, monkeypatch):
    """The split must not depend on folder names, or a training and its test on another machine would share rooms."""
    dealt = []
    for first, second in (("a", "z"), ("y", "b")):
        rooms = [load_clips(room_folder(tmp_path / name, rooms), "rooms") for name, rooms in ((first, 5), (second, 7))]
        both = merged_clips(rooms)
        assert merged_clips(rooms[:1]) is rooms[0] and len(both.groups) == 12 and len(both.read(both.clips[-1])) == 14_400
        sides = both.split(0.2, 0.3, 1)
        dealt.append([[(clip.group, clip.path.rpartition("/")[2]) for clip in part.clips] for part in sides.values()])
    assert dealt[0] == dealt[1]
    monkeypatch.chdir(tmp_path)
    made, own = load_clips(room_folder(tmp_path / "cache" / "made"), "rooms"), load_clips(tmp_path / "a", "rooms")
    for cache in (tmp_path / "cache", "cache"):
        monkeypatch.setenv("HIFITSE_CACHE", str(cache))
        assert merged_clips([own, made]).clips[-1].group.startswith("0/")


@pytest.mark.parametrize("kind, make", [("noise", noise_folder), ("rooms", room_folder)])
def test_a_split_of_noises_and_rooms_is_honoured_and_the_others_are_dealt(kind, make, tmp_path):
    clips = load_clips(make(tmp_path, 8), kind).clips
    groups = sorted({clip.group for clip in clips})
    named = dict(zip(groups, ("test", "test", "valid", "train"), strict=False))
    lines = [{"path": clip.path, "samples": clip.samples, "sample_rate": SAMPLE_RATE} for clip in clips]
    lines = [line | ({"split": named[clip.group]} if clip.group in named else {}) for line, clip in zip(lines, clips, strict=True)]
    listed = load_clips(manifest(tmp_path, lines), kind)
    for seed in range(3):
        sides = listed.split(0.25, 0.25, seed)
        assert all(group in sides[side].groups for group, side in named.items())
        assert {side: len(part.groups) for side, part in sides.items()} == {"train": 3, "valid": 2, "test": 3}
    both = merged_clips([listed, load_clips(manifest(tmp_path, lines), kind)]).split(0.25, 0.25, 0)
    assert sum(clip.path.endswith(clips[0].path) for clip in both["test"].clips) == 2
    wrong = load_clips(manifest(tmp_path, [*lines[:-1], lines[-1] | {"split": "dev"}]), kind)
    assert "split is 'dev', expected one of train, valid, test" in wrong.skipped[0]
    mixed = [line | {"group": "g" if line.get("split") in ("test", "train") else line["path"]} for line in lines]
    with pytest.raises(CorpusError, match="group g has members in test and in train"):
        load_clips(manifest(tmp_path, mixed), kind).split(0.25, 0.25, 0)


def test_noise_loop_has_no_seam():
    short = tone(440, 1.0, 10_000 / SAMPLE_RATE)
    looped = loop(short, 48_000)
    assert len(looped) == 48_000 and np.array_equal(looped[:9_000], short[:9_000])
    assert np.abs(np.diff(looped)).max() < 2.2 * np.abs(np.diff(short)).max()  # at most two crossfaded tones, and no jump
    hiss = np.random.default_rng(0).standard_normal(30_000).astype(np.float32)
    assert loop(hiss, 200_000).std() == pytest.approx(1, abs=0.03)


@pytest.mark.real
def test_real_recordings(hifitse_data):
    corpus = load_corpus("$HIFITSE_DATA/speech")
    assert len(corpus.speakers) == 19 and corpus.skipped == []
    sides = corpus.split(0.1, 0.2, 0)
    assert {side: len(part.speakers) for side, part in sides.items()} == {"train": 13, "valid": 2, "test": 4}
    rooms = load_clips(hifitse_data / "rir", "rooms")
    assert len(rooms.groups["StPatricksChurchPatrington"]) == 3
    assert len(load_clips("$HIFITSE_DATA/noise", "noise").clips) == 62
    said = corpus.speakers["vctk_p225f"][0]
    assert said.samples == len(corpus.read(said)) > SAMPLE_RATE
