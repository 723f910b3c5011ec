"""Collect all reports, and compare two reports or two runs on one page.

Reports that are incomplete or damaged never raise an error: they are kept together with the reason.
"""

import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from IPython.display import Image
from markupsafe import Markup

from hifitse import HifitseError
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import Arm, OwnModel, measure
from hifitse.evaluation.rows import BASELINE, METRICS, difference
from hifitse.files import write_text
from hifitse.params import Params
from hifitse.report import page, report, show, show_arms, tables
from hifitse.report.contract import ArmEntry, ContractError, Metrics, load, plain
from hifitse.training.run import Run

SYNTHETIC, RECORDINGS = "synthetic voices", "recordings"  # the two kinds of speech data
SCALES = ("people", "gpu", "demo")  # presets in which arms are compared, the most informative first


@dataclass(frozen=True)
class Report:
    """The content of one report folder."""

    folder: str  # ``<preset>[-real or -synthetic][+label]/<NN_name>``
    preset: str  # including its label: ``<preset>[+label]``
    notebook: str
    data: str  # ``SYNTHETIC`` or ``RECORDINGS``; guessed from the folder's name if ``metrics.json`` is unreadable
    place: str  # path of the folder relative to the reports root, as used in links
    status: str  # "complete", "cut" (by a time limit), "failed" or "unreadable"
    reason: str  # why the report is not complete; empty if it is
    metrics: Metrics | None = field(default=None, repr=False)  # ``None`` if ``metrics.json`` is unreadable

    @property
    def usable(self) -> bool:
        """Whether the report's numbers can be used: it is complete or was cut by a time limit."""
        return self.status in ("complete", "cut")

    def arm(self, name: str = BASELINE) -> ArmEntry:
        """Return an arm's entry in ``metrics.json``, or an empty entry if there is none."""
        return (self.metrics.arms.get(name) if self.metrics else None) or ArmEntry()

    @property
    def trained(self) -> str:
        """The steps of the baseline's training, or a dash."""
        return f"{self.arm().steps:,.0f}" if self.arm().steps else "–"

    def said(self, key: str) -> str:
        """Return a text field of ``metrics.json``, or "not stated" if it is missing."""
        return plain(getattr(self.metrics, key)) if self.metrics else "not stated"


def _report(path: Path, root: Path) -> Report:
    """Read a report folder. Never raises: problems become ``status`` and ``reason``."""
    top, notebook = path.parent.name, path.name.removesuffix(report.ATTEMPT)
    name, plus, label = top.partition("+")
    preset = re.sub("-(real|synthetic)$", "", name)
    try:
        found = load(path / report.FILES[2])
        data = SYNTHETIC if found.corpus == "synthetic" else RECORDINGS
        reason = plain(found.error or "it does not say why") if found.status != "complete" else ""
        state = (found.status, reason, found)
    except ContractError as error:
        data = SYNTHETIC if report.top(preset, "synthetic") == name else RECORDINGS
        state = ("unreadable", str(error), None)
    place = Path(os.path.relpath(path, root)).as_posix()
    return Report(f"{top}/{notebook}", f"{preset}{plus}{label}", notebook, data, place, *state)


def _is_report(path: Path) -> bool:
    if path.name.startswith(".") or path.parent.name.startswith("."):
        return False
    named = re.fullmatch(r"\d\d_\w+", path.name.removesuffix(report.ATTEMPT))
    return any((path / name).exists() for name in (report.FILES if named else report.FILES[2:]))


def read(*roots: Path, smoke: bool = False) -> list[Report]:
    """Read every report below the given folders, which need not exist: preset people first, then gpu, then the others by name.

    Among reports with the same name the one in the last folder wins, but a failed or unreadable report or attempt never replaces a usable
    one. Links are relative to the last folder. ``smoke`` also includes reports of the preset smoke.
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


# ---- comparison of two reports, runs or scores


def compare(first: str, second: str, target: Path) -> None:
    """Write a page that compares two reports by their stored means, or two runs or scores by mixture. The write is atomic.

    ``first, second``: two report folders, two folders of ``hifitse score``, or two runs given by name or folder. Raises HifitseError: one
    of them is missing, unreadable, failed or unfinished; both are the same; they are of two kinds; or scores are of different mixtures.
    """
    a, b = (folder.resolve() if (folder / "metrics.json").is_file() else Run.found(str(folder)) for folder in map(Path, (first, second)))
    if a == b:
        raise HifitseError(f"both are {first}, expected two that differ")
    kinds = ["run" if isinstance(each, Run) else "score" if (each / "rows.jsonl").is_file() else "report" for each in (a, b)]
    if kinds[0] != kinds[1]:
        raise HifitseError(f"{first} and {second} are a {kinds[0]} and a {kinds[1]}, expected two reports, two runs or two scores")
    pages = {"score": lambda: _scores(a, b), "report": lambda: _reports(_usable(a), _usable(b)), "run": lambda: _runs(a, b)}
    title, pieces = pages[kinds[0]]()
    shown = (page.image(part.data, part.alt) if isinstance(part, Image) else Markup(getattr(part, "data", part)) for part in pieces)
    write_text(target, page.document(title, Markup("<h1>A and B side by side</h1>") + Markup("\n").join(shown)))


def _usable(folder: Path) -> Report:
    found = _report(folder, folder.parents[1])
    if not found.usable:
        raise HifitseError(f"report {found.folder} is {found.status} ({found.reason}), expected a complete one")
    return found


def _reports(a: Report, b: Report) -> tuple[str, list]:
    """Return the title and the pieces of the page that compares two reports, using only the numbers stored in them."""
    text = "Reports hold means but no rows, so there is no paired difference. To get one, compare the two runs by name instead."
    rows = []
    for name in dict.fromkeys([*a.metrics.arms, *b.metrics.arms]):
        for metric, (label, unit, _, digits, signed) in METRICS.items():
            shown = [tables.measured(one.arm(name).metrics.get(metric), digits, signed) for one in (a, b)]
            rows += [[name, label, unit, *shown]] if shown != ["–", "–"] else []
    facts = [[name, of.folder, of.status, of.trained, of.said("device")] for name, of in (("A", a), ("B", b))]
    pieces = [page.box("", "Means of two reports, without a verdict.", "", text)]
    pieces += [tables.table(["", "report", "state", "steps", "device"], facts), Markup("<h2>Metrics</h2>")]
    pieces += [tables.table(["arm", "metric", "unit", "A", "B"], rows, "means with 95 % intervals"), Markup("<h2>Parameters</h2>")]
    return f"{a.folder} and {b.folder}", [*pieces, tables.differing(a.metrics.params, b.metrics.params, ["A", "B"])]


def _scores(a: Path, b: Path) -> tuple[str, list]:
    """Return the title and the pieces of the page that compares two folders of ``hifitse score`` on the same mixtures."""
    rows = [[json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()] for folder in (a, b)]
    titles = [(folder / "report.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for folder in (a, b)]
    own = OwnModel(lambda mix, enroll: mix, Params())  # a system known by its rows alone
    base, other = (Arm(name, own.params, own, each, own.params) for name, each in zip((BASELINE, "B"), rows, strict=True))
    gain, said = difference(other.rows, base.rows), Markup("<p>A, the baseline: {}. B: {}.</p>").format(*titles)
    text = f"SI-SDRi of B minus that of A on the same {gain.n} mixtures. The interval covers the choice of mixtures and target speakers."
    answer = show.box(*show_arms.headline({"B": gain}), show.card("B minus A", gain), text)
    return " and ".join(titles), [said, answer, show_arms.results(Comparison(base, {"B": other}))]


def _runs(a: Run, b: Run) -> tuple[str, list]:
    """Return the title and the pieces of the page that compares two runs: B as a variant of A, on A's evaluation mixtures. Rows that are
    not cached are measured now, which takes minutes."""
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
