"""Test packing recordings to travel, and a sitting at another machine: trained, interrupted, resumed, exported."""

import gzip
import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
from sounds import manifest, save, small

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.commands import sitting
from hifitse.commands.cli import main
from hifitse.data.corpus import load_clips, load_corpus
from hifitse.data.mixing import Mixer
from hifitse.model import Extractor
from hifitse.model.pretrained import DEFAULT
from hifitse.params import resolve
from hifitse.prepare.pack import pack, unpack
from hifitse.training import abreast
from hifitse.training.run import Run


def test_packed_recordings_are_small_have_every_speaker_and_mix(sources, tmp_path):
    params = small(sources)
    sizes = pack(params, tmp_path / "packed", 0.5)
    assert set(sizes) == {"speech", "noise", "rooms"} and sum(sizes.values()) < 0.5
    before, after = load_corpus(sources["corpus"]), load_corpus(tmp_path / "packed" / "speech")
    assert list(after.speakers) == list(before.speakers)
    assert all(2 <= len(after.speakers[name]) <= len(said) for name, said in before.speakers.items())
    first, same = before.speakers["s00"][0], after.speakers["s00"][0]
    a, b = before.read(first), after.read(same)
    assert len(a) == len(b) and np.corrcoef(a, b)[0, 1] > 0.95
    kinds = {"corpus": "speech", "noise": "noise", "rooms": "rooms"}
    packed = small({name: str(tmp_path / "packed" / kind) for name, kind in kinds.items()})
    assert Mixer(packed, "test").speakers == Mixer(params, "test").speakers, "the same are held out"
    for listed, said in (("", "is not empty, expected an empty"), ("list.jsonl", "eval_list is .* whose recordings packing changes")):
        with pytest.raises(HifitseError, match=said):
            pack(params.model_copy(update={"eval_list": listed}), tmp_path / "packed", 0.5)
    for _ in range(2):  # the first leaves nothing, so that the folder can be used again
        with pytest.raises(HifitseError, match="expected more space"):
            pack(params, tmp_path / "small", 0.01)
    shutil.copytree(sources["noise"], tmp_path / "twice")
    shutil.copy(next((tmp_path / "twice").iterdir()), tmp_path / "twice" / "hiss_0-9000-A.wav")
    with pytest.raises(HifitseError, match="A.flac and .*A.wav would both be packed as"):
        pack(small(sources | {"noise": str(tmp_path / "twice")}), tmp_path / "small", 0.5)
    assert main(["unpack", str(tmp_path / "packed"), "-o", str(tmp_path / "wav")]) == 0
    decoded = load_corpus(tmp_path / "wav" / "speech")
    assert {each.sample_rate for said in decoded.speakers.values() for each in said} == {SAMPLE_RATE}
    for name, said in after.speakers.items():
        assert [each.utterance for each in decoded.speakers[name]] == [each.utterance for each in said]
    c = decoded.read(decoded.speakers["s00"][0])
    assert len(c) == decoded.speakers["s00"][0].samples and np.abs(c - b).max() < 2**-15
    names = [sorted(path.stem for path in folder.iterdir()) for folder in (tmp_path / "wav" / "noise", Path(params.noise))]
    assert names[0] == names[1]
    with pytest.raises(HifitseError, match="holds no .ogg files"):
        unpack(tmp_path / "wav", tmp_path / "again")


def test_groups_and_splits_of_manifests_travel(sources, tmp_path):
    """Noise is packed; rooms stay as they are."""
    for kind in ("noise", "rooms"):
        shutil.copytree(sources[kind], tmp_path / kind)
        lines = [{"path": path.name, "samples": soundfile.info(path).frames, "sample_rate": 48_000, "group": f"g{number // 2}"}
                 | ({"split": "test"} if number < 2 else {})
                 for number, path in enumerate(sorted((tmp_path / kind).iterdir()))]  # fmt: skip
        manifest(tmp_path / kind, lines, "manifest.jsonl.gz")
    pack(small(sources | {kind: str(tmp_path / kind) for kind in ("noise", "rooms")}), tmp_path / "packed", 0.5)
    assert main(["unpack", str(tmp_path / "packed"), "-o", str(tmp_path / "wav")]) == 0
    for kind in ("noise", "rooms"):
        places = tmp_path, tmp_path / "packed", tmp_path / "wav"
        clips = [load_clips(at / kind).clips for at in places]
        told = [[(clip.group, clip.split) for clip in each] for each in clips]
        assert told[0] == told[1] == told[2] and len(set(told[0])) > 2
        assert all((tmp_path / "wav" / kind / clip.path).exists() for clip in clips[2])
    assert [clip.path for clip in clips[2]] == [clip.path for clip in clips[0]], "rooms"


def test_of_rooms_in_a_manifest_only_those_travel_and_no_two_sources_of_one_name(sources, tmp_path):
    """As in the README, manifests are in the folder where the command was typed, beside other files."""
    place = tmp_path / "place"
    shutil.copytree(sources["rooms"], place / "rooms")
    shutil.copytree(sources["noise"], place / "noises")
    for path in (place / "rooms").iterdir():  # shorter than any noise may be
        save(path, soundfile.read(path)[0][:4000] * np.exp(-np.linspace(0, 6, 4000)))
    (place / "letters.txt").touch()
    assert main(["prepare", str(place / "rooms"), "--kind", "rooms", "-o", str(place / "rooms.jsonl.gz")]) == 0
    with gzip.open(place / "rooms.jsonl.gz", "ab") as manifest:
        manifest.write(b'{"path": damaged\n')
    assert main(["prepare", str(place / "noises"), "--kind", "noise", "-o", str(place / "noises.jsonl.gz")]) == 0
    both = {"rooms": str(place / "rooms.jsonl.gz"), "noise": str(place / "noises.jsonl.gz")}
    assert {"noises", "rooms"} < pack(small(sources | both), tmp_path / "packed", 0.5).keys()
    assert not list((tmp_path / "packed").rglob("letters.txt"))
    before, after = load_clips(place / "rooms.jsonl.gz", "rooms"), load_clips(tmp_path / "packed" / "rooms", "rooms")
    assert before.clips == after.clips and all((after.root / clip.path).is_file() for clip in after.clips)
    with pytest.raises(HifitseError, match="would both be packed as rooms, expected different names"):
        pack(small(sources | both | {"noise": str(place / "rooms")}), tmp_path / "again", 0.5)


def test_steps_are_chosen_to_fit_the_time(runs, monkeypatch, capsys):
    monkeypatch.setattr(abreast, "PROBE", 6)
    short, long = (sitting.fitted(resolve("smoke"), seconds).steps for seconds in (60, 600))
    assert 1 <= short < long and "ms per step of 2 mixtures" in capsys.readouterr().out
    assert not list(runs.iterdir()), "the trial leaves nothing"


def test_a_sitting_that_is_cut_goes_on_from_its_zip_and_leaves_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sitting, "find_spec", lambda _: None)
    monkeypatch.setenv("HIFITSE_RUNS", "")
    out = tmp_path / "out"
    words = ["sitting", "--preset", "smoke", "-o", str(out), "-p", "eval_pesq", "false", "-p", "steps", "40", "-p", "threads", "1"]
    monkeypatch.setattr(sitting, "PART", 50_000)
    assert main([*words, "--minutes", "0.001"]) == 1
    parts = sorted(path.name for path in out.glob("run.zip*"))
    assert "of 40 steps are done" in capsys.readouterr().out and len(parts) > 2 and parts[0] == "run.zip.00"
    assert all((out / name).stat().st_size <= 50_000 for name in parts)
    shutil.rmtree(out / "runs")
    assert main([*words, "--minutes", "30"]) == 0
    history = [json.loads(line)["step"] for line in next((out / "runs").glob("*/history.jsonl")).read_text().splitlines()]
    assert history == list(range(1, 41)), "no step twice"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["arms"]["baseline"]["steps"] == 40
    Extractor.from_pretrained(out / "model")


def test_a_run_that_went_on_is_kept_a_damaged_zip_is_refused_and_the_report_is_of_the_same_run(tmp_path, monkeypatch, capsys):
    params, run = resolve("gpu", start_from="", steps=40), tmp_path / "runs" / "abc"
    run.mkdir(parents=True)
    (run / "params.json").write_text(params.model_dump_json())
    for step in (10, 20):
        (run / f"checkpoint-{step:09d}.safetensors").touch()
        (run / "history.jsonl").write_text(f"{step}")
        if step == 10:
            sitting._keep(tmp_path, run)
    assert sitting._unpack(tmp_path) == params and (run / "history.jsonl").read_text() == "20"
    shutil.rmtree(run)
    assert sitting._unpack(tmp_path) == params and (run / "history.jsonl").read_text() == "10"
    monkeypatch.setattr(sitting.subprocess, "run", done := Mock())
    sitting._report(params, tmp_path)
    words = done.call_args[0][0]
    given = {words[at + 1]: json.loads(words[at + 2]) for at, word in enumerate(words) if word == "-p"}
    assert resolve("gpu", **given) == params
    monkeypatch.setenv("HIFITSE_RUNS", "")

    def stopped(params):
        Run.of(params).folder.mkdir(parents=True)
        (Run.of(params).folder / "checkpoint-000000001.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("hifitse.training.train.train", stopped)
    assert main(["sitting", "--preset", "smoke", "-p", "steps", "4", "-o", str(tmp_path / "out")]) == 130
    assert (tmp_path / "out" / "run.zip").is_file()
    (tmp_path / "run.zip").write_bytes((tmp_path / "run.zip").read_bytes()[:100])
    assert main(["sitting", "-o", str(tmp_path)]) == 2 and "expected all that one sitting wrote" in capsys.readouterr().err


def test_the_preset_of_a_gpu_reads_packed_recordings_and_no_synthetic_voices():
    gpu = resolve("gpu")
    assert gpu.extractor == resolve("people").extractor and gpu.corpus == "$HIFITSE_DATA/people" and not gpu.eval_pesq
    inside = json.loads((DEFAULT / "metrics.json").read_text(encoding="utf-8"))
    assert gpu.start_from == inside["run"] and not resolve("gpu", arms=True).start_from
    assert resolve("gpu", arms=True).steps * resolve("gpu", arms=True).batch_size >= 60_000
