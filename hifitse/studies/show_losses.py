"""What a notebook displays of loss terms: shares of the gradient, learned weights, how they differ from fixed ones."""

from collections.abc import Mapping

from IPython.display import HTML, Image

from hifitse.evaluation.comparison import Comparison
from hifitse.report import tables
from hifitse.report.show import picture
from hifitse.studies import loss_figures
from hifitse.studies.gradient_shares import BATCHES, gradient_shares

Shares = Mapping[str, Mapping[str, float]]
"""Arm -> term -> share of the gradient."""


def measured_shares(comparison: Comparison, batches: int = BATCHES) -> dict[str, dict[str, float]]:
    """Shares of the gradient of each arm, of its training with the first seed."""
    return {name: gradient_shares(arm.run, batches) for name, arm in comparison.all.items()}


def shares(values: Shares) -> Image:
    """Shares of the gradient, arm by arm."""
    said = "; ".join(f"{name}: SI-SDR {100 * of_terms.get('si_sdr', 0.0):.0f} %" for name, of_terms in values.items())
    return picture(loss_figures.shares(values), f"Shares of the gradient. {said}")


def weights(comparison: Comparison) -> Image:
    """Learned weights over the steps, of the arms that learn them."""
    histories = {name: arm.run.history for name, arm in comparison.all.items() if arm.run.objective().uncertainty is not None}
    return picture(loss_figures.learned_weights(histories), f"Learned weights over the training steps of {', '.join(histories)}")


def weight_table(comparison: Comparison, values: Shares) -> HTML:
    """Weight at the start and at the end, and share of the gradient, of each term of each arm."""
    rows = []
    for name, arm in comparison.all.items():
        objective = arm.run.objective()
        learned = objective.learned_weights()
        for term, weight in objective.weights.items():
            last = tables.number(learned[f"weight_{term}"], 3) if learned else "fixed"
            rows.append([name, loss_figures.named(term)[0], f"{weight:g}", last, f"{100 * values[name][term]:.1f} %"])
    return HTML(tables.table(["arm", "term", "weight at first", "weight at last", "share of the gradient"], rows))
