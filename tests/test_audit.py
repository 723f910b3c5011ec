"""Test the audit page: its numbers are those of the manifest, its text is escaped, and it opens offline."""

import re

import numpy as np
import pytest
from sounds import noise, save

from hifitse import audio
from hifitse.prepare import audit
from hifitse.prepare.prepare import prepare

EVIL = "x<script>alert(1)<&x>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return manifest, summary and page of a corpus with HTML tags in its names, an upsampled speaker and a broken file."""
    root = tmp_path_factory.mktemp("audit")
    for number in range(3):
        save(root / "corpus" / EVIL / f"u{number}.wav", noise(48_000, number))
        narrow = audio.resample(noise(48_000, number), 48_000, 16_000)
        save(root / "corpus" / "narrow" / f"u{number}.wav", audio.resample(narrow, 16_000, 48_000))
    (root / "corpus" / EVIL / "<b>broken.flac").write_bytes(b"no audio")
    save(root / "corpus" / "narrow" / "quiet.wav", 0.01 * noise(48_000, 9))
    summary = prepare(root / "corpus", root / "m.jsonl.gz", workers=0)
    return root / "m.jsonl.gz", summary, audit.render(root / "m.jsonl.gz", summary)


def cells(page):
    """Return the rows of all tables as text: first cell -> other cells."""
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
    return {row[0]: row[1:] for row in reversed(rows)}


def test_the_page_opens_offline_and_escapes_all_text(made):
    _, _, page = made
    assert "<script" not in page and "default-src 'none'" in page and not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert "x&lt;script&gt;alert(1)&lt;&amp;x&gt;" in page and "&lt;b&gt;broken.flac" in page and "<b>broken" not in page
    assert re.search(r'<img alt="Histograms[^"]+" src="data:image/png;base64,', page)


def test_its_numbers_are_those_of_the_manifest(made):
    _, summary, page = made
    found = cells(page)
    assert found["narrow"][:2] == ["4", "0.1"] and float(found["narrow"][2]) == pytest.approx(8, rel=0.05)
    assert found["broken"][0] == str(summary["left_out"]["broken"]) == "1"
    assert found["upsampled"][:2] == ["3", "kept"]
    assert ">7</b>" in page and "of 8; 1 left out" in page


def test_the_worst_files_come_first(made):
    _, _, page = made
    narrowest, quietest = (re.search(rf"The {fault} files.*?</table>", page, re.DOTALL)[0] for fault in ("narrowest", "quietest"))
    named = re.compile(r"<th>(corpus/.*?)</th>")
    assert set(named.findall(narrowest)[:3]) == {f"corpus/narrow/u{number}.wav" for number in range(3)}
    assert named.findall(quietest)[0] == "corpus/narrow/quiet.wav"
    assert "The most clipped files" not in page


def test_every_mark_has_a_meaning():
    """Read the marks from the source, so that a new one cannot be forgotten."""
    text = (audit.Path(audit.__file__).parent / "recording.py").read_text(encoding="utf-8")
    marks = set(re.findall(r'^        "([A-z0-9 ]+)": ', text[text.index("marks = {") :], re.MULTILINE))
    assert {"upsampled", "stereo"} <= marks and marks | {"repeated"} == set(audit.MARKS)


def test_noise_has_no_table_of_speakers(tmp_path):
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
