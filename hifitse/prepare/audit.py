"""Audit page of a manifest: true bandwidth, level and length of its recordings, and the files that were left out."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.manifest import opened
from hifitse.prepare.prepare import of_suffixes
from hifitse.prepare.recording import FADED
from hifitse.report import figures, tables
from hifitse.report.contract import plain
from hifitse.report.page import JINJA, box, document, image, piece

WIDE = "main { max-width: 1120px; }"
SPEAKERS = 200  # maximum number of rows in the table of speakers
WORST = 12  # files listed per fault
COLUMNS = ["speaker", "path", "samples", "sample_rate", "bandwidth_hz", "level_db", "clipped_share", "flags"]
MARKS = {
    "upsampled": "its spectrum ends in a cliff below 0.9 times half its sample rate",
    "narrow": "its spectrum fades out below 0.75 times half its sample rate",
    "below 48 kHz": "its own rate is lower; it is resampled when it is read",
    "stereo": "several channels, which are mixed down",
    "cut short": "less than its header says; what is there is used",
    "dc": "a constant part of 1 % of full scale or more",
    "repeated": "the same samples as an earlier file, perhaps of another speaker",
}
"""Marks of kept files and their meaning."""
Row = Mapping[str, Any]


def checked(page: str) -> Path:
    """Return the absolute path of the page to write. Raises HifitseError: it is not an ``.html`` file in an existing folder."""
    path = Path(os.path.abspath(Path(page).expanduser()))
    if path.suffix.lower() not in (".html", ".htm") or not path.parent.is_dir() or path.is_dir():
        raise HifitseError(f"audit page is {page!r}, expected the name of an .html file in a folder that exists")
    return path


def render(manifest: Path, summary: Row) -> str:
    """Render the page from a manifest and the summary of :func:`hifitse.prepare.prepare.prepare`, as HTML that opens offline."""
    with opened(manifest) as lines:
        listed = (row for row in map(json.loads, lines) if "path" in row)
        rows = pd.DataFrame.from_records([[row.get(name) for name in COLUMNS] for row in listed], columns=COLUMNS)
    rows["seconds"] = rows.samples / rows.sample_rate
    faults = {"narrowest": ("bandwidth_hz", True), "quietest": ("level_db", True), "most clipped": ("clipped_share", False)}
    worst = {name: rows.sort_values([by, "path"], ascending=[rising, True]).head(WORST) for name, (by, rising) in faults.items()}
    worst["most clipped"] = worst["most clipped"].query("clipped_share > 0")
    words = "Histograms of the true bandwidth in kHz, the level in dBFS and the length in s of the files that were kept"
    title = f"Audit of {plain(manifest.name, 60)}"
    body = JINJA.get_template("audit.html").render(
        title=title, verdict=_verdict(summary, rows), picture=image(figures.png(histograms(rows)), words), counts=_counts(summary),
        speakers=_speakers(rows) if summary["speakers"] else "", worst=[_worst(name, found) for name, found in worst.items() if len(found)],
    )  # fmt: skip
    return document(title, body, WIDE)


def _verdict(summary: Row, rows: pd.DataFrame) -> Markup:
    """Render the box at the top: can these recordings be used as 48 kHz speech?"""
    kept, wide = summary["kept"], FADED * SAMPLE_RATE / 2
    narrow = int(((rows.bandwidth_hz < wide) | rows["flags"].map(lambda marks: "upsampled" in marks)).sum())
    share = narrow / kept
    mood, words = ("good", "Full-band") if share < 0.02 else ("weak", "Partly narrow") if share < 0.5 else ("bad", "Mostly narrow")
    band, lone = summary["bandwidth_hz"], summary["speakers_with_one_file"]
    alone = f"{lone:,} with one file only, which are not used" if lone else "each with two or more files"
    cards = [
        ("files kept", f"{kept:,}", f"of {summary['files']:,}; {summary['files'] - kept:,} left out"),
        *([("speakers", f"{summary['speakers']:,}", alone)] if summary["speakers"] else []),
        ("length", tables.duration(60 * summary["minutes"]), f"median level {tables.number(summary['level_db']['median'], 1)} dBFS"),
        ("true bandwidth", f"{band['median'] / 1000:.1f} kHz", f"median; a tenth of the files below {band['p10'] / 1000:.1f} kHz"),
        ("upsampled or narrow", f"{100 * share:.1f} %".replace(".0 %", " %"), f"{narrow:,} files; narrow: ends below {wide / 1000:g} kHz"),
    ]
    said = f"{summary['layout']} layout, {summary['kind']}, from {plain(summary['root'], 120)}"
    return box(mood, f"{words} recordings", "".join(piece("card", *card) for card in cards), said)


@matplotlib.rc_context(figures.STYLE)
def histograms(values: Mapping[str, Any]) -> Figure:
    """Plot histograms of true bandwidth, level and length from ``bandwidth_hz``, ``level_db`` and ``seconds``, ``(files,)`` each."""
    figure = Figure(figsize=(figures.WIDTH, 5.2), layout="constrained")
    axes = figure.subplot_mosaic([["wide", "wide"], ["left", "right"]])
    band, seconds = values["bandwidth_hz"] / 1000, np.maximum(values["seconds"], 1e-3)
    lengths = np.geomspace(0.9 * seconds.min(), 1.1 * seconds.max(), 31)
    axes["wide"].hist(band, bins=np.arange(0, max(24.5, band.max() + 1), 0.5), color=figures.BLUE)
    axes["left"].hist(values["level_db"], bins=30, color=figures.GREEN)
    axes["right"].hist(seconds, bins=lengths, color=figures.ORANGE)
    axes["right"].set_xscale("log")
    axes["right"].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes["right"].xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if lengths[-1] < 10 * lengths[0] else ""))
    axes["wide"].set(title="true bandwidth; dotted: half of common sample rates", xlim=(0, None))
    for rate in (8, 16, 22.05, 32, 44.1, 48):
        axes["wide"].axvline(rate / 2, color=figures.GREY, lw=0.8, ls=":")
    for axis, label in zip(axes.values(), ("bandwidth, kHz", "level, dBFS", "length, s"), strict=True):
        axis.set(xlabel=label, ylabel="files")
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def _counts(summary: Row) -> Markup:
    """Render the counts of left-out and marked files, and the first left-out or repeated files for each reason."""
    rows = [[reason, f"{count:,}", "left out", of_suffixes(summary, reason)] for reason, count in summary["left_out"].items()]
    rows += [[mark, f"{count:,}", "kept", MARKS[mark]] for mark, count in summary["marked"].items()]
    rows += [[f"not audio: {suffix}", f"{count:,}", "not looked at", "by its name"] for suffix, count in summary["not_audio"].items()]
    if not rows:
        return Markup("<p>Nothing was left out, and nothing is marked.</p>")
    named = [(reason, one) for reason, some in summary["examples"].items() for one in some[:WORST]]
    first = [[plain(one["path"]), reason, plain(one["detail"]) or "–"] for reason, one in named]
    caption = f"The first {WORST} files of each reason, and copies"
    examples = tables.table(["file", "reason or mark", "in words"], first, caption) if first else ""
    return tables.table(["reason or mark", "files", "state", "which"], rows) + examples


def _speakers(rows: pd.DataFrame) -> Markup:
    named = rows.groupby("speaker").agg(
        files=("path", "size"), seconds=("seconds", "sum"), median=("bandwidth_hz", "median"), lowest=("bandwidth_hz", "min"),
        level=("level_db", "median"),
    )  # fmt: skip
    shown = named.sort_values(["median", "speaker"]).head(SPEAKERS)
    cells = [
        [plain(name, 60), f"{one.files:,}", *(tables.number(value, 1) for value in
         (one.seconds / 60, one.median / 1000, one.lowest / 1000, one.level))]
        for name, one in zip(shown.index, shown.itertuples(), strict=True)
    ]  # fmt: skip
    head = ["speaker", "utterances", "minutes", "median bandwidth, kHz", "lowest, kHz", "median level, dBFS"]
    return tables.table(head, cells, f"{len(shown):,} of {len(named):,} speakers, those of the lowest bandwidth first")


def _worst(fault: str, rows: pd.DataFrame) -> Markup:
    cells = [
        [plain(row.path), f"{row.bandwidth_hz / 1000:.1f}", tables.number(row.level_db, 1), f"{100 * row.clipped_share:.2g}",
         tables.number(row.seconds, 1), ", ".join(row.flags) or "–"]
        for row in rows.itertuples()
    ]  # fmt: skip
    return tables.table(["file", "bandwidth, kHz", "level, dBFS", "clipped, %", "length, s", "marks"], cells, f"The {fault} files")
