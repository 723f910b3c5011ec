"""All reports that lie here, and two of them, or two runs, on one page.

A report that is cut short, foreign or damaged is kept with the reason, and nothing raises for it.
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from IPython.display import HTML, Image
from markupsafe import Markup

from hifitse import HifitseError
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import Arm, measure
from hifitse.evaluation.rows import BASELINE
from hifitse.files import write_text
from hifitse.report import page, report, show, show_arms, tables
from hifitse.report.contract import ArmEntry, ContractError, Metrics, load, plain
from hifitse.training.run import Run, runs_dir

SYNTHETIC, RECORDINGS = "synthetic voices", "recordings"
"""The two kinds of data."""
SCALES = ("people", "gpu", "demo")
"""Presets in which arms are compared, those first whose verdicts say most."""


@dataclass(frozen=True)
class Report:
    """What lies in one folder of a report."""

    folder: str  # ``<preset>[-real][+label]/<NN_name>``
    preset: str  # with the label that keeps it apart from others
    notebook: str
    data: str  # ``SYNTHETIC`` or ``RECORDINGS``; where the file says nothing, by the folder's name
    place: str  # where the folder is, seen from the root of the reports, as a link has it
    files: tuple[str, ...]  # which of the report's files are there, the page first
    status: str  # "complete", "cut" (by a time limit), "failed" or "unreadable"
    reason: str  # why it is not complete
    metrics: Metrics | None = field(default=None, repr=False)  # ``None`` where ``metrics.json`` is unreadable

    @property
    def usable(self) -> bool:
        """Whether its numbers count."""
        return self.status in ("complete", "cut")

    def arm(self, name: str = BASELINE) -> ArmEntry:
        """An arm's part of ``metrics.json``, empty where there is none."""
        return (self.metrics.arms.get(name) if self.metrics else None) or ArmEntry()

    def said(self, key: str) -> str:
        """A text of ``metrics.json``, or that it does not say."""
        return (getattr(self.metrics, key) if self.metrics else "").strip() or "not said"


def _report(path: Path, root: Path) -> Report:
    """What is in a report's folder, whatever is wrong with it."""
    top, notebook = path.parent.name, path.name.removesuffix(report.ATTEMPT)
    preset = re.sub(r"^([^+]*)-real(?=\+|$)", r"\1", top)
    try:
        found = load(path / report.FILES[2])
        own = f"{report.top(found.preset, found.corpus, found.label)}/{found.notebook}"
        if own != f"{top}/{notebook}":
            raise ContractError(f"metrics.json belongs in {plain(own, 80)}: it is of another report")
        data = SYNTHETIC if found.corpus == "synthetic" else RECORDINGS
        reason = plain(found.error or "it does not say why") if found.status != "complete" else ""
        state = (found.status, reason, found)
    except ContractError as error:
        data, state = SYNTHETIC if preset == top else RECORDINGS, ("unreadable", str(error), None)
    files = tuple(name for name in report.FILES if (path / name).is_file())
    return Report(f"{top}/{notebook}", preset, notebook, data, Path(os.path.relpath(path, root)).as_posix(), files, *state)


def _is_report(path: Path) -> bool:
    if path.name.startswith(".") or path.parent.name.startswith("."):
        return False
    named = re.fullmatch(r"\d\d_\w+", path.name.removesuffix(report.ATTEMPT))
    return any((path / name).exists() for name in (report.FILES if named else report.FILES[2:]))


def read(*roots: Path, smoke: bool = False) -> list[Report]:
    """Every report below the folders, which may be absent, people first, then in the order of their names.

    One in a later folder stands for one of the same name in an earlier one; an attempt that was not completed is left out
    where there is a complete report of that name. Links lead from the last folder. ``smoke`` takes those of that preset as well.
    """
    found: dict[str, Report] = {}
    for root in roots:
        for path in sorted(filter(_is_report, root.glob("*/*")), key=lambda path: (not path.name.endswith(report.ATTEMPT), path)):
            one = _report(path, roots[-1])
            before = found.get(one.folder)
            if before is None or one.usable or not before.usable:
                found[one.folder] = one
    kept = [found[name] for name in sorted(found) if smoke or found[name].preset.partition("+")[0] != "smoke"]
    return sorted(kept, key=lambda one: SCALES.index(one.preset) if one.preset in SCALES[:2] else len(SCALES))


# ---- two on one page


def compare(first: str, second: str, target: Path) -> None:
    """Compare two reports by what they hold, or two runs as the arms of a comparison, and write the page, whole or not at all.

    ``first, second``: two folders of reports; or two runs, each by its name or folder. Raises HifitseError: one is not found or not
    readable, both are the same, or one is a run and the other a report.
    """
    a, b = _find(first), _find(second)
    if a == b:
        raise HifitseError(f"both are {a}, expected two that differ")
    kinds = [(folder / "metrics.json").is_file() for folder in (a, b)]
    if kinds[0] != kinds[1]:
        raise HifitseError(f"{first} and {second} are a report and a run, expected two reports or two runs")
    title, pieces = _reports(_usable(a), _usable(b)) if all(kinds) else _runs(_run(a), _run(b))
    write_text(target, page.document(title, Markup("<h1>A and B side by side</h1>") + Markup("\n").join(map(_html, pieces))))


def _find(given: str) -> Path:
    for folder in (Path(given).expanduser(), runs_dir() / given):
        if any((folder / name).is_file() for name in ("metrics.json", "params.json")):
            return folder.resolve()
    known = sorted(path.parent.name for path in runs_dir().glob("*/params.json"))
    some = f"; runs here: {', '.join(known[:6])}{' ...' if len(known) > 6 else ''}" if known else ""
    raise HifitseError(f"{given!r} is no run and no report, expected a folder with metrics.json or params.json, or the name of a run{some}")


def _usable(folder: Path) -> Report:
    found = _report(folder, folder.parents[1])
    if not found.usable:
        raise HifitseError(f"report {found.folder} is {found.status} ({found.reason}), expected a complete one")
    return found


def _run(folder: Path) -> Run:
    try:
        run = Run.at(folder)
    except (OSError, ValueError) as error:
        raise HifitseError(f"parameters of the run {folder.name} cannot be read ({error}), expected what a training left") from None
    if not run.finished:
        raise HifitseError(f"run {folder.name} has {run.step} of {run.params.steps} steps, expected a finished one: {run.command}")
    return run


def _html(part: str | HTML | Image) -> Markup:
    """A piece as a notebook shows it, as part of a page."""
    return page.image(part.data, part.alt) if isinstance(part, Image) else Markup(getattr(part, "data", part))


def _reports(a: Report, b: Report) -> tuple[str, list]:
    """Title and pieces of the page of two reports: the numbers that they hold, and no others.

    Their rows are not kept, so that there is no paired difference; where the intervals of two means overlap, it is open.
    """
    text = "Reports hold means and no rows, so there is no paired difference. Two runs have one: give the names of runs."
    rows = []
    for name in dict.fromkeys([*a.metrics.arms, *b.metrics.arms]):
        for metric, (label, unit, digits) in tables.LABELS.items():
            shown = [tables.measured(one.arm(name).metrics.get(metric), digits, metric in tables.SIGNED) for one in (a, b)]
            rows += [[name, label, unit, *shown]] if shown != ["–", "–"] else []
    facts = [[name, of.folder, of.status, f"{of.arm().steps or 0:,.0f} steps", of.said("device")] for name, of in (("A", a), ("B", b))]
    pieces = [page.box("", "Two reports, by what they hold.", "", text)]
    pieces += [tables.table(["", "report", "state", "trained", "device"], facts), Markup("<h2>Metrics</h2>")]
    pieces += [tables.table(["arm", "metric", "unit", "A", "B"], rows, "means with 95 % intervals"), Markup("<h2>Parameters</h2>")]
    return f"{a.folder} and {b.folder}", [*pieces, tables.differing(a.metrics.params, b.metrics.params, ["A", "B"])]


def _runs(a: Run, b: Run) -> tuple[str, list]:
    """Title and pieces of the page of two runs: B as a variant of A, on the mixtures of A's own evaluation.

    Rows that are kept are taken; others are measured now, which takes minutes.
    """
    name = f"B, {b.folder.name}"
    arms = [Arm(each, run.params, run, [], a.params) for each, run in ((BASELINE, a), (name, b))]
    base, other = (replace(arm, rows=measure(arm)) for arm in arms)
    comparison = Comparison(base, {name: other})
    said = Markup("<p>A, the baseline, is the run {}; B is the run {}. Both were tested on the same mixtures.</p>")
    pieces = [said.format(a.folder.name, b.folder.name), show_arms.answer(comparison), show_arms.results(comparison)]
    pieces += [Markup("<h2>Parameters</h2>"), tables.differing(a.params.model_dump(), b.params.model_dump(), ["A", "B"])]
    pieces += [Markup("<h2>Training</h2>"), show_arms.learning(comparison), Markup("<h2>Listen</h2>")]
    heard = [part for example in show_arms.listen(comparison, name) for part in show.listen(example)]
    return f"{a.folder.name} and {b.folder.name}", pieces + (heard or [Markup("<p>Fewer than two mixtures have a value.</p>")])
