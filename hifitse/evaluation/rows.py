"""Evaluation rows -> means and paired differences, with 95 % intervals. Arms are only compared on the same mixtures.

Rows are a ``pandas.DataFrame`` with one line per mixture and training seed; a list of mappings is accepted as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hifitse import HifitseError
from hifitse.metrics import Interval, combination

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
"""Metric -> 1 if higher is better, -1 if lower is better, 0 if neither. With a wrong enrolment the target should *not* be
extracted, so lower is better; with a silent enrolment there is no right answer."""
METRICS = tuple(DIRECTIONS)  # those in ``metrics.json``
SELECTIVITY = "selectivity"
"""SI-SDRi with the right enrolment minus SI-SDRi with a wrong one: how much the extractor depends on the enrolment."""
BASELINE = "baseline"  # name of the arm with which all others are compared

SAME_MIXTURE_DB = 1e-2
"""Largest difference between two arms in a mixture's own SI-SDR, dB; above it, they were not given the same mixture."""


def frame(rows: Rows) -> pd.DataFrame:
    """Convert rows to a table if necessary."""
    return rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))


def of_list(rows: Rows, name: str) -> pd.DataFrame:
    """Select the rows of one list."""
    table = frame(rows)
    return table[table["list"] == name] if len(table) else table


def only_list(rows: Rows) -> str:
    """Return the name of the list to which all rows belong.

    Raises:
        HifitseError: there are several lists, or no rows.
    """
    table = frame(rows)
    names = sorted(set(table["list"])) if len(table) else []
    if len(names) != 1:
        raise HifitseError(f"the rows are of the lists {names}, expected those of one list")
    return names[0]


def matrix(rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> np.ndarray:
    """Return values ``(S, M)`` by training seed and mixture index, both ascending; missing values are nan."""
    mine = of_list(rows, list_name)
    if not len(mine):
        return np.full((1, 0), np.nan)
    table = mine.assign(seed=mine.get("seed", 0), value=_values(mine, metric))
    return table.pivot(index="seed", columns="index", values="value").to_numpy()


def speakers(rows: Rows, list_name: str = "test") -> np.ndarray | None:
    """Return the target speaker ``(M,)`` of each mixture, in the order of :func:`matrix`, or ``None`` if the rows do not name them."""
    mine = of_list(rows, list_name)
    return mine.groupby("index")["target_speaker"].first().to_numpy() if "target_speaker" in mine else None


def _values(table: pd.DataFrame, metric: str) -> pd.Series | float:
    if metric == SELECTIVITY:
        return _values(table, "si_sdri_db") - _values(table, "si_sdri_wrong_enroll_db")
    column = "confused" if metric == "confusion_rate" else metric
    return table[column].astype(float) if column in table else np.nan


def summarise(rows: Rows, list_name: str = "test") -> dict[str, dict[str, float | int | None]]:
    """Return metric -> ``mean, low, high, n`` over the mixtures and training seeds of a list; undefined values are ``None``.

    ``n`` counts the mixtures that have a value; ``low`` and ``high`` are the ends of the 95 % interval.
    """
    return {metric: numbers(mean(rows, metric, list_name)) for metric in METRICS}


def mean(rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Return the mean of one metric over a list, with its 95 % interval."""
    return contrast([(1.0, rows)], metric, list_name)


def spread(rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> float:
    """Return the range (largest minus smallest) of the means of different training seeds; 0 with one seed."""
    return float(np.ptp(np.nanmean(matrix(rows, metric, list_name), axis=1)))


def difference(rows: Rows, baseline_rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Return the mean difference from the baseline over one list, paired by mixture. Raises the errors of :func:`contrast`."""
    return contrast([(1.0, rows), (-1.0, baseline_rows)], metric, list_name)


def contrast(terms: Sequence[tuple[float, Rows]], metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Return the weighted sum of several arms' means of one metric. The bootstrap draws each mixture, and each target
    speaker, for all arms at once.

    Args:
        terms: weight and rows of each arm.
        metric: one of ``METRICS``, ``SELECTIVITY``, or a numeric column.
        list_name: one of :data:`hifitse.evaluation.evaluate.LISTS`.

    Raises:
        HifitseError: the arms were not given the same mixtures.
    """
    for _, rows in terms[:-1]:
        check_same_mixtures(rows, terms[-1][1], list_name)
    values = [(matrix(rows, metric, list_name), weight) for weight, rows in terms]
    return combination(values, speakers=speakers(terms[0][1], list_name))


def compare(
    name: str,
    rows: Rows,
    baseline_rows: Rows,
    metric: str = "si_sdri_db",
    expected: tuple[float, float] | None = None,
    list_name: str = "test",
) -> dict[str, Any]:
    """Compare an arm with the baseline on one list, paired by mixture.

    Args:
        name: name of the arm.
        rows, baseline_rows: rows on the same mixtures, with one or several seeds each.
        metric: one of ``METRICS``.
        expected: lowest and highest difference that the plan expects.
        list_name: one of :data:`hifitse.evaluation.evaluate.LISTS`.

    Returns:
        ``arm, baseline, metric, difference, low, high, n, expected, verdict``.

    Raises:
        HifitseError: the metric is unknown, or the two were not given the same mixtures.
    """
    if metric not in DIRECTIONS:
        raise HifitseError(f"metric is {metric!r}, expected one of {', '.join(METRICS)}")
    found = difference(rows, baseline_rows, metric, list_name)
    said = numbers(found)
    named = {"arm": name, "baseline": BASELINE, "metric": metric, "difference": said.pop("mean")}
    return named | said | {"expected": list(expected) if expected else None, "verdict": verdict(found, metric)}


def verdict(difference: Interval, metric: str) -> str:
    """Return "helped" or "hurt" if the interval of the paired difference excludes 0 and the metric has a direction, else "neutral"."""
    gain = DIRECTIONS[metric] * difference.mean
    if not difference.excludes_zero or gain == 0:
        return "neutral"
    return "helped" if gain > 0 else "hurt"


def check_same_mixtures(rows: Rows, baseline_rows: Rows, list_name: str = "test") -> None:
    """Check that two arms have the same mixtures: equal SI-SDR before extraction, and equal presence of the target.

    Raises:
        HifitseError: they do not.
    """
    mixtures = (of_list(side, list_name).reindex(columns=["index", "present", "si_sdr_mix_db"]) for side in (rows, baseline_rows))
    one, other = (side.drop_duplicates("index", keep="last").set_index("index").sort_index() for side in mixtures)
    if not one.index.equals(other.index):
        counts = f"{len(one)} and {len(other)}"
        raise HifitseError(f"the arms have {counts} mixtures of the list {list_name!r}, expected the same mixtures for both")
    ratios = one["si_sdr_mix_db"].astype(float), other["si_sdr_mix_db"].astype(float)
    differs = (one["present"] != other["present"]) | ~np.isclose(*ratios, rtol=0, atol=SAME_MIXTURE_DB, equal_nan=True)
    if differs.any():
        index = differs.idxmax()
        raise HifitseError(
            f"{list_name} mixture {index} has SI-SDR {ratios[0][index]} dB in one arm and {ratios[1][index]} dB in the other, "
            "expected the same mixture for both: evaluate with the baseline's parameters"
        )


def numbers(interval: Interval) -> dict[str, float | int | None]:
    """Convert an interval for JSON; values that are not finite become ``None``."""
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: value if np.isfinite(value) else None for name, value in values.items()} | {"n": interval.n}
