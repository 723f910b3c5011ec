"""The main path: parameters -> finished run.

``train(params)`` is a pure function with a memory: asked again it returns the finished run or goes on with a cut one, and
on a CPU an interrupted run ends with the same weights, bit for bit, as an uninterrupted one. That holds because nothing
depends on hidden state: mixtures, curriculum and enrolment dropout are functions of (seed, index), the learning rate of
the step, and everything else is in the checkpoint.
"""

import json
import math
import platform
import threading
import time
import warnings
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from hifitse import HifitseError
from hifitse.adversary import Adversary, Collapse, held_steps
from hifitse.checkpoint import flatten_optimizers, load_checkpoint, load_weights, restore_optimizers, save_checkpoint, write_text
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.hide import hide_enrollments, spectrum_mask
from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.muon import Muon
from hifitse.params import Params
from hifitse.run import Run, cut_rows, locked, refuse_another
from hifitse.start import take_over
from hifitse.stopping import graceful_stop
from hifitse.validation import quick_validate, validation_mixtures


class TrainingError(HifitseError):
    """Training cannot go on: the loss is not finite, or the device asked for is not there."""


@dataclass
class State:
    """All that changes while training goes on."""

    params: Params
    model: Extractor
    ema: Extractor
    optimizers: list[torch.optim.Optimizer]
    device: torch.device
    objective: Objective
    step: int = 0
    seconds: float = 0.0
    window: list[dict[str, float]] = field(default_factory=list)
    """Rows of the steps since the last row of the history."""
    adversary: Adversary | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint holds."""
        return (
            {f"model.{k}": v for k, v in self.model.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
            | {f"objective.{k}": v for k, v in self.objective.state_dict().items()}
            | flatten_optimizers(self.optimizers)
            | (self.adversary.tensors() if self.adversary else {})
        )


def pick_device(name: str) -> torch.device:
    """The device of parameter ``device``; auto takes CUDA, then MPS, then the CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(n for n, ok in there.items() if ok) if name == "auto" else name
    if not there[name]:
        raise TrainingError(f"parameter 'device' is {name!r}, allowed here are: auto, {', '.join(n for n, ok in there.items() if ok)}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """For reports: the GPU's name, or processor architecture and number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{platform.machine()} {device.type}, {count} thread{'s' if count != 1 else ''}"


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


def new_state(params: Params) -> State:
    """Fresh weights from ``params.seed``, or those of the finished run ``params.start_from``."""
    device = pick_device(params.device)
    torch.manual_seed(params.seed)
    model = Extractor(params.extractor).to(device)
    model.checkpointing = params.checkpointing
    ema = Extractor(params.extractor).to(device).eval().requires_grad_(False)
    take_over(model, params)
    ema.load_state_dict(model.state_dict())
    objective = Objective(params).to(device)
    adversary = Adversary(params, device) if params.gan != "none" else None
    return State(params, model, ema, new_optimizers(model, params, objective), device, objective, adversary=adversary)


def new_optimizers(model: torch.nn.Module, params: Params, objective: torch.nn.Module | None = None) -> list[torch.optim.Optimizer]:
    """The optimisers of a model's weights: AdamW, with ``optimizer`` muon after a Muon for the matrices. Decay is on weights alone.

    What the objective learns goes to AdamW.
    """
    weights, matrices, others = [], [], []
    for name, parameter in model.named_parameters():
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


def resume(state: State, run: Run) -> None:
    """Bring ``state`` to the run's newest readable checkpoint, if there is one."""
    found = load_checkpoint(run.folder)
    if found is not None:
        tensors, header = found
        for name, module in (("model.", state.model), ("ema.", state.ema), ("objective.", state.objective)):
            load_weights(module, {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}, run.folder.name)
        restore_optimizers(state.optimizers, tensors)
        if state.adversary is not None:
            state.adversary.load(tensors, run.folder.name)
        state.step, state.seconds = header["step"], header["seconds"]
    for name in ("history.jsonl", "validation.jsonl"):
        cut_rows(run.folder / name, state.step)


def train_step(state: State, batches: list[dict[str, Any]]) -> dict[str, float]:
    """One optimiser step over the accumulated batches. Returns the row to log: loss, terms, lr, grad_norm."""
    params, device = state.params, state.device
    rate = learning_rate(params, state.step)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = rate
    row: dict[str, float] = {"loss": 0.0}
    for part, batch in enumerate(batches):
        mix, target, enroll, present = (batch[k].to(device, non_blocking=True) for k in ("mix", "target", "enroll", "present"))
        enroll = hide_enrollments(enroll, params, state.step, part)
        seen = spectrum_mask(mix, params, state.step, part)
        # what is hidden differs from item to item: nothing is in common then
        shared = batch.get("shared") if seen is None and not params.enroll_dropout else None
        with torch.autocast(device.type, torch.bfloat16, enabled=params.precision == "bf16"):
            est = state.model(mix, enroll, seen, shared)
        loss = state.objective(est.float(), target, mix, present, batch, state.model)
        if state.adversary is not None:
            loss = state.adversary.join(loss, (est.float(), target, mix), present, state.step, part)
        if not torch.isfinite(loss.total):
            raise NotFinite(state.step + 1, [meta["id"] for meta in batch["metadata"]])
        (loss.total / len(batches)).backward()
        row["loss"] += float(loss.total.detach()) / len(batches)
        for name, value in loss.terms.items():
            row[name] = row.get(name, 0.0) + value / len(batches)
    row["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(state.model.parameters(), params.clip_norm))
    if not math.isfinite(row["grad_norm"]):  # a finite loss can have such a gradient, and one step would spoil all weights
        raise NotFinite(state.step + 1, [meta["id"] for batch in batches for meta in batch["metadata"]])
    if state.adversary is not None:
        state.adversary.update(state.step)
    for optimizer in state.optimizers:
        optimizer.step()
    # young averages forget faster, or the random start would linger through a short run
    decay = min(params.ema_decay, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.ema.parameters()), list(state.model.parameters()), 1 - decay)
    state.step += 1
    return row | {"lr": rate}


class NotFinite(TrainingError):
    """The loss or its gradient is NaN or infinite."""

    def __init__(self, step: int, ids: list[str]) -> None:
        self.step, self.ids = step, ids
        named = ", ".join(ids)
        super().__init__(f"the loss or its gradient is not finite at step {step}, allowed is a finite one; mixtures of that step: {named}")


def train(params: Params, progress: bool = True) -> Run:
    """Train, or go on, or return what is there: the run of these parameters.

    Stops early, resumably, after ``max_minutes`` of training or at SIGINT or SIGTERM (then ``KeyboardInterrupt``).

    Args:
        params: all parameters.
        progress: show a progress bar with loss, SI-SDR, steps a second and time left.

    Raises:
        TrainingError: the loss is not finite (step and mixture ids are saved in the run's folder), or no such device.
        HifitseError: bad data, or another process trains the same run.
    """
    run = Run.of(params)
    if run.finished:
        return run
    if params.threads:
        torch.set_num_threads(params.threads)
    with locked(run.folder), graceful_stop() as stop:
        refuse_another(run.folder / "params.json", params)
        write_text(run.folder / "params.json", params.model_dump_json(indent=1))
        state = new_state(params)
        resume(state, run)
        try:
            _loop(state, run, stop, progress)
        except NotFinite as error:
            record = {"step": error.step, "mixtures": error.ids, "seed": params.seed}
            write_text(run.folder / "not_finite.json", json.dumps(record, indent=1))
            raise
        except Collapse as error:
            _fall_back(state, run, str(error))
        except OSError as error:  # the disk is full, say, while a row is added to the history
            onward = "the same call goes on from the last checkpoint"
            raise TrainingError(f"training stopped at step {state.step} ({error}), allowed is a disk with room; {onward}") from error
        if stop.is_set():
            raise KeyboardInterrupt(f"training stopped at step {state.step} of {params.steps}; the same call goes on from there")
    return Run.of(params)


def _loop(state: State, run: Run, stop: threading.Event, progress: bool) -> None:
    """Step, log, validate, save until the steps or the time end, or a stop is asked for."""
    params = state.params
    mixer = Mixer(params, "train")
    per_step = params.batch_size * params.accumulation
    loader = training_loader(params, mixer, state.step * per_step, (params.steps - state.step) * per_step)
    batches = iter(loader)
    valid = validation_mixtures(params)
    log_every = max(1, params.steps // 2000)
    bar = tqdm(total=params.steps, initial=state.step, unit="step", disable=not progress, mininterval=1.0, dynamic_ncols=True)
    deadline = time.monotonic() + 60 * params.max_minutes if params.max_minutes else math.inf
    logger = _tensorboard(run)
    with bar, logger:
        while state.step < params.steps:
            started = time.monotonic()
            state.window.append(train_step(state, list(islice(batches, params.accumulation))))
            state.seconds += time.monotonic() - started
            bar.update()
            last = state.step == params.steps or stop.is_set() or time.monotonic() > deadline
            if state.step % log_every == 0 or last:
                _log(state, run, bar, logger)
            if state.step % params.validate_every == 0 or state.step == params.steps:
                row = {"step": state.step} | quick_validate(state.ema, valid, state.device)
                _append(run.folder / "validation.jsonl", row)
                for name, value in row.items():
                    if value is not None:
                        logger.add_scalar(f"valid/{name}", value, state.step)
            if state.step % params.checkpoint_every == 0 or last:
                save_checkpoint(run.folder, state.step, state.tensors(), {"seconds": state.seconds, "device": device_name(state.device)})
            if last:
                break


def _fall_back(state: State, run: Run, reason: str) -> None:
    """End a run with the weights that it started from, and say why: a report of several arms goes on."""
    start = new_state(state.params).model.state_dict()
    state.model.load_state_dict(start)
    state.ema.load_state_dict(start)
    header = {"seconds": state.seconds, "device": device_name(state.device), "collapsed": reason}
    save_checkpoint(run.folder, state.step, state.tensors(), header)
    warnings.warn(f"{reason}; the run ends with the weights that it started from", stacklevel=3)


def _tensorboard(run: Run) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    return SummaryWriter(run.folder / "tensorboard")


def _append(path: Any, row: dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _log(state: State, run: Run, bar: tqdm, logger: Any) -> None:
    """Mean over the steps since the last row -> history, TensorBoard, progress bar."""
    names = dict.fromkeys(name for row in state.window for name in row)
    mean = {name: sum(values) / len(values) for name in names if (values := [row[name] for row in state.window if name in row])}
    state.window.clear()
    _append(run.folder / "history.jsonl", {"step": state.step, "seconds": state.seconds} | mean)
    for name, value in mean.items():
        logger.add_scalar(f"train/{name}", value, state.step)
    bar.set_postfix(loss=f"{mean['loss']:.2f}", dB=f"{-mean.get('si_sdr', math.nan):.2f}")
