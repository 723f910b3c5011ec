"""Notebook 09: what helped in other notebooks' reports of the same preset, put together."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from hifitse import HifitseError
from hifitse import params as parameters
from hifitse.evaluation.comparison import Declared, declaring
from hifitse.evaluation.experiment import declared_diff
from hifitse.evaluation.rows import BASELINE
from hifitse.params import Params
from hifitse.report import report
from hifitse.report.contract import Claim, complete

FROM = ("02", "03", "04", "05", "06", "07")
"""Notebooks whose arms can be put together."""


def declared(notebook: str, params: Params) -> dict[str, Params]:
    """The baseline's parameters and those of the arms of a notebook, by name: its cells up to ``run_all`` are run, which trains nothing.

    Raises:
        HifitseError: it compares no arms; or as ``run_all`` before anything starts.
    """
    cells = json.loads((report.CHECKOUT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code" and not cell["metadata"].get("tags")]
    if not any("run_all(" in source for source in sources):
        raise HifitseError(f"notebook {notebook} compares no arms, expected one of those that call run_all")
    namespace: dict[str, Any] = {"p": params, "params": parameters}
    with declaring() as found, contextlib.suppress(Declared):
        for source in (source for source in sources if "from_notebook" not in source):
            exec(compile(source, notebook, "exec"), namespace)  # noqa: S102 (a notebook of this checkout)
    return found


def helped(params: Params) -> dict[str, dict[str, Any]]:
    """Of each notebook the arm with the largest gain, where its complete report of this preset says that it helped: its changes by name."""
    found = {}
    for notebook in sorted(path.stem for path in (report.CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb") if path.stem[:2] in FROM):
        claims = [claim for claim in _claims(notebook, params) if claim.verdict == "helped"]
        best = max(claims, key=lambda claim: claim.difference, default=None)
        arms = declared(notebook, params) if best else {}
        if best and best.arm in arms:
            changes = declared_diff(arms[best.arm], arms[BASELINE])
            found[f"{notebook[:2]} {best.arm}"] = {name: value for name, (_, value) in changes.items()}
    return found


def _claims(notebook: str, params: Params) -> list[Claim]:
    """The comparisons with the baseline by SI-SDRi on the test list."""
    top = report.top(params.preset, params.corpus)
    for root in reversed(report.roots()):
        if kept := complete(root / top / notebook / report.FILES[2]):
            return [c for c in kept.comparisons if (c.metric, c.list, c.baseline) == ("si_sdri_db", "test", BASELINE)]
    return []


def union(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All changes at once; a parameter that several change has the last one's value."""
    return {name: value for each in changes.values() for name, value in each.items()}
