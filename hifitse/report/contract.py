"""Schema of ``metrics.json``, the file of numbers next to each report. The same model writes and reads it."""

import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hifitse import HifitseError
from hifitse.files import write_text
from hifitse.metrics import Interval


class ContractError(HifitseError, ValueError):
    """A ``metrics.json`` is unreadable or invalid. The message is shown as the reason next to its report."""


def plain(value: Any, limit: int = 240) -> str:
    """Return ``str(value)`` as one line of printable characters, truncated to ``limit`` characters so that tables stay readable."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


Number = int | float


class _Part(BaseModel):
    """Base model. Unknown keys are kept. Non-finite numbers are written as null and rejected on reading."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True)


class Stat(_Part):
    """A mean over ``n`` mixtures with its 95 % interval; ``None`` where undefined."""

    mean: Number | None
    low: Number | None = None
    high: Number | None = None
    n: int = 0


class ArmEntry(_Part):
    """An arm: number of model weights, training steps, seconds per step, mean of each metric, and costs if they were measured."""

    parameters: Number | None = None
    steps: Number | None = None
    seconds_per_step: Number | None = None
    metrics: dict[str, Stat] = {}
    gflops_per_second: Number | None = None  # 10⁹ floating-point operations per second of audio
    training_mb: Number | None = None  # memory of a training step, 10⁶ bytes
    step_ratio: Stat | None = None  # time per step relative to the baseline


class Claim(_Part):
    """A paired difference of two arms in one metric. ``list``: the test list; ``report``: where a summary copied the difference from."""

    arm: str
    baseline: str = "baseline"
    metric: str
    difference: Number | None
    low: Number | None
    high: Number | None
    n: int
    expected: list[Number] | None = None
    verdict: Literal["helped", "neutral", "hurt"]
    list: str = "test"
    report: str = ""

    @property
    def interval(self) -> Interval:
        """The difference and its interval; nan where missing."""
        return Interval(*(math.nan if value is None else value for value in (self.difference, self.low, self.high)), self.n)


class Metrics(_Part):
    """The whole file.

    ``status``: "complete"; "cut" if a time limit ended a training before its last step; or "failed". ``error`` gives the reason.
    ``label`` distinguishes runs of the same preset. A notebook may add keys, such as ``groups``: varied property -> condition -> arm ->
    metric.
    """

    notebook: str
    preset: str
    label: str = ""
    corpus: str
    status: Literal["complete", "cut", "failed"]
    commit: str = "not stated"
    created: str = "not stated"
    device: str = "not stated"
    params: dict[str, Any]
    arms: dict[str, ArmEntry]
    comparisons: list[Claim]
    error: str = ""


def write(path: Path, content: dict[str, Any]) -> Path:
    """Validate the content, which may hold :class:`Interval`, and write it atomically as strict JSON, with ``null`` for NaN and infinity.
    Raises ContractError: the content does not fit the schema."""
    whole = json.loads(json.dumps(content, default=vars), parse_constant=lambda _: None)
    try:
        checked = Metrics.model_validate(whole)
    except ValidationError as error:
        raise ContractError(_problem(error)) from None
    write_text(path, checked.model_dump_json(indent=1, exclude_unset=True) + "\n")
    return path


def load(path: Path) -> Metrics:
    """Load a ``metrics.json``. Raises ContractError: it cannot be read or does not fit the schema."""
    try:
        return Metrics.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ContractError(f"metrics.json cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise ContractError(_problem(error)) from None


def complete(path: Path) -> Metrics | None:
    """Load the ``metrics.json`` of a complete report; ``None`` if it is missing or damaged, or if the run was cut or failed."""
    try:
        found = load(path)
    except ContractError:
        return None
    return found if found.status == "complete" else None


def _problem(error: ValidationError) -> str:
    """Return the first problem in one sentence: its place, the value found and what is wrong."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("int", "float")) or "all of it"
    return f"metrics.json has {plain(repr(first['input']), 40)} as {plain(place, 60)}: {plain(first['msg'], 90)}"
