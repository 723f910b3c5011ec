"""Two runs on one page, as the arms of a comparison on the same test mixtures. Reports of several presets: notebook 10."""

from dataclasses import replace
from pathlib import Path

from IPython.display import HTML, Image
from markupsafe import Markup

from hifitse import HifitseError
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import Arm, measure
from hifitse.evaluation.rows import BASELINE
from hifitse.files import write_text
from hifitse.report import document, show, show_arms, tables
from hifitse.training.run import Run, runs_dir

Piece = str | HTML | Image


def write(first: str, second: str, target: Path) -> Path:
    """Compare two runs, each given by its name or folder, and write the page ``target``, whole or not at all.

    Raises:
        HifitseError: one is not found, readable or finished, or both are the same.
    """
    a, b = _run(first), _run(second)
    if a.folder == b.folder:
        raise HifitseError(f"both are {a.folder}, expected two that differ")
    title, pieces = runs(a, b)
    write_text(target, document.document(title, Markup("<h1>A and B side by side</h1>") + Markup("\n").join(map(_html, pieces))))
    return target


def _run(given: str) -> Run:
    folder = next((each for each in (Path(given).expanduser(), runs_dir() / given) if (each / "params.json").is_file()), None)
    if folder is None:
        known = sorted(path.parent.name for path in runs_dir().glob("*/params.json"))
        some = f"; runs here: {', '.join(known[:6])}{' ...' if len(known) > 6 else ''}" if known else ""
        raise HifitseError(f"{given!r} is no run, expected a folder with params.json, or the name of a run{some}")
    try:
        run = Run.at(folder.resolve())
    except (OSError, ValueError) as error:
        raise HifitseError(f"parameters of the run {folder.name} cannot be read ({error}), expected what a training left") from None
    if not run.finished:
        done = f"{run.step} of {run.params.steps} steps"
        raise HifitseError(f"run {folder.name} has {done}, expected a finished one: {run.command}")
    return run


def _html(part: Piece) -> Markup:
    """A piece as a notebook shows it, as part of a page."""
    return document.image(part.data, part.alt) if isinstance(part, Image) else Markup(getattr(part, "data", part))


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
