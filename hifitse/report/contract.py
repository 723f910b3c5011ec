"""Schema of ``metrics.json``, the file of numbers next to each report. The same model writes and reads it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from hifitse import HifitseError
from hifitse.files import write_text
from hifitse.metrics import Interval


class ContractError(HifitseError, ValueError):
    """A ``metrics.json`` is unreadable or invalid. The message is shown as the reason next to its report."""


def plain(value: Any, limit: int = 240) -> str:
    """Return ``str(value)`` as one line of printable characters, truncated to ``limit`` characters so that tables stay readable."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


Text = Annotated[str, AfterValidator(plain)]
Name = Annotated[str, AfterValidator(lambda value: plain(value, 60))]
Number = Annotated[StrictInt | StrictFloat, Field(ge=-1e12, le=1e12)]
"""A number of plausible size. Larger values are treated as damage, not as measurements."""
Count = Annotated[StrictInt, Field(ge=0, le=10**12)]


class _Part(BaseModel):
    """Base model. Unknown keys are kept. Non-finite numbers are written as null and rejected on reading."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, protected_namespaces=())


class Stat(_Part):
    """A mean over ``n`` mixtures with its 95 % interval; ``None`` where undefined."""

    mean: Number | None
    low: Number | None = None
    high: Number | None = None
    n: Count = 0


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

    arm: Name
    baseline: Name = "baseline"
    metric: Name
    difference: Number | None
    low: Number | None
    high: Number | None
    n: Count
    expected: list[Number] | None = None
    verdict: Literal["helped", "neutral", "hurt"]
    list: Name = "test"
    report: Text = ""

    @property
    def interval(self) -> Interval:
        """The difference and its interval; nan where missing."""
        return Interval(*(math.nan if value is None else value for value in (self.difference, self.low, self.high)), self.n)


class Metrics(_Part):
    """The whole file.

    ``status``: "complete"; "cut" if a time limit ended a training before its last step; or "failed". ``error`` gives the reason.
    ``label`` distinguishes runs of the same preset. ``groups``: varied property -> condition -> arm -> metric.
    """

    notebook: Name
    preset: Name
    label: Name = ""
    corpus: str
    status: Literal["complete", "cut", "failed"]
    commit: Text = "not stated"
    created: Text = "not stated"
    device: Text = "not stated"
    params: dict[str, Any]
    arms: dict[Name, ArmEntry]
    comparisons: list[Claim]
    groups: dict[str, dict[str, dict[str, dict[str, Stat]]] | Any] = {}
    error: str = ""


def write(path: Path, content: dict[str, Any]) -> Path:
    """Validate the content and write it atomically as strict JSON. Raises ContractError: the content does not fit the schema."""
    whole = json.loads(json.dumps(content), parse_constant=lambda _: None)  # JSON has no NaN and no infinity
    checked = _checked(lambda: Metrics.model_validate(whole))
    write_text(path, checked.model_dump_json(indent=1, exclude_unset=True) + "\n")
    return path


def load(path: Path) -> Metrics:
    """Load a ``metrics.json``. Raises ContractError: it cannot be read or does not fit the schema."""
    return _checked(lambda: Metrics.model_validate_json(path.read_bytes()))


def complete(path: Path) -> Metrics | None:
    """Load the ``metrics.json`` of a complete report; ``None`` if it is missing or damaged, or if the run was cut or failed."""
    try:
        found = load(path)
    except ContractError:
        return None
    return found if found.status == "complete" else None


def _checked(make: Callable[[], Metrics]) -> Metrics:
    """Return ``make()``. Raises ContractError: the first problem in one sentence, with its place, the value found and what is wrong."""
    try:
        return make()
    except OSError as error:
        raise ContractError(f"metrics.json cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
    place = plain(".".join(str(part) for part in first["loc"] if part not in ("int", "float")) or "all of it", 60)
    if first["type"] == "json_invalid":
        raise ContractError(f"metrics.json is not JSON ({plain(first['ctx']['error'], 90)})")
    if first["type"] == "missing":
        raise ContractError(f"metrics.json has no {place}")
    raise ContractError(f"metrics.json has {plain(repr(first['input']), 40)} as {place}: {plain(first['msg'], 90)}")
