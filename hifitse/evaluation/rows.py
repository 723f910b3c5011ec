"""Rows of an evaluation -> means, paired differences and bins, with 95 % intervals; arms are compared on the same mixtures only."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hifitse import HifitseError
from hifitse.metrics import Interval, bootstrap, combination, paired, unpaired

Row = Mapping[str, Any]

DIRECTIONS = {
    "si_sdr_db": 1,
    "si_sdri_db": 1,
    "si_sdri_wrong_enroll_db": -1,
    "si_sdri_zero_enroll_db": 0,
    "pesq": 1,
    "stoi": 1,
    "absent_level_db": -1,
    "absent_suppression_db": 1,
    "confusion_rate": -1,
}
"""Metric -> 1 if more is better, -1 if less is, 0 if neither: without an enrolment nobody is asked for. With a wrong enrolment the
target should *not* come out, so less is better there."""
METRICS = tuple(DIRECTIONS)
"""The metrics of ``metrics.json``."""
BASELINE = "baseline"
"""Name of the arm that all others are compared with."""

SAME_MIXTURE_DB = 1e-2
"""dB by which the mixture's own SI-SDR may differ between two arms, for they must have been given the same mixtures."""


class ExperimentError(HifitseError, ValueError):
    """Rows that cannot be summarised or compared as asked."""


def summarise(rows: Sequence[Row], list_name: str = "test") -> dict[str, dict[str, float | int | None]]:
    """Each metric's mean over a list with its 95 % interval; over seeds too, where the rows are of several.

    Args:
        rows: as :func:`hifitse.evaluation.evaluate.evaluate` makes them.
        list_name: "test", "partial" or "long".

    Returns:
        Metric -> ``mean, low, high, n``; ``n`` counts the mixtures that have a value, and what does not exist is ``None``.
    """
    return {metric: _numbers(mean(rows, metric, list_name)) for metric in METRICS}


def mean(rows: Sequence[Row], metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Mean of one metric over a list, with its 95 % interval."""
    return bootstrap(_matrix(rows, metric, list_name))


def difference(rows: Sequence[Row], baseline_rows: Sequence[Row], metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Mean difference to the baseline, paired by mixture of one list.

    Raises:
        ExperimentError: the two were not given the same mixtures.
    """
    check_same_mixtures(rows, baseline_rows, list_name)
    return paired(_matrix(rows, metric, list_name), _matrix(baseline_rows, metric, list_name))


def selectivity(rows: Sequence[Row], baseline_rows: Sequence[Row]) -> Interval:
    """How much more the enrolment matters than in the baseline: SI-SDRi with the right less that with a wrong one, paired by mixture.

    Raises:
        ExperimentError: the two were not given the same mixtures.
    """
    check_same_mixtures(rows, baseline_rows)
    signs = {"si_sdri_db": 1.0, "si_sdri_wrong_enroll_db": -1.0}
    sides = ((rows, 1.0), (baseline_rows, -1.0))
    return combination([(_matrix(side, metric), sign * weight) for side, weight in sides for metric, sign in signs.items()])


def shift(rows: Sequence[Row], right: Sequence[Row], metric: str = "si_sdri_db", *, paired_by_index: bool) -> Interval:
    """How far the same model's number moves on other test mixtures.

    Args:
        rows, right: on the other and on the right mixtures, of the test list.
        metric: one of ``METRICS``.
        paired_by_index: mixtures of one index are alike in all but what was changed; else the two are drawn independently.
    """
    values = _matrix(rows, metric), _matrix(right, metric)
    return paired(*values) if paired_by_index else unpaired(*values)


def interaction(
    together: Sequence[Row], parts: Sequence[Sequence[Row]], baseline_rows: Sequence[Row], metric: str = "si_sdri_db"
) -> Interval:
    """Gain of all changes together less the sum of their separate gains, by mixture: above 0 they help each other.

    Args:
        together: rows of the arm with all changes.
        parts: rows of each arm with one of the changes.
        baseline_rows: of the same mixtures, as those of all arms.

    Raises:
        ExperimentError: the arms were not given the same mixtures.
    """
    for rows in (together, *parts):
        check_same_mixtures(rows, baseline_rows)
    # (t - b) - sum(p - b) = t - sum(p) + (count - 1) b
    terms = [(_matrix(together, metric), 1.0), *((_matrix(rows, metric), -1.0) for rows in parts)]
    return combination([*terms, (_matrix(baseline_rows, metric), len(parts) - 1.0)])


def separate_gains(parts: Sequence[Sequence[Row]], baseline_rows: Sequence[Row], metric: str = "si_sdri_db") -> Interval:
    """Sum of the gains of several arms, each with one change, by mixture; arguments as :func:`interaction`."""
    for rows in parts:
        check_same_mixtures(rows, baseline_rows)
    terms = [(_matrix(rows, metric), 1.0) for rows in parts]
    return combination([*terms, (_matrix(baseline_rows, metric), -float(len(parts)))])


def of_list(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows of one list."""
    return [row for row in rows if row["list"] == name]


def only_list(rows: Sequence[Row]) -> str:
    """The list that all rows are of.

    Raises:
        ExperimentError: there are several, or no rows.
    """
    names = sorted({row["list"] for row in rows})
    if len(names) != 1:
        raise ExperimentError(f"the rows are of the lists {names}, allowed are those of one list")
    return names[0]


def compare(
    name: str,
    rows: Sequence[Row],
    baseline_rows: Sequence[Row],
    metric: str = "si_sdri_db",
    expected: tuple[float, float] | None = None,
    list_name: str = "test",
) -> dict[str, Any]:
    """An arm against the baseline, paired by mixture of one list.

    Args:
        name: of the arm.
        rows, baseline_rows: of the same mixtures, one or several seeds each.
        metric: one of ``METRICS``.
        expected: lowest and highest difference that the plan expects.
        list_name: one of :data:`hifitse.evaluation.evaluate.LISTS`.

    Returns:
        ``arm, baseline, metric, difference, low, high, n, expected, verdict``; the verdict is "helped" or "hurt" where the interval
        of the difference excludes 0 and the metric has a direction, else "neutral".

    Raises:
        ExperimentError: unknown metric, or the two were not given the same mixtures.
    """
    if metric not in DIRECTIONS:
        raise ExperimentError(f"metric is {metric!r}, allowed are {', '.join(METRICS)}")
    found = difference(rows, baseline_rows, metric, list_name)
    numbers = _numbers(found)
    return {
        "arm": name,
        "baseline": BASELINE,
        "metric": metric,
        "difference": numbers.pop("mean"),
        **numbers,
        "expected": list(expected) if expected is not None else None,
        "verdict": verdict(found, metric),
    }


def verdict(difference: Interval, metric: str) -> str:
    """ "helped", "neutral" or "hurt", by the interval of the paired difference alone."""
    gain = DIRECTIONS[metric] * difference.mean
    if not difference.excludes_zero or gain == 0:
        return "neutral"
    return "helped" if gain > 0 else "hurt"


def by_bin(
    rows: Sequence[Row], key: str, edges: Sequence[float] | None = None, metric: str = "si_sdri_db", list_name: str = "test"
) -> list[tuple[str, Interval]]:
    """A metric by ranges of a row's number, such as ``sir_db``, ``snr_db`` or ``n_interferers``.

    Args:
        rows: as :func:`hifitse.evaluation.evaluate.evaluate` makes them; those without the metric or without the number are left out.
        key: name of the number.
        edges: rising edges; a bin goes from an edge up to below the next, and what lies outside goes to "below the first" and "from
            the last". ``None``: one bin for each value.
        metric: one of ``METRICS``.
        list_name: "test", "partial" or "long".

    Returns:
        Label and interval of each bin that is not empty, in rising order.

    Raises:
        ExperimentError: the edges do not rise, or no row has the key.
    """
    mine = [row for row in rows if row["list"] == list_name]
    if mine and not any(key in row for row in mine):
        raise ExperimentError(f"key is {key!r}, allowed are the rows' own: {', '.join(sorted(mine[0]))}")
    if edges is not None and (len(edges) == 0 or any(a >= b for a, b in zip(edges, edges[1:], strict=False))):
        raise ExperimentError(f"edges are {list(edges)}, allowed are rising numbers, at least one")
    mine = [row for row in mine if row.get(key) is not None and row.get(_column(metric)) is not None]
    bins: dict[float, list[Row]] = {}
    for row in mine:
        bins.setdefault(row[key] if edges is None else int(np.searchsorted(edges, row[key], side="right")), []).append(row)
    return [(_label(place, edges), bootstrap(_matrix(bins[place], metric, list_name))) for place in sorted(bins)]


def _label(place: float, edges: Sequence[float] | None) -> str:
    if edges is None:
        return f"{place:g}"
    if place == 0:
        return f"below {edges[0]:g}"
    return f"from {edges[-1]:g}" if place == len(edges) else f"{edges[int(place) - 1]:g} to {edges[int(place)]:g}"


def _column(metric: str) -> str:
    return "confused" if metric == "confusion_rate" else metric


def _matrix(rows: Sequence[Row], metric: str, list_name: str = "test") -> np.ndarray:
    """``(S, M)`` values by seed of the training and by index of the mixture, both rising; nan where there is none."""
    column = _column(metric)
    mine = [row for row in rows if row["list"] == list_name]
    seeds = {seed: place for place, seed in enumerate(sorted({row.get("seed", 0) for row in mine}))}
    mixtures = {index: place for place, index in enumerate(sorted({row["index"] for row in mine}))}
    values = np.full((max(1, len(seeds)), len(mixtures)), np.nan)
    for row in mine:
        value = row.get(column)
        values[seeds[row.get("seed", 0)], mixtures[row["index"]]] = np.nan if value is None else float(value)
    return values


def check_same_mixtures(rows: Sequence[Row], baseline_rows: Sequence[Row], list_name: str = "test") -> None:
    """Two arms' mixtures are the same if each has the same SI-SDR before anything is extracted, and the same presence.

    Raises:
        ExperimentError: they are not.
    """
    lists = [[row for row in side if row["list"] == list_name] for side in (rows, baseline_rows)]
    sides = [{row["index"]: (row["present"], row["si_sdr_mix_db"]) for row in mine} for mine in lists]
    if sides[0].keys() != sides[1].keys():
        counts = f"{len(sides[0])} and {len(sides[1])}"
        raise ExperimentError(f"the arms have {counts} mixtures of the list {list_name!r}, allowed are the same mixtures for both")
    for index, (present, ratio) in sides[0].items():
        other_present, other = sides[1][index]
        if present != other_present or (ratio is None) != (other is None) or abs((ratio or 0) - (other or 0)) > SAME_MIXTURE_DB:
            raise ExperimentError(
                f"{list_name} mixture {index} has SI-SDR {ratio} dB in one arm and {other} dB in the other, allowed is the same mixture "
                "for both: evaluate with the baseline's parameters"
            )


def _numbers(interval: Interval) -> dict[str, float | int | None]:
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: value if np.isfinite(value) else None for name, value in values.items()} | {"n": interval.n}
