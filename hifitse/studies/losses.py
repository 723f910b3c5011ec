"""How much of the gradient each term of a loss has: what a weight says little about, for terms differ in size and slope."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hifitse import HifitseError
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.training.run import Run
from hifitse.training.validation import evaluation_mode, valid_seed

BATCHES = 8
"""Batches over which the norms are averaged."""


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
    level = mix.square().mean(-1, keepdim=True).sqrt()  # (B, 1)
    found = {}
    for name, (values, applies) in objective.terms(est, target, mix, present, batch, model).items():
        gradient = _gradient(objective.weighted(name, values, applies), est)
        found[name] = float((gradient * level).norm())
    return found


def _gradient(value: Tensor, est: Tensor) -> Tensor:
    """(B, T), zeros for a term that does not hear the estimate; the terms share parts of the graph, which is kept for the next one."""
    if not value.requires_grad:
        return torch.zeros_like(est)
    found = torch.autograd.grad(value, est, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(est) if found is None else found


def gradient_shares(run: Run, batches: int = BATCHES) -> dict[str, float]:
    """Share of each weighted term in the sum of the terms' gradients, at the end of a training; they add up to 1.

    The norms of :func:`gradient_norms` are averaged over batches of unseen speakers, drawn as the last batches of the training are,
    and extracted with the averaged weights.

    Args:
        run: trained for at least one step.
        batches: how many, 1 or more; at most as many as the training had.

    Raises:
        HifitseError: no batches; no checkpoint; or no term has a gradient.
    """
    if batches < 1:
        raise HifitseError(f"batches is {batches}, expected at least 1")
    model, objective = run.extractor(), run.objective()
    total = dict.fromkeys(objective.weights, 0.0)
    with evaluation_mode(model):
        for batch in _unseen(run, batches):
            for name, norm in gradient_norms(objective, model, batch).items():
                total[name] += norm
    whole = sum(total.values())
    if not whole:
        raise HifitseError(f"run {run.folder.name} has no term with a gradient, expected a loss with a weight above 0")
    return {name: norm / whole for name, norm in total.items()}


def _unseen(run: Run, batches: int) -> Iterator[dict[str, Any]]:
    """Batches of the validation voices under the conditions of the training's end."""
    params = run.params.model_copy(update={"seed": valid_seed(run.params), "workers": 0})
    all_items = params.steps * params.batch_size
    wanted = min(all_items, batches * params.batch_size)
    return iter(training_loader(params, Mixer(params, "valid"), all_items - wanted, wanted))
