"""Every report's ``metrics.json``, read with suspicion: what is cut short, foreign or not as it should be is kept with the reason."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hifitse import HifitseError
from hifitse.evaluation.rows import BASELINE
from hifitse.params import Params
from hifitse.report import report

SYNTHETIC, RECORDINGS = "synthetic voices", "recordings"
"""The two kinds of data."""
NO_NUMBERS = "smoke"
"""A preset that only shows that the path works."""
LARGEST = 1e12
"""A number beyond is damage, not a measurement."""


class CollectError(HifitseError, ValueError):
    """A ``metrics.json`` that is not one; becomes the reason beside its report."""


@dataclass(frozen=True)
class Report:
    """What lies in one folder of a report.

    Attributes:
        folder: relative to the root, ``<preset>/<NN_name>``.
        status: "complete", "failed" or "unreadable".
        reason: why it is not complete.
        files: which of the report's files are there.
        content: of ``metrics.json``; empty where it is unreadable.
    """

    folder: str
    status: str
    reason: str
    files: tuple[str, ...]
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def notebook(self) -> str:
        """``NN_name``."""
        return self.folder.rpartition("/")[2]

    @property
    def data(self) -> str:
        """``SYNTHETIC`` or ``RECORDINGS``, which the folder's name says even where the file says nothing."""
        return RECORDINGS if self.folder.partition("/")[0].endswith("-real") else SYNTHETIC

    @property
    def preset(self) -> str:
        """By the folder's name."""
        return self.folder.partition("/")[0].removesuffix("-real")

    def arm(self, name: str) -> Mapping[str, Any]:
        """An arm's part of ``metrics.json``, empty where there is none."""
        return mapping(mapping(self.content.get("arms")).get(name))

    @property
    def steps(self) -> float | None:
        """Of the baseline's training: measured, or as asked for; ``None`` where no arm was trained."""
        return number(self.arm(BASELINE).get("steps")) if self.content.get("arms") else None

    def said(self, key: str) -> str:
        """A text of ``metrics.json``, or that it does not say."""
        value = self.content.get(key)
        return plain(value) if isinstance(value, str) and value.strip() else "not said"


def root() -> Path:
    """The folder of all reports: ``reports/`` in the checkout, or what ``HIFITSE_REPORTS`` names."""
    return report.folder(Params(), "00_baseline").parents[1]


def plain(value: Any, limit: int = 240) -> str:
    """Text from a file on one line, of printable characters, cut to a length that leaves a table readable."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def number(value: Any) -> float | None:
    """A finite number of sensible size, or ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None  # false for nan too


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _load(path: Path) -> Mapping[str, Any]:
    """The object in a ``metrics.json``.

    Raises:
        CollectError: it cannot be read, or is not JSON, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise CollectError(f"metrics.json cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # text that is no UTF-8 is a ValueError as well
        raise CollectError(f"metrics.json is not JSON ({plain(error, 90)})") from None
    if not isinstance(content, dict):
        raise CollectError(f"metrics.json holds {plain(repr(content), 40)}, allowed is an object")
    return content


def _check(content: Mapping[str, Any], folder: str) -> None:
    """Whether the content is what a notebook writes, and of this folder.

    Raises:
        CollectError: it is not.
    """
    kinds = {"notebook": str, "preset": str, "corpus": str, "params": dict, "arms": dict, "comparisons": list}
    for key, kind in kinds.items():
        if key not in content:
            raise CollectError(f"metrics.json has no {key!r}")
        if not isinstance(content[key], kind):
            raise CollectError(f"metrics.json has {plain(repr(content[key]), 40)} as {key!r}, allowed is {kind.__name__}")
    real = "" if content["corpus"] == "synthetic" else "-real"
    own = f"{content['preset']}{real}/{content['notebook']}"
    if own != folder:
        raise CollectError(f"metrics.json belongs into {plain(own, 80)}: it is of another report")


def _report(path: Path) -> Report:
    """What is in a report's folder, whatever is wrong with it."""
    folder = f"{path.parent.name}/{path.name}"
    files = tuple(name for name in ("report.html", "report.ipynb", "metrics.json") if (path / name).is_file())
    try:
        content = _load(path / "metrics.json")
        if content.get("status") == "failed":
            return Report(folder, "failed", plain(content.get("error") or "it does not say why"), files, content)
        if content.get("status") != "complete":
            raise CollectError(f"metrics.json has the status {plain(repr(content.get('status')), 40)}, allowed are 'complete' and 'failed'")
        _check(content, folder)
    except CollectError as error:
        return Report(folder, "unreadable", str(error), files)
    return Report(folder, "complete", "", files, content)


def read(folder: Path, smoke: bool = False) -> list[Report]:
    """Every report below ``folder``, in the order of their names. A run that has left nothing yet is passed over.

    Args:
        folder: the root of the reports; may be absent.
        smoke: take those of the preset ``smoke`` as well.
    """
    found = []
    for path in sorted(folder.glob("*/*")):
        left = any(path.glob("[!.]*"))
        hidden = path.name.startswith(".") or path.parent.name.startswith(".")
        if left and not hidden and (re.fullmatch(r"\d\d_\w+", path.name) or (path / "metrics.json").exists()):
            found.append(_report(path))
    return [one for one in found if smoke or one.preset != NO_NUMBERS]
