"""Notebook 08 as a user types it."""

import json
import re

import nbformat
from headless import checkout, typed

from hifitse.report import page
from hifitse.studies import loading, show_loading


def test_data_loading_runs_as_typed_and_explains_itself(tmp_path):
    elsewhere = checkout(tmp_path)
    small = ["-p", "preset", "smoke"]
    done = typed(elsewhere, "08_data_loading", "out.ipynb", *small)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((elsewhere / "08_data_loading.metrics.json").read_text())
    assert (metrics["status"], metrics["notebook"], metrics["preset"]) == ("complete", "08_data_loading", "smoke")
    for stages in metrics["groups"].values():
        assert all(set(each) == {loading.NEW, loading.KEPT} for each in stages.values())
        assert stages["total"][loading.NEW]["ratio"]["mean"] > 0
    assert metrics["measured"]["content"]["kept_bit_equal"] == 1
    assert metrics["measured"]["large_corpus"]["every later start"]["utterances"] == 2000
    text = page.render(nbformat.read(elsewhere / "out.ipynb", as_version=4))
    for words in ("Too few rounds", "no GPU was at hand", "assumptions", "index made", "torchaudio"):
        assert words.lower() in text.lower(), words
    alts = re.findall(r"<img[^>]*alt=\"([^\"]+)\"", text)
    assert len(alts) == len(re.findall("<img", text)) == 5
    assert "Traceback (most recent" not in text and not re.search(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", text)


def test_tables_name_what_was_measured_with_its_unit():
    shown = show_loading.numbers({"first": {"start_s": 467.2, "peak_mb": 1234567.0, "mixtures_per_s": 22.517}}, "start").data
    for words in ("start, s", "467", "most on the way, MB", "1\u202f234\u202f567", "mixtures a second", "22.52"):
        assert words in shown, words
