"""Test bad input of every kind: one clear sentence or the documented fallback, and no loss of existing files.

One row per case: bad audio, manifests, parameters and reports with the expected outcome.
"""

import gzip
import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_case import Case, full_disk, meets
from made_up import write
from sound_files import bytes_of, raw
from sounds import entry, hum, speech_folder

from hifitse import HifitseError, audio
from hifitse.audio import AudioError
from hifitse.commands import cli
from hifitse.data.corpus import Corpus, CorpusError, load_corpus
from hifitse.files import CheckpointError, made_once
from hifitse.params import ParameterError, resolve
from hifitse.presets import read_yaml
from hifitse.report import gallery, tables
from hifitse.report.listening import players

NASTY = ["two words", "Łódź 東京 مرحبا", 'it\'s "quoted"', "<img src=x onerror=alert(1)>", "line\nbreak", "-p", "caf\udce9", "a" * 200]
"""Names that a file or a speaker can have; the last but one is not UTF-8."""

TONE = hum(440, 0.5, 0).astype(np.float32)
FAST, FOUR = np.repeat(TONE, 4), np.outer(TONE, np.arange(4) / 1.5)
"""The tone at 192 kHz, and in four channels."""


def close(to: np.ndarray, by: float) -> Callable[[np.ndarray], bool]:
    return lambda got: got.shape == to.shape and float(np.abs(got - to).max()) <= by


def missing(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name


OLD = b"the old one"
"""Content of an existing file, which a failed write must leave alone."""
saved = partial(audio.write, audio=TONE)
saved_full = full_disk(9_000)(partial(audio.write, audio=np.tile(TONE, 4)))
AUDIO = [
    Case("missing", missing("none.wav"), audio.read, AudioError, ("none.wav", "does not exist")),
    Case("a folder", lambda folder: folder, audio.read, AudioError, ("is a folder", "readable audio file")),
    Case("192 kHz is resampled", raw("a.wav", lambda: bytes_of("WAV", sound=FAST, rate=192_000)), audio.read, check=close(TONE, 0.05)),
    Case("4 channels are averaged", raw("a.wav", lambda: bytes_of("WAV", sound=FOUR)), audio.read, check=close(TONE, 1e-4)),
    Case("mp3 is not written", missing("a.mp3"), saved, AudioError, ("a.mp3", ".flac or .wav")),
    Case("longest name", missing("a" * 251 + ".wav"), saved),
    Case("name too long to write", missing("a" * 300 + ".wav"), saved, CheckpointError, ("cannot write",)),
    Case("folder is a file", lambda f: raw("x", lambda: b"1")(f) / "a.wav", saved, CheckpointError, ("cannot write", "a.wav")),
    Case("disk full, wav", raw("a.wav", lambda: OLD), saved_full, CheckpointError, ("a.wav", "untouched")),
    Case("disk full, flac", raw("a.flac", lambda: OLD), saved_full, CheckpointError, ("a.flac", "untouched")),
]

PLAIN, ZIPPED = "manifest.jsonl", "manifest.jsonl.gz"


line = partial(entry, samples=9_600)
GOOD = [line(speaker, number) for speaker in (0, 1) for number in (0, 1)]


def listed(*more: Any, form: Callable[[bytes], bytes] = bytes, name: str = PLAIN, good: list[Any] | None = None) -> Callable[[Path], Path]:
    """Make a corpus of two speakers, each with two listed and one unlisted utterance; ``more`` adds lines to the manifest."""

    def make(folder: Path) -> Path:
        speech_folder(folder / "corpus", speakers=2, utterances=3, seconds=0.2)
        (folder / "secret.flac").write_bytes((folder / "corpus/s00/u0.flac").read_bytes())
        lines = [*(GOOD if good is None else good), *(each(folder) if callable(each) else each for each in more)]
        text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
        (folder / "corpus" / name).write_bytes(form(text.encode()))
        return folder / "corpus"

    return make


def skips(*words: str) -> Callable[[Corpus], bool]:
    """Check that the good lines are loaded and that the bad one is skipped with a one-sentence reason."""

    def check(corpus: Corpus) -> bool:
        [reason] = corpus.skipped
        return "\n" not in reason and all(word in reason for word in words) and [len(said) for said in corpus.speakers.values()] == [2, 2]

    return check


SKIPPED = {
    "not JSON": (["{speaker: s00}"], ("line 5",)),
    "a list": (["[1, 2]"], ("line 5", "not a JSON object")),
    "no path": ([line(0, 2, path=None)], ("line 5", "'path'")),
    "number as speaker": ([line(0, 2, speaker=7)], ("line 5", "speaker is 7")),
    "text as samples": ([line(0, 2, samples="many")], ("line 5", "samples is 'many'")),
    "negative samples": ([line(0, 2, samples=-5)], ("line 5", "samples is -5")),
    "too short": ([line(0, 2, samples=100)], ("line 5", "100 samples at 48 kHz")),
    "rate of 0": ([line(0, 2, sample_rate=0)], ("line 5", "sample_rate is 0")),
    "unknown path": ([line(0, 9)], ("line 5", "s00/u9.flac")),
    "path with ..": ([line(0, 2, path="../secret.flac")], ("line 5", "../secret.flac")),
    "absolute path": ([lambda folder: line(0, 2, path=str(folder / "secret.flac"))], ("line 5", "secret.flac")),
    "listed twice": ([line(0, 1)], ("line 5", "s00/u1.flac")),
    "one utterance of a speaker": ([line(1, 2, speaker="alone")], ("speaker alone", "two are needed")),
}


def rooted(name: str, link: str = "") -> Callable[[Path], Path]:
    """Let the first line of a folder's manifest name another root, which with ``link`` is a symbolic link to that place."""

    def make(folder: Path) -> Path:
        source = listed(good=[{"root": name}, *GOOD])(folder)
        if link:
            (source / name).symlink_to(source / link)
        return source

    return make


def linked(folder: Path) -> Path:
    """Make a manifest that names a symbolic link to a file outside its folder."""
    source = listed(line(0, 2))(folder)
    (source / "s00/u2.flac").unlink()
    (source / "s00/u2.flac").symlink_to(folder / "secret.flac")
    return source


NOT_ALLOWED = ("the root", "HIFITSE_ALLOW_ROOTS")
MANIFESTS = [Case(name, listed(*lines), load_corpus, check=skips(*words)) for name, (lines, words) in SKIPPED.items()]
MANIFESTS += [
    Case("byte-order mark", listed(form=lambda data: b"\xef\xbb\xbf" + data), load_corpus, check=lambda corpus: not corpus.skipped),
    Case("Latin 1", listed(form=lambda data: data + b"\xe9"), load_corpus, CorpusError, ("cannot be read", "UTF-8")),
    Case("root ..", rooted(".."), load_corpus, CorpusError, NOT_ALLOWED),
    Case("root /", rooted("/"), load_corpus, CorpusError, NOT_ALLOWED),
    Case("root by a link", rooted("below", ".."), load_corpus, CorpusError, NOT_ALLOWED),
    Case("link out of the folder", linked, load_corpus, check=skips("line 5", "u2.flac", "HIFITSE_ALLOW_ROOTS")),
    Case("empty manifest", listed(form=lambda data: b""), load_corpus, CorpusError, ("no usable speaker",)),
    Case("not gzip", listed(name=ZIPPED), load_corpus, CorpusError, (ZIPPED, "cannot be read")),
    Case("gzip cut short", listed(form=lambda data: gzip.compress(data)[:-20], name=ZIPPED), load_corpus, CorpusError, (ZIPPED,)),
    Case("only one speaker", listed(good=GOOD[:2]), lambda at: load_corpus(at).split(0.1, 0.2, 0), CorpusError, ("there are 1 speakers",)),
]


def command(*arguments: str) -> Callable[[Any], int]:
    return lambda _: cli.main(list(arguments))


YAML = {
    "YAML that builds objects": ("!!python/object/apply:os.system [touch owned]", "python/object"),
    "YAML of the 99th day": ("2001-99-99", "month"),
    "YAML control character": ("\0", "forbids"),
}
PARAMETERS = [
    Case("huge", lambda _: 10**30, lambda n: resolve("smoke", steps=n), ParameterError, ("'steps'", "up to 100000000")),
    Case("no Unicode", lambda _: NASTY[6], lambda name: resolve("smoke", corpus=name), ParameterError, ("'corpus'", "udce9", "text")),
]
for name, (text, word) in YAML.items():
    typed = command("run", "00_baseline", "-p", "steps", text)
    PARAMETERS += [
        Case(name, raw("p.yaml", f"steps: {text}\n".encode), read_yaml, ParameterError, ("p.yaml", word)),
        Case(f"{name}, typed", missing("p.yaml"), typed, words=("steps",), code=2),
    ]


def below_a_file(variable: str) -> Callable[[Path], Path]:
    """Set an environment variable to a folder that cannot exist."""

    def make(folder: Path) -> Path:
        os.environ[variable] = str(raw("file", lambda: b"1")(folder) / "below")
        return folder

    return make


HOME, CACHE = "HIFITSE_REPORTS", "HIFITSE_CACHE"
REPORTS = [
    Case("disk full, gallery", lambda f: write(f, "demo/02_capacity", "{}").parents[1], full_disk(500)(gallery.write), CheckpointError,
         ("index.html", "untouched")),
    Case("reports below a file, gallery", below_a_file(HOME), command("gallery"), words=("below",), code=1),
    Case("reports below a file, run", below_a_file(HOME), command("run", "00_baseline", "--preset", "smoke"), words=("below",), code=1),
    Case("cache below a file", below_a_file(CACHE), lambda _: made_once("x", Path.touch), HifitseError, ("below", CACHE)),
]


TABLES = {"audio": AUDIO, "manifest": MANIFESTS, "parameter": PARAMETERS, "report": REPORTS}
CASES = [pytest.param(case, id=f"{kind}: {case.name}") for kind, cases in TABLES.items() for case in cases]


@pytest.fixture(autouse=True)
def own_variables(monkeypatch, synthetic_sound):
    """Undo what a case sets in the environment."""
    for name in ("HIFITSE_REPORTS", "HIFITSE_CACHE"):
        monkeypatch.setenv(name, str(synthetic_sound))


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        meets(case, tmp_path, capsys)


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_names_of_speakers_and_files_are_taken_as_they_are_and_escaped_where_they_are_shown(name, tmp_path):
    for number in range(2):
        audio.write(tmp_path / name / f"{name[:100]} {number}.flac", hum(300, 0.3, number))
    corpus = load_corpus(tmp_path)
    [said] = corpus.speakers.values()
    assert list(corpus.speakers) == [name] and corpus.skipped == [] and len(corpus.read(said[1])) == 14_400
    shown = tables.table([name, name], [[name, name]], name) + players({name: corpus.read(said[0])}, name)
    assert "<img" not in shown and 'onerror=alert(1)"' not in shown
