"""Test what people bring: kinds of files and the outcome of each command; channels, devices, folders; input to the API.

Test extraction from file to file: output, memory, and failures that leave no partial file.
"""

import json
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from signal import SIGINT, SIGTERM
from unittest import mock

import numpy as np
import pytest
import soundfile
from bad_case import full_disk
from headless import ROOT
from sound_files import DAMAGED, JOINED, NONE, SECONDS, WHOLE, by_ffmpeg, bytes_of, signal
from sounds import hum

from hifitse import SAMPLE_RATE, audio, decode
from hifitse.audio import AudioError
from hifitse.commands import cli
from hifitse.data.speakers import speak, speaker
from hifitse.model import Extractor, extract_files, extraction
from hifitse.prepare.recording import measure


@pytest.fixture
def folder(tmp_path, monkeypatch, extractor) -> Path:
    """Return a working folder with an enrolment; the model is loaded once for all cases."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Extractor, "from_pretrained", lambda *_, **__: extractor)
    soundfile.write("me.wav", hum(220, 2, 3), SAMPLE_RATE)
    return tmp_path


def extract(*arguments: object, enroll: tuple[str, ...] = ("--enroll", "me.wav")) -> int:
    return cli.main(["extract", *map(str, arguments), *enroll])


def voice(number: int) -> np.ndarray:
    """Return the first 8 s of a synthetic speaker."""
    texts = ["the old captain saw a quiet river near the village", "nobody knows why the baker left so early today"]
    return np.concatenate(speak(speaker(0, number), texts, 0)).astype(np.float32)[: 8 * SAMPLE_RATE]


def duet(seconds: float) -> np.ndarray:
    return (0.3 * hum(220, seconds, 1) + 0.3 * hum(330, seconds, 2)).astype(np.float32)


def heard(path: Path) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return audio.read(path), [str(warning.message) for warning in said]


@pytest.mark.parametrize("kind", [*WHOLE, *JOINED])
def test_all_of_a_file_is_read_and_extracted_without_a_word(kind, folder, capfd):
    path, seconds = (WHOLE[kind](folder), SECONDS) if kind in WHOLE else (JOINED[kind](folder), 2 * SECONDS)
    got, said = heard(path)
    more = 0.1 if kind in JOINED else 0.06  # seconds that a codec's frames may add
    assert not said and SAMPLE_RATE * (seconds - (0.05 if kind == "wma" else 0.001)) <= len(got) <= SAMPLE_RATE * (seconds + more)
    assert audio.info(path).samples == len(got)
    assert audio.level_db(got[: SAMPLE_RATE // 2]) == pytest.approx(audio.level_db(signal()[: SAMPLE_RATE // 2]), abs=1)
    assert audio.level_db(got[-SAMPLE_RATE // 4 :]) > -30, "its end is there"
    start = len(got) // 3
    np.testing.assert_allclose(audio.read(path, start, 5_000), got[start : start + 5_000], atol=1e-4)
    prepared = measure(path)
    assert round(prepared["samples"] * SAMPLE_RATE / prepared["sample_rate"]) == len(got) and "cut short" not in prepared["flags"]
    assert extract(path, "-o", "est.wav") == 0
    assert capfd.readouterr().err == "", "nothing of libmpg123 or FFmpeg either"
    with soundfile.SoundFile("est.wav") as est:
        assert abs(est.frames / est.samplerate - len(got) / SAMPLE_RATE) < 1e-3 and est.channels == 1


@pytest.mark.parametrize("kind", DAMAGED)
def test_of_a_damaged_file_what_is_there_is_used_and_what_is_missing_said(kind, folder, capfd):
    make, words = DAMAGED[kind]
    got, said = heard(path := make(folder))
    least = 0.8 if kind.startswith("cut ") else SECONDS
    assert len(got) >= least * SAMPLE_RATE and len(said) == 1 and words in said[0], said
    prepared = measure(path)
    assert prepared["samples"] == len(got) and "cut short" in prepared["flags"]
    assert extract(path, "-o", "est.wav") == 0
    error = capfd.readouterr().err
    assert error.startswith("hifitse: warning: ") and words in error and error.count("\n") == 1
    with soundfile.SoundFile("est.wav") as est:
        assert est.frames == len(got)


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_sound_is_one_sentence(kind, folder, capfd):
    make, words = NONE[kind]
    path = make(folder)
    with pytest.raises(AudioError, match=words):
        audio.read(path)
    prepared = measure(path)
    assert prepared["reason"] == ("empty" if kind in ("no samples", "empty") else "broken") and words in prepared["detail"]
    assert extract(path, "-o", "est.wav") == 2
    said = capfd.readouterr().err
    assert said.startswith("hifitse: ") and said.count("\n") == 1 and words in said and not Path("est.wav").exists()


def test_a_file_that_cannot_be_opened_is_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(decode, "_libsndfile", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(AudioError, match="Permission denied.*expected"):
        audio.read("me.wav")


def test_a_stretch_of_an_mp3_does_not_begin_muted(tmp_path):
    """libmpg123 needs the bytes of earlier frames, and omits what it cannot decode."""
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    soundfile.write(tmp_path / "a.mp3", 0.3 * np.sin(2 * np.pi * (200 + 40 * time) * time), SAMPLE_RATE)
    whole = audio.read(tmp_path / "a.mp3")
    np.testing.assert_allclose(audio.read(tmp_path / "a.mp3", 100_000, 1_000), whole[100_000:101_000], atol=1e-4)


def test_a_pipe_is_a_recording(folder, capsys):
    os.mkfifo("pipe.wav")
    subprocess.Popen([sys.executable, "-c", "import sys; open('pipe.wav', 'wb').write(open('me.wav', 'rb').read())"])
    assert extract("pipe.wav", "-o", "est.wav") == 0
    assert soundfile.info("est.wav").frames == 2 * SAMPLE_RATE


REFUSED = {
    "a device": (["a.wav", "-o", "/dev/null"], "expected a name that ends in"),
    "a device by a link": (["a.wav", "-o", "null.wav"], "is a folder, device or pipe"),
    "a pipe": (["a.wav", "-o", "pipe.wav"], "is a folder, device or pipe"),
    "residual over the input": (["a.wav", "-o", "o.wav", "--residual", "a.wav"], "is an input"),
    "residual over the output by another way": (["a.wav", "-o", "o.wav", "--residual", "sub/../o.wav"], "would both go to"),
    "no such channel": (["a.wav", "-o", "o.wav", "--channel", "2"], "channel is 2, expected 1 to 1"),
    "channels for no flac": (["ten.wav", "-o", "o.wav", "--residual", "o.flac", "--keep-stereo"], "cannot hold the 48000 Hz and 10 ch"),
    "a rate for no flac": (["fast.wav", "-o", "o.flac"], "cannot hold the 700001 Hz"),
    "an empty folder": (["none", "-o", "o"], "no sound file in 'none'"),
    "no enrolment": (["a.wav", "-o", "o.wav"], "--enroll-from"),
    "the mixture after --enroll": (["--enroll", "me.wav", "a.wav", "-o", "o.wav"], "expected before --enroll"),
    "a piece in words": (["a.wav", "-o", "o.wav", "--enroll-from", "now"], "expected seconds from and to"),
    "a piece behind the end": (["a.wav", "-o", "o.wav", "--enroll-from", "7-8"], "begins at 7 s"),
    "missing": (["absent.wav", "-o", "o.wav"], "'absent.wav' does not exist"),
    "a folder": (["sub", "-o", "o.wav"], "expected a folder"),
    "silent enrolment": (["a.wav", "--enroll", "silent.wav", "-o", "o.wav"], "'silent.wav' is silent (-120 dBFS)"),
    "short enrolment": (["a.wav", "--enroll", "me.wav", "short.wav", "-o", "o.wav"], "'short.wav' lasts 0.02 s"),
    "over the mixture": (["a.wav", "-o", "a.wav"], "is an input"),
    "over the enrolment": (["a.wav", "-o", "me.wav"], "is an input"),
    "into its own folder": (["a.wav", "fast.wav", "-o", "."], "is an input"),
    "mp3": (["a.wav", "-o", "o.mp3"], "expected a name that ends in .flac or .wav"),
    "two to one file": (["a.wav", "fast.wav", "-o", "o.wav"], "expected a folder"),
    "two of one name": (["a.wav", "sub/a.wav", "-o", "new"], "would both go to"),
    "a piece of two": (["a.wav", "fast.wav", "-o", "o", "--enroll-from", "0-1"], "takes a piece of one MIX"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_and_no_device_is_replaced(case, folder, capsys):
    arguments, words = REFUSED[case]
    Path("a.wav").write_bytes(bytes_of("WAV"))
    Path("fast.wav").write_bytes(bytes_of("WAV", rate=700_001))
    soundfile.write("ten.wav", np.zeros((100, 10)), SAMPLE_RATE)
    os.mkfifo("pipe.wav")
    Path("null.wav").symlink_to(os.devnull)
    soundfile.write("silent.wav", np.zeros(48_000), SAMPLE_RATE)
    soundfile.write("short.wav", np.full(1000, 0.1), SAMPLE_RATE)
    Path("none").mkdir()
    Path("sub").mkdir()
    Path("sub/a.wav").write_bytes(bytes_of("WAV"))
    before = {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
    own = case == "no enrolment" or any(word.startswith("--enroll") for word in arguments)
    assert extract(*arguments, enroll=() if own else ("--enroll", "me.wav")) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    after = {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
    assert after == before and Path("pipe.wav").is_fifo() and Path("null.wav").is_char_device()


def test_beyond_4_gib_a_wav_is_an_rf64(folder, monkeypatch):
    Path("a.wav").write_bytes(bytes_of("WAV"))
    monkeypatch.setattr(extract_files, "WAV_BYTES", 300_000)
    assert extract("a.wav", "-o", "est.wav") == 0
    assert soundfile.info("est.wav").format == "RF64" and len(audio.read("est.wav")) == 2 * SAMPLE_RATE


def test_channels_that_cancel_each_other_are_said_and_one_is_heard(folder, capsys):
    soundfile.write("anti.wav", np.stack([signal(), -signal()], 1), SAMPLE_RATE)
    assert extract("anti.wav", "-o", "est.wav") == 0
    assert "cancel each other" in capsys.readouterr().err
    assert extract("anti.wav", "-o", "one.wav", "--channel", "1") == 0
    assert capsys.readouterr().err == ""
    est, one = audio.read("est.wav"), audio.read("one.wav")
    assert est.any() and audio.level_db(est) == pytest.approx(audio.level_db(one), abs=0.1)


def test_the_centre_of_a_film_keeps_its_level(tmp_path):
    film = np.zeros((SAMPLE_RATE, 6), np.float32)
    film[:, 2] = signal(1)
    soundfile.write(tmp_path / "a.wav", film, SAMPLE_RATE, subtype="FLOAT")
    assert audio.level_db(audio.read(tmp_path / "a.wav")) == pytest.approx(audio.level_db(signal(1)) - 3, abs=0.1)


def test_stereo_is_kept_by_one_mask_and_residual_and_estimate_are_the_mixture(folder, extractor):
    soundfile.write("st.wav", np.stack([signal(), 0.25 * signal()], 1), SAMPLE_RATE, subtype="FLOAT")
    assert extract("st.wav", "-o", "est.wav", "--keep-stereo", "--residual", "rest.wav", "--presence", "p.json") == 0
    mix, est, rest = (soundfile.read(name, dtype="float32")[0] for name in ("st.wav", "est.wav", "rest.wav"))
    assert est.shape == mix.shape and np.abs(est + rest - mix).max() < 1e-5
    np.testing.assert_allclose(est[:, 1], 0.25 * est[:, 0], atol=1e-4)
    assert extract("st.wav", "-o", "quieter.wav", "--keep-stereo", "--keep-db", "12") == 0
    np.testing.assert_allclose(soundfile.read("quieter.wav", dtype="float32")[0], est + 10**-0.6 * rest, atol=1e-5)
    found = json.loads(Path("p.json").read_text())
    assert len(found["level_db"]) == len(found["present"]) == 20 and found["step_s"] == 0.1
    assert len(extract_files.Levels(600 * 11_025, 11_025).presence()) == 6_000  # though a step is 1102.5 samples
    tenth = SAMPLE_RATE // 10
    known = audio.level_db(est[3 * tenth : 4 * tenth]) - audio.level_db(mix[3 * tenth : 4 * tenth])
    assert found["level_db"][3] == pytest.approx(known, abs=0.06)
    known = extractor.origin.metrics["presence"]
    assert {name: found[name] for name in ("threshold_likeness", "false_alarm_rate")}.items() <= known.items()
    assert found["present"] == [value >= known["threshold_likeness"] for value in found["likeness"]]


def test_who_is_enrolled_sounds_like_it_and_silence_is_nobody(folder):
    """The likeness tells single synthetic voices apart, and nobody is found in silence."""
    one, other = (voice(number) for number in (0, 2))
    soundfile.write("me.wav", one[: 4 * SAMPLE_RATE], SAMPLE_RATE)
    still = np.zeros(SAMPLE_RATE, np.float32)
    soundfile.write("turns.wav", np.concatenate([one[4 * SAMPLE_RATE :], still, other[: 4 * SAMPLE_RATE]]), SAMPLE_RATE)
    assert extract("turns.wav", "-o", "est.wav", "--presence", "p.json") == 0
    found = json.loads(Path("p.json").read_text())
    first, rest = np.array(found["likeness"][:30], float), np.array(found["likeness"][-30:], float)
    assert first.mean() > rest.mean() + 0.1 and not any(found["present"][42:48]) and len(found["likeness"]) == len(found["present"])


def test_presence_without_a_measured_threshold_says_so(folder, extractor, monkeypatch):
    Path("a.wav").write_bytes(bytes_of("WAV"))
    monkeypatch.setattr(extractor, "origin", extractor.origin._replace(metrics={}))
    assert extract("a.wav", "-o", "est.wav", "--presence", "p.json") == 0
    found = json.loads(Path("p.json").read_text())
    assert found["false_alarm_rate"] is None is found["present"] and len(found["likeness"]) == 20


@pytest.mark.parametrize(("make", "words"), [
    (lambda: np.clip(9 * signal(), -1, 1), "samples are clipped"),
    (lambda: np.pad(signal(0.5), (0, 48_000)), " s of speech, expected at least 1 s"),
    (lambda: 0.1 * np.random.default_rng(1).standard_normal(96_000), "sounds like noise"),
    (lambda: audio.resample(audio.resample(voice(0), SAMPLE_RATE, 8_000), 8_000, SAMPLE_RATE), "nothing above 4.0 kHz, like a telephone"),
    (lambda: 0.5 * voice(0)[: 4 * SAMPLE_RATE] + 0.2, ""),
    (lambda: np.concatenate([voice(0)[: 4 * SAMPLE_RATE], voice(2)[: 4 * SAMPLE_RATE]]), "its voice changes, expected one person alone"),
    (lambda: np.concatenate([voice(number)[at : at + 144_000] for at in (0, 144_000) for number in (0, 2)]), "its voice changes"),
    (lambda: voice(0)[: 4 * SAMPLE_RATE] + voice(2)[: 4 * SAMPLE_RATE], "it seems to hold two voices at once"),
])  # fmt: skip
def test_a_poor_enrolment_is_said(make, words, folder, capsys):
    Path("a.wav").write_bytes(bytes_of("WAV"))
    soundfile.write("poor.wav", make(), SAMPLE_RATE)
    assert extract("a.wav", "-o", "est.wav", enroll=("--enroll", "poor.wav")) == 0
    printed = capsys.readouterr()
    assert (words in printed.err if words else printed.err == "") and "s of speech in" in printed.out
    if not words:
        assert extract("a.wav", "-o", "est.wav", enroll=("--enroll", "poor.wav", "me.wav")) == 0
        assert "'me.wav': its voice is unlike that of enrolment 'poor.wav'" in capsys.readouterr().err


def test_a_clipped_mixture_is_said_and_an_enrolment_may_be_a_piece_of_it(folder, capsys):
    soundfile.write("loud.wav", np.clip(9 * signal(), -1, 1), SAMPLE_RATE, subtype="FLOAT")
    assert extract("loud.wav", "-o", "est.wav", "--enroll-from", "0.2-1.7", enroll=()) == 0
    printed = capsys.readouterr()
    assert "'loud.wav': " in printed.err and "of its samples are clipped" in printed.err
    assert "0.2-1.7 s of 'loud.wav': 1.5 s of speech" in printed.out
    soundfile.write("half.wav", np.stack([signal(), np.clip(9 * signal(), -1, 1)], 1), SAMPLE_RATE)
    assert extract_files.survey("half.wav").warnings() and not extract_files.survey("half.wav", channel=1).warnings()
    soundfile.write("beyond.wav", 9 * signal(), SAMPLE_RATE, subtype="FLOAT")  # louder than full scale, but not clipped
    assert not extract_files.survey("beyond.wav").warnings()


def test_folders_and_globs_are_done_once(folder, capsys):
    Path("in").mkdir()
    by_ffmpeg("in/a.mp4", "aac", video=True)(folder)
    for name in ("in/b.wav", "in/c.txt", "in/.d.wav"):
        Path(name).write_bytes(bytes_of("WAV"))
    assert extract("in", "-o", "out") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.wav", "b.wav"]
    first = audio.read("out/b.wav")
    Path("out/b.wav").write_bytes(bytes_of("WAV"))  # not the result for in/b.wav
    capsys.readouterr()
    assert extract("in/*.*", "-o", "out") == 0
    table = capsys.readouterr().out.splitlines()[-3:]
    assert table[0].startswith("recording") and "skipped" in table[1] and "2.0 s" in table[2]
    np.testing.assert_array_equal(audio.read("out/b.wav"), first)
    Path("rest").mkdir()
    Path("rest/b.wav").write_bytes(bytes_of("WAV"))  # nor is this the residual
    assert extract("in/b.*", "-o", "out", "--residual", "rest") == 0 and "skipped" not in capsys.readouterr().out


def test_integers_are_scaled_an_enrolment_may_have_its_own_rate_and_an_offset_changes_nothing(extractor):
    mix, enroll = signal(), hum(220, 1, 3).astype(np.float32)
    known = extractor.extract(mix, enroll)
    est = extractor.extract((mix * 32768).astype(np.int16), (enroll * 2.0**31).astype(np.int32))
    assert est.dtype == np.int16 and np.abs(est / 32768 - known).max() < 1e-3
    for est in (extractor.extract(mix + 0.3, enroll), extractor.extract(mix, enroll + 0.3)):
        assert audio.level_db(est - known) < audio.level_db(known) - 60
    slow = audio.resample(enroll, SAMPLE_RATE, 16_000)
    known = extractor.extract(mix, audio.resample(slow, 16_000, SAMPLE_RATE))
    for given in ((slow, 16_000), [(slow, 16_000)]):
        np.testing.assert_allclose(extractor.extract(mix, given), known, atol=1e-5)


def python(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_file_gives_what_memory_gives(tmp_path, extractor):
    """At 48 kHz and at 16 kHz, where input and output are resampled piece by piece."""
    minute, enroll = duet(25), hum(220, 2, 3).astype(np.float32)
    for rate in (48_000, 16_000):
        mix, voice = (audio.resample(x, SAMPLE_RATE, rate) for x in (minute, enroll))
        for name, sound in (("mix.wav", mix), ("voice.wav", voice)):
            soundfile.write(tmp_path / name, sound, rate, subtype="FLOAT")
        speaker = extraction.encode(extractor, [extract_files.enrolment(tmp_path / "voice.wav")])
        done = extract_files.extract_file(extractor, speaker, tmp_path / "mix.wav", tmp_path / "est.wav")
        est, out_rate = soundfile.read(tmp_path / "est.wav", dtype="float32")
        known = extractor.extract(mix, voice, rate)
        assert out_rate == rate and est.shape == mix.shape
        assert audio.level_db(est - known) < audio.level_db(known) - 80
        assert done.seconds == 25 and done.level_db == pytest.approx(audio.level_db(known), abs=0.01)


MEMORY = """
import sys
from pathlib import Path
from hifitse.commands import cli
assert cli.main(["extract", *sys.argv[1:]]) == 0
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])  # getrusage begins with the parent's
"""


def test_memory_does_not_grow_from_half_a_minute_to_five(folder):
    soundfile.write("short.wav", duet(30), SAMPLE_RATE)
    soundfile.write("long.wav", np.tile(duet(30), 10), SAMPLE_RATE)
    peaks = []
    for name in ("short.wav", "long.wav"):
        with python("-c", MEMORY, name, "--enroll", "me.wav", "-o", "est.wav") as process:
            printed, error = process.communicate()
        assert process.returncode == 0, error
        peaks.append(float(printed.split()[-1]))
    assert peaks[1] < 1.2 * peaks[0]


def test_a_flac_says_how_many_samples_it_clipped(folder, capsys):
    soundfile.write("loud.wav", np.clip(20 * duet(1.5), -3, 3), SAMPLE_RATE, subtype="FLOAT")
    assert extract("loud.wav", "-o", "loud.flac") == 0
    assert re.search(r"; [1-9]\d* samples clipped", capsys.readouterr().out)
    assert np.abs(soundfile.read("loud.flac")[0]).max() <= 1


def test_a_mixture_that_cannot_be_used_leaves_nothing_and_the_others_are_done(folder, capsys):
    mix, voice = "gemischt 混合.wav", "мой голос.flac"
    soundfile.write(mix, duet(1.5), SAMPLE_RATE)
    soundfile.write(voice, hum(220, 2, 3), SAMPLE_RATE)
    soundfile.write("bad.wav", np.where(np.arange(72_000) == 60_000, np.nan, 0.1), SAMPLE_RATE, subtype="FLOAT")
    assert extract("absent.wav", "bad.wav", mix, "-o", "new", enroll=("--enroll", voice)) == 1
    printed = capsys.readouterr()
    assert all(words in printed.err for words in ("bad.wav", "NaN", "'absent.wav' does not exist")) and printed.err.count("\n") == 2
    assert [path.name for path in Path("new").iterdir()] == [mix] and "failed" in printed.out


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(suffix, folder, capsys):
    soundfile.write("a.wav", duet(1.5), SAMPLE_RATE)
    Path(f"o.{suffix}").write_text("the old one")
    with full_disk(60_000):
        assert extract("a.wav", "-o", f"o.{suffix}") == 1
    said = capsys.readouterr().err
    assert f"cannot write o.{suffix}" in said and said.count("\n") == 1
    assert Path(f"o.{suffix}").read_text() == "the old one"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_stop_from_outside_leaves_nothing(number, folder):
    soundfile.write("long.wav", np.tile(duet(30), 10), SAMPLE_RATE)
    with python("-m", "hifitse.commands.cli", "extract", "long.wav", "--enroll", "me.wav", "-o", "o.wav") as process:
        while not list(folder.glob(".o.wav*")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 130 and said.startswith("hifitse: interrupted") and said.count("\n") == 1
    assert not list(folder.glob("*o.wav*"))


LEAN = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None  # as on Windows
from hifitse.commands import cli
code = cli.main(["extract", "me.wav", "--enroll", "me.wav", "-o", "est.wav"])
del sys.modules["fcntl"], sys.modules["resource"]
import hifitse.training.train
print(code, sorted({"pandas", "matplotlib", "jinja2", "av", "IPython", "papermill"} & set(sys.modules)))
"""


def test_extract_runs_without_modules_of_unix_and_neither_it_nor_training_loads_what_reports_need(folder):
    with python("-c", LEAN) as process:
        printed, error = process.communicate()
    assert printed.splitlines()[-1] == "0 []", error
