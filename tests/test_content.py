"""Test that runs and rows are identified by the content of their sources: never those of other recordings, and the same after a move."""

import gzip
import json
import os
import shutil

import pytest
import soundfile
from sounds import folders, save, small

from hifitse.data.corpus import CorpusError, load_corpus
from hifitse.data.manifest import SIDES, by_content, identity
from hifitse.data.mixing import Mixer
from hifitse.evaluation.evaluate import evaluate
from hifitse.model import Extractor
from hifitse.prepare.prepare import prepare
from hifitse.training.run import Run, refuse_another


def louder(path):
    """Replace a recording by a louder one of the same length and format."""
    audio, rate = soundfile.read(path)
    soundfile.write(path, 1.5 * audio, rate)


def test_a_corpus_changed_under_the_same_path_gives_another_run_and_other_rows(tmp_path):
    params = small(folders(tmp_path / "sources"), eval_mixtures=4, eval_partial=0, eval_long=0, eval_pesq=False)
    model = Extractor(params.extractor)
    run, rows = Run.of(params), evaluate(model, params, tmp_path, False)
    assert Run.of(params).folder == run.folder and evaluate(model, params, tmp_path, False) == rows
    assert len(list(tmp_path.glob("rows-*"))) == 1
    for path in (tmp_path / "sources" / "speech").rglob("*.flac"):
        louder(path)
    assert Run.of(params).folder != run.folder
    assert evaluate(model, params, tmp_path, False) != rows
    assert len(list(tmp_path.glob("rows-*"))) == 2


@pytest.mark.parametrize("name", ["corpus", "noise", "rooms"])
def test_every_source_is_part_of_a_runs_name(tmp_path, name):
    sources = folders(tmp_path)
    before = Run.of(small(sources)).folder
    save(tmp_path / {"corpus": "speech/s00", "noise": "noise", "rooms": "rooms"}[name] / "more.wav", [0.1] * 9600)
    assert Run.of(small(sources)).folder != before
    shutil.rmtree(sources[name])
    assert "missing" in getattr(by_content(small(sources)), name)


def test_rooms_of_the_evaluation_are_all_used_in_tests_only_and_identified_by_their_content(tmp_path):
    sources, more = folders(tmp_path), tmp_path / "measured"
    for name in "abc":
        save(more / f"{name}.wav", [0.9, *[0.1] * 9599])
    params = small(sources, eval_rooms=str(more), reverb_prob=1.0)
    used = {side: Mixer(params, side).acoustics.rooms for side in SIDES}
    assert [clip.path for clip in used["test"].clips] == ["a.wav", "b.wav", "c.wav"]
    assert all(used[side] == Mixer(small(sources, reverb_prob=1.0), side).acoustics.rooms for side in ("train", "valid"))
    assert Run.of(params).folder == Run.of(small(sources, reverb_prob=1.0)).folder  # no training hears them
    before = by_content(params).eval_rooms
    louder(more / "a.wav")
    assert by_content(params).eval_rooms != before


def test_moved_sources_give_the_same_run(tmp_path, monkeypatch):
    here = folders(tmp_path / "here")
    run = Run.of(small(here))
    run.folder = tmp_path / "run"
    run.folder.mkdir()
    (run.folder / "params.json").write_text(run.params.model_dump_json())
    name = Run.of(small(here)).folder.name
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.setenv("THERE", str(tmp_path / "there"))
    moved = small({"corpus": "$THERE/speech", "noise": "$THERE/noise", "rooms": "$THERE/rooms"})
    assert Run.of(moved).folder.name == name
    refuse_another(run.folder / "params.json", moved)  # another path does not make it another training


def test_a_manifest_counts_by_its_lines_and_not_by_its_packing_or_place(tmp_path):
    folders(tmp_path / "data")
    (tmp_path / "lists").mkdir()
    prepare(tmp_path / "data" / "speech", tmp_path / "lists" / "a.jsonl", workers=0)
    first, *lines = (tmp_path / "lists" / "a.jsonl").read_bytes().splitlines(keepends=True)
    assert b"root" in first
    known = identity(str(tmp_path / "lists" / "a.jsonl"))
    (tmp_path / "data" / "speech" / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))
    (tmp_path / "data" / "speech" / "manifest.jsonl").write_bytes(b"".join([json.dumps({"root": "."}).encode() + b"\n", *lines]))
    assert identity(str(tmp_path / "data" / "speech" / "b.jsonl.gz")) == identity(str(tmp_path / "data" / "speech")) == known
    shutil.move(tmp_path / "data" / "speech" / "s01", tmp_path / "s01")  # a missing file may move speakers across the split
    os.utime(tmp_path / "lists" / "a.jsonl")  # the identity is cached by the time of the last change
    assert identity(str(tmp_path / "lists" / "a.jsonl")) != known
    shutil.move(tmp_path / "s01", tmp_path / "data" / "speech" / "s01")
    louder(tmp_path / "data" / "speech" / "s00" / "u0.flac")
    prepare(tmp_path / "data" / "speech", tmp_path / "lists" / "a.jsonl", workers=0)
    assert identity(str(tmp_path / "lists" / "a.jsonl")) != known


def test_a_folder_of_links_is_what_they_lead_to(tmp_path):
    folders(tmp_path / "data")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for speaker in sorted((tmp_path / "data" / "speech").iterdir())[: None if name == "one" else 6]:
            (tmp_path / name / speaker.name).symlink_to(speaker)
    ids = [identity(str(tmp_path / name)) for name in ("one", "two")]
    assert len(load_corpus(tmp_path / "one").speakers) == 9 and ids[0] != ids[1]
    louder(tmp_path / "data" / "speech" / "s00" / "u0.flac")
    assert all(identity(str(tmp_path / name)) != known for name, known in zip(("one", "two"), ids, strict=True))


def test_several_sources_count_in_their_order_and_an_unreadable_one_is_one_sentence(tmp_path):
    sources = folders(tmp_path)
    names = [Run.of(small(sources | {"noise": text})).folder for text in
             (f"{tmp_path}/noise, synthetic", f"synthetic, {tmp_path}/noise", f"{tmp_path}/noise")]  # fmt: skip
    assert len(set(names)) == 3
    (tmp_path / "speech" / "manifest.jsonl.gz").write_bytes(b"\x1f\x8bnot packed")
    with pytest.raises(CorpusError, match=r"manifest\.jsonl\.gz|speech.* cannot be read"):
        Run.of(small(sources))
