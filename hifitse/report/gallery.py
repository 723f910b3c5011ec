"""The index of all reports, ``index.md`` and ``index.html``: a function of their files, so that it changes only when they do."""

import html
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hifitse.files import write_text
from hifitse.report import collect, figures, ranking, summary, tables
from hifitse.report.collect import RECORDINGS, SYNTHETIC, Report
from hifitse.report.document import document, image

TITLE = "HiFi-TSE workbook: reports"
INTRO = (
    "What the notebooks found about target speaker extraction at 48 kHz: every report, the plan's claims by measured gain, and what is "
    "missing. Reports of the preset smoke, whose numbers mean nothing, are left out. Made by hifitse gallery from the metrics.json files."
)
REPORTS = ("report", "state", "SI-SDRi of its baseline, dB", "data", "preset", "steps", "device", "made", "commit")
BEYOND = "Beyond the plan: the best recipe, and the faults of the published baseline"
TWO = ("Two reports, or two runs, are set side by side by", "hifitse compare A B -o page.html", "(A and B: folders, or names of runs)")
WIDE = "main { max-width: 1120px; }"


def report_rows(reports: Sequence[Report]) -> list[ranking.Row]:
    """One row a report, whatever its state."""
    rows = []
    for one in reports:
        value = collect.mapping(collect.mapping(one.arm("baseline").get("metrics")).get("si_sdri_db"))
        known = {key: collect.number(value.get(key)) for key in ("mean", "low", "high")}
        shown = f"{tables.number(known['mean'], 2, True)} ({tables.interval(known, 2, True)})" if known["mean"] is not None else "–"
        cells = [one.folder, one.status, shown, one.data, one.preset, f"{one.steps:,.0f}" if one.steps else "–"]
        device = one.said("device").replace("auto", "–")  # of reports that train nothing
        rows.append((ranking.link(one), [*cells, device, one.said("created")[:10], _commit(one.said("commit"))]))
    return rows


def _commit(said: str) -> str:
    """Nine digits of a commit, with what was added to say that files differed from it."""
    found = re.fullmatch(r"([0-9a-f]{40})(-dirty)?", said)
    return found[1][:9] + (" and changes" if found[2] else "") if found else said


def _broken(reports: Sequence[Report]) -> list[ranking.Row]:
    return [(ranking.link(one), [one.folder, one.status, one.reason]) for one in reports if one.status != "complete"]


def page(root: Path) -> str:
    """``index.html``: one file without scripts, which opens offline."""
    reports = collect.read(root)
    entries = summary.entries(reports)
    parts = [f"<h1>{TITLE}</h1>", f"<p>{html.escape(INTRO)}</p>", ranking.verdict(entries)]
    parts.append("<h2>Reports</h2>")
    parts.append(ranking.table(REPORTS, report_rows(reports)) if reports else "<p>There is no report yet.</p>")
    parts.append(f"<p>{TWO[0]} <code>{TWO[1]}</code> {TWO[2]}.</p>")
    broken = _broken(reports)
    if broken:
        parts += ["<h3>Not complete</h3>", ranking.table(("report", "state", "reason"), broken)]
    others = summary.beyond(reports)
    if others:
        parts.append(f"<h2>{BEYOND}</h2>")
        parts += [ranking.ranking(others, data, linked=True) for data in (SYNTHETIC, RECORDINGS) if ranking.measured(others, data)]
    parts.append("<h2>The plan's levers by measured gain</h2>")
    for data in (SYNTHETIC, RECORDINGS):
        parts.append(f"<h3>On {data}</h3>")
        drawn = ranking.forest(entries, data)
        if drawn:
            parts.append(image(figures.png(drawn[0]), drawn[1]))
        parts.append(ranking.ranking(entries, data, linked=True))
    parts += ["<h2>The plan's claims</h2>", ranking.stages(entries)]
    parts += ["<h2>What is missing</h2>", ranking.gaps(entries, linked=True)]
    body = "\n".join(parts)
    return document(TITLE, body, WIDE)


def _escape(text: str) -> str:
    """Text inside a table of Markdown: no tags, no links, no new cells."""
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", html.escape(text, quote=False))


def _table(header: Sequence[str], rows: Sequence[ranking.Row]) -> str:
    lines = ["| " + " | ".join(map(_escape, header)) + " |", "|" + "---|" * len(header)]
    for place, cells in rows:
        first, *others = (f"{ranking.MARKS[cell][0]} {cell}" if cell in ranking.MARKS else _escape(cell) for cell in cells)
        lines.append("| " + " | ".join([f"[{first}]({place})" if place else first, *others]) + " |")
    return "\n".join(lines)


def markdown(root: Path) -> str:
    """``index.md``: the same as the page, without the figures."""
    reports = collect.read(root)
    entries = summary.entries(reports)
    headline, cards, text = ranking.sentences(entries)
    parts = [f"# {TITLE}", INTRO, f"**{headline}**"]
    parts.append("\n".join(f"- {data}: **{helped}** {rest}" for data, helped, rest in cards))
    parts += [text, "## Reports", _table(REPORTS, report_rows(reports)) if reports else "There is no report yet."]
    parts.append(f"{TWO[0]} `{TWO[1]}` {TWO[2]}.")
    broken = _broken(reports)
    if broken:
        parts += ["### Not complete", _table(("report", "state", "reason"), broken)]
    others = summary.beyond(reports)
    if others:
        parts.append(f"## {BEYOND}")
        found = [ranking.ranking_rows(others, data) for data in (SYNTHETIC, RECORDINGS)]
        parts += [_table(ranking.RANKING, rows) for rows in found if rows]
    parts.append("## The plan's levers by measured gain")
    for data in (SYNTHETIC, RECORDINGS):
        rows = ranking.ranking_rows(entries, data)
        parts += [f"### On {data}", _table(ranking.RANKING, rows) if rows else f"Nothing was measured on {data} yet."]
    parts += ["## The plan's claims", _table(ranking.STAGES, ranking.stage_rows(entries)), "## What is missing"]
    gaps = ranking.gap_rows(entries)
    parts.append(_table(ranking.GAPS, gaps) if gaps else "Nothing is missing.")
    commands = ranking.commands(entries)
    if commands:
        parts += ["The commands that make it:", "```sh\n" + "\n".join(commands) + "\n```"]
    return "\n\n".join(parts) + "\n"


def write(root: Path) -> tuple[Path, Path]:
    """Write both files into the root of the reports, each whole or not at all. Returns their paths, the page first."""
    root.mkdir(parents=True, exist_ok=True)
    texts = {root / "index.html": page(root), root / "index.md": markdown(root)}
    for path, text in texts.items():
        write_text(path, text)
    return root / "index.html", root / "index.md"


def publish(root: Path) -> str:
    """Write the index if ``hifitse run`` runs the notebook, and say so; an experiment by plain papermill leaves it as it is.

    The summary's own report is moved to its place only after its notebook, so ``hifitse gallery`` must follow for its own line.
    """
    if not os.environ.get("HIFITSE_REPORT_DIR"):
        return "not written here: hifitse gallery writes index.html and index.md of the reports"
    return " and ".join(path.name for path in write(root)) + " of the reports written"
