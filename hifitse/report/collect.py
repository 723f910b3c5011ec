"""Every report's ``metrics.json``; one that is cut short, foreign or damaged is kept with the reason, and nothing raises for it."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hifitse.evaluation.rows import BASELINE
from hifitse.report import report
from hifitse.report.contract import ArmEntry, ContractError, Metrics, load, plain

SYNTHETIC, RECORDINGS = "synthetic voices", "recordings"
"""The two kinds of data."""
NO_NUMBERS = "smoke"
"""A preset that only shows that the path works."""


@dataclass(frozen=True)
class Report:
    """What lies in one folder of a report.

    Attributes:
        folder: ``<preset>[-real][+label]/<NN_name>``.
        place: where that is, seen from the root of the reports, as a link has it.
        status: "complete", "cut" (by a time limit), "failed" or "unreadable".
        reason: why it is not complete.
        files: which of the report's files are there, the page first.
        metrics: of ``metrics.json``; ``None`` where it is unreadable.
    """

    folder: str
    place: str
    status: str
    reason: str
    files: tuple[str, ...]
    metrics: Metrics | None = field(default=None, repr=False)

    @property
    def usable(self) -> bool:
        """Whether its numbers count."""
        return self.status in ("complete", "cut")

    @property
    def notebook(self) -> str:
        """``NN_name``."""
        return self.folder.rpartition("/")[2]

    @property
    def data(self) -> str:
        """``SYNTHETIC`` or ``RECORDINGS``; where the file says nothing, by the folder's name."""
        if self.metrics is not None:
            return SYNTHETIC if self.metrics.corpus == "synthetic" else RECORDINGS
        return RECORDINGS if self.folder.partition("/")[0].partition("+")[0].endswith("-real") else SYNTHETIC

    @property
    def preset(self) -> str:
        """By the folder's name, with the label that keeps it apart from others of the preset."""
        name, plus, label = self.folder.partition("/")[0].partition("+")
        return name.removesuffix("-real") + plus + label

    def arm(self, name: str) -> ArmEntry:
        """An arm's part of ``metrics.json``, empty where there is none."""
        return (self.metrics.arms.get(name) if self.metrics else None) or ArmEntry()

    @property
    def steps(self) -> float | None:
        """Of the baseline's training; ``None`` where no arm was trained."""
        return self.arm(BASELINE).steps

    def said(self, key: str) -> str:
        """A text of ``metrics.json``, or that it does not say."""
        return (getattr(self.metrics, key) if self.metrics else "").strip() or "not said"


def _report(path: Path, root: Path) -> Report:
    """What is in a report's folder, whatever is wrong with it."""
    place = Path(os.path.relpath(path, root)).as_posix()
    folder = f"{path.parent.name}/{path.name.removesuffix(report.ATTEMPT)}"
    files = tuple(name for name in ("report.html", "report.ipynb", "metrics.json") if (path / name).is_file())
    try:
        found = load(path / "metrics.json")
        own = f"{report.top(found.preset, found.corpus, found.label)}/{found.notebook}"
        if own != folder:
            raise ContractError(f"metrics.json belongs in {plain(own, 80)}: it is of another report")
    except ContractError as error:
        return Report(folder, place, "unreadable", str(error), files)
    reason = plain(found.error or "it does not say why") if found.status != "complete" else ""
    return Report(folder, place, found.status, reason, files, found)


def read(*roots: Path, smoke: bool = False) -> list[Report]:
    """Every report below the folders, in the order of their names.

    One in a later folder stands for one of the same name in an earlier one; an attempt that was not completed is left out
    where there is a complete report of that name.

    Args:
        roots: folders of reports; may be absent. Links lead from the last one.
        smoke: take those of the preset ``smoke`` as well.
    """
    found: dict[str, Report] = {}
    for path in _folders(roots):
        one = _report(path, roots[-1])
        before = found.get(one.folder)
        if before is None or one.usable or not before.usable:
            found[one.folder] = one
    return [found[name] for name in sorted(found) if smoke or found[name].preset.partition("+")[0] != NO_NUMBERS]


def _folders(roots: Iterable[Path]) -> list[Path]:
    """Folders of reports that hold something: an attempt before the report of the same name."""
    paths = []
    for root in roots:
        mine = sorted(root.glob("*/*"), key=lambda path: (path.parent.name, not path.name.endswith(report.ATTEMPT), path.name))
        paths += [path for path in mine if not path.name.startswith(".") and not path.parent.name.startswith(".")]
    kinds = ("report.html", "report.ipynb", "metrics.json")
    named = re.compile(r"\d\d_\w+")
    return [
        path for path in paths
        if (path / "metrics.json").exists()
        or (named.fullmatch(path.name.removesuffix(report.ATTEMPT)) and any((path / kind).exists() for kind in kinds))
    ]  # fmt: skip


def known(smoke: bool = False) -> list[Report]:
    """The reports of this checkout, and over them those that were run here."""
    return read(*report.roots(), smoke=smoke)
