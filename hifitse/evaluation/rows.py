"""Evaluation rows -> means and paired differences, with 95 % intervals. Arms are only compared on the same mixtures.

Rows are a ``pandas.DataFrame`` with one line per mixture and training seed; a list of mappings is accepted as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hifitse import HifitseError
from hifitse.metrics import Interval, combination

Row = Mapping[str, Any]
Rows = pd.DataFrame | Sequence[Row]


class Metric(NamedTuple):
    """A metric of ``metrics.json``; ``direction``: 1 if higher is better, -1 if lower is better, 0 if neither."""

    label: str
    unit: str
    direction: int
    digits: int = 2
    signed: bool = False

    @property
    def title(self) -> str:
        """Label with unit."""
        return f"{self.label}, {self.unit}"


METRICS = {
    "si_sdr_db": Metric("SI-SDR", "dB", 1, signed=True),
    "si_sdri_db": Metric("SI-SDRi, right enrolment", "dB", 1, signed=True),
    # with a wrong enrolment the target should not be extracted; with silence there is no right answer
    "si_sdri_wrong_enroll_db": Metric("SI-SDRi, enrolment of the interferer", "dB", -1, signed=True),
    "si_sdri_zero_enroll_db": Metric("SI-SDRi, silent enrolment", "dB", 0, signed=True),
    "pesq": Metric("PESQ (16 kHz, wide band)", "MOS", 1),
    "stoi": Metric("STOI", "0 to 1", 1, 3),
    "absent_level_db": Metric("output level, target absent", "dBFS", -1, 1),
    "absent_suppression_db": Metric("suppression, target absent", "dB", 1, 1),
    "confusion_rate": Metric("confusions: estimate nearer to an interferer", "share", -1, 3),
}
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
    """Return the name of the list to which all rows belong. Raises HifitseError: there are several lists, or no rows."""
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
    """Return the weighted sum of several arms' means. The bootstrap draws each mixture, and each target speaker, for all arms at once.

    ``terms``: weight and rows of each arm. ``metric``: one of ``METRICS``, ``SELECTIVITY``, or a numeric column.
    Raises HifitseError: the arms were not given the same mixtures.
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
    """Compare an arm with the baseline on one list, paired by mixture, by one of ``METRICS``.

    Returns ``arm, baseline, metric, difference, low, high, n, expected, verdict``. Raises HifitseError: the metric is unknown, or as
    :func:`contrast`.
    """
    if metric not in METRICS:
        raise HifitseError(f"metric is {metric!r}, expected one of {', '.join(METRICS)}")
    found = difference(rows, baseline_rows, metric, list_name)
    said = numbers(found)
    named = {"arm": name, "baseline": BASELINE, "metric": metric, "difference": said.pop("mean")}
    return named | said | {"expected": list(expected) if expected else None, "verdict": verdict(found, metric)}


def verdict(difference: Interval, metric: str) -> str:
    """Return "helped" or "hurt" if the interval of the paired difference excludes 0 and the metric has a direction, else "neutral"."""
    gain = METRICS[metric].direction * difference.mean
    if not difference.excludes_zero or gain == 0:
        return "neutral"
    return "helped" if gain > 0 else "hurt"


def check_same_mixtures(rows: Rows, baseline_rows: Rows, list_name: str = "test") -> None:
    """Raise HifitseError unless two arms have the same mixtures: equal SI-SDR before extraction, and equal presence of the target."""
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
