"""One of two runs to compare, read from what its folder or its report has."""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifitse import HifitseError
from hifitse.evaluation import rows
from hifitse.evaluation.rows import BASELINE
from hifitse.params import Params
from hifitse.report import collect, tables
from hifitse.training.run import Run, runs_dir

NEEDED = {"list", "index", "present", "si_sdr_mix_db", "si_sdri_db"}
"""What every row of an evaluation has."""


class SideError(HifitseError):
    """What is to be compared is not there, or cannot be read."""


@dataclass(frozen=True)
class Side:
    """What is known of one run.

    Attributes:
        letter: "A" or "B".
        name: of the run or the report.
        kind: "run", "report", or "report and its run".
        place: its folder.
        params: by name, as JSON has them.
        run: where its folder is here.
        evaluations: rows of each evaluation, the newest first.
        reported: metrics of the report's baseline.
    """

    letter: str
    name: str
    kind: str
    place: str
    params: Mapping[str, Any]
    run: Run | None = None
    evaluations: Sequence[Sequence[Mapping[str, Any]]] = ()
    reported: Mapping[str, Any] = field(default_factory=dict)

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        return self.run.history if self.run else ()

    @property
    def validation(self) -> Sequence[Mapping[str, Any]]:
        return self.run.validation if self.run else ()

    @property
    def said(self) -> str:
        """How long it was trained, and on what."""
        if self.run is None or not self.run.step:
            return "–"
        return f"{self.run.step:,} steps in {tables.duration(self.run.seconds)} on {self.run.device}"

    @property
    def summary(self) -> Mapping[str, Any]:
        """Means with intervals of the newest evaluation, else those of the report."""
        if self.evaluations:
            return rows.summarise(self.evaluations[0])
        return self.reported


def read(given: str, letter: str) -> Side:
    """The run or report of that name or folder.

    Args:
        given: a folder of a run (it has ``params.json``) or of a report (``metrics.json``), or the name of a run in ``runs/``.
        letter: "A" or "B".

    Raises:
        SideError: it is none of these, or cannot be read.
        ParameterError: its parameters are not those of this version.
    """
    for folder in (Path(given).expanduser(), runs_dir() / given):
        if (folder / "metrics.json").is_file():
            return _report(folder.resolve(), letter)
        if (folder / "params.json").is_file():
            return _run(folder.resolve(), letter)
    known = sorted(path.parent.name for path in runs_dir().glob("*/params.json"))
    some = f"; runs here: {', '.join(known[:6])}{' ...' if len(known) > 6 else ''}" if known else ""
    raise SideError(f"{given!r} is no run and no report, allowed are a folder with params.json or metrics.json, or the name of a run{some}")


def _run(folder: Path, letter: str) -> Side:
    try:
        content = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SideError(f"parameters of the run {folder.name} cannot be read ({error}), allowed is the JSON that a training left") from None
    if not isinstance(content, dict):
        raise SideError(f"parameters of the run {folder.name} are {str(content)[:40]!r}, allowed is a JSON object")
    run = Run(folder, Params(**content))
    return Side(letter, folder.name, "run", str(folder), run.params.model_dump(mode="json"), run, evaluations(folder))


def _report(folder: Path, letter: str) -> Side:
    name = f"{folder.parent.name}/{folder.name}"
    found = next(one for one in collect.read(folder.parents[1], smoke=True) if one.folder == name)
    if found.status != "complete":
        raise SideError(f"report {name} is {found.status} ({found.reason}), allowed is a complete one")
    params, reported = collect.mapping(found.content["params"]), {}
    for metric, value in collect.mapping(found.arm(BASELINE).get("metrics")).items():
        known = {key: collect.number(collect.mapping(value).get(key)) for key in ("mean", "low", "high", "n")}
        reported[metric] = known | {"n": int(known["n"] or 0)}
    try:
        run = Run.of(Params(**params))
    except HifitseError:  # of another version: the report itself is still good
        run = None
    if run is None or not run.folder.is_dir():
        return Side(letter, name, "report", str(folder), params, reported=reported)
    return Side(letter, name, "report and its run", str(folder), params, run, evaluations(run.folder), reported)


def evaluations(folder: Path) -> list[list[dict[str, Any]]]:
    """Rows of each evaluation that a run's folder keeps and that has a test list, the newest first; what is damaged is passed over."""
    files = [path for path in folder.glob("rows-*.jsonl") if re.fullmatch(r"rows-[0-9a-f]{12}\.jsonl", path.name)]
    found = []
    for path in sorted(files, key=lambda path: (-path.stat().st_mtime, path.name)):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            mine = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            whole = all(isinstance(row, dict) and row.keys() >= NEEDED for row in mine)
            if whole and any(row["list"] == "test" for row in mine):
                found.append(mine)
    return found
