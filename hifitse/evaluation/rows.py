"""Rows of an evaluation -> means, paired differences and bins, with 95 % intervals; arms are compared on the same mixtures only.

Rows are a table (``pandas.DataFrame``) with one line per mixture and training seed; a list of mappings is taken as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hifitse import HifitseError
from hifitse.metrics import Interval, bootstrap, combination, paired, unpaired

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
    mine, column = of_list(rows, list_name), _column(metric)
    if not len(mine):
        return np.full((1, 0), np.nan)
    seeds = mine["seed"] if "seed" in mine else pd.Series(0, mine.index)
    values = mine[column].astype(float) if column in mine else pd.Series(np.nan, mine.index)
    return pd.DataFrame({"seed": seeds, "index": mine["index"], "value": values}).pivot(index="seed", columns="index")["value"].to_numpy()


def summarise(rows: Rows, list_name: str = "test") -> dict[str, dict[str, float | int | None]]:
    """Each metric's mean over a list with its 95 % interval; over seeds too, where the rows are of several.

    Args:
        rows: as :func:`hifitse.evaluation.evaluate.evaluate` makes them.
        list_name: one of :data:`hifitse.evaluation.evaluate.LISTS`.

    Returns:
        Metric -> ``mean, low, high, n``; ``n`` counts the mixtures that have a value, and what does not exist is ``None``.
    """
    return {metric: numbers(mean(rows, metric, list_name)) for metric in METRICS}


def mean(rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Mean of one metric over a list, with its 95 % interval."""
    return bootstrap(matrix(rows, metric, list_name))


def difference(rows: Rows, baseline_rows: Rows, metric: str = "si_sdri_db", list_name: str = "test") -> Interval:
    """Mean difference to the baseline, paired by mixture of one list.

    Raises:
        ExperimentError: the two were not given the same mixtures.
    """
    check_same_mixtures(rows, baseline_rows, list_name)
    return paired(matrix(rows, metric, list_name), matrix(baseline_rows, metric, list_name))


def selectivity(rows: Rows, baseline_rows: Rows) -> Interval:
    """How much more the enrolment matters than in the baseline: SI-SDRi, right minus wrong enrolment, paired by mixture.

    Raises:
        ExperimentError: the two were not given the same mixtures.
    """
    check_same_mixtures(rows, baseline_rows)
    signs = {"si_sdri_db": 1.0, "si_sdri_wrong_enroll_db": -1.0}
    sides = ((rows, 1.0), (baseline_rows, -1.0))
    return combination([(matrix(side, metric), sign * weight) for side, weight in sides for metric, sign in signs.items()])


def shift(rows: Rows, right: Rows, metric: str = "si_sdri_db", *, paired_by_index: bool) -> Interval:
    """How far the same model's number moves on other test mixtures.

    Args:
        rows, right: on the other and on the correct mixtures, of the test list.
        metric: one of ``METRICS``.
        paired_by_index: mixtures of one index are alike in all but what was changed; else the two are drawn independently.
    """
    return (paired if paired_by_index else unpaired)(matrix(rows, metric), matrix(right, metric))


def interaction(together: Rows, parts: Sequence[Rows], baseline_rows: Rows, metric: str = "si_sdri_db") -> Interval:
    """Gain of all changes together minus the sum of their separate gains, by mixture: above 0 they help each other.

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
    terms = [(matrix(together, metric), 1.0), *((matrix(rows, metric), -1.0) for rows in parts)]
    return combination([*terms, (matrix(baseline_rows, metric), len(parts) - 1.0)])


def separate_gains(parts: Sequence[Rows], baseline_rows: Rows, metric: str = "si_sdri_db") -> Interval:
    """Sum of the gains of several arms, each with one change, by mixture; arguments as :func:`interaction`."""
    for rows in parts:
        check_same_mixtures(rows, baseline_rows)
    terms = [(matrix(rows, metric), 1.0) for rows in parts]
    return combination([*terms, (matrix(baseline_rows, metric), -float(len(parts)))])


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
    return {
        "arm": name,
        "baseline": BASELINE,
        "metric": metric,
        "difference": said.pop("mean"),
        **said,
        "expected": list(expected) if expected is not None else None,
        "verdict": verdict(found, metric),
    }


def verdict(difference: Interval, metric: str) -> str:
    """ "helped" or "hurt" where the interval of the paired difference excludes 0 and the metric has a direction, else "neutral"."""
    gain = DIRECTIONS[metric] * difference.mean
    if not difference.excludes_zero or gain == 0:
        return "neutral"
    return "helped" if gain > 0 else "hurt"


def by_bin(
    rows: Rows, key: str, edges: Sequence[float] | None = None, metric: str = "si_sdri_db", list_name: str = "test"
) -> list[tuple[str, Interval]]:
    """A metric by ranges of a row's number, such as ``sir_db``, ``snr_db`` or ``n_interferers``.

    Args:
        rows: those without the metric or without the number are left out.
        key: name of the number.
        edges: rising edges; a bin goes from an edge up to below the next, and what lies outside goes to "below the first"
            and "from the last". ``None``: one bin for each value.
        metric: one of ``METRICS``.
        list_name: one of :data:`hifitse.evaluation.evaluate.LISTS`.

    Returns:
        Label and interval of each bin that is not empty, in rising order.

    Raises:
        ExperimentError: the edges do not rise, or no row has the key.
    """
    mine, column = of_list(rows, list_name), _column(metric)
    if edges is not None and (len(edges) == 0 or any(a >= b for a, b in zip(edges, edges[1:], strict=False))):
        raise ExperimentError(f"edges are {list(edges)}, expected rising numbers, at least one")
    if not len(mine):
        return []
    if key not in mine:
        raise ExperimentError(f"key is {key!r}, expected one of the rows' own: {', '.join(sorted(mine))}")
    known = mine.dropna(subset=[key, column]) if column in mine else mine[:0]
    places = known[key] if edges is None else np.searchsorted(edges, known[key].astype(float), side="right")
    return [(_label(place, edges), bootstrap(matrix(group, metric, list_name))) for place, group in known.groupby(places)]


def _label(place: float, edges: Sequence[float] | None) -> str:
    if edges is None:
        return f"{place:g}"
    if place == 0:
        return f"below {edges[0]:g}"
    return f"from {edges[-1]:g}" if place == len(edges) else f"{edges[int(place) - 1]:g} to {edges[int(place)]:g}"


def _column(metric: str) -> str:
    return "confused" if metric == "confusion_rate" else metric


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
    differs = (one["present"] != other["present"]) | (ratios[0].isna() != ratios[1].isna())
    differs |= (ratios[0] - ratios[1]).abs() > SAME_MIXTURE_DB
    if differs.any():
        index = differs.idxmax()
        raise ExperimentError(
            f"{list_name} mixture {index} has SI-SDR {ratios[0][index]} dB in one arm and {ratios[1][index]} dB in the other, "
            "expected the same mixture for both: evaluate with the baseline's parameters"
        )


def _mixtures(rows: Rows, list_name: str) -> pd.DataFrame:
    """Presence and the mixture's own SI-SDR, by the mixtures' index."""
    mine = of_list(rows, list_name)
    if not len(mine):
        return pd.DataFrame({"present": [], "si_sdr_mix_db": []})
    return mine.drop_duplicates("index", keep="last").set_index("index")[["present", "si_sdr_mix_db"]].sort_index()


def numbers(interval: Interval) -> dict[str, float | int | None]:
    """An interval as JSON has it: what is not finite is ``None``."""
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: value if np.isfinite(value) else None for name, value in values.items()} | {"n": interval.n}
