"""Write ``index.html``, ``index.md`` with its figures, and the tables of README.md, from the files of all reports alone."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from IPython.display import HTML
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from hifitse.evaluation.rows import BASELINE
from hifitse.files import write_atomic, write_text
from hifitse.report import collect, figures, summary, tables
from hifitse.report.collect import RECORDINGS, SCALES, SYNTHETIC, Report
from hifitse.report.contract import ArmEntry, Stat, complete
from hifitse.report.page import box, document, image, piece
from hifitse.report.summary import CONTROLS, RANKING, SCALE, STAGES, TOO_FEW, Entry, Row, link

TITLE = "HiFi-TSE workbook: reports"
INTRO = (
    "What the notebooks measured about target speaker extraction at 48 kHz: every report, the plan's claims by measured gain, and what is "
    "missing. Reports of the preset smoke, whose numbers mean nothing, are left out. Made by hifitse gallery from the metrics.json files."
)
REPORTS = ("report", "state", "SI-SDRi of its baseline, dB", "data", "preset", "steps", "device", "made", "commit")
BEYOND = "Beyond the plan"
TWO = "To compare two reports or two runs: hifitse compare A B -o page.html (A and B are report folders or run names)."
NEEDED = "The presets people and gpu need recordings in the folder named by HIFITSE_DATA."
ALONE = "No arm has been measured in more than one of the presets people, gpu and demo yet."
FIGURES = {RECORDINGS: "index-recordings.png", SYNTHETIC: "index-synthetic.png"}
"""Kind of data -> file of its forest plot, next to ``index.md``."""
MARKS = {
    "helped": ("▲", "good"), "neutral": ("●", "weak"), "hurt": ("▼", "bad"), TOO_FEW: ("?", "weak"),
    "complete": ("✓", "good"),
    "cut": ("◐", "weak"), "failed": ("✕", "bad"), "unreadable": ("✕", "bad"), "missing": ("○", "none"), "reported": ("✓", "none"),
}  # fmt: skip
"""Verdict or state -> symbol and CSS class of its badge. The word follows the symbol, so that no information depends on colour."""

DEFAULT = "people/14_default_model"
MODELS = {
    (DEFAULT, "people, dry"): "default model; unseen people, no room, no noise",
    (DEFAULT, "people, rooms and noise"): "default model; the same with noise, in measured rooms",
    (DEFAULT, "RAVDESS, dry"): "default model; actors in an unseen studio",
    (DEFAULT, "Persian, dry"): "default model; unseen language and microphones",
    ("demo-best/00_baseline", "baseline"): "`make demo`; synthetic voices, no room",
    ("demo/00_baseline", "baseline"): "baseline of the notebooks; synthetic voices, no room",
}
"""(Report, arm or condition) -> label of the row."""
LEVERS = {
    ("13_best", "best"): "the best recipe: the next two together",
    ("13_best", "magnitudes alone"): "compressed magnitudes as the only input",
    ("13_best", "small, large batches"): "a small network and large batches",
    ("06_losses", "all four, uncertainty"): "four loss terms with learned weights",
    ("09_combined", "all together"): "the plan's 02 to 05 together",
}
"""(Notebook, arm) -> what the arm changes."""
ANSWERS = {
    "01_gan_finetune": "STFT", "02_capacity": "C both", "03_long_segments": "4 s", "04_augmentation": "2-3 enrolments",
    "05_curriculum": "1-4 interferers", "06_losses": "all four, uncertainty", "07_conditioning": "in every block",
    "09_combined": "all together", "12_diagnosis": "all faults", "13_best": "best",
}  # fmt: skip
"""Notebook -> the arm that answers its question."""


@dataclass(frozen=True)
class Part:
    """A section of the index. Empty fields are omitted."""

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Row] = ()
    text: str = ""  # a sentence below the table
    data: str = ""  # the kind of data of the forest plot above the table
    figure: tuple[Figure, str] | None = None  # that plot and its alternative text
    lines: Sequence[str] = ()  # commands below the table

    def html(self, linked: bool = True) -> HTML:
        """Return the section without its heading, for display in a notebook. Links are relative to the reports root."""
        made = [image(figures.png(self.figure[0]), self.figure[1])] if self.figure else []
        cells = [[piece("link", first, place if linked else ""), *map(badge, others)] for place, (first, *others) in self.rows]
        made += [tables.table(self.header, cells)] if cells else []
        made += [Markup("<p>{}</p>").format(self.text)] if self.text else []
        return HTML(Markup("\n").join(made + [piece("commands", self.lines)] * bool(self.lines)))

    def markdown(self) -> str:
        """Return the section as Markdown, with its heading."""
        said = [f"## {self.title}"]
        said += [f"![{_escape(self.figure[1])}]({FIGURES[self.data]})"] if self.figure else []
        said += [_table(self.header, self.rows)] if self.rows else []
        said += [self.text] if self.text else []
        return "\n\n".join(said + ["To create the missing reports:\n\n```sh\n" + "\n".join(self.lines) + "\n```"] * bool(self.lines))


def badge(word: str) -> str:
    """Return a verdict or state as a badge with its symbol; return other text unchanged."""
    return piece("badge", word, *MARKS[word]) if word in MARKS else word


def report_rows(reports: Iterable[Report]) -> list[Row]:
    """Return one row per report, whatever its state."""
    rows = []
    for one in reports:
        cells = [one.folder, one.status, tables.measured(one.arm().metrics.get("si_sdri_db"), 2, True), one.data, one.preset, one.trained]
        device = one.said("device").replace("auto", "–")  # reports without a training
        rows.append((link(one), [*cells, device, one.said("created")[:10], one.said("commit")[:9]]))
    return rows


def parts(reports: Sequence[Report], preset: str = "demo") -> dict[str, Part]:
    """Return the sections of the index from top to bottom. ``preset`` is used in the commands for missing reports on synthetic voices."""
    entries, others = summary.entries(reports), summary.beyond(reports)
    broken = [(link(one), [one.folder, one.status, one.reason]) for one in reports if one.status != "complete"]
    found = {"reports": Part("Reports", REPORTS, report_rows(reports), TWO if reports else f"There is no report yet. {TWO}")}
    for data in FIGURES:
        found[f"beyond, {data}"] = Part(f"{BEYOND}, on {data}", RANKING, summary.ranking_rows(others, data))
    for data in sorted(FIGURES, key=lambda data: not summary.measured(entries, data)):
        rows = summary.ranking_rows(entries, data)
        nothing = "" if rows else f"Nothing was measured on {data} yet."
        title = f"The plan's levers by measured gain, on {data}"
        found[data] = Part(title, RANKING, rows, nothing, data, summary.forest(entries, data))
    scales = summary.scale_rows(reports)
    several = any(cells[-1] != "–" for _, cells in scales)
    found["scale"] = Part("By scale: does the verdict change?", SCALE, scales if several else (), "" if several else ALONE)
    found["claims"] = Part("The plan's claims", STAGES, summary.stage_rows(entries))
    lines = summary.commands(entries, preset)
    text = NEEDED if lines else "" if broken else "Nothing is missing."
    return found | {"missing": Part("What is missing", ("report", "state", "reason"), broken, text, lines=lines)}


def _filled(reports: Sequence[Report]) -> list[Part]:
    return [part for part in parts(reports).values() if part.rows or part.text]


def verdict(entries: Sequence[Entry]) -> Markup:
    """Return the verdict box as HTML."""
    headline, cards, text = summary.sentences(entries)
    return box("", headline, Markup("").join(piece("card", *card) for card in cards), text)


def page(reports: Sequence[Report]) -> str:
    """Return ``index.html``: a single page without scripts that opens offline."""
    body = [Markup("<h1>{}</h1><p>{}</p>").format(TITLE, INTRO), verdict(summary.entries(reports))]
    body += [Markup("<h2>{}</h2>{}").format(part.title, Markup(part.html().data)) for part in _filled(reports)]
    return document(TITLE, Markup("\n").join(body))


def _escape(text: str) -> str:
    """Escape text for a Markdown table: it can add no tags, links or cells."""
    line = " ".join(str(escape(text)).replace("&#39;", "'").replace("&#34;", '"').split())
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", line)


def _table(header: Sequence[str], rows: Iterable[Row]) -> str:
    lines = [" | ".join(map(_escape, header)), " | ".join(["---"] * len(header))]
    for place, cells in rows:
        first, *others = (f"{MARKS[cell][0]} {cell}" if cell in MARKS else _escape(cell) for cell in cells)
        lines.append(" | ".join([f"[{first}]({place})" if place else first, *others]))
    return "\n".join(f"| {line} |" for line in lines)


def markdown(reports: Sequence[Report]) -> str:
    """Return ``index.md``: the same content as the page, with figures in separate files."""
    headline, cards, text = summary.sentences(summary.entries(reports))
    counts = "\n".join(f"- {data}: **{helped}** {rest}" for data, helped, rest in cards)
    said = [f"# {TITLE}", INTRO, f"**{headline}**", counts, text, *(part.markdown() for part in _filled(reports))]
    return "\n\n".join(said) + "\n"


def write(root: Path, *others: Path) -> tuple[Path, Path]:
    """Write the index of a reports root into that root, each file atomically. Returns the paths of the HTML page and the Markdown text.

    ``others``: further roots to include; reports in ``root`` replace reports of the same name there.
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


# ---- the tables of README.md


def said(value: Stat | None) -> str:
    """Format a number in dB with its 95 % interval."""
    known = value and None not in (value.mean, value.low, value.high)
    return f"{value.mean:+.2f} ({value.low:+.2f} to {value.high:+.2f})" if known else "not measured"


def gain(reports: Path, notebook: str, arm: str) -> tuple[str, str, str]:
    """Return an arm's paired SI-SDRi difference from the baseline or from the control of ``CONTROLS``, the plan's range, and the first
    of ``SCALES`` that measured it."""
    wanted = (arm, CONTROLS.get(notebook, BASELINE), "si_sdri_db", "test")
    for preset in SCALES:
        found = complete(reports / preset / notebook / "metrics.json")
        for each in found.comparisons if found else ():
            if (each.arm, each.baseline, each.metric, each.list) == wanted:
                value = Stat(mean=each.difference, low=each.low, high=each.high)
                return said(value), " to ".join(f"{end:+.1f}" for end in each.expected or ()) or "–", preset
    return said(None), "–", SCALES[-1]


def numbers(reports: Path) -> dict[str, list[str]]:
    """Return the rows of each table of README.md, header first. Values without a report are 'not measured'."""
    models = ["model; test mixtures | right enrolment, dB | wrong enrolment, dB | mixtures"]
    for (folder, part), words in MODELS.items():
        found = complete(reports / folder / "metrics.json")
        conditions = found.model_extra.get("default_model", {}).get("conditions", {}) if found else {}
        arms = {key: ArmEntry(**each) for key, each in conditions.items()} or (found.arms if found else {})
        values, heard = arms.get(part, ArmEntry()).metrics, conditions.get(part, {})
        of = ", ".join(f"{heard[what]} {what}" for what in ("people", "rooms") if heard.get(what))
        right, wrong = values.get("si_sdri_db"), values.get("si_sdri_wrong_enroll_db")
        link = f"[{words}](reports/{folder}/report.html)" if found else words
        models.append(f"{link} | {said(right)} | {said(wrong)} | {right.n if right else '–'}{of and f' ({of})'}")
    levers = ["lever | measured, dB | the plan expects, dB | preset"]
    for (notebook, arm), words in LEVERS.items():
        found = gain(reports, notebook, arm)
        link = words if found[0] == said(None) else f"[{words}](reports/{found[2]}/{notebook}/report.html)"
        levers.append(f"{link} | {' | '.join(found)}")
    notebooks = ["notebook | question | answer, dB relative to the baseline or the arm named"]
    for path in sorted((reports.parent / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        title = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).partition("\n")[0]
        arm, against = ANSWERS.get(path.stem, ""), f" against {CONTROLS[path.stem]}" if path.stem in CONTROLS else ""
        value, _, preset = gain(reports, path.stem, arm)
        answer = f"{arm}{against}: {value}{f', {preset}' * (preset != SCALES[-1])}"
        if value == said(None):
            answer, preset = "in its report", next((each for each in SCALES if complete(reports / each / path.stem / "metrics.json")), "")
        answer = f"[{answer}](reports/{preset}/{path.stem}/report.html)" if preset else value
        notebooks.append(f"[{path.stem}](notebooks/{path.name}) | {title.partition(': ')[2]} | {answer}")
    return {"models": models, "levers": levers, "notebooks": notebooks}


def fill(readme: Path, reports: Path) -> None:
    """Replace the tables of README.md between the markers ``<!-- numbers: NAME -->`` and ``<!-- end -->``. Never edit them by hand."""
    text = readme.read_text(encoding="utf-8")
    for name, rows in numbers(reports).items():
        head, *body = [f"| {row} |" for row in rows]
        table = "\n".join([head, "|" + "---|" * head.count(" |"), *body])
        marked = rf"(<!-- numbers: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(marked, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
    write_text(readme, text)
