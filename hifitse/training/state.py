"""All that changes while training goes on: made again, taken from a checkpoint, or begun with another run's weights."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hifitse.files import load_weights
from hifitse.losses.objective import Objective
from hifitse.machine import TrainingError, device_name, pick_device
from hifitse.model import Extractor
from hifitse.params import Params
from hifitse.training.adversary import Adversary
from hifitse.training.checkpoint import flatten_optimizers, load_checkpoint, restore_optimizers
from hifitse.training.group import Group
from hifitse.training.optimizers import new_optimizers
from hifitse.training.run import Run, cut_rows


@dataclass
class State:
    """All that changes while training goes on; ``window`` are the rows of the steps since the last row of the history."""

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
        """Whose weights a checkpoint holds, by the beginning of their names."""
        return {"model.": self.model, "ema.": self.ema, "objective.": self.objective}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint holds."""
        own = {prefix + name: value for prefix, module in self.modules().items() for name, value in module.state_dict().items()}
        return own | flatten_optimizers(self.optimizers) | (self.adversary.tensors() if self.adversary else {})

    def header(self) -> dict[str, Any]:
        """What a checkpoint says of itself; a step is one batch."""
        return {"seconds": self.seconds, "device": device_name(self.device), "unit": "batch"}


def new_state(params: Params, group: Group | None = None) -> State:
    """Fresh weights from ``params.seed``, or those of the finished run ``params.start_from``; the same in every process of the group."""
    group = group or Group()
    device = group.device or pick_device(params.device)
    torch.manual_seed(params.seed)
    model = Extractor(params.extractor).to(device)
    model.checkpointing = params.checkpointing
    if model.verifier is not None and not params.start_from:
        model.verifier.load_resemblyzer()
    ema = Extractor(params.extractor).to(device).eval().requires_grad_(False)
    take_over(model, params)
    ema.load_state_dict(model.state_dict())
    objective = Objective(params).to(device)
    adversary = Adversary(params, device) if params.gan != "none" else None
    return State(params, model, ema, new_optimizers(model, params, objective), device, objective, group=group, adversary=adversary)


def resume(state: State, run: Run) -> None:
    """Bring ``state`` to the run's newest readable checkpoint, if there is one."""
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


def take_over(model: nn.Module, params: Params) -> None:
    """Load the weights of ``start_from``, and with ``freeze_norms`` take the layer norms out of learning; nothing without either.

    The averaged weights, not the newest: they are what the run was judged by, so a fine-tuning of no steps changes nothing.
    Errors as :meth:`Run.named`; CheckpointError: its extractor has another shape.
    """
    if params.start_from:
        load_weights(model, Run.named(params.start_from).extractor().state_dict(), params.start_from)
    if params.freeze_norms:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(False)
