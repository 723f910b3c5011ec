"""Test lists of scenes: written, evaluated on, imported from published layouts, and used to score another system's files."""

import csv
import json
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from sounds import folders, hum, pitch, save, small

from hifitse import HifitseError, audio
from hifitse.commands.cli import main
from hifitse.data.lists import ListMixer, by_list, drawn, librimix, voicefilter, write_scenes
from hifitse.evaluation.evaluate import evaluate
from hifitse.evaluation.score import score, write_score

SHORT = {"eval_seconds": 1.0, "eval_mixtures": 4, "eval_partial": 1, "eval_long": 0, "eval_pesq": False, "test_share": 0.34}


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """Return parameters with a file of the list that they draw."""
    root = tmp_path_factory.mktemp("lists")
    made = small(folders(root), **SHORT)
    write_scenes(root / "list.jsonl", drawn(made))
    return made.model_copy(update={"eval_list": str(root / "list.jsonl")})


def half(mix, enroll):
    return mix * torch.linspace(0.5, 1, mix.shape[-1])


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_rows_of_a_written_list_are_those_of_the_drawn_one(params):
    listed = evaluate(half, params, progress=False)
    assert [row["list"] for row in listed] == ["test"] * 4 + ["partial"]
    assert listed == evaluate(half, params.model_copy(update={"eval_list": ""}), progress=False)


def test_a_changed_list_is_read_again_and_a_contradictory_scene_is_named(params, tmp_path):
    changed = params.model_copy(update={"eval_list": str(tmp_path / "list.jsonl")})
    scenes = by_list(params.eval_list)["test"]
    for some in (scenes[:3], scenes[:2], [replace(scenes[0], enroll=())]):
        write_scenes(changed.eval_list, some)
        mixer = ListMixer(changed)
        assert mixer.scenes["test"] == some
    with pytest.raises(HifitseError, match=f"scene '{scenes[0].id}' contradicts itself"):
        mixer.mixture(0, 0, scenes[0].conditions)


def test_only_recordings_of_the_list_are_opened(params):
    with mock.patch.multiple(audio, info=mock.Mock(side_effect=audio.info), read=mock.Mock(side_effect=audio.read)):
        mixer = ListMixer(params)
        assert not audio.info.called and not audio.read.called
        mixer.mixture(0, 0, mixer.scenes["test"][0].conditions)
        opened = {str(call.args[0]) for call in audio.info.call_args_list + audio.read.call_args_list}
    assert 0 < len(opened) < 12


IMPOSSIBLE = {"interferers_max": 9, "interferers_min": -1, "similarity": 1.1, "enroll_augment_prob": -0.1, "enroll_as": "loud"}


@pytest.mark.parametrize("fault, reason", [
    *((text, "line 2: .*expected the JSON of a scene") for text in ("", "{}", "nonsense", "[1]")),
    *(({"conditions": {name: value}}, f"conditions.{name}") for name, value in (IMPOSSIBLE | {"turns": -2, "seconds": 0}).items()),
    ({"conditions": {"name": "other"}}, "list 'other', expected one of test"),
    ({"noise": {"file": {"path": "../s0/u0.flac", "samples": 9}, "start": 0}}, "leaves its root"),
    ({"talkers": 3}, "talkers"), ({"name": "../up"}, "name"),
])  # fmt: skip
def test_a_faulty_list_is_named(fault, reason, params, tmp_path):
    with open(params.eval_list, encoding="utf-8") as file:
        scene = json.loads(good := file.readline())
    if isinstance(fault, dict):
        fault = json.dumps(scene | {name: scene[name] | value if name == "conditions" else value for name, value in fault.items()})
    (tmp_path / "bad.jsonl").write_text(f"{good}{fault}\n")
    with pytest.raises(HifitseError, match=reason):
        ListMixer(params.model_copy(update={"eval_list": str(tmp_path / "bad.jsonl")}))


@pytest.fixture(scope="module")
def vctk(tmp_path_factory):
    root = tmp_path_factory.mktemp("vctk")
    for speaker in (225, 226):
        for number in (1, 2):
            for microphone in (1, 2):
                name = f"p{speaker}/p{speaker}_{number:03d}_mic{microphone}.flac"
                save(root / name, microphone * 0.4 * hum(pitch(speaker - 220), 1.0 + 0.2 * number, number))
    rows = [("p225_001", "p225_002", "p226_002"), ("p226_002", "p226_001", "p225_001"), ("p225_001", "p225_002", "p226_001")]
    names = ("clean_utterance", "embedding_utterance", "interference_utterance")
    return root, table(root / "test.csv", [dict(zip(names, row, strict=True)) for row in rows])


def test_voicefilters_tuples(vctk):
    root, path = vctk
    scenes = voicefilter(path, root)
    write_scenes(root / "list.jsonl", scenes)
    mixer = ListMixer(params := small({"corpus": str(root)}, eval_list=str(root / "list.jsonl"), eval_pesq=False))
    one, other = (mixer.mixture(0, index, scene.conditions) for index, scene in enumerate(scenes[:2]))

    def said(name):
        return soundfile.read(root / name[:4] / f"{name}_mic1.flac", dtype="float32")[0]

    assert np.array_equal(one.target, said("p225_001")) and np.array_equal(one.interferers[0], said("p226_002")[: len(one.mix)])
    assert np.allclose(one.mix, one.target + one.interferers[0], atol=1e-6)
    assert np.array_equal(one.enroll[0], said("p225_002")) and np.array_equal(one.wrong_enroll[0], said("p226_001"))
    assert scenes[1].wrong_enroll[0].segment.said == "p225_002_mic1"  # not p225_001 by its other microphone
    assert len(other.mix) == len(said("p226_002")) and not other.interferers[0, len(said("p225_001")) :].any()
    assert one.metadata["target_speaker"] == "p225" and one.metadata["id"] == "voicefilter-0" and one.metadata["present"]
    ratio = 10 * np.log10(np.mean(one.target**2) / np.mean(one.interferers[0] ** 2))
    assert one.metadata["sir_db"] == [pytest.approx(ratio, abs=0.01)]
    assert len(evaluate(half, params, progress=False)) == 3  # two that differ only in the length of the wrong enrolment
    (root / "other.jsonl").write_text((root / "list.jsonl").read_text().replace('"samples": 57600}', '"samples": 57500}'))
    with pytest.raises(HifitseError, match="has 57600 samples at 48 kHz, expected the 57500 of the list: this corpus"):
        ListMixer(params.model_copy(update={"eval_list": str(root / "other.jsonl")})).mixture(0, 0, scenes[0].conditions)


@pytest.fixture(scope="module")
def libri(tmp_path_factory):
    """Return 16 kHz recordings, metadata of two mixtures, and a map of enrolments for both speakers of the first and one of the second."""
    root = tmp_path_factory.mktemp("libri")
    files = {}
    for number, name in enumerate(("11-7-0001", "22-8-0002", "11-7-0003", "22-8-0004")):
        speaker, chapter, _ = name.split("-")
        files[name] = f"test-clean/{speaker}/{chapter}/{name}.flac"
        save(root / files[name], 0.3 * np.random.default_rng(number).standard_normal(16_000 + 800 * number), 16_000)
    save(root / "tt" / "wham.wav", 0.1 * np.random.default_rng(9).standard_normal(12_000), 16_000)  # looped

    def row(one, other, gains):
        ends = {"noise_path": "tt/wham.wav", "noise_gain": 0.5}
        sources = {"source_1_path": files[one], "source_1_gain": gains[0], "source_2_path": files[other], "source_2_gain": gains[1]}
        return {"mixture_ID": f"{one}_{other}"} | sources | ends

    path = table(root / "mix.csv", [row("11-7-0001", "22-8-0002", (0.8, 0.5)), row("22-8-0004", "11-7-0003", (0.6, 0.9))])
    first, second = "11-7-0001_22-8-0002", "22-8-0004_11-7-0003"
    lines = [f"{first} 11-7-0001 s2/{second}", f"{first} 22-8-0002 s1/{second}", f"{second} 11-7-0003 {files['11-7-0001']}"]
    (root / "map").write_text("\n".join(lines) + "\n")
    return root, path, files


@pytest.mark.parametrize("noise", [False, True])
def test_librimix_with_a_map_of_enrolments(noise, libri):
    root, path, files = libri
    scenes = librimix(path, root / "map", root, root if noise else None)
    assert [scene.id for scene in scenes] == ["11-7-0001_22-8-0002-s1", "11-7-0001_22-8-0002-s2", "22-8-0004_11-7-0003-s2"]
    write_scenes(root / f"list{noise}.jsonl", scenes)
    mixer = ListMixer(small({"corpus": str(root), "noise": str(root)}, eval_list=str(root / f"list{noise}.jsonl")))
    one, two, three = (mixer.mixture(0, index, scene.conditions) for index, scene in enumerate(scenes))
    read = {name: audio.read(root / file) for name, file in files.items()}
    assert len(one.mix) == 48_000
    assert np.allclose(one.target, 0.8 * read["11-7-0001"], atol=1e-6)
    assert np.allclose(one.interferers[0], 0.5 * read["22-8-0002"][:48_000], atol=1e-6)
    assert np.allclose(one.mix, two.mix, atol=1e-6) and np.array_equal(one.target, two.interferers[0])
    assert np.allclose(one.noise[:35_000], 0.5 * audio.read(root / "tt/wham.wav")[:35_000] if noise else 0, atol=1e-6)
    length = min(len(read["22-8-0004"]), len(read["11-7-0003"]))
    assert np.allclose(one.enroll[0], 0.9 * read["11-7-0003"][:length], atol=1e-6)  # as in that mixture
    assert np.array_equal(one.wrong_enroll, two.enroll) and three.wrong_enroll is None
    assert np.array_equal(three.enroll[0], read["11-7-0001"])
    assert one.metadata["target_speaker"] == "11" and one.metadata["interferer_speakers"] == ["22"]


def test_lists_with_faults_are_one_sentence(vctk, libri, tmp_path):
    root, path = vctk
    with pytest.raises(HifitseError, match="no column 'clean_utterance'"):
        voicefilter(table(tmp_path / "a.csv", [{"one": 1}]), root)
    for read in (lambda path: voicefilter(path, root), by_list):
        with pytest.raises(HifitseError, match="cannot be read"):
            read(tmp_path / "none.csv")
    with pytest.raises(HifitseError, match="corpus is 'synthetic', expected the folder"):
        voicefilter(path, "synthetic")
    (tmp_path / "b.csv").write_text(path.read_text().replace("p225_001", "p999_001"))
    with pytest.raises(HifitseError, match="names the utterance 'p999_001', expected one of the"):
        voicefilter(tmp_path / "b.csv", root)
    (tmp_path / "map").write_text("nothing here\n")
    with pytest.raises(HifitseError, match="has no enrolment for a mixture"):
        librimix(libri[1], tmp_path / "map", libri[0])
    mixed = "11-7-0001_22-8-0002"
    for named in ("s1/unknown", f"s0/{mixed}", f"s3/{mixed}"):
        (tmp_path / "map").write_text(f"{mixed} 11-7-0001 {named}\n")
        with pytest.raises(HifitseError, match=f"enrolment is '{named}', expected a source of a mixture of"):
            librimix(libri[1], tmp_path / "map", libri[0])
    for wrong, new, said in (
        (",0.5", ",", "has '' as .*_gain, expected a number"), (",0.5", ",nan", "has 'nan' as .*_gain, expected a number"),
        (",noise_gain", ",other", "has no column 'noise_gain'"), (",test-clean/11", ",../test-clean/11", "leaves its root"),
        (libri[2]["11-7-0001"], "", "has '' as source_1_path"),
    ):  # fmt: skip
        (tmp_path / "c.csv").write_text(libri[1].read_text().replace(wrong, new))
        with pytest.raises(HifitseError, match=said):
            librimix(tmp_path / "c.csv", libri[0] / "map", libri[0], libri[0])


def test_scoring_files_gives_the_rows_of_the_evaluation(params, tmp_path):
    """The estimates of a made-up system, written as float files, and one of them also at 16 kHz."""
    mixer, rows = ListMixer(params), evaluate(half, params, progress=False)
    for scenes in mixer.scenes.values():
        for index, scene in enumerate(scenes):
            mix = torch.from_numpy(mixer.mixture(0, index, scene.conditions).mix)
            audio.write(tmp_path / f"{scene.id}.wav", half(mix, None).numpy())
            if scene.present and scene.wrong_enroll:
                audio.write(tmp_path / "wrong" / f"{scene.id}.wav", half(mix, None).numpy())
    scored = score(params, tmp_path, progress=False)
    for row, expected in zip(scored, rows, strict=True):
        wanted = expected | {"si_sdri_zero_enroll_db": None}
        numbers = {key: pytest.approx(value, abs=1e-4) for key, value in wanted.items() if isinstance(value, float)}
        assert row == wanted | numbers
    text = write_score([dict(row, pesq_error="?") if row["present"] else row for row in scored], tmp_path / "score", "?")
    assert "PESQ could not be measured on 3 estimates" in text and "target speakers: 1" in text
    assert "SI-SDRi, right enrolment, dB" in text and "| SI-SDR of the mixtures, dB |" in text
    assert json.loads((tmp_path / "score" / "metrics.json").read_text())["test"]["si_sdri_db"]["n"] == 3
    assert len((tmp_path / "score" / "rows.jsonl").read_text().splitlines()) == 5
    first = mixer.scenes["test"][0].id
    low = audio.resample(audio.read(tmp_path / f"{first}.wav"), 48_000, 16_000)
    soundfile.write(tmp_path / f"{first}.wav", low, 16_000)
    assert 0 < score(params, tmp_path, progress=False)[0]["si_sdri_db"] - scored[0]["si_sdri_db"] < 3  # the noise above 8 kHz is gone
    soundfile.write(tmp_path / f"{first}.wav", low[:-800], 16_000)
    with pytest.raises(HifitseError, match=r"has 0.95 s, expected the 1.00 s"):
        score(params, tmp_path, progress=False)
    (tmp_path / f"{first}.wav").unlink()
    with pytest.raises(HifitseError, match=f"lacks .* expected {first}.wav"):
        score(params, tmp_path, progress=False)


def test_the_commands(params, vctk, tmp_path, capsys):
    root, path = vctk
    words = [word for name in ("corpus", "noise", "rooms") for word in ("-p", name, getattr(params, name))]
    words += [word for name, value in SHORT.items() for word in ("-p", name, str(value).lower())]
    words += ["--preset", "smoke", "-p", "seconds", "1.0", "-p", "enroll_seconds", "1.0", "-p", "noise_prob", "1.0"]
    assert main(["scenes", "-o", str(tmp_path / "own.jsonl"), *words]) == 0
    assert sum(map(len, by_list(tmp_path / "own.jsonl").values())) == 5 and "holds 5 scenes" in capsys.readouterr().out
    sound, listed = tmp_path / "sound", str(tmp_path / "vf.jsonl")
    assert main(["scenes", "--voicefilter", str(path), "-p", "corpus", str(root), "-o", listed, "--sound", str(sound)]) == 0
    assert {each.name for each in sound.iterdir()} == {"mix", "target", "enroll", "wrong_enroll"}
    assert all(soundfile.info(each).subtype == "FLOAT" for each in (sound / "mix").iterdir())  # flac would clip the sums
    assert main(["score", listed, "--estimates", str(sound / "target"), "-p", "corpus", str(root), "-p", "eval_pesq", "false"]) == 0
    assert "| SI-SDRi, right enrolment, dB |" in (said := capsys.readouterr().out) and "cite it by its SHA-256, " in said
    assert main(["score", listed, "--estimates", str(sound / "mix"), "-p", "corpus", str(root), "-p", "eval_pesq", "false"]) == 0
    assert main(["compare", *(str(sound / name / "score") for name in ("mix", "target")), "-o", str(tmp_path / "page.html")]) == 0
    assert "target on vf.jsonl (SHA-256" in (tmp_path / "page.html").read_text()
    assert main(["scenes", "--librimix", "a", "-o", "b"]) == main(["scenes", "--wham", "a", "-o", "b"]) == 2
