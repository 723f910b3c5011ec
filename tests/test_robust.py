"""Test bad input of every kind: one clear sentence or the documented fallback, and no loss of existing files."""

import warnings

import pytest
from bad_case import meets
from bad_inputs import AUDIO, MANIFESTS, NASTY, PARAMETERS, REPORTS, save_speech

from hifitse.data.corpus import load_corpus
from hifitse.report import tables
from hifitse.report.listening import players

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
    save_speech(tmp_path, name)
    corpus = load_corpus(tmp_path)
    [said] = corpus.speakers.values()
    assert list(corpus.speakers) == [name] and corpus.skipped == [] and len(corpus.read(said[1])) == 14_400
    shown = tables.table([name, name], [[name, name]], name) + players({name: corpus.read(said[0])}, name)
    assert "<img" not in shown and 'onerror=alert(1)"' not in shown
