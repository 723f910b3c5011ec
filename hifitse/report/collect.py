"""All reports that lie here; one that is cut short, foreign or damaged is kept with the reason, and nothing raises for it."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from hifitse.evaluation.rows import BASELINE
from hifitse.report import report
from hifitse.report.contract import ArmEntry, ContractError, Metrics, load, plain

SYNTHETIC, RECORDINGS = "synthetic voices", "recordings"
"""The two kinds of data."""
SCALES = ("people", "gpu", "demo")
"""Presets in which arms are compared, those first whose verdicts say most."""


@dataclass(frozen=True)
class Report:
    """What lies in one folder of a report.

    Attributes:
        folder: ``<preset>[-real][+label]/<NN_name>``.
        preset, notebook: its parts, the preset with the label that keeps it apart from others.
        data: ``SYNTHETIC`` or ``RECORDINGS``; where the file says nothing, by the folder's name.
        place: where the folder is, seen from the root of the reports, as a link has it.
        files: which of the report's files are there, the page first.
        status, reason: "complete", "cut" (by a time limit), "failed" or "unreadable"; why it is not complete.
        metrics: of ``metrics.json``; ``None`` where it is unreadable.
    """

    folder: str
    preset: str
    notebook: str
    data: str
    place: str
    files: tuple[str, ...]
    status: str
    reason: str
    metrics: Metrics | None = field(default=None, repr=False)

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
    """Every report below the folders, people first, then in the order of their names.

    One in a later folder stands for one of the same name in an earlier one; an attempt that was not completed is left out
    where there is a complete report of that name.

    Args:
        roots: folders of reports; may be absent. Links lead from the last one.
        smoke: take those of the preset ``smoke`` as well, which only shows that the path works.
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
