"""Notebook 06: how much of the gradient each term of a loss has, of which its weight says little, and learned weights."""

from collections.abc import Mapping
from typing import Any

import torch
from IPython.display import HTML, Image

from hifitse import HifitseError
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.evaluation.comparison import Comparison
from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.report import tables
from hifitse.report.figures import lines, series
from hifitse.report.show import picture, table
from hifitse.training.run import Run
from hifitse.training.validation import evaluation_mode, valid_seed

BATCHES = 8
"""Batches over which the norms are averaged."""
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


def share_table(comparison: Comparison, values: Shares) -> HTML:
    """Each arm's terms: weight, what became of it where it is learned, and share of the gradient."""
    rows = []
    terms = dict.fromkeys(term for of_terms in values.values() for term in of_terms)
    for name, arm in comparison.all.items():
        objective, row = arm.run.objective(), {"arm": name}
        learned = objective.learned_weights()
        for term in terms:
            weight = objective.weights.get(term)
            last = f" → {tables.number(learned[f'weight_{term}'], 3)}" if learned and weight else ""
            row[term] = f"{weight:g}{last}; {100 * values[name][term]:.0f} %" if weight else "–"
        rows.append(row)
    return table(rows, "weight, and where it is learned weight at last; share of the gradient")


def weights(comparison: Comparison) -> Image:
    """Learned weights over the steps, of the arms that learn them, one panel per arm on a logarithmic axis."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, arm in comparison.all.items():
        if arm.run.objective().uncertainty is not None:
            terms = dict.fromkeys(key for row in arm.run.history for key in row if key.startswith("weight_"))
            panels[name] = {term.removeprefix("weight_"): series(arm.run.history, term) for term in terms}
    return picture(lines(panels, "step", "weight of the term", log="y"), f"Learned weights over the training steps of {', '.join(panels)}")
