"""Rows of an evaluation -> means, paired differences and bins, with 95 % intervals; arms are compared on the same mixtures only.

Rows are a table (``pandas.DataFrame``) with one line per mixture and training seed; a list of mappings is taken as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hifitse import HifitseError
from hifitse.metrics import Interval, bootstrap, combination

Row = Mapping[str, Any]
Rows = pd.DataFrame | Sequence[Row]

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
"""Metric -> 1 if more is better, -1 if less is, 0 if neither: without an enrolment nobody is asked for. With a wrong
enrolment the target should *not* come out, so less is better there."""
METRICS = tuple(DIRECTIONS)
"""The metrics of ``metrics.json``."""
SELECTIVITY = "selectivity"
"""SI-SDRi with the right minus that with a wrong enrolment: how much it matters who is enrolled."""
BASELINE = "baseline"
"""Name of the arm that all others are compared with."""

SAME_MIXTURE_DB = 1e-2
"""dB by which the mixture's own SI-SDR may differ between two arms, because they must have been given the same mixtures."""


class ExperimentError(HifitseError, ValueError):
    """Rows that cannot be summarised or compared as asked."""


def frame(rows: Rows) -> pd.DataFrame:
    """The rows as a table, whatever they came as."""
    return rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))


def of_list(rows: Rows, name: str) -> pd.DataFrame:
    """The rows of one list."""
    table = frame(rows)
    return table[table["list"] == name] if len(table) else table


def only_list(rows: Rows) -> str:
    """The list that all rows are of.

    Raises:
        ExperimentError: there are several, or no rows.
    """
    table = frame(rows)
    names = sorted(set(table["list"])) if len(table) else []
    if len(names) != 1:
        raise ExperimentError(f"the rows are of the lists {names}, expected those of one list")
    return names[0]


def matrix(rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> np.ndarray:
    """Values ``(S, M)`` by seed of the training and by index of the mixture, both rising; nan where there is none."""
    mine = of_list(rows, list_name)
    if not len(mine):
        return np.full((1, 0), np.nan)
    table = mine.assign(seed=mine.get("seed", 0), value=_values(mine, metric))
    return table.pivot(index="seed", columns="index", values="value").to_numpy()


def _values(table: pd.DataFrame, metric: str) -> pd.Series | float:
    if metric == SELECTIVITY:
        return _values(table, "si_sdri_db") - _values(table, "si_sdri_wrong_enroll_db")
    column = "confused" if metric == "confusion_rate" else metric
    return table[column].astype(float) if column in table else np.nan


def summarise(rows: Rows, list_name: str = "test") -> dict[str, dict[str, float | int | None]]:
    """Metric -> ``mean, low, high, n`` over a list, and over seeds where there are several; ``None`` is what does not exist.

    ``n`` counts the mixtures that have a value, the 95 % interval goes from ``low`` to ``high``.
    """
    return {metric: numbers(mean(rows, metric, list_name)) for metric in METRICS}


def mean(rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Mean of one metric over a list, with its 95 % interval."""
    return bootstrap(matrix(rows, metric, list_name))


def spread(rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> float:
    """Largest minus smallest mean of the trainings with different seeds; 0 with one seed."""
    return float(np.ptp(np.nanmean(matrix(rows, metric, list_name), axis=1)))


def difference(rows: Rows, baseline_rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Mean difference to the baseline, paired by mixture of one list; errors as :func:`contrast`."""
    return contrast([(1.0, rows), (-1.0, baseline_rows)], metric, list_name)


def contrast(terms: Sequence[tuple[float, Rows]], metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Weighted sum of several arms' means by one metric, each mixture drawn for all arms at once.

    Args:
        terms: weight and rows of each arm.
        metric: one of ``METRICS``, ``SELECTIVITY``, or a column of numbers.
        list_name: one of :data:`hifitse.evaluation.evaluate.LISTS`.

    Raises:
        ExperimentError: the arms were not given the same mixtures.
    """
    for _, rows in terms[:-1]:
        check_same_mixtures(rows, terms[-1][1], list_name)
    return combination([(matrix(rows, metric, list_name), weight) for weight, rows in terms])


def compare(
    name: str,
    rows: Rows,
    baseline_rows: Rows,
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
        ``arm, baseline, metric, difference, low, high, n, expected, verdict``.

    Raises:
        ExperimentError: unknown metric, or the two were not given the same mixtures.
    """
    if metric not in DIRECTIONS:
        raise ExperimentError(f"metric is {metric!r}, expected one of {', '.join(METRICS)}")
    found = difference(rows, baseline_rows, metric, list_name)
    said = numbers(found)
    named = {"arm": name, "baseline": BASELINE, "metric": metric, "difference": said.pop("mean")}
    return named | said | {"expected": list(expected) if expected else None, "verdict": verdict(found, metric)}


def verdict(difference: Interval, metric: str) -> str:
    """ "helped" or "hurt" where the interval of the paired difference excludes 0 and the metric has a direction, else "neutral"."""
    gain = DIRECTIONS[metric] * difference.mean
    if not difference.excludes_zero or gain == 0:
        return "neutral"
    return "helped" if gain > 0 else "hurt"


def check_same_mixtures(rows: Rows, baseline_rows: Rows, list_name: str = "test") -> None:
    """Two arms' mixtures are the same if each has the same SI-SDR before anything is extracted, and the same presence.

    Raises:
        ExperimentError: they are not.
    """
    one, other = (_mixtures(side, list_name) for side in (rows, baseline_rows))
    if not one.index.equals(other.index):
        counts = f"{len(one)} and {len(other)}"
        raise ExperimentError(f"the arms have {counts} mixtures of the list {list_name!r}, expected the same mixtures for both")
    ratios = one["si_sdr_mix_db"].astype(float), other["si_sdr_mix_db"].astype(float)
    differs = (one["present"] != other["present"]) | ~np.isclose(*ratios, rtol=0, atol=SAME_MIXTURE_DB, equal_nan=True)
    if differs.any():
        index = differs.idxmax()
        raise ExperimentError(
            f"{list_name} mixture {index} has SI-SDR {ratios[0][index]} dB in one arm and {ratios[1][index]} dB in the other, "
            "expected the same mixture for both: evaluate with the baseline's parameters"
        )


def _mixtures(rows: Rows, list_name: str) -> pd.DataFrame:
    """Presence and the mixture's own SI-SDR, by the mixtures' index."""
    mine = of_list(rows, list_name).reindex(columns=["index", "present", "si_sdr_mix_db"])
    return mine.drop_duplicates("index", keep="last").set_index("index").sort_index()


def numbers(interval: Interval) -> dict[str, float | int | None]:
    """An interval as JSON has it: what is not finite is ``None``."""
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: value if np.isfinite(value) else None for name, value in values.items()} | {"n": interval.n}
