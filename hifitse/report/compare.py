"""Two on one page: two reports by what they hold, or two runs as the arms of a comparison, on the same test mixtures."""

from dataclasses import replace
from pathlib import Path

from IPython.display import HTML, Image
from markupsafe import Markup

from hifitse import HifitseError
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import Arm, measure
from hifitse.evaluation.rows import BASELINE
from hifitse.files import write_text
from hifitse.report import collect, document, show, show_arms, tables
from hifitse.report.collect import Report
from hifitse.report.report import ATTEMPT
from hifitse.training.run import Run, runs_dir

Piece = str | HTML | Image


def write(first: str, second: str, target: Path) -> Path:
    """Compare two reports, or two runs, and write the page, whole or not at all.

    Args:
        first, second: two folders of reports; or two runs, each by its name or folder.
        target: file of the page.

    Raises:
        HifitseError: one is not found or not readable, both are the same, or one is a run and the other a report.
    """
    a, b = _find(first), _find(second)
    if a == b:
        raise HifitseError(f"both are {a}, expected two that differ")
    kinds = [(folder / "metrics.json").is_file() for folder in (a, b)]
    if kinds[0] != kinds[1]:
        raise HifitseError(f"{first} and {second} are a report and a run, expected two reports or two runs")
    title, pieces = reports(_report(a), _report(b)) if all(kinds) else runs(_run(a), _run(b))
    write_text(target, document.document(title, Markup("<h1>A and B side by side</h1>") + Markup("\n").join(map(_html, pieces))))
    return target


def _find(given: str) -> Path:
    for folder in (Path(given).expanduser(), runs_dir() / given):
        if any((folder / name).is_file() for name in ("metrics.json", "params.json")):
            return folder.resolve()
    known = sorted(path.parent.name for path in runs_dir().glob("*/params.json"))
    some = f"; runs here: {', '.join(known[:6])}{' ...' if len(known) > 6 else ''}" if known else ""
    raise HifitseError(f"{given!r} is no run and no report, expected a folder with metrics.json or params.json, or the name of a run{some}")


def _report(folder: Path) -> Report:
    name = f"{folder.parent.name}/{folder.name.removesuffix(ATTEMPT)}"
    found = next(one for one in collect.read(folder.parents[1], smoke=True) if one.folder == name)
    if not found.usable:
        raise HifitseError(f"report {name} is {found.status} ({found.reason}), expected a complete one")
    return found


def _run(folder: Path) -> Run:
    try:
        run = Run.at(folder)
    except (OSError, ValueError) as error:
        raise HifitseError(f"parameters of the run {folder.name} cannot be read ({error}), expected what a training left") from None
    if not run.finished:
        done = f"{run.step} of {run.params.steps} steps"
        raise HifitseError(f"run {folder.name} has {done}, expected a finished one: {run.command}")
    return run


def _html(part: Piece) -> Markup:
    """A piece as a notebook shows it, as part of a page."""
    return document.image(part.data, part.alt) if isinstance(part, Image) else Markup(getattr(part, "data", part))


def reports(a: Report, b: Report) -> tuple[str, list[Piece]]:
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
    pieces = [document.box("", "Two reports, by what they hold.", "", text)]
    pieces += [tables.table(["", "report", "state", "trained", "device"], facts), Markup("<h2>Metrics</h2>")]
    pieces += [tables.table(["arm", "metric", "unit", "A", "B"], rows, "means with 95 % intervals"), Markup("<h2>Parameters</h2>")]
    return f"{a.folder} and {b.folder}", [*pieces, tables.differing(a.metrics.params, b.metrics.params, ["A", "B"])]


def runs(a: Run, b: Run) -> tuple[str, list[Piece]]:
    """Title and pieces of the page of two runs: B as a variant of A, on the mixtures of A's own evaluation.

    Rows that are kept are taken; others are measured now, which takes minutes.
    """
    title, name = (template.format(a.folder.name, b.folder.name) for template in ("{} and {}", "B, {1}"))
    arms = [Arm(each, run.params, run, [], a.params) for each, run in ((BASELINE, a), (name, b))]
    base, other = (replace(arm, rows=measure(arm)) for arm in arms)
    comparison = Comparison(base, {name: other})
    said = Markup("<p>A, the baseline, is the run {}; B is the run {}. Both were tested on the same mixtures.</p>")
    pieces: list[Piece] = [said.format(a.folder.name, b.folder.name), show_arms.answer(comparison), show_arms.results(comparison)]
    pieces += [Markup("<h2>Parameters</h2>"), tables.differing(a.params.model_dump(), b.params.model_dump(), ["A", "B"])]
    pieces += [Markup("<h2>Training</h2>"), show_arms.learning(comparison), Markup("<h2>Listen</h2>")]
    heard = [part for example in show_arms.listen(comparison, name) for part in show.listen(example)]
    return title, pieces + (heard or [Markup("<p>Fewer than two mixtures have a value.</p>")])
