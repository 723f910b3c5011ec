"""``metrics.json``: what lies beside each report, written and read by one model, which is its definition."""

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
    """A ``metrics.json`` that is not one; becomes the reason beside its report."""


def plain(value: Any, limit: int = 240) -> str:
    """Text on one line, of printable characters, cut to a length that leaves a table readable."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


Text = Annotated[str, AfterValidator(plain)]
Name = Annotated[str, AfterValidator(lambda value: plain(value, 60))]
Number = Annotated[StrictInt | StrictFloat, Field(ge=-1e12, le=1e12)]
"""What is larger is damage, not a measurement."""
Count = Annotated[StrictInt, Field(ge=0, le=10**12)]


class _Part(BaseModel):
    """Further keys are kept; what is not finite is written as null, and refused when read."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, protected_namespaces=())


class Stat(_Part):
    """A mean with its 95 % interval over ``n`` mixtures; ``None`` where it does not exist."""

    mean: Number | None
    low: Number | None = None
    high: Number | None = None
    n: Count = 0


class ArmEntry(_Part):
    """An arm: weights of its model, training steps, seconds per step, each metric's mean; and its costs where they were measured."""

    parameters: Number | None = None
    steps: Number | None = None
    seconds_per_step: Number | None = None
    metrics: dict[str, Stat] = {}
    gflops_per_second: Number | None = None  # 10⁹ operations per second of audio
    training_mb: Number | None = None  # memory of a training step, 10⁶ bytes
    step_ratio: Stat | None = None  # time of a step relative to the baseline's


class Claim(_Part):
    """A paired difference between two arms by one metric; ``list`` names other test mixtures, ``report`` where a summary has it from."""

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
        """The difference with its interval; nan where there is none."""
        return Interval(*(math.nan if value is None else value for value in (self.difference, self.low, self.high)), self.n)


class Metrics(_Part):
    """The whole file.

    ``status``: "complete"; "cut", where a time limit ended a training before its last step; or "failed", with ``error``.
    ``label`` keeps runs of one preset apart. ``groups``: what varies -> condition -> arm -> metric.
    """

    notebook: Name
    preset: Name
    label: Name = ""
    corpus: str
    status: Literal["complete", "cut", "failed"]
    commit: Text = "not said"
    created: Text = "not said"
    device: Text = "not said"
    params: dict[str, Any]
    arms: dict[Name, ArmEntry]
    comparisons: list[Claim]
    groups: dict[str, dict[str, dict[str, dict[str, Stat]]] | Any] = {}
    error: str = ""


def write(path: Path, content: dict[str, Any]) -> Path:
    """Check the content and write it whole or not at all, as strict JSON; raises ``ContractError`` where it is not what the model says."""
    whole = json.loads(json.dumps(content), parse_constant=lambda _: None)  # JSON has no NaN and no infinity
    checked = _checked(lambda: Metrics.model_validate(whole))
    write_text(path, checked.model_dump_json(indent=1, exclude_unset=True) + "\n")
    return path


def load(path: Path) -> Metrics:
    """The content of a ``metrics.json``; raises ``ContractError`` where it cannot be read, or is not what the model says."""
    return _checked(lambda: Metrics.model_validate_json(path.read_bytes()))


def complete(path: Path) -> Metrics | None:
    """The content of a complete report's ``metrics.json``; ``None`` where it is missing, damaged, or of a run that was cut or failed."""
    try:
        found = load(path)
    except ContractError:
        return None
    return found if found.status == "complete" else None


def _checked(make: Callable[[], Metrics]) -> Metrics:
    """What ``make`` gives; its first complaint in one sentence: where, what was expected, what stands there."""
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
