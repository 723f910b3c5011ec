"""The index of all reports: ``index.html``, and ``index.md`` with its figures, from their files alone: it changes only when they do."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from IPython.display import HTML
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from hifitse.files import write_atomic, write_text
from hifitse.report import collect, figures, ranking, report, summary, tables
from hifitse.report.collect import RECORDINGS, SYNTHETIC, Report
from hifitse.report.document import document, image, piece

TITLE = "HiFi-TSE workbook: reports"
INTRO = (
    "What the notebooks measured about target speaker extraction at 48 kHz: every report, the plan's claims by measured gain, and what is "
    "missing. Reports of the preset smoke, whose numbers mean nothing, are left out. Made by hifitse gallery from the metrics.json files."
)
REPORTS = ("report", "state", "SI-SDRi of its baseline, dB", "data", "preset", "steps", "device", "made", "commit")
BEYOND = "Beyond the plan"
TWO = "Two reports, or two runs, are set side by side by: hifitse compare A B -o page.html (A and B: folders of reports, or names of runs)."
FIGURES = {SYNTHETIC: "index-synthetic.png", RECORDINGS: "index-recordings.png"}
"""Kind of data -> file of its forest plot beside ``index.md``."""


@dataclass(frozen=True)
class Part:
    """A piece of the index; what is empty is left out.

    Attributes:
        title: its heading.
        header, rows: of its table.
        text: a sentence below.
        data: the kind of data whose forest plot stands above the table.
        figure: that plot, and the text that stands for it.
        lines: commands below.
    """

    title: str
    header: Sequence[str] = ()
    rows: Sequence[ranking.Row] = ()
    text: str = ""
    data: str = ""
    figure: tuple[Figure, str] | None = None
    lines: Sequence[str] = ()

    def html(self, linked: bool = True) -> HTML:
        """Without the heading, as a notebook shows it; links lead from the root of the reports."""
        made = [image(figures.png(self.figure[0]), self.figure[1])] if self.figure else []
        made += [ranking.table(self.header, self.rows, linked)] if self.rows else []
        made += [Markup("<p>{}</p>").format(self.text)] if self.text else []
        made += [piece("commands", self.lines)] if self.lines else []
        return HTML(Markup("\n").join(made))


def report_rows(reports: Sequence[Report]) -> list[ranking.Row]:
    """One row per report, whatever its state."""
    rows = []
    for one in reports:
        value = one.arm("baseline").metrics.get("si_sdri_db")
        known = {} if value is None else value.model_dump()
        shown = f"{tables.number(value.mean, 2, True)} ({tables.interval(known, 2, True)})" if value and value.mean is not None else "–"
        cells = [one.folder, one.status, shown, one.data, one.preset, f"{one.steps:,.0f}" if one.steps else "–"]
        device = one.said("device").replace("auto", "–")  # of reports that train nothing
        rows.append((ranking.link(one), [*cells, device, one.said("created")[:10], _commit(one.said("commit"))]))
    return rows


def _commit(said: str) -> str:
    """Nine digits of a commit, with what was added to say that files differed from it."""
    found = re.fullmatch(r"([0-9a-f]{40})(-dirty)?", said)
    return found[1][:9] + (" and changes" if found[2] else "") if found else said


def parts(reports: Sequence[Report], preset: str = "demo") -> dict[str, Part]:
    """The index from top to bottom; ``preset`` is that of the commands for what is missing."""
    entries, others = summary.entries(reports), summary.beyond(reports)
    broken = [(ranking.link(one), [one.folder, one.status, one.reason]) for one in reports if one.status != "complete"]
    gaps = ranking.gap_rows(entries)
    found = {
        "reports": Part("Reports", REPORTS, report_rows(reports), TWO if reports else f"There is no report yet. {TWO}"),
        "not complete": Part("Not complete", ("report", "state", "reason"), broken),
    }
    for data in FIGURES:
        found[f"beyond, {data}"] = Part(f"{BEYOND}, on {data}", ranking.RANKING, ranking.ranking_rows(others, data))
    for data in FIGURES:
        rows = ranking.ranking_rows(entries, data)
        nothing = "" if rows else f"Nothing was measured on {data} yet."
        title = f"The plan's levers by measured gain, on {data}"
        found[data] = Part(title, ranking.RANKING, rows, nothing, data, ranking.forest(entries, data))
    found["claims"] = Part("The plan's claims", ranking.STAGES, ranking.stage_rows(entries))
    lines = ranking.commands(entries, preset)
    need = "Those with --overlay real need recordings in the folder that HIFITSE_DATA names." if lines else ""
    found["missing"] = Part("What is missing", ranking.GAPS, gaps, need if gaps else "Nothing is missing.", lines=lines)
    return found


def _filled(reports: Sequence[Report]) -> list[Part]:
    return [part for part in parts(reports).values() if part.rows or part.text]


def page(reports: Sequence[Report]) -> str:
    """``index.html``: one file without scripts, which opens offline."""
    body = [Markup("<h1>{}</h1><p>{}</p>").format(TITLE, INTRO), ranking.verdict(summary.entries(reports))]
    for part in _filled(reports):
        body += [Markup("<h2>{}</h2>").format(part.title), part.html().data]
    return document(TITLE, Markup("\n").join(body))


def _escape(text: str) -> str:
    """Text inside a table of Markdown: no tags, no links, no new cells."""
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", str(escape(text)).replace("&#39;", "'").replace("&#34;", '"'))


def _table(header: Sequence[str], rows: Sequence[ranking.Row]) -> str:
    lines = ["| " + " | ".join(map(_escape, header)) + " |", "|" + "---|" * len(header)]
    for place, cells in rows:
        first, *others = (f"{ranking.MARKS[cell][0]} {cell}" if cell in ranking.MARKS else _escape(cell) for cell in cells)
        lines.append("| " + " | ".join([f"[{first}]({place})" if place else first, *others]) + " |")
    return "\n".join(lines)


def markdown(reports: Sequence[Report]) -> str:
    """``index.md``: the same as the page, its figures in files beside it."""
    entries = summary.entries(reports)
    headline, cards, text = ranking.sentences(entries)
    said = [f"# {TITLE}", INTRO, f"**{headline}**"]
    said += ["\n".join(f"- {data}: **{helped}** {rest}" for data, helped, rest in cards), text]
    for part in _filled(reports):
        said.append(f"## {part.title}")
        said += [f"![{_escape(part.figure[1])}]({FIGURES[part.data]})"] if part.figure else []
        said += [_table(part.header, part.rows)] if part.rows else []
        said += [part.text] if part.text else []
        said += ["The commands that make it:\n\n```sh\n" + "\n".join(part.lines) + "\n```"] if part.lines else []
    return "\n\n".join(said) + "\n"


def write(root: Path, *others: Path) -> tuple[Path, Path]:
    """Write the index into a root of reports, each file whole or not at all. Returns the page and the text.

    Args:
        root: where it is written; its reports stand for those of the same name elsewhere.
        others: further roots of reports to list.
    """
    reports = collect.read(*others, root)
    root.mkdir(parents=True, exist_ok=True)
    for part in parts(reports).values():
        if part.figure:
            picture = figures.png(part.figure[0], dpi=80)
            write_atomic(root / FIGURES[part.data], lambda file, picture=picture: file.write_bytes(picture))
    write_text(root / "index.html", page(reports))
    write_text(root / "index.md", markdown(reports))
    return root / "index.html", root / "index.md"


def write_index() -> Path:
    """Write the index of one's own reports, with the committed ones in it; what ``hifitse gallery`` does. Returns the page."""
    *others, root = report.roots()
    return write(root, *others)[0]


def publish() -> str:
    """Write the index if ``hifitse run`` runs the notebook, and say so; an experiment by hand leaves it as it is.

    The summary's own report is moved to its place only after its notebook, so ``hifitse gallery`` must follow for its own line.
    """
    if not os.environ.get("HIFITSE_REPORT_DIR"):
        return "not written here: hifitse gallery writes index.html and index.md of the reports"
    return f"{write_index().name} and index.md of the reports written"
