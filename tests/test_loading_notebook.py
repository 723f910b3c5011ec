"""Notebook 08 as a user types it."""

import re

import headless
import nbformat
from headless import checkout, typed

from hifitse.report import page
from hifitse.studies import data_loading


def test_data_loading_runs_as_typed_and_explains_itself(tmp_path):
    elsewhere = checkout(tmp_path)
    done = typed(elsewhere, "08_data_loading", "out.ipynb", "-p", "preset", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = headless.metrics(elsewhere, "08_data_loading")
    assert (metrics["status"], metrics["notebook"], metrics["preset"]) == ("complete", "08_data_loading", "smoke")
    for stages in metrics["groups"].values():
        assert set(stages["total"]) == {data_loading.NEW, data_loading.KEPT}
        assert stages["total"][data_loading.NEW]["ratio"]["mean"] > 0
    assert metrics["measured"]["content"]["kept_bit_equal"] == 1
    measured = metrics["measured"]
    assert len(measured["rendering"]) >= 2 and all(each[0] > 0 for each in measured["rendering"].values())
    assert len(measured["waiting"]) >= 2 and all(0 < share < 1 for share in measured["waiting"].values())
    text = page.render(nbformat.read(elsewhere / "out.ipynb", as_version=4))
    for words in ("Too few rounds", "bit for bit the same"):
        assert words in text, words
    assert "Traceback (most recent" not in text
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", text)


def test_the_verdict_follows_from_the_ratios():
    same = {"kept_bit_equal": 1.0, "old_to_present_db": -30.0}
    for factor, words in ((6.0, "is reached."), (2.0, "is not reached.")):
        seconds = {data_loading.OLD: [factor] * 3, data_loading.NEW: [1.0] * 3, data_loading.KEPT: [0.9] * 3}
        text = data_loading.answer({"files": seconds}, same, data_loading.Params()).data
        assert f"the goal of 5 {words}" in text and "verdict" in text
