"""What notebook 06 displays of loss terms: shares of the gradient, learned weights, how they differ from fixed ones."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from IPython.display import HTML, Image
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hifitse import HifitseError
from hifitse.evaluation.comparison import Comparison
from hifitse.report import tables
from hifitse.report.comparison_figures import MARKERS
from hifitse.report.figures import BLUE, DPI, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, VERMILLION, WIDTH
from hifitse.report.labels import legend
from hifitse.report.show import picture
from hifitse.studies.losses import BATCHES, gradient_shares

TERMS = {
    "si_sdr": ("SI-SDR", BLUE), "snr": ("SNR", SKY), "phase": ("phase", VERMILLION), "amplitude": ("amplitude", ORANGE),
    "multires": ("multi-resolution", GREEN), "speaker": ("speaker", PURPLE), "absent": ("absent", GREY),
    "identity": ("identity", "black"),
}  # fmt: skip
"""Term -> name in a figure and colour; a term that is not here is shown under its own name in :data:`SPARE`."""
SPARE = "#8C6D46"
DARK = (BLUE, VERMILLION, GREEN, GREY, "black")
"""Colours on which white letters can be read."""


def named(term: str) -> tuple[str, str]:
    """Name in a figure and colour of any term, a new one too."""
    return TERMS.get(term, (term, SPARE))


def _ordered(terms: Iterable[str]) -> list[str]:
    """The terms in the order of :data:`TERMS`, new ones last.

    Raises:
        HifitseError: no term.
    """
    found = sorted(set(terms), key=lambda term: (list(TERMS).index(term) if term in TERMS else len(TERMS), term))
    if not found:
        raise HifitseError("a figure of loss terms has none, expected at least one")
    return found


@matplotlib.rc_context(STYLE)
def shares_figure(values: Mapping[str, Mapping[str, float]]) -> Figure:
    """One bar per arm, cut into its terms' shares of the gradient.

    Args:
        values: arm -> term -> share, adding up to 1 for each arm, as :func:`hifitse.studies.losses.gradient_shares` gives them.

    Raises:
        HifitseError: no arm, or shares that do not add up to 1.
    """
    names = _ordered(term for arm in values.values() for term in arm)
    for arm, of_terms in values.items():
        if not np.isclose(sum(of_terms.values()), 1, atol=1e-3) or min(of_terms.values()) < 0:
            raise HifitseError(f"shares of {arm} add up to {sum(of_terms.values()):.4g}, expected shares from 0 up that add up to 1")
    figure = Figure(figsize=(WIDTH, 0.42 * len(values) + 1.3), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(values))
    for term in names:
        label, colour = named(term)
        widths = np.array([of_terms.get(term, 0.0) for of_terms in values.values()])
        axis.barh(range(len(values)), widths, left=left, height=0.7, color=colour, label=label, edgecolor="white", lw=0.8)
        for place in np.flatnonzero(widths > 0.055):  # narrower ones have no room for their number
            ink = "white" if colour in DARK else "black"
            middle, text = left[place] + widths[place] / 2, f"{100 * widths[place]:.0f} %"
            axis.text(middle, place, text, ha="center", va="center", color=ink, fontsize=9)
        left += widths
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.5, -0.5)
    axis.set_xlim(0, 1)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axis.set_xlabel("share of the gradient with respect to the estimate")
    legend(figure, *axis.get_legend_handles_labels())
    return figure


@matplotlib.rc_context(STYLE)
def learned_weights(histories: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Learned weights over the steps, one panel per arm, on a logarithmic axis.

    Args:
        histories: arm -> rows of its history with ``step`` and ``weight_<term>``.

    Raises:
        HifitseError: no arm, or one without learned weights.
    """
    if not histories:
        raise HifitseError("histories are of 0 arms, expected at least one")
    figure = Figure(figsize=(WIDTH, 2.4 * len(histories) + 0.8), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(histories), 1, sharex=True))
    lines = {}
    for axis, (arm, rows) in zip(axes, histories.items(), strict=True):
        found = {key.removeprefix("weight_") for row in rows for key in row if key.startswith("weight_")}
        for number, term in enumerate(_ordered(found)):
            label, colour = named(term)
            pairs = [(row["step"], row[f"weight_{term}"]) for row in rows if f"weight_{term}" in row]
            # the markers, each at another place, tell curves apart that lie on each other
            every = (number * max(1, len(pairs) // 40), max(1, len(pairs) // 6))
            marker = MARKERS[number % len(MARKERS)]
            (lines[label],) = axis.plot(*zip(*pairs, strict=True), color=colour, marker=marker, ms=4.5, markevery=every)
        axis.set_yscale("log")
        axis.set_title(arm)
        axis.set_ylabel("weight of the term")
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(figure, list(lines.values()), list(lines))
    return figure


Shares = Mapping[str, Mapping[str, float]]
"""Arm -> term -> share of the gradient."""


def measured_shares(comparison: Comparison, batches: int = BATCHES) -> dict[str, dict[str, float]]:
    """Shares of the gradient of each arm, of its training with the first seed."""
    return {name: gradient_shares(arm.run, batches) for name, arm in comparison.all.items()}


def shares(values: Shares) -> Image:
    """Shares of the gradient, arm by arm."""
    said = "; ".join(f"{name}: SI-SDR {100 * of_terms.get('si_sdr', 0.0):.0f} %" for name, of_terms in values.items())
    return picture(shares_figure(values), f"Shares of the gradient. {said}")


def weights(comparison: Comparison) -> Image:
    """Learned weights over the steps, of the arms that learn them."""
    histories = {name: arm.run.history for name, arm in comparison.all.items() if arm.run.objective().uncertainty is not None}
    return picture(learned_weights(histories), f"Learned weights over the training steps of {', '.join(histories)}")


def weight_table(comparison: Comparison, values: Shares) -> HTML:
    """Weight at the start and at the end, and share of the gradient, of each term of each arm."""
    rows = []
    for name, arm in comparison.all.items():
        objective = arm.run.objective()
        learned = objective.learned_weights()
        for term, weight in objective.weights.items():
            last = tables.number(learned[f"weight_{term}"], 3) if learned else "fixed"
            rows.append([name, named(term)[0], f"{weight:g}", last, f"{100 * values[name][term]:.1f} %"])
    return HTML(tables.table(["arm", "term", "weight at first", "weight at last", "share of the gradient"], rows))
