"""Test the layouts of known corpora: the speakers, which files are left out, and Lhotse's manifests read without Lhotse."""

import numpy as np
import pytest
from sounds import manifest, save

from hifitse import HifitseError, audio
from hifitse.data.corpus import load_corpus
from hifitse.prepare.layouts import LAYOUTS, listing
from hifitse.prepare.prepare import prepare


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(root, layout, kind="speech"):
    """Return the accepted items as (path, speaker, utterance), and the reasons for the others by path."""
    _, items = listing(root, layout, kind)
    found = list(items())
    taken = [(item.path, item.speaker, item.utterance) for item in found if not item.reason]
    return taken, {item.path: item.reason for item in found if item.reason}


def test_folder_has_any_depth_below_the_speaker_and_leaves_hidden_files_alone(tmp_path):
    touch(tmp_path, "b/u2.wav", "b/2024/chapter 1/u1.FLAC", "a/ü.ogg", "a/notes.txt", "a/.hidden.wav", ".git/x.wav", "loose.wav")
    taken, left = listed(tmp_path, "folder")
    assert taken == [("a/ü.ogg", "a", "ü"), ("b/2024/chapter 1/u1.FLAC", "b", "2024/chapter 1/u1"), ("b/u2.wav", "b", "u2")]
    assert left == {"loose.wav": "in no speaker's folder"}
    taken, left = listed(tmp_path, "folder", "noise")
    assert len(taken) == 4 and left == {}


def test_folder_follows_links_but_not_into_itself(tmp_path):
    touch(tmp_path, "elsewhere/deep/u1.wav", "root/a/u1.wav")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "root" / "a" / "up").symlink_to(tmp_path / "root", target_is_directory=True)
    (tmp_path / "root" / "a" / "more").symlink_to(tmp_path / "elsewhere" / "deep", target_is_directory=True)
    assert [path for path, *_ in listed(tmp_path / "root", "folder")[0]] == ["a/more/u1.wav", "a/u1.wav", "b/deep/u1.wav"]


VCTK = [f"p225/p225_00{n}_mic{m}.flac" for n in (1, 2) for m in (1, 2)] + ["s5/s5_001_mic1.flac", "log.txt", "p225/x.flac"]
BOOK = "read_speech/book_0000{}_chp_0009_reader_{}_0_seg_1.wav"


@pytest.mark.parametrize("layout, names, taken, left", [
    ("vctk", VCTK, [("p225", "p225_001"), ("p225", "p225_002"), ("s5", "s5_001")],
     {VCTK[1]: "other microphone", VCTK[3]: "other microphone", "p225/x.flac": "name not of this layout"}),
    ("ears", ["p001/emo_adoration_freeform.wav", "p001/vegetative_cough.wav", "p107/melodic_x.wav", "x/y.wav"],
     [("p001", "emo_adoration_freeform")],
     {"p001/vegetative_cough.wav": "no speech", "p107/melodic_x.wav": "no speech", "x/y.wav": "name not of this layout"}),
    ("libri", ["6/7/6-7-0.flac", "6/7/6_7_0.wav", "6/x.flac"], [("6", "6-7-0"), ("6", "6_7_0")], {"6/x.flac": "name not of this layout"}),
    ("dns", [BOOK.format(0, "06709"), BOOK.format(2, "11980"), "read_speech/other.wav"],
     [(who, BOOK.format(n, who)[12:-4]) for n, who in ((0, "06709"), (2, "11980"))], {"read_speech/other.wav": "name without a reader"}),
])  # fmt: skip
def test_known_corpora_by_their_names(tmp_path, layout, names, taken, left):
    for inner in ("", "wav48_silence_trimmed/"):
        touch(tmp_path / layout / inner, *names)
        found, reasons = listed(tmp_path / layout / inner, layout)
        assert [(who, said) for _, who, said in found] == taken and reasons == left
    if layout == "dns":
        assert len(listed(tmp_path / layout / inner, "dns", "noise")[0]) == 3


def recording(name, source, **changes):
    """Return a Recording as Lhotse writes it."""
    sources = [{"type": "file", "channels": [0], "source": str(source)}]
    return {"id": name, "sources": sources, "sampling_rate": 48000, "num_samples": 48000, "duration": 1.0, "channel_ids": [0]} | changes


def segment(name, speaker, start=0.0, **changes):
    """Return a SupervisionSegment as Lhotse writes it."""
    made = {"id": f"{name}-{start:g}", "recording_id": name, "start": start, "duration": 0.5, "channel": 0, "text": "so it is"}
    return made | {"language": "English", "speaker": speaker} | changes


def write(folder, recordings, segments, packed=True):
    for name, entries in (("corpus_recordings_train", recordings), ("corpus_supervisions_train", segments)):
        manifest(folder, entries, f"{name}.jsonl{'.gz' if packed else ''}")


def as_cuts(folder, recordings, segments):
    """Write cuts as Lhotse does: half a recording each, the last two mixed."""
    cuts = [
        {"id": f"{one['id']}-{half}", "start": half / 2, "duration": 0.5, "channel": 0, "recording": one, "type": "MonoCut",
         "supervisions": [said for said in segments if said["recording_id"] == one["id"] and said["start"] == half / 2]}
        for one in recordings for half in (0, 1)
    ]  # fmt: skip
    mixed = {"id": "mix", "type": "MixedCut", "tracks": [{"cut": cut, "type": "MonoCut", "offset": 0.0} for cut in cuts[-2:]]}
    manifest(folder, [*cuts[:-2], mixed], "cuts_train.jsonl")


@pytest.mark.parametrize("form", ["packed", "plain", "cuts", "cuts beside recordings"])
def test_lhotse_manifests_give_a_corpus(tmp_path, form):
    for speaker in "ab":
        for number in range(2):
            save(tmp_path / "audio" / speaker / f"{number}.flac", 0.1 * np.random.default_rng(number).standard_normal(48000))
    (tmp_path / "manifests").mkdir()
    names = [(f"{speaker}-{number}", f"audio/{speaker}/{number}.flac") for speaker in "ba" for number in (1, 0)]
    recordings = [recording(name, tmp_path / path) for name, path in names]
    segments = [segment(one["id"], one["id"][0], start) for one in recordings for start in (0.0, 0.5)]
    if form != "cuts":
        write(tmp_path / "manifests", recordings, segments, form == "packed")
    if "cuts" in form:
        as_cuts(tmp_path / "manifests", recordings, segments)
    summary = prepare(tmp_path / "manifests", tmp_path / "m.jsonl", layout="lhotse", workers=0)
    assert (summary["files"], summary["kept"], summary["speakers"]) == (4, 4, 2)
    corpus = load_corpus(tmp_path / "m.jsonl")
    assert {name: [(said.utterance, said.path) for said in some] for name, some in corpus.speakers.items()} == {
        "a": [("a-0", "audio/a/0.flac"), ("a-1", "audio/a/1.flac")], "b": [("b-0", "audio/b/0.flac"), ("b-1", "audio/b/1.flac")],
    }  # fmt: skip


def test_each_channel_of_a_lhotse_recording_with_a_speaker_of_its_own_is_an_utterance(tmp_path):
    rng = np.random.default_rng(0)
    sound = {f"call{number}": 0.1 * rng.standard_normal((24_000, 2)) for number in range(3)}
    for name, both in sound.items():
        save(tmp_path / f"{name}.wav", both)
    sources = {name: [{"type": "file", "channels": [0, 1], "source": f"{name}.wav"}] for name in sound}
    segments = [segment(name, speaker, channel=channel) for name in sound for channel, speaker in enumerate(("anna", "bert"))]
    write(tmp_path, [recording(name, "", sources=sources[name]) for name in sound], [*segments, segment("call2", "carl", 0.4, channel=1)])
    summary = prepare(tmp_path, tmp_path / "m.jsonl", layout="lhotse", workers=0)
    assert (summary["kept"], summary["left_out"], summary["suffixes"]) == (4, {"several speakers": 1}, {".wav": {"several speakers": 1}})
    assert "stereo" not in summary["marked"]
    corpus = load_corpus(tmp_path / "m.jsonl")
    assert {name: [said.path for said in some] for name, some in corpus.speakers.items()} == {
        "anna": ["call0.wav/0", "call1.wav/0"], "bert": ["call0.wav/1", "call1.wav/1"],
    }  # fmt: skip
    for speaker, channel in (("anna", 0), ("bert", 1)):
        assert np.allclose(corpus.read(corpus.speakers[speaker][1], 500, 1000), sound["call1"][500:1500, channel], atol=1e-4)
    with pytest.raises(HifitseError, match="has 2 channels, expected one of them, got 2"):
        audio.read(tmp_path / "call0.wav" / "2")


def test_lhotse_recordings_that_are_no_utterance_have_a_reason(tmp_path):
    touch(tmp_path, "x.wav", "y.wav", "z.wav", "two.wav")
    command = [{"type": "command", "channels": [0], "source": "sox x.mp3 -t wav -"}]
    recordings = [
        recording("good", "x.wav"), recording("again", "x.wav"), recording("two", "two.wav"), recording("unknown", "y.wav"),
        recording("pipe", "z.wav", sources=command), recording("slow", "z.wav", transforms=[{"name": "Speed", "kwargs": {"factor": 0.9}}]),
    ]  # fmt: skip
    write(tmp_path, recordings, [segment("good", "a"), segment("again", "a"), segment("two", "a"), segment("two", "b", 0.5)])
    taken, left = listed(tmp_path, "lhotse")
    assert taken == [("x.wav", "a", "again")]
    assert sorted(left.items()) == [
        ("pipe", "not one plain file"), ("slow", "not one plain file"), ("two.wav", "several speakers"),
        ("x.wav", "listed twice"), ("y.wav", "no speaker"),
    ]  # fmt: skip
    assert [path for path, *_ in listed(tmp_path, "lhotse", "noise")[0]] == ["x.wav", "two.wav", "y.wav"]


@pytest.mark.parametrize("name, text, words", [
    ("recordings", b"{not json\n", "cannot be read"), ("recordings", b"[1, 2]\n", "line 1 of .* is not a JSON object"),
    ("supervisions", b'{"recording_id": "a", "channel": {}}\n', "field of another type"),
    ("cuts", b'{"tracks": ["a"]}\n', "field of another type"), ("cuts", b'{"tracks": null}\n', "no files like"),
])  # fmt: skip
def test_a_damaged_lhotse_manifest_is_one_sentence_and_none_is_overwritten(tmp_path, name, text, words):
    (tmp_path / f"{name}.jsonl").write_bytes(text)
    with pytest.raises(HifitseError, match=words):
        listing(tmp_path, "lhotse")
    with pytest.raises(HifitseError, match="a name that Lhotse's manifests in .* have"):
        prepare(tmp_path, tmp_path / f"{name}.jsonl", layout="lhotse")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_finds_nothing_says_what_it_looked_for(tmp_path, layout):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HifitseError, match="no files like .* under .*, expected a folder with some") as caught:
        listing(tmp_path, layout)
    assert LAYOUTS[layout].like in str(caught.value)
