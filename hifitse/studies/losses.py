"""Notebook 06: how much of the gradient each term of a loss has, of which its weight says little, and learned weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Image
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hifitse import HifitseError
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.evaluation.comparison import Comparison
from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.report import tables
from hifitse.report.comparison_figures import lines
from hifitse.report.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, VERMILLION, legend, panel, series
from hifitse.report.show import picture, table
from hifitse.training.run import Run
from hifitse.training.validation import evaluation_mode, valid_seed

BATCHES = 8
"""Batches over which the norms are averaged."""
TERMS = {
    "si_sdr": ("SI-SDR", BLUE), "snr": ("SNR", SKY), "phase": ("phase", VERMILLION), "amplitude": ("amplitude", ORANGE),
    "multires": ("multi-resolution", GREEN), "speaker": ("speaker", PURPLE), "absent": ("absent", GREY),
    "identity": ("identity", "black"),
}  # fmt: skip
"""Term -> name in a figure and colour; a term that is not here is shown under its own name in :data:`SPARE`."""
SPARE = "#8C6D46"
DARK = (BLUE, VERMILLION, GREEN, GREY, "black")
"""Colours on which white letters can be read."""
Shares = Mapping[str, Mapping[str, float]]
"""Arm -> term -> share of the gradient."""


def gradient_norms(objective: Objective, model: Extractor, batch: dict[str, Any]) -> dict[str, float]:
    """Size of the gradient of each weighted term with respect to the estimate, by term.

    The gradient of an item, (T,), is multiplied by the RMS level of its mixture: the estimate is the mixture under the network's mask,
    so that is how the network sees it, and without it the quietest items would decide. The norm is over all items together. A term
    whose items are missing has 0. Gradients may point against each other, so the norms need not add up to that of the sum.

    Args:
        objective: with its weights, learned ones as they are now.
        model: on the CPU, in evaluation mode.
        batch: as :data:`hifitse.data.dataset.Batch`.
    """
    mix, target, present = batch["mix"], batch["target"], batch["present"]
    with torch.no_grad():
        est = model(mix, batch["enroll"]).float()
    est.requires_grad_()
    level, found = mix.square().mean(-1, keepdim=True).sqrt(), {}  # (B, 1)
    for name, (values, applies) in objective.terms(est, target, mix, present, batch, model).items():
        value, gradient = objective.weighted(name, values, applies), None
        if value.requires_grad:  # the terms share parts of the graph, which is kept for the next one
            gradient = torch.autograd.grad(value, est, retain_graph=True, allow_unused=True)[0]  # (B, T)
        found[name] = 0.0 if gradient is None else float((gradient * level).norm())
    return found


def gradient_shares(run: Run, batches: int = BATCHES) -> dict[str, float]:
    """Share of each weighted term in the sum of the terms' gradients, at the end of a training; they add up to 1.

    The norms of :func:`gradient_norms` are averaged over batches of unseen speakers, drawn as the last batches of the training are,
    and extracted with the averaged weights.

    Args:
        run: trained for at least one step.
        batches: how many, 1 or more; at most as many as the training had.

    Raises:
        HifitseError: no checkpoint; or no term has a gradient.
    """
    model, objective = run.extractor(), run.objective()
    total = dict.fromkeys(objective.weights, 0.0)
    params = run.params.model_copy(update={"seed": valid_seed(run.params), "workers": 0})
    every, wanted = params.steps * params.batch_size, min(params.steps, batches) * params.batch_size
    with evaluation_mode(model):
        for batch in training_loader(params, Mixer(params, "valid"), every - wanted, wanted):
            for name, norm in gradient_norms(objective, model, batch).items():
                total[name] += norm
    whole = sum(total.values())
    if not whole:
        raise HifitseError(f"run {run.folder.name} has no term with a gradient, expected a loss with a weight above 0")
    return {name: norm / whole for name, norm in total.items()}


def named(term: str) -> tuple[str, str]:
    """Name in a figure and colour of any term, a new one too."""
    return TERMS.get(term, (term, SPARE))


def _ordered(terms: Iterable[str]) -> list[str]:
    """The terms in the order of :data:`TERMS`, new ones last."""
    return sorted(set(terms), key=lambda term: (list(TERMS).index(term) if term in TERMS else len(TERMS), term))


@matplotlib.rc_context(STYLE)
def shares_figure(values: Shares) -> Figure:
    """One bar per arm, cut into its terms' shares of the gradient."""
    shares = pd.DataFrame(values).T.fillna(0.0)  # arms, terms
    (figure, axis), left = panel(0.42 * len(shares) + 1.3), np.zeros(len(shares))
    for term in _ordered(shares):
        (label, colour), widths = named(term), shares[term].to_numpy()
        bars = axis.barh(range(len(shares)), widths, left=left, height=0.7, color=colour, label=label, edgecolor="white", lw=0.8)
        said = [f"{100 * width:.0f} %" if width > 0.055 else "" for width in widths]  # narrower ones have no room for their number
        axis.bar_label(bars, said, label_type="center", color="white" if colour in DARK else "black", fontsize=9)
        left = left + widths
    axis.set_yticks(range(len(shares)), list(shares.index))
    axis.set(xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5), xlabel="share of the gradient with respect to the estimate")
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    legend(figure, *axis.get_legend_handles_labels())
    return figure


def learned_weights(histories: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Learned weights over the steps, one panel per arm, on a logarithmic axis: arm -> rows with ``step`` and ``weight_<term>``."""
    panels = {}
    for arm, rows in histories.items():
        terms = _ordered(key.removeprefix("weight_") for row in rows for key in row if key.startswith("weight_"))
        panels[arm] = {named(term)[0]: series(rows, f"weight_{term}") for term in terms}
    return lines(panels, "step", "weight of the term", log="y", colours=dict(TERMS.values()))


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
            row = {"arm": name, "term": named(term)[0], "weight at first": f"{weight:g}", "weight at last": last}
            rows.append(row | {"share of the gradient": f"{100 * values[name][term]:.1f} %"})
    return table(rows)
