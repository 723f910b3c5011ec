"""The training state: everything that changes during training. Initialised, restored from a checkpoint, or started from another run."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hifitse.files import load_weights
from hifitse.losses.objective import Objective
from hifitse.machine import TrainingError, device_name, pick_device
from hifitse.model import Extractor
from hifitse.params import Params
from hifitse.training.adversary import Adversary, held_steps
from hifitse.training.checkpoint import cut_rows, flatten_optimizers, load_checkpoint, restore_optimizers
from hifitse.training.group import Group
from hifitse.training.run import Run

COEFFICIENTS, STEPS = (3.4445, -4.7750, 2.0315), 5
"""Coefficients of the quintic in Muon's Newton-Schulz iteration, and the number of iterations."""


def orthogonal(matrix: Tensor) -> Tensor:
    """Return approximately the nearest orthogonal matrix, with singular values from 0.7 to 1.2: (M, N) -> (M, N), or a batch (G, M, N)."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    x = (_on_small_side if x.shape[-1] >= 3 * x.shape[-2] else _step_by_step)(x)
    return x.mT if tall else x


def _step_by_step(x: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    add = torch.addmm if x.dim() == 2 else torch.baddbmm
    for _ in range(STEPS):
        gram = x @ x.mT
        x = add(x, add(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _on_small_side(x: Tensor) -> Tensor:
    """Do the same for a wide matrix with products of the small Gram matrix G only. An iteration is X <- p X with a polynomial p of G, so
    G <- p G p; the factors p are accumulated and applied to X once. This needs float32, because G squares the singular values."""
    a, b, c = COEFFICIENTS
    add = torch.addmm if x.dim() == 2 else torch.baddbmm
    gram, gathered = x @ x.mT, None
    for step in range(STEPS):
        factor = add(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        gathered = factor if gathered is None else factor @ gathered
        if step < STEPS - 1:
            gram = factor @ gram @ factor
    return gathered @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised before the step (Jordan et al. 2024, kellerjordan.github.io/posts/muon), for matrices (M, N).

    ``torch.optim.Muon`` iterates in bfloat16, which most CPUs emulate; this one stays in float32. The RMS of a step is 0.2 times the
    learning rate, as is typical of AdamW (Liu et al. 2025, arXiv 2502.16982), so that both can share one schedule.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all parameters that have a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            for some in _together([each for each in group["params"] if each.grad is not None]):
                for parameter in some:
                    if not self.state[parameter]:
                        self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
                gradients, averages = [each.grad for each in some], [self.state[each]["momentum_buffer"] for each in some]
                torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
                updates = torch._foreach_lerp(gradients, averages, group["momentum"])
                updates = list(orthogonal(torch.stack(updates))) if len(some) > 1 else [orthogonal(updates[0])]
                torch._foreach_mul_(some, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(some, updates, alpha=-0.2 * group["lr"] * max(some[0].shape) ** 0.5)


def _together(parameters: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Group matrices to orthogonalise in one batch: on a GPU, where launching small kernels dominates, all of the same shape."""
    alike: dict[Any, list[Tensor]] = {}
    for number, each in enumerate(parameters):
        alike.setdefault(number if each.device.type == "cpu" else each.shape, []).append(each)
    return alike.values()


def learning_rate(params: Params, step: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine from ``lr`` to ``lr_min``; 0 while only the discriminators learn."""
    held = held_steps(params)
    step, steps = step - held, params.steps - held
    if step < 0:
        return 0.0
    if step < params.warmup_steps:
        return params.lr * (step + 1) / params.warmup_steps
    share = (step - params.warmup_steps) / max(1, steps - params.warmup_steps)
    return params.lr_min + (params.lr - params.lr_min) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def new_optimizers(model: torch.nn.Module, params: Params, objective: torch.nn.Module | None = None) -> list[torch.optim.Optimizer]:
    """Create the optimisers of a model and of the learned weights of its objective: AdamW, or with ``optimizer`` "muon" first a Muon for
    the model's matrices and then AdamW for the rest. Weight decay applies to weights only, not to biases and norms."""
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


@dataclass
class State:
    """Everything that changes during training; ``window`` holds the log rows since the last row of the history."""

    params: Params
    model: Extractor
    ema: Extractor
    optimizers: list[torch.optim.Optimizer]
    device: torch.device
    objective: Objective
    step: int = 0
    seconds: float = 0.0
    window: list[dict[str, float]] = field(default_factory=list)
    group: Group = field(default_factory=Group)
    adversary: Adversary | None = None

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules whose weights a checkpoint holds, by the prefix of their names."""
        return {"model.": self.model, "ema.": self.ema, "objective.": self.objective}

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of a checkpoint."""
        own = {prefix + name: value for prefix, module in self.modules().items() for name, value in module.state_dict().items()}
        return own | flatten_optimizers(self.optimizers) | (self.adversary.tensors() if self.adversary else {})

    def header(self) -> dict[str, Any]:
        """Return the header of a checkpoint, without the step. ``unit`` says that a step is one batch."""
        return {"seconds": self.seconds, "device": device_name(self.device), "unit": "batch"}


def new_state(params: Params, group: Group | None = None) -> State:
    """Create a state with new weights from ``params.seed``, or those of run ``params.start_from``; equal in all processes of the group."""
    group = group or Group()
    device = group.device or pick_device(params.device)
    torch.manual_seed(params.seed)
    model = Extractor(params.extractor).to(device)
    model.checkpointing = params.checkpointing
    if model.verifier is not None and not params.start_from:
        model.verifier.load_state_dict(Extractor.from_pretrained().verifier.state_dict())
    ema = Extractor(params.extractor).to(device).eval().requires_grad_(False)
    take_over(model, params, group)
    ema.load_state_dict(model.state_dict())
    objective = Objective(params).to(device)
    adversary = Adversary(params, device) if params.gan != "none" else None
    return State(params, model, ema, new_optimizers(model, params, objective), device, objective, group=group, adversary=adversary)


def resume(state: State, run: Run) -> None:
    """Restore ``state`` from the run's newest readable checkpoint, if there is one, and drop log rows that are newer."""
    found = state.group.from_main(lambda: load_checkpoint(run.folder))
    if found is not None:
        tensors, header = found
        if state.params.accumulation > 1 and header.get("unit") != "batch":
            rule = "expected one whose steps are batches; move the folder away to start again"
            raise TrainingError(f"run {run.folder.name} counts updates of {state.params.accumulation} batches as steps, {rule}")
        for prefix, module in state.modules().items():
            load_weights(module, tensors, run.folder.name, prefix)
        restore_optimizers(state.optimizers, tensors)
        if state.adversary is not None:
            state.adversary.load(tensors, run.folder.name)
        state.step, state.seconds = header["step"], header["seconds"]
    for name in ("history.jsonl", "validation.jsonl") if state.group.main else ():
        cut_rows(run.folder / name, state.step)


def take_over(model: nn.Module, params: Params, group: Group) -> None:
    """Load the averaged weights of the run ``start_from``, the ones it was evaluated with; with ``freeze_norms``, freeze the layer norms.
    Raises the errors of :meth:`Run.named`; CheckpointError: the extractor of that run has another shape."""
    if params.start_from:
        weights = group.from_main(lambda: Run.named(params.start_from).extractor().state_dict())
        load_weights(model, weights, params.start_from)
        torch.set_rng_state(group.from_main(torch.get_rng_state))  # reading the run drew weights in that process alone
    if params.freeze_norms:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(False)
