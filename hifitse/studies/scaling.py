"""Notebook 15: the default model's recipe and its variants, each trained for the same time by the clock; what more hours would bring."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import curve_fit
from scipy.stats import t as student

from hifitse.evaluation.comparison import Comparison, equal_seconds, run_all, vary
from hifitse.evaluation.rows import BASELINE
from hifitse.files import write_text
from hifitse.machine import device_name, pick_device
from hifitse.metrics import Interval
from hifitse.params import ParameterError, Params
from hifitse.training import abreast
from hifitse.training.run import Run, runs_dir

POINTS = 16
"""Validations of a training: the points of its curve."""
HOURS = (1.0, 3.0, 10.0)
LEAST_POINTS, WIDEST_DB, FURTHEST = 6, 1.0, 20.0
"""Fewest points of a fit; half of the widest 95 % interval of a prediction that ranks recipes; its time over the last point's."""
Guesses = Mapping[str, Mapping[float, Interval | None]]
"""Arm -> hours -> predicted dB; ``None`` where the points do not determine it."""


def arms(params: Params) -> dict[str, dict[str, dict[str, Any]]]:
    """Kind -> arm -> its changes to the baseline, for the kinds in ``arm_kinds``. Raises ParameterError: no such kind."""
    p, known = params, params.model_dump()
    size, cues = {}, {"speaker contrast": {"loss_speaker": 0.5}, "identity contrast": {"loss_identity": 1.0}}
    for factor in (2 / 3, 4 / 3, 2):
        features = round(factor * p.features / p.heads) * p.heads
        size[f"{features} features"] = {"features": features, "lstm_hidden": round(factor * p.lstm_hidden)}
    for depth in (max(1, p.blocks // 2), max(p.blocks + 1, 3 * p.blocks // 2)):
        size[f"{depth} blocks"] = {"blocks": depth, "mixture_blocks": min(p.mixture_blocks * depth // p.blocks, depth - 1)}
    for window in (p.hop_length, 2 * p.hop_length):
        size[f"hop {p.hop_length // 2}, window {window}"] = {"hop_length": p.hop_length // 2, "win_length": window}
    size["finer bands"] = {name: 3 * getattr(p, name) // 2 for name in ("bands_fine", "bands_medium", "bands_coarse")}
    if p.speaker_blocks:
        cues["no verifier" if p.verifier else "verifier"] = {"verifier": not p.verifier}
    kinds = {
        "size": size,
        "segment": {f"{factor * p.seconds:g} s": equal_seconds(p, factor * p.seconds) for factor in (1.5, 2)},
        "batch": {f"batch {each}": {"batch_size": each} for each in (max(1, p.batch_size // 2), 2 * p.batch_size)},
        "rate": {"rate / 3": {"lr": p.lr / 3, "lr_min": p.lr_min / 3}, "rate x 3": {"lr": 3 * p.lr, "lr_min": 3 * p.lr_min}},
        "cues": cues,
        "mixtures": {f"same source {share:.0%}": {"same_source_prob": share} for share in (0.0, 1.0)}
        | {"alike voices": {"similarity": [0.5]}}
        | {f"lone target {share:.0%}": {"lone_prob": share} for share in (0.0, 0.15)}
        | {f"absent target {share:.0%}": {"absent_prob": [share]} for share in (0.0, 0.2)},
    }
    asked = [each.strip() for each in p.arm_kinds.split(",") if each.strip()] or list(kinds)
    if wrong := set(asked) - set(kinds):
        raise ParameterError(f"parameter 'arm_kinds' holds {min(wrong)!r}, expected some of {', '.join(kinds)}, separated by commas")
    differ = {kind: {name for name, each in mine.items() if any(known[key] != each[key] for key in each)} for kind, mine in kinds.items()}
    return {kind: {name: each for name, each in mine.items() if name in differ[kind]} for kind, mine in kinds.items() if kind in asked}


def paces(trainings: Mapping[str, Params], params: Params) -> dict[str, float]:
    """Arm -> seconds per step on this device, by a trial of each before any is trained. They are kept in ``runs/scaling/``: measured anew,
    they would give another number of steps, and with it another run."""
    where = f"{device_name(pick_device(params.device))}, {params.arms_together} at a time"
    path = runs_dir() / "scaling" / "paces.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    mine, keys = known.setdefault(where, {}), {name: Run.of(each).folder.name for name, each in trainings.items()}
    later = [name for name, key in keys.items() if key not in mine]
    while later:
        some, later = later[: params.arms_together], later[params.arms_together :]
        measured = abreast.paces([trainings[name] for name in some], 60 * params.arm_minutes / 4)
        mine |= {keys[name]: each for name, each in zip(some, measured, strict=True)}
        write_text(path, json.dumps(known, indent=1))
    return {name: mine[key] for name, key in keys.items()}


def train_all(params: Params, *, progress: bool = True) -> Comparison:
    """Train the baseline and all arms for ``arm_minutes`` each, or go on; judge them on people of the validation alone.
    Errors as :func:`arms` and :func:`hifitse.evaluation.comparison.run_all`."""
    test = {"eval_pesq": False, "eval_partial": 0, "eval_long": 0, "eval_turns": 0, "arm_seeds": 1}
    base = params.model_copy(update={"start_from": "", "max_minutes": 0.0} | test)
    changes = {name: each for kind in arms(base).values() for name, each in kind.items()}
    trainings = {BASELINE: base} | {name: vary(base, each) for name, each in changes.items()}
    times = {name: abreast.fill(trainings[name], 60 * base.arm_minutes, each) for name, each in paces(trainings, base).items()}
    for each in times.values():
        each["validate_every"] = max(1, each["steps"] // POINTS)
    first = base.model_copy(update=times.pop(BASELINE))
    return run_all(first, {name: each | times[name] for name, each in changes.items()}, progress=progress, split="valid")


def curve(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Hours of training, at the pace of its trial, and SI-SDRi in dB, of each validation after the warm-up: (P,), (P,)."""
    known = [row for row in run.validation if row["step"] > run.params.warmup_steps and row["si_sdri_db"] is not None]
    hours, values = np.array([(row["step"], row["si_sdri_db"]) for row in known], float).reshape(-1, 2).T
    return hours * run.params.arm_minutes / 60 / run.params.steps, values


def _law(log_time: Any, end: float, slope: float, c: float) -> Any:
    """``a - b t^-c``. Points determine value and slope at their end, and hardly the limit ``a = end + slope / c``; with c = 0 it is a
    logarithm."""
    return end + slope * (log_time if c < 1e-9 else -np.expm1(-c * log_time) / c)


def predicted(hours: Sequence[float], values: Sequence[float], at: Sequence[float] = HOURS) -> dict[float, Interval | None]:
    """A saturating power law through the points of a curve, and what it says of other times.

    Returns:
        Hours -> dB with the law's 95 % interval, from the points' scatter by the gradient of the law and Student's t. ``None`` where the
        points are too few, do not surely rise, leave the interval wider than twice ``WIDEST_DB``, or end long before.
    """
    said: dict[float, Interval | None] = dict.fromkeys(at)
    if len(hours) < LEAST_POINTS:
        return said
    x, y = np.log(np.array(hours) / hours[-1]), np.array(values)
    try:
        start, bounds = (y[-1], max(0.1, np.ptp(y) / -x[0]), 0.5), ([-np.inf, 0, 0], [np.inf, np.inf, 3])
        found, covariance = curve_fit(_law, x, y, start, bounds=bounds)
    except (RuntimeError, ValueError):
        return said
    if found[1] < 2 * covariance[1, 1] ** 0.5:  # the slope at the end
        return said
    for time in at:
        place, step = np.log(time / hours[-1]), 1e-4
        mean = float(_law(place, *found))
        gradient = [(_law(place, *(found + step * one)) - mean) / step for one in np.eye(3)]
        half = float(student.ppf(0.975, len(x) - 3) * np.sqrt(gradient @ covariance @ gradient))
        said[time] = Interval(mean, mean - half, mean + half, len(x)) if half <= WIDEST_DB and time <= FURTHEST * hours[-1] else None
    return said


def predictions(comparison: Comparison) -> Guesses:
    """What each arm's curve says of ``HOURS``."""
    return {name: predicted(*curve(arm.run)) for name, arm in comparison.all.items()}


def leaders(found: Guesses, hours: float) -> list[str]:
    """The arm predicted best after so many hours, then those that the intervals do not tell from it; empty where nothing is known."""
    known = {name: each[hours] for name, each in found.items() if each[hours]}
    ranked = sorted(known, key=lambda name: -known[name].mean)
    half = {name: each.high - each.mean for name, each in known.items()}
    return [name for name in ranked if known[ranked[0]].mean - known[name].mean <= np.hypot(half[ranked[0]], half[name])]
