"""Notebook 15: train the default model's recipe and variants of it for the same time each, and predict what more hours would bring."""

import json
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from IPython.display import HTML, Image
from scipy.optimize import curve_fit
from scipy.stats import t as student

from hifitse.evaluation.comparison import Comparison, equal_seconds, run_all, vary
from hifitse.evaluation.cost import gflops_per_second
from hifitse.evaluation.rows import BASELINE, difference, mean
from hifitse.files import write_text
from hifitse.machine import device_name, pick_device
from hifitse.metrics import Interval
from hifitse.params import ParameterError, Params
from hifitse.report import figures, tables
from hifitse.report.show import box, card, picture, table, voices
from hifitse.report.show_arms import gains, headline, judged
from hifitse.training import abreast
from hifitse.training.run import Run, runs_dir

POINTS = 16
"""Validations per training, which are the points of its curve."""
HOURS = (1.0, 3.0, 10.0)
LEAST_POINTS, WIDEST_DB, FURTHEST = 6, 1.0, 20.0
"""Limits of predictions: fewest points, largest half-width of the 95 % interval in dB, largest ratio to the last point's time."""
Guesses = Mapping[str, Mapping[float, Interval | None]]
"""Arm -> hours -> predicted dB, or ``None`` if the points do not determine it."""


def arms(params: Params) -> dict[str, dict[str, dict[str, Any]]]:
    """Return kind -> arm -> changes to the baseline, for the kinds in ``arm_kinds``. Raises ParameterError: unknown kind."""
    p, known = params, params.model_dump()
    size, cues = {}, {}
    for factor in (2 / 3, 4 / 3, 2):
        features = round(factor * p.features / p.heads) * p.heads
        size[f"{features} features"] = {"features": features, "lstm_hidden": round(factor * p.lstm_hidden)}
    for depth in (max(1, p.blocks // 2), max(p.blocks + 1, 3 * p.blocks // 2)):
        size[f"{depth} blocks"] = {"blocks": depth, "mixture_blocks": min(p.mixture_blocks * depth // p.blocks, depth - 1)}
    for window in (p.hop_length, 2 * p.hop_length):
        size[f"hop {p.hop_length // 2}, window {window}"] = {"hop_length": p.hop_length // 2, "win_length": window}
    size["finer bands"] = {name: 3 * getattr(p, name) // 2 for name in ("bands_fine", "bands_medium", "bands_coarse")}
    if p.speaker_blocks:  # which embed a speaker
        cues = {"speaker contrast": {"loss_speaker": 0.5}, "identity contrast": {"loss_identity": 1.0}}
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
    """Return arm -> seconds per step on this device, measured in a short trial of each. Results are cached in ``runs/scaling/``, because a
    new measurement would give another number of steps, and so another run."""
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
    """Train the baseline and all arms for ``arm_minutes`` each, or resume, and evaluate them on validation speakers only.
    Errors are those of :func:`arms` and :func:`hifitse.evaluation.comparison.run_all`."""
    test = {"eval_pesq": False, "eval_partial": 0, "eval_long": 0, "eval_turns": 0, "eval_unseen": "", "arm_seeds": 1}
    base = params.model_copy(update={"start_from": "", "max_minutes": 0.0} | test)
    changes = {name: each for kind in arms(base).values() for name, each in kind.items()}
    trainings = {BASELINE: base} | {name: vary(base, each) for name, each in changes.items()}
    times = {name: abreast.fill(trainings[name], 60 * base.arm_minutes, each) for name, each in paces(trainings, base).items()}
    for each in times.values():
        each["validate_every"] = max(1, each["steps"] // POINTS)
    first = base.model_copy(update=times.pop(BASELINE))
    return run_all(first, {name: each | times[name] for name, each in changes.items()}, progress=progress, split="valid")


def curve(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return training hours (P,), by the pace of the trial, and SI-SDRi in dB (P,) of each validation after the warm-up."""
    known = [row for row in run.validation if row["step"] > run.params.warmup_steps and row["si_sdri_db"] is not None]
    hours, values = np.array([(row["step"], row["si_sdri_db"]) for row in known], float).reshape(-1, 2).T
    return hours * run.params.arm_minutes / 60 / run.params.steps, values


def _law(log_time: Any, end: float, slope: float, c: float) -> Any:
    """Evaluate ``a - b t^-c``, or its limit for c = 0, a logarithm. It is parametrised by value and slope at the last point, which the
    points determine well; they hardly determine the asymptote ``a = end + slope / c``."""
    return end + slope * (log_time if c < 1e-9 else -np.expm1(-c * log_time) / c)


def predicted(hours: Sequence[float], values: Sequence[float], at: Sequence[float] = HOURS) -> dict[float, Interval | None]:
    """Fit a saturating power law to the points of a curve, and predict SI-SDRi at other times: hours -> dB.

    The 95 % intervals come from the points' scatter, by the delta method and Student's t. ``None`` if points are too few or do not clearly
    rise, the interval is wider than twice ``WIDEST_DB``, or the time exceeds ``FURTHEST`` times the last point's.
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
    """Predict the SI-SDRi of each arm after ``HOURS``."""
    return {name: predicted(*curve(arm.run)) for name, arm in comparison.all.items()}


def leaders(found: Guesses, hours: float) -> list[str]:
    """Return the arm with the best prediction after ``hours``, then those not clearly worse; empty without predictions."""
    known = {name: each[hours] for name, each in found.items() if each[hours]}
    ranked = sorted(known, key=lambda name: -known[name].mean)
    half = {name: each.high - each.mean for name, each in known.items()}
    return [name for name in ranked if known[ranked[0]].mean - known[name].mean <= np.hypot(half[ranked[0]], half[name])]


# ---- displays of the notebook


def answer(comparison: Comparison, guesses: Guesses) -> HTML:
    """Return the verdict: which arms beat the baseline in the same training time, and which are predicted to lead later."""
    found = gains(comparison)
    best = dict(sorted(found.items(), key=lambda each: -np.nan_to_num(each[1].mean, nan=-np.inf))[:4])
    minutes = comparison.baseline.params.arm_minutes
    missed = max(abs(arm.run.seconds / (60 * minutes) - 1) for arm in comparison.all.values())
    later = [f"after {hours:g} h {' or '.join(leaders(guesses, hours)[:3]) or 'not determined'}" for hours in HOURS]
    text = (
        f"The {len(best)} best of {len(found)} arms: SI-SDRi minus the baseline's on the same validation mixtures of "
        f"{voices(comparison.baseline.params)}; no test speaker was heard. Each was trained once, with as many steps as fill {minutes:g} "
        f"minutes; the clock showed at most {missed:.0%} more or less. The best of many is partly luck. "
        f"Predicted to lead: {'; '.join(later)}."
    )
    return box(*headline(best), "".join(card(name, gain) for name, gain in best.items()), text)


def results(comparison: Comparison) -> HTML:
    """Return a table of all arms: arithmetic, training time, items seen, SI-SDRi, difference to the baseline, wrong enrolment."""
    rows, minutes = [], comparison.baseline.params.arm_minutes
    counted = cache(partial(gflops_per_second, enroll_seconds=comparison.baseline.params.enroll_seconds))
    for name, arm in comparison.all.items():
        seconds, items = arm.run.seconds, arm.run.step * arm.params.batch_size
        gain = difference(arm.rows, comparison.baseline.rows)
        row = {"arm": name, "10⁶ multiply-adds per second": f"{500 * counted(arm.params.extractor):,.0f}", "minutes": f"{seconds / 60:.3g}"}
        row |= {"off": f"{seconds / (60 * minutes) - 1:+.0%}", "items heard": f"{items:,}", "items per second": f"{items / seconds:.3g}"}
        row |= {"SI-SDRi, dB": mean(arm.rows)}
        row |= {"difference, dB": "", "verdict": ""} if name == BASELINE else {"difference, dB": gain, "verdict": judged(gain)}
        rows.append(row | {"wrong enrolment, dB": mean(arm.rows, "si_sdri_wrong_enroll_db")})
    return table(rows, f"means over validation mixtures with 95 % intervals; {minutes:g} minutes of training for each arm")


def forecast(guesses: Guesses) -> HTML:
    """Return a table of each arm's predictions; a star marks the :func:`leaders`."""
    first = {hours: leaders(guesses, hours) for hours in HOURS}
    rows = []
    for name, each in guesses.items():
        said = {hours: tables.measured(value) if value else "not determined" for hours, value in each.items()}
        rows.append({"arm": name} | {f"{hours:g} h, dB": text + " *" * (name in first[hours]) for hours, text in said.items()})
    return table(rows, "SI-SDRi of the validation during training, predicted, with 95 % intervals; * best, or not clearly worse")


def curves(comparison: Comparison, kinds: Mapping[str, Sequence[str]]) -> Image:
    """Plot SI-SDRi against minutes of training: one panel per kind of arms, with the baseline in black in each."""
    points = {name: [(60 * hours, value) for hours, value in zip(*curve(arm.run), strict=True)] for name, arm in comparison.all.items()}
    panels = {
        f"{kind}: SI-SDRi of the validation, dB": {name: points[name] for name in (BASELINE, *names)} for kind, names in kinds.items()
    }
    figure = figures.lines(panels, "minutes of training", log="x", colours={BASELINE: "black"}, columns=2)
    return picture(figure, f"SI-SDRi of the validation against the time of training of {', '.join(comparison.all)}")


def measured(comparison: Comparison, guesses: Guesses) -> dict[str, dict[str, object]]:
    """Return what ``metrics.json`` stores per arm: seconds of training, items seen, points of the curve, predictions."""
    found = {}
    for name, arm in comparison.all.items():
        points = np.column_stack(curve(arm.run)).tolist()
        found[name] = {"seconds": arm.run.seconds, "items": arm.run.step * arm.params.batch_size, "curve_hours_db": points}
        found[name]["predicted_db"] = {f"{hours:g} h": value for hours, value in guesses[name].items()}
    return found
