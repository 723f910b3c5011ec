"""Test making a manifest of a folder: what is measured, what is left out and why, resuming, locking, and training from it.

Test the audit page: its numbers are those of the manifest, its text is escaped, and it opens offline.
"""

import json
import os
import re
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
import soundfile
from bad_case import full_disk
from sound_files import SECONDS, by_ffmpeg
from sounds import noise, noise_folder, room_folder, save, small, speech_folder

import hifitse.prepare.prepare as scan
from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.commands import cli
from hifitse.data.corpus import CorpusError, load_corpus
from hifitse.data.mixing import Mixer
from hifitse.data.scene import training_conditions
from hifitse.pool import Pool
from hifitse.prepare import audit
from hifitse.prepare.prepare import Partial, prepare, summary_path
from hifitse.prepare.recording import measure


def hiss(seconds=2.0, slope=0.0, seed=0):
    """Return white noise, or with a pole at ``slope`` noise that falls by 6 dB per octave."""
    white = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    for n in range(1, len(white)) if slope else ():
        white[n] += slope * white[n - 1]
    return (0.1 * white / white.std()).astype(np.float32)


@pytest.mark.parametrize("slope", [0.0, 0.98], ids=["white", "falling"])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("rate", [8000, 22050, 32000, 44100])
def test_an_upsampled_signal_is_found_at_its_old_bandwidth(tmp_path, rate, subtype, slope):
    narrow = audio.resample(audio.resample(hiss(slope=slope), SAMPLE_RATE, rate), rate, SAMPLE_RATE)
    noise = 1e-4 * hiss(seed=1) * (rate == 8000 and subtype == "FLOAT")  # must not hide the cutoff
    soundfile.write(tmp_path / "x.wav", narrow + noise, SAMPLE_RATE, subtype=subtype)
    found = measure(tmp_path / "x.wav")
    assert found["bandwidth_hz"] == pytest.approx(rate / 2, rel=0.05) and "upsampled" in found["flags"]


def test_a_full_band_signal_is_not_upsampled_and_a_faint_one_is_not_either(tmp_path):
    for level in (1.0, 0.01):
        soundfile.write(tmp_path / "x.wav", hiss() * level, SAMPLE_RATE, subtype="PCM_24")
        found = measure(tmp_path / "x.wav")
        assert found["bandwidth_hz"] > 23_500 and found["flags"] == []


def test_levels_clipping_and_offset_are_measured(tmp_path):
    time_s = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE  # two blocks
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s) * (time_s < 4)
    soundfile.write(tmp_path / "x.wav", np.stack([tone + 0.1, tone + 0.1], 1), SAMPLE_RATE, subtype="FLOAT")
    found = measure(tmp_path / "x.wav")
    assert found["level_db"] == pytest.approx(10 * np.log10(0.5**2 / 2 * 0.4), abs=0.05)
    assert found["dc"] == pytest.approx(0.1, abs=1e-3)
    assert found["channels"] == 2 and {"stereo", "dc"} <= set(found["flags"]) and found["clipped_share"] == 0


@pytest.mark.parametrize("make, reason", [
    (lambda path: soundfile.write(path, hiss(0.05), SAMPLE_RATE), "too short"),
    (lambda path: soundfile.write(path, hiss() * 1e-3, SAMPLE_RATE), "silent"),
    (lambda path: soundfile.write(path, np.full(SAMPLE_RATE, 0.3), SAMPLE_RATE), "silent"),
    (lambda path: soundfile.write(path, np.clip(hiss() * 12, -1, 1), SAMPLE_RATE), "clipped"),
])  # fmt: skip
def test_a_recording_that_cannot_be_used_has_its_reason(tmp_path, make, reason):
    make(tmp_path / "x.wav")
    found = measure(tmp_path / "x.wav")
    assert found["reason"] == reason and found["detail"] and str(tmp_path) not in found["detail"]


def test_every_file_is_counted_by_suffix_and_reason_and_what_can_be_decoded_is_taken(tmp_path):
    folder = speech_folder(tmp_path / "speech", speakers=2, utterances=2, seconds=0.5)
    by_ffmpeg("film.mp4", "aac", video=True)(folder / "s00")
    soundfile.write(folder / "s01" / "x.aif", hiss(0.5), SAMPLE_RATE, format="AIFF")
    (folder / "s01" / "copy.flac").write_bytes((folder / "s00" / "u0.flac").read_bytes())
    for name in ("s00/a.m4a", "s00/b.M4A", "s01/c.opus", "s01/notes.txt", "s01/README", "s01/d.xyz"):
        (folder / name).write_bytes(b"no audio")
    summary = prepare(folder, tmp_path / "m.jsonl", workers=0)
    assert json.loads(summary_path(tmp_path / "m.jsonl").read_text()) == summary
    assert summary["kept"] == 7 and summary["left_out"] == {"broken": 3} and summary["marked"]["repeated"] == 1
    assert summary["examples"]["repeated"] == [{"path": "s01/copy.flac", "detail": "as s00/u0.flac"}]
    assert summary["suffixes"] == {".m4a": {"broken": 2}, ".opus": {"broken": 1}} and summary["not_audio"]["no suffix"] == 1
    lines = cli.said(summary, 1.0)
    wanted = {"left out: 3 broken (2 .m4a, 1 .opus)", "not audio by their names: 1 .txt, 1 .xyz, 1 no suffix"}
    assert wanted < set(lines) and "two or more files: 2, a training needs 6;" in lines[-1]
    taken = {said.path: said.samples for some in load_corpus(tmp_path / "m.jsonl").speakers.values() for said in some}
    assert taken["speech/s00/film.mp4"] == pytest.approx(SECONDS * SAMPLE_RATE, abs=2048)
    assert taken["speech/s01/x.aif"] == 24_000


def test_responses_decay_and_noise_and_speech_do_not(tmp_path):
    rooms = [measure(path, "rooms") for path in sorted(room_folder(tmp_path / "rooms").iterdir())]
    assert all("reason" not in found for found in rooms)
    decay = -60 / (20 * np.log10(np.exp(-6)) / 0.3)  # seconds, from the envelope of room_folder
    assert np.median([found["t60_s"] for found in rooms]) == pytest.approx(decay, rel=0.15)
    others = [*noise_folder(tmp_path / "noise").iterdir(), *speech_folder(tmp_path / "speech", 2, 2).rglob("*.flac")]
    assert {measure(path, "rooms").get("reason") for path in others} == {"no decay"}


@pytest.mark.real
def test_real_responses_noises_voices_and_their_bandwidths_are_told_apart(hifitse_data):
    assert all("reason" not in measure(path, "rooms") for path in sorted((hifitse_data / "rir").glob("*.flac")))
    voices = sorted((hifitse_data / "speech").rglob("*.flac"))[::20]
    others = [*sorted((hifitse_data / "noise").glob("*.flac"))[::3], *voices]
    assert {measure(path, "rooms").get("reason") for path in others} == {"no decay"}
    assert np.median([measure(path)["bandwidth_hz"] for path in voices]) > 20_000
    narrow = [measure(path) for path in sorted((hifitse_data / "speech_swb").rglob("*.flac"))[::10]]
    assert all(10_000 < found["bandwidth_hz"] < 12_000 and found["flags"] == ["upsampled"] for found in narrow)


def test_a_room_folder_that_holds_noise_is_refused_in_one_sentence(tmp_path):
    noise_folder(tmp_path / "noise")
    with pytest.raises(HifitseError, match="is no folder of room responses: 6 of 6 files do not decay") as caught:
        prepare(tmp_path / "noise", tmp_path / "rooms.jsonl", kind="rooms", workers=0)
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["noise"]


@pytest.fixture
def corpus(tmp_path):
    """Return a folder of six speakers with one file of each fault."""
    folder = speech_folder(tmp_path / "speech", speakers=6, utterances=3, seconds=1.2)
    (folder / "s00" / "broken.flac").write_bytes(b"no audio")
    save(folder / "s01" / "short.flac", hiss(0.02))
    save(folder / "s02" / "silent.flac", np.zeros(SAMPLE_RATE))
    save(folder / "s03" / "ümläut & <b>.wav", hiss(0.4), rate=44100)
    save(folder / "nobody.wav", hiss(0.4))
    return folder


def test_the_command_lists_the_corpus_without_what_is_broken_and_says_how_to_use_it(tmp_path, corpus, capsys):
    manifest = tmp_path / "m.jsonl.gz"
    command = ["prepare", str(corpus), "-o", str(manifest), "--workers", "0", "--audit", str(tmp_path / "a.html")]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "23 files" in said and "19 kept of 6 speakers" in said and "1 broken" in said
    assert f"-p corpus {manifest}" in said and "a.html" in said
    summary = json.loads(summary_path(manifest).read_text())
    assert summary["files"] == 23 and summary["kept"] == 19 and summary["speakers"] == 6
    assert summary["left_out"] == {"broken": 1, "in no speaker's folder": 1, "silent": 1, "too short": 1}
    assert summary["marked"]["below 48 kHz"] == 1
    listed, scanned = load_corpus(manifest), load_corpus(corpus)
    assert listed.skipped == [] and sum(map(len, listed.speakers.values())) == 19
    ours, theirs = listed.speakers["s03"], scanned.speakers["s03"]
    assert [(each.utterance, each.samples) for each in ours] == [(each.utterance, each.samples) for each in theirs]
    assert np.array_equal(listed.read(ours[-1]), scanned.read(theirs[-1]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "m.jsonl.gz", "m.summary.json", "speech"]


def test_a_manifest_elsewhere_names_its_root_and_no_path_leaves_it(tmp_path, corpus, monkeypatch):
    manifest, changed = tmp_path / "out" / "m.jsonl", tmp_path / "out" / "n.jsonl"
    manifest.parent.mkdir()
    assert prepare(corpus, manifest, workers=0)["permission"] == [str(corpus)]
    with pytest.raises(CorpusError, match="names the root .* HIFITSE_ALLOW_ROOTS"):
        load_corpus(manifest)
    monkeypatch.setenv("HIFITSE_ALLOW_ROOTS", f"/nowhere:{corpus}")
    first, *others = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert first == {"root": str(corpus)} and load_corpus(manifest).root == corpus
    save(tmp_path.parent / "outside.flac", hiss(0.5))
    outside = dict(others[0], path="../../outside.flac")
    changed.write_text("\n".join(json.dumps(row) for row in (first, outside, *others)))
    [reason] = load_corpus(changed).skipped
    assert "line 2" in reason and "leads out" in reason
    changed.write_text("\n".join(json.dumps(row) for row in ({"root": "nowhere"}, *others)))
    with pytest.raises(CorpusError, match="the root that .* names"):
        load_corpus(changed)


def test_links_to_another_disk_need_permission_and_the_summary_says_for_which_folder(tmp_path, corpus, monkeypatch):
    farm = tmp_path / "farm"
    farm.mkdir()
    for speaker in corpus.iterdir():
        (farm / speaker.name).symlink_to(speaker)
    summary = prepare(farm, farm / "manifest.jsonl", workers=0)
    assert summary["permission"] == [str(corpus)]
    with pytest.raises(CorpusError, match="link out of the corpus folder"):
        load_corpus(farm)
    monkeypatch.setenv("HIFITSE_ALLOW_ROOTS", summary["permission"][0])
    assert load_corpus(farm).speakers.keys() == load_corpus(corpus).speakers.keys()


def test_a_manifest_trains(tmp_path):
    folders = {"corpus": speech_folder(tmp_path / "speech", 9, 3, 1.2)}
    folders |= {"noise": noise_folder(tmp_path / "noise"), "rooms": room_folder(tmp_path / "rooms")}
    for folder in folders.values():
        prepare(folder, folder.with_suffix(".jsonl.gz"), kind=folder.name, workers=0)
    by_folder = small({name: str(folder) for name, folder in folders.items()})
    by_manifest = small({name: f"{folder}.jsonl.gz" for name, folder in folders.items()})
    mixers = [Mixer(params, "train") for params in (by_folder, by_manifest)]
    for index in range(3):
        one, other = (mixer.mixture(1, index, training_conditions(by_folder, 5)) for mixer in mixers)
        assert np.any(one.mix) and np.array_equal(one.mix, other.mix)


def test_a_cut_scan_goes_on_and_gives_the_file_of_any_number_of_processes(tmp_path, corpus, monkeypatch):
    prepare(corpus, tmp_path / "a.jsonl", workers=2)
    whole = (tmp_path / "a.jsonl").read_bytes()
    for good in (8, 4):
        cut = Mock(wraps=measure, side_effect=[DEFAULT] * good + [KeyboardInterrupt])
        monkeypatch.setattr(scan, "measure", cut)
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus, tmp_path / "b.jsonl", workers=0)
        assert not (tmp_path / "b.jsonl").exists()
    monkeypatch.setattr(scan, "measure", last := Mock(wraps=measure))
    os.utime(corpus / "s00" / "u0.flac", (1, 1))  # changed in the meantime
    prepare(corpus, tmp_path / "b.jsonl", workers=0)
    assert (tmp_path / "b.jsonl").read_bytes() == whole
    assert last.call_count == 22 - (8 + 4) + 1
    assert not list(tmp_path.glob(".*"))


def test_two_scans_into_one_file_are_refused(tmp_path, corpus):
    with Partial(tmp_path / "m.jsonl", {}), pytest.raises(HifitseError, match=r"m\.jsonl is being made by another process"):
        prepare(corpus, tmp_path / "m.jsonl", workers=0)
    assert prepare(corpus, tmp_path / "m.jsonl", workers=0)["kept"] == 19


def test_a_file_that_kills_its_process_is_broken_and_the_others_are_not():
    # Stand-ins for a file that kills its decoder, made of Python built-ins, so that a new process has them at once.
    names = ["len('')", "__import__('os')._exit(9)", "len('1')", "len('22')"]
    with Pool(eval, 1, deaths=2) as pool:
        found = [scan._measured(pool, task) for task in [pool.start(name) for name in names]]
        assert found == [0, {"reason": "broken", "detail": "reading it ended the process"}, 1, 2]
        with pytest.raises(HifitseError, match="crash one after another, .* run the same command again"):
            scan._measured(pool, pool.start(names[1]))
    with pytest.raises(ZeroDivisionError), Pool(eval, 0) as pool:
        pool.result(pool.start("1 / 0"))


@pytest.mark.parametrize("arguments, words", [
    (["missing", "-o", "m.jsonl"], ["missing", "does not exist"]),
    (["speech", "-o", "m.jsonl", "--layout", "tree"], ["'tree'", "folder, vctk, libri, ears, dns, lhotse"]),
    (["speech", "-o", "m.jsonl", "--kind", "music"], ["'music'", "speech, noise, rooms"]),
    (["speech", "-o", "m.jsonl", "--layout", "vctk"], ["no files like", "p225_001_mic1.flac", "other layouts"]),
    (["speech", "-o", "m.jsonl", "--layout", "vctk", "--kind", "noise"], ["holds no noise"]),
    (["speech", "-o", "m.json"], ["'m.json'", ".jsonl"]),
    (["speech", "-o", "nowhere/m.jsonl"], ["nowhere", "does not exist"]),
    (["speech", "-o", "m.jsonl", "--workers", "-1"], ["--workers", "-1"]),
    (["speech", "-o", "m.jsonl", "--audit", "a.txt"], ["'a.txt'", ".html"]),
    (["speech/s00", "-o", "m.jsonl"], ["no files like speaker/utterance"]),
    (["silent", "-o", "m.jsonl", "--workers", "0"], ["no usable file among 1 (1 silent)"]),
    (["speech"], ["-o", "--help"]),
])  # fmt: skip
def test_what_is_not_allowed_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    speech_folder(tmp_path / "speech", 1, 1, 0.3)
    save(tmp_path / "silent" / "a" / "b.wav", np.zeros(SAMPLE_RATE))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["prepare", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["silent", "speech"]


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_one_sentence(tmp_path, corpus):
    (tmp_path / ".m.jsonl.partial").mkdir()
    with pytest.raises(HifitseError, match=r"cannot write in .* \(unable to open .*\), expected a folder that can be written"):
        prepare(corpus, tmp_path / "m.jsonl", workers=0)
    with full_disk(40_000), pytest.raises(HifitseError, match=r"cannot write in .*, free some space and run the same command again"):
        prepare(corpus, tmp_path / "n.jsonl", workers=0)
    assert prepare(corpus, tmp_path / "n.jsonl", workers=0)["kept"] == 19


EVIL = "x<script>alert(1)<&x>"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Return summary and audit page of a corpus with HTML tags in its names, an upsampled speaker and a broken file."""
    root = tmp_path_factory.mktemp("audit")
    for number in range(3):
        save(root / "corpus" / EVIL / f"u{number}.wav", noise(48_000, number))
        narrow = audio.resample(noise(48_000, number), 48_000, 16_000)
        save(root / "corpus" / "narrow" / f"u{number}.wav", audio.resample(narrow, 16_000, 48_000))
    (root / "corpus" / EVIL / "<b>broken.flac").write_bytes(b"no audio")
    save(root / "corpus" / "narrow" / "quiet.wav", 0.01 * noise(48_000, 9))
    summary = prepare(root / "corpus", root / "m.jsonl.gz", workers=0)
    return summary, audit.render(root / "m.jsonl.gz", summary)


def test_the_page_opens_offline_and_escapes_all_text(audited):
    _, page = audited
    assert "<script" not in page and "default-src 'none'" in page and not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert "x&lt;script&gt;alert(1)&lt;&amp;x&gt;" in page and "&lt;b&gt;broken.flac" in page and "<b>broken" not in page
    assert re.search(r'<img alt="Histograms[^"]+" src="data:image/png;base64,', page)


def test_the_numbers_of_the_page_are_those_of_the_manifest(audited):
    summary, page = audited
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
    found = {row[0]: row[1:] for row in reversed(rows)}
    assert found["narrow"][:2] == ["4", "0.1"] and float(found["narrow"][2]) == pytest.approx(8, rel=0.05)
    assert found["broken"][0] == str(summary["left_out"]["broken"]) == "1"
    assert found["upsampled"][:2] == ["3", "kept"]
    assert ">7</b>" in page and "of 8; 1 left out" in page


def test_the_worst_files_come_first_on_the_page(audited):
    _, page = audited
    narrowest, quietest = (re.search(rf"The {fault} files.*?</table>", page, re.DOTALL)[0] for fault in ("narrowest", "quietest"))
    named = re.compile(r"<th>(corpus/.*?)</th>")
    assert set(named.findall(narrowest)[:3]) == {f"corpus/narrow/u{number}.wav" for number in range(3)}
    assert named.findall(quietest)[0] == "corpus/narrow/quiet.wav"
    assert "The most clipped files" not in page


def test_every_mark_has_a_meaning():
    """Read the marks from the source, so that a new one cannot be forgotten."""
    text = (Path(audit.__file__).parent / "recording.py").read_text(encoding="utf-8")
    marks = set(re.findall(r'^        "([A-z0-9 ]+)": ', text[text.index("marks = {") :], re.MULTILINE))
    assert {"upsampled", "stereo"} <= marks and marks | {"repeated"} == set(audit.MARKS)


def test_the_page_of_noise_has_no_table_of_speakers(tmp_path):
    for number in range(3):
        save(tmp_path / "noise" / f"{number}.wav", noise(48_000, number))
    summary = prepare(tmp_path / "noise", tmp_path / "n.jsonl", kind="noise", workers=0)
    page = audit.render(tmp_path / "n.jsonl", summary)
    assert "<h2>Speakers</h2>" not in page and "<span>speakers</span>" not in page and "Full-band recordings" in page
    save(tmp_path / "noise" / "low.wav", noise(48_000, 5), rate=16_000)
    assert "Partly narrow" in audit.render(tmp_path / "n.jsonl", prepare(tmp_path / "noise", tmp_path / "n.jsonl", kind="noise", workers=0))


def test_a_histogram_of_one_file_can_be_drawn():
    figure = audit.histograms({"bandwidth_hz": np.array([24000.0]), "level_db": np.array([-26.0]), "seconds": np.array([1.0])})
    assert [sum(patch.get_height() for patch in axis.patches) for axis in figure.axes] == [1, 1, 1]
    assert all(axis.get_xlabel() and axis.get_ylabel() == "files" for axis in figure.axes)
