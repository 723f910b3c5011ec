"""Test extraction from file to file: output, memory, the command, and refusals that leave no partial file."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bad_case import full_disk
from headless import ROOT
from sounds import hum

from hifitse import SAMPLE_RATE, audio
from hifitse.commands import cli
from hifitse.model import Extractor, extract_files, extraction

MIX, VOICE = "gemischt 混合.wav", ["--enroll", "мой голос.flac"]


def duet(seconds: float) -> np.ndarray:
    return (0.3 * hum(220, seconds, 1) + 0.3 * hum(330, seconds, 2)).astype(np.float32)


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """Return a working folder with a mixture, the same in stereo at 44.1 kHz, and an enrolment, named as people name files."""
    monkeypatch.chdir(tmp_path)
    mix = duet(1.5)
    soundfile.write(MIX, mix, SAMPLE_RATE, subtype="PCM_16")
    soundfile.write("stereo.flac", np.stack([audio.resample(mix, 48_000, 44_100)] * 2, 1), 44_100)
    soundfile.write(VOICE[1], hum(220, 2, 3), SAMPLE_RATE)
    return tmp_path


def five_minutes(name: str) -> None:
    half = duet(30)
    with soundfile.SoundFile(name, "w", SAMPLE_RATE, 1) as file:
        for _ in range(10):
            file.write(half)


def extract(*arguments: str) -> int:
    return cli.main(["extract", *arguments])


def python(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_file_gives_what_memory_gives(tmp_path):
    """At 48 kHz and at 16 kHz, where input and output are resampled piece by piece."""
    extractor = Extractor.from_pretrained()
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


def test_memory_does_not_grow_from_half_a_minute_to_five(files):
    soundfile.write("short.wav", duet(30), SAMPLE_RATE)
    five_minutes("long.wav")
    peaks = []
    for name in ("short.wav", "long.wav"):
        with python("-c", MEMORY, name, *VOICE, "-o", "est.wav") as process:
            printed, error = process.communicate()
        assert process.returncode == 0, error
        peaks.append(float(printed.split()[-1]))
    assert peaks[1] < 1.2 * peaks[0]


def test_a_flac_says_how_many_samples_it_clipped(files, capsys):
    loud = np.clip(20 * soundfile.read("gemischt 混合.wav", dtype="float32")[0], -3, 3)
    soundfile.write("loud.wav", loud, SAMPLE_RATE, subtype="FLOAT")
    assert extract("loud.wav", *VOICE, "-o", "loud.flac") == 0
    assert re.search(r"; [1-9]\d* samples clipped", capsys.readouterr().out)
    assert np.abs(soundfile.read("loud.flac")[0]).max() <= 1


def test_a_mixture_that_cannot_be_used_leaves_nothing_and_the_others_are_done(files, capsys):
    soundfile.write("bad.wav", np.where(np.arange(72_000) == 60_000, np.nan, 0.1), SAMPLE_RATE, subtype="FLOAT")
    assert extract("absent.wav", "bad.wav", MIX, *VOICE, "-o", "new") == 1
    printed = capsys.readouterr()
    assert all(words in printed.err for words in ("bad.wav", "NaN", "'absent.wav' does not exist")) and printed.err.count("\n") == 2
    assert [path.name for path in (files / "new").iterdir()] == [MIX] and "failed" in printed.out


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(suffix, files, capsys):
    (files / f"o.{suffix}").write_text("the old one")
    with full_disk(60_000):
        assert extract(MIX, *VOICE, "-o", f"o.{suffix}") == 1
    said = capsys.readouterr().err
    assert f"cannot write o.{suffix}" in said and said.count("\n") == 1
    assert (files / f"o.{suffix}").read_text() == "the old one"
    assert not [path for path in files.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_from_outside_leaves_nothing(number, files):
    five_minutes("long.wav")
    with python("-m", "hifitse.commands.cli", "extract", "long.wav", *VOICE, "-o", "o.wav") as process:
        while not list(files.glob(".o.wav*")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 130 and said.startswith("hifitse: interrupted") and said.count("\n") == 1
    assert not list(files.glob("*o.wav*"))


LEAN = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None  # as on Windows
from hifitse.commands import cli
code = cli.main(["extract", "me.wav", "--enroll", "me.wav", "-o", "est.wav"])
del sys.modules["fcntl"], sys.modules["resource"]
import hifitse.training.train
print(code, sorted({"pandas", "matplotlib", "jinja2", "av", "IPython", "papermill"} & set(sys.modules)))
"""


def test_extract_runs_without_modules_of_unix_and_neither_it_nor_training_loads_what_reports_need(tmp_path):
    soundfile.write(tmp_path / "me.wav", hum(220, 2, 3), SAMPLE_RATE)
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", LEAN], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
