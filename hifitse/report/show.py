"""The parts of a report on one arm, as a notebook displays them: verdict, players, enrolment use, conditions, presence, training."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Image
from markupsafe import Markup
from matplotlib.figure import Figure

from hifitse.data.scene import PARTIAL_ACTIVE_S
from hifitse.evaluation.experiment import Arm, OwnModel
from hifitse.evaluation.rows import SELECTIVITY, matrix, mean, of_list
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report import figures, listening, page, report, tables
from hifitse.report.page import piece
from hifitse.report.report import parameter_count

ENROLMENTS = {"right": "si_sdri_db", "wrong": "si_sdri_wrong_enroll_db", "silent": "si_sdri_zero_enroll_db"}
"""Kind of enrolment -> metric."""

LEAST_MIXTURES, LEAST_ROUNDS = 20, 3
"""Minimum number of mixtures, or of rounds of timing, for a verdict; with fewer, a bootstrap interval is too narrow to be trusted."""


def voices(params: Params) -> str:
    """Describe the speech of the report in a few words."""
    return "synthetic voices" if params.corpus == "synthetic" else f"recordings in {Path(params.corpus).name}"


def tested(params: Params) -> str:
    """Describe the voices of the test: unseen in training, unless they come from a given list."""
    return f"the list {Path(params.eval_list).name}" if params.eval_list else f"unseen {voices(params)}"


def cut(arms: Iterable[Arm]) -> str:
    """Return the start of a verdict if a time limit ended a training, else an empty string."""
    said = ", ".join(report.unfinished(arms))
    return f"Cut short by the time limit: {said}. " if said else ""


def scale(arm: Arm, subject: str = "The model") -> str:
    """Describe model size, steps, time and device of a training in one sentence."""
    params, run = arm.params, arm.run
    if isinstance(run, OwnModel):
        return f"{subject} has {parameter_count(arm) / 1e6:.2f} million parameters and was {run.device}."
    heard = run.step * params.batch_size * params.seconds / (2 if params.both_talkers else 1)
    use = ", each used for both of its talkers," if params.both_talkers else ""
    stopped = "" if run.finished else f" ({params.steps:,} planned)"
    begun = f", starting from the weights of run {params.start_from}" if params.start_from else ""
    return (
        f"{subject} has {parameter_count(arm) / 1e6:.2f} million parameters and was trained for {run.step:,} steps{stopped} "
        f"on {tables.duration(heard)} of mixtures{use} in {tables.duration(run.step * run.seconds_per_step)} on {run.device}{begun}."
    )


def judge(right: Interval, difference: Interval) -> tuple[str, str]:
    """Return the mark (``good``, ``weak`` or ``bad``) and headline of a verdict, decided by the intervals alone: of SI-SDRi with the right
    enrolment, and of the paired difference, right minus wrong enrolment."""
    both = right.low > 0 and difference.low > 0
    cases = (
        (min(right.n, difference.n) < LEAST_MIXTURES, "weak", f"Too few mixtures ({difference.n}) to say whether it extracts."),
        (both and min(right.mean, difference.mean) >= 1, "good", "Yes, it extracts the enrolled speaker."),
        (both, "weak", "Barely: it extracts the enrolled speaker, but by less than 1 dB."),
        (right.low > 0 and right.mean < 1, "weak", "It hardly changes the mixture: it gains less than 1 dB, whoever is enrolled."),
        (right.low > 0, "weak", "It improves the mixture, but it makes no measurable difference which speaker is enrolled."),
        (difference.low > 0, "weak", "The enrolment steers the output, but on average the output is no better than the mixture."),
        (right.high < 0, "bad", "No, it makes the mixture worse."),
    )
    return next(((mark, line) for holds, mark, line in cases if holds), ("bad", "No, it does not extract."))


def faster(ratios: Collection[Interval], what: str, than: str, goal: float) -> tuple[str, str]:
    """Return mark and headline of a verdict on speed-ups, judged by their medians."""
    least, best = (end(value.mean for value in ratios) for end in (min, max))
    rounds = min(value.n for value in ratios)
    if rounds < LEAST_ROUNDS:
        return "weak", f"Too few rounds ({rounds}) to say how much faster."
    said = "is reached" if least >= goal else "is reached in part" if best >= goal else "is not reached"
    span = " to ".join(dict.fromkeys(map(tables.number, (least, best))))
    return "good" if least >= goal else "weak", f"{what} {span} times as fast as {than}: the goal of {goal:g} {said}."


def verdict(arm: Arm) -> HTML:
    """Return the verdict box: does the model extract, by how much, on what data, at what scale."""
    labels = {"SI-SDRi, right enrolment": ENROLMENTS["right"], "SI-SDRi, wrong enrolment": ENROLMENTS["wrong"]}
    labels["right minus wrong, paired"] = SELECTIVITY
    values = {label: mean(arm.rows, metric) for label, metric in labels.items()}
    first, _, difference = values.values()
    mark, headline = judge(first, difference)
    people = of_list(arm.rows[arm.rows["present"]], "test")["target_speaker"].nunique()
    cards = "".join(card(label, value, f"{value.n} test mixtures, {people} target speakers", digits=1) for label, value in values.items())
    data = f"The voices are recordings of people ({arm.params.corpus})."
    if arm.params.corpus == "synthetic":
        data = "The voices are synthetic, made by a speech synthesiser: these numbers say nothing yet about real people."
    return box(mark, cut([arm]) + headline, cards, f"{data} Tested on {tested(arm.evaluation)}. {scale(arm)}")


def card(label: str, value: Interval, note: str = "", digits: int = 2, unit: str = "dB") -> Markup:
    """Return an HTML card with a value in dB, or a ratio, and its interval."""
    signed = unit == "dB"
    shown = f"{tables.number(value.mean, digits, signed)} {unit}"
    return piece("card", label, shown, f"95 % interval {tables.interval(vars(value), digits, signed)}", note)


def table(rows: Iterable[Mapping[str, Any]], caption: str = "") -> HTML:
    """Return a table of rows with equal columns. Intervals are shown in dB with a sign and two decimals."""
    rows = list(rows)
    shown = [[tables.measured(cell, 2, True) if isinstance(cell, Interval) else str(cell) for cell in row.values()] for row in rows]
    return HTML(tables.table(list(rows[0]), shown, caption)) if rows else HTML("")


def box(mark: str, line: str, cards: str, text: str) -> HTML:
    """Return a verdict box: headline, cards, and a text on data and scale."""
    return HTML(page.box(mark, line, cards, text))


def picture(figure: Figure, alt: str) -> Image:
    """Return a figure as a small PNG with alternative text."""
    return Image(data=figures.png(figure), format="png", alt=alt)


def listen(example: listening.Example) -> list[Image | HTML]:
    """Return heading, spectrograms on one colour scale, and players of one mixture, to be displayed in this order."""
    title = f"{example.name} mixture" if example.row["present"] else "mixture without the target"
    about = listening.caption(example)
    shown = {name: example.clips[name] for name in example.pictured if name in example.clips}
    alt = f"Spectrograms from 0 to 24 kHz of {', '.join(shown)}; {title}: {about}"
    heading = HTML(piece("heading", title.capitalize(), about))
    return [heading, picture(listening.spectrograms(shown), alt), HTML(listening.players(example.clips, title))]


def enrolment_use(arm: Arm) -> Image:
    """Plot SI-SDRi of every test mixture with the right, a wrong and a silent enrolment."""
    intervals = {kind: mean(arm.rows, metric) for kind, metric in ENROLMENTS.items()}
    means = ", ".join(f"{kind} {tables.number(value.mean, 1, True)} dB" for kind, value in intervals.items())
    present = arm.rows[arm.rows["present"]]
    dots = {kind: matrix(present, metric).mean(0) for kind, metric in ENROLMENTS.items()}  # (M,), over the seeds
    return picture(figures.enrolment_use(dots, intervals), f"SI-SDRi of the test mixtures by enrolment; means: {means}")


def untreated(arm: Arm) -> HTML:
    """Return mean PESQ and STOI of the unprocessed mixtures, the reference for those of the estimates."""
    rows = of_list(arm.rows, "test")
    before = {name: rows[key][rows["present"]].astype(float).mean() for name, key in (("PESQ", "pesq_mix"), ("STOI", "stoi_mix"))}
    known = [f"{name} {tables.number(value, 2 if name == 'PESQ' else 3)}" for name, value in before.items() if np.isfinite(value)]
    if not known:
        return HTML("<p>PESQ and STOI were not measured (eval_pesq is false).</p>")
    return HTML(f"<p>For comparison, the unprocessed mixtures average {' and '.join(known)}.</p>")


def conditions(arm: Arm) -> dict[str, dict[str, dict[str, Interval]]]:
    """Return SI-SDRi by lowest SIR and by SNR, in four half-open ranges ``[low, high)`` each, and by number of interferers: axis label ->
    bin label -> kind of enrolment -> interval. Axes with a single bin are omitted."""
    params, last, rows = arm.evaluation, len(arm.evaluation.phase_starts) - 1, of_list(arm.rows, "test")
    axes = {
        "lowest SIR, dB": ("sir_db", params.sir_min_db, params.sir_max_db),
        "SNR, dB": ("snr_db", params.at_phase("snr_min_db", last), params.at_phase("snr_max_db", last)),
        "interferers": ("n_interferers", 0, 0),
    }
    found = {}
    for axis, (key, low, high) in axes.items():
        known = rows[rows["present"].astype(bool) & rows[key].notna()]
        bins = known[key]
        if low < high:
            first, middle, third = (f"{edge:g}" for edge in np.linspace(low, high, 5)[1:-1])
            labels = [f"below {first}", f"{first} to {middle}", f"{middle} to {third}", f"from {third}"]
            bins = pd.cut(bins.astype(float), [-np.inf, float(first), float(middle), float(third), np.inf], right=False, labels=labels)
        found[axis] = {
            str(label).replace("-", "−"): {
                f"{kind} enrolment": value for kind in ("right", "wrong") if (value := mean(group, ENROLMENTS[kind])).n
            }
            for label, group in known.groupby(bins, observed=True)
        }
    return {axis: of_bins for axis, of_bins in found.items() if len(of_bins) > 1}


def by_condition(arm: Arm) -> Image | HTML:
    """Plot SI-SDRi by SIR, SNR and number of interferers, with the right and the wrong enrolment."""
    panels = conditions(arm)
    if not panels:
        return HTML("<p>Neither SIR, SNR nor the number of interferers varies over these mixtures.</p>")
    return picture(figures.grouped(panels, "SI-SDRi, dB"), f"Mean SI-SDRi with 95 % intervals by {', '.join(panels)}")


def presence(arm: Arm) -> Image | HTML:
    """Plot level over time and likeness to the enrolment for mixtures in which the target speaks only part of the time."""
    seconds, levels, likeness = listening.presence(arm)
    if not len(seconds):
        return HTML("<p>No test mixture has the target only part of the time.</p>")
    also = ", and likeness of the estimate to the enrolment" if likeness is not None else ""
    alt = f"Mean level over time of mixture, target and estimate{also}; the target speaks in the shaded part only"
    return picture(figures.presence(seconds, levels, PARTIAL_ACTIVE_S, likeness), alt)


def training(arm: Arm) -> Image:
    """Plot loss terms, SI-SDRi on the validation set, learning rate and gradient norm over the steps."""
    alt = "Curves over the training steps: loss and its terms, SI-SDRi of unseen speakers, learning rate, gradient norm"
    return picture(figures.training(arm.run.history, arm.run.validation), alt)
