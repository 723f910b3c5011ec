"""The optimisers of a training, and their learning rate."""

import math

import torch

from hifitse.params import Params
from hifitse.training.adversary import held_steps
from hifitse.training.muon import Muon


def learning_rate(params: Params, step: int) -> float:
    """Linear warm-up over ``warmup_steps``, then a cosine from ``lr`` to ``lr_min`` at the last step; 0 while only discriminators learn."""
    held = held_steps(params)
    step, steps = step - held, params.steps - held
    if step < 0:
        return 0.0
    if step < params.warmup_steps:
        return params.lr * (step + 1) / params.warmup_steps
    share = (step - params.warmup_steps) / max(1, steps - params.warmup_steps)
    return params.lr_min + (params.lr - params.lr_min) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def new_optimizers(model: torch.nn.Module, params: Params, objective: torch.nn.Module | None = None) -> list[torch.optim.Optimizer]:
    """The optimisers of a model's weights: AdamW, with ``optimizer`` muon after a Muon for the matrices. Decay is on weights alone.

    What the objective learns goes to AdamW.
    """
    weights, matrices, others = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dim() < 2 or not name.rpartition(".")[2].startswith("weight"):
            others.append(parameter)  # biases, norms
        elif parameter.dim() == 2 and params.optimizer == "muon":
            matrices.append(parameter)
        else:
            weights.append(parameter)
    others += objective.parameters() if objective is not None else []
    groups = [{"params": weights, "weight_decay": params.weight_decay}, {"params": others, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=params.lr, betas=(params.adam_beta1, params.adam_beta2))
    return [Muon(matrices, params.lr, weight_decay=params.weight_decay), adamw] if matrices else [adamw]
