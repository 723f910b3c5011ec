"""The main path: parameters -> finished run.

``train(params)`` behaves like a cached function: called again, it returns the finished run or resumes an interrupted one. On a CPU, an
interrupted run ends with bit-identical weights to an uninterrupted one: mixtures, curriculum and enrolment dropout are functions of
(seed, index), the learning rate is a function of the step, and everything else is in the checkpoint. On several processes
(``accelerate launch -m hifitse.training.train --preset full -p corpus PATH``) it is the same run; see :mod:`hifitse.training.group`.
"""

import json
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from itertools import islice
from typing import Any

import click
import torch

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.augment import hide_bands, hide_enrollments, spectrum_mask
from hifitse.data.dataset import deaths_said, training_loader
from hifitse.data.manifest import locate, sources
from hifitse.data.mixing import Mixer, Mixture
from hifitse.files import write_text
from hifitse.machine import TrainingError, device_name, half_precision, make_room_for_workers, progress_bar, set_threads
from hifitse.params import ParameterError, Params, resolve
from hifitse.presets import CommandError, call, parameter_options, values
from hifitse.training.adversary import Collapse
from hifitse.training.checkpoint import BEST, Journal, means, save_checkpoint, save_tensors
from hifitse.training.group import Group, GroupError, graceful_stop, launched_rank, leave
from hifitse.training.run import LABEL, Run, locked, refuse_another, relative
from hifitse.training.state import State, learning_rate, new_state, resume
from hifitse.training.validation import quick_validate, validation_mixtures


def train_step(state: State, batches: list[dict[str, Any]]) -> dict[str, float]:
    """Update the weights once from this process's share of the batches of ``accumulation`` steps. Return the row to log."""
    params, group = state.params, state.group
    rate = learning_rate(params, state.step)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group_of_weights in optimizer.param_groups:
            group_of_weights["lr"] = rate
    parts = len(batches) * group.size
    with group.together():
        try:
            rows = [_accumulate(state, batch, group.rank + number * group.size, parts) for number, batch in enumerate(batches)]
        except torch.OutOfMemoryError as error:
            raise _too_large(state) from error
    row = means(sum(group.gather(rows), []))
    group.add_gradients(weight for optimizer in state.optimizers for each in optimizer.param_groups for weight in each["params"])
    row["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(state.model.parameters(), params.clip_norm))
    if not math.isfinite(row["grad_norm"]):  # possible with a finite loss; one such step would ruin all weights
        ids = [meta["id"] for batch in batches for meta in batch["metadata"]]
        raise NotFinite(state.step + parts, sum(group.gather(ids), []))
    if state.adversary is not None:
        state.adversary.update(state.step, group)
    for optimizer in state.optimizers:
        optimizer.step()
    # a young average decays faster, else the random initial weights would linger in a short run
    updates = state.step // params.accumulation
    decay = min(params.ema_decay, (1 + updates) / (10 + updates))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.ema.parameters()), list(state.model.parameters()), 1 - decay)
    state.step += parts
    return row | {"lr": rate}


def _accumulate(state: State, batch: dict[str, Any], part: int, parts: int) -> dict[str, float]:
    """Accumulate the gradient of batch ``part`` of the ``parts`` batches of an update. Return its loss and loss terms."""
    params, device = state.params, state.device
    mix, target, enroll, present = (batch[k].to(device, non_blocking=True) for k in ("mix", "target", "enroll", "present"))
    enroll = hide_enrollments(enroll, params, state.step, part)
    mix, target, enroll = hide_bands((mix, target, enroll), batch.get("shared"), params, state.step, part)
    seen = spectrum_mask(mix, params, state.step, part)
    # masks and dropout differ between items, so that no encoding can be shared
    shared = batch.get("shared") if seen is None and not params.enroll_dropout else None
    shared = shared and shared.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half_precision(params.precision, device)):
        est = state.model(mix, enroll, seen, shared)
    state.objective.progress = state.step / params.steps
    loss = state.objective(est.float(), target, mix, present, batch, state.model)
    if state.adversary is not None:
        loss = state.adversary.join(loss, (est.float(), target, mix), present, state.step, part, parts)
    if not torch.isfinite(loss.total):
        raise NotFinite(state.step + part + 1, [meta["id"] for meta in batch["metadata"]])
    (loss.total / parts).backward()
    return {"loss": float(loss.total.detach())} | loss.terms


class NotFinite(TrainingError):
    """The loss or its gradient is NaN or infinite. Arguments: the step, counted from 1, and the ids of its mixtures."""

    def __str__(self) -> str:
        step, ids = self.args
        return f"the loss or its gradient is not finite at step {step}, expected a finite one; mixtures of that step: {', '.join(ids)}"


def train(params: Params, progress: bool = True, others: int = 0, judge: Params | None = None) -> Run:
    """Train the run of these parameters, resume it if it was interrupted, or return it if it is finished.

    Training stops early after ``max_minutes``, or on SIGINT or SIGTERM by raising ``KeyboardInterrupt``. It can be resumed in either case.

    Args:
        progress: show a progress bar.
        others: number of similar trainings that follow; used in messages only.
        judge: parameters of the validation mixtures: the baseline's, to compare arms during training. ``None``: ``params``.

    Raises:
        TrainingError: the loss is not finite (step and mixture ids are saved in the run folder), or the device does not exist.
        HifitseError: the data are bad, another process trains the same run, or the processes cannot train together.
    """
    run, group = Run.of(params), Group.join(params)
    set_threads(params.threads)  # also needed for the evaluation of a finished run
    if group.from_main(lambda: run.finished):
        return run
    with ExitStack() as held, graceful_stop(patient=group.size > 1) as stop:
        group.from_main(lambda: _claim(run, held))
        state = new_state(params, group)
        resume(state, run)
        if progress and group.main and not state.step and not params.start_from and (said := relative(params)):
            print(f"training: {said}", file=sys.stderr)
        try:
            with deaths_said():
                _loop(state, run, stop, progress, others, judge or params)
        except NotFinite as error:
            if group.main:
                record = dict(zip(("step", "mixtures"), error.args, strict=True)) | {"seed": params.seed}
                write_text(run.folder / "not_finite.json", json.dumps(record, indent=1))
            raise
        except torch.OutOfMemoryError as error:  # in the optimiser, in rendering on the GPU, or in validation
            raise _too_large(state) from error
        except Collapse as error:
            with group.together():
                _fall_back(state, run, str(error))
        if stop.is_set():
            raise KeyboardInterrupt(f"training stopped at step {state.step} of {params.steps}; the same call goes on from there")
    return Run.of(params)


def _too_large(state: State) -> TrainingError:
    cure = "halve batch_size and double accumulation and steps (the updates stay the same), or set checkpointing"
    reason = f"batch_size {state.params.batch_size} does not fit into the memory of {device_name(state.device)}"
    return TrainingError(f"{reason} at step {state.step + 1}: {cure}")


def _claim(run: Run, held: ExitStack) -> None:
    """Lock the run folder for as long as ``held`` is open, and write the parameters. Check the corpus first: a typo leaves no folder."""
    for source in sources(run.params.corpus):
        if source != "synthetic":
            locate(source, "corpus")
    held.enter_context(locked(run.folder))
    refuse_another(run.folder / "params.json", run.params)
    write_text(run.folder / "params.json", run.params.model_dump_json(indent=1))
    if label := os.environ.get("HIFITSE_NAME"):
        write_text(run.folder / LABEL, label)


def _loop(state: State, run: Run, stop: threading.Event, progress: bool, others: int, judge: Params) -> None:
    """Train, log, validate and save until all steps are done, the time is up, or any process is asked to stop."""
    params, group = state.params, state.group
    first, left = (count * params.batch_size for count in (state.step, params.steps - state.step))
    with group.together():
        seconds = 2 * params.seconds + 2 * params.enrollments * params.enroll_seconds  # mix, target, enrolments, wrong enrolments
        make_room_for_workers(params.workers, params.batch_size * seconds * SAMPLE_RATE * 4 / 1e6)
        mixer = Mixer(params, "train")
        loader = training_loader(params, mixer, first, left, (group.rank, group.size), state.device)
        batches, valid = iter(loader), validation_mixtures(judge) if group.main else []
    shown = progress and group.main
    bar = progress_bar(total=params.steps, initial=state.step, unit="step", disable=not shown, mininterval=1.0)
    deadline = time.monotonic() + 60 * params.max_minutes if params.max_minutes else math.inf
    log_every = max(1, params.steps // 2000)
    with bar, closing(Journal(run.folder, params, bar, others)) if group.main else nullcontext() as journal:
        while state.step < params.steps:
            started, before = time.monotonic(), state.step
            with group.together():
                taken = list(islice(batches, min(params.accumulation, params.steps - before) // group.size))
            state.window.append(train_step(state, taken))
            state.seconds += time.monotonic() - started
            bar.update(state.step - before)
            if journal is not None:
                journal.tick(state.step)
            asked, late = map(any, zip(*group.gather((stop.is_set(), time.monotonic() > deadline)), strict=True))
            if asked:
                stop.set()
            last = state.step == params.steps or asked or late
            every = {"log": log_every, "save": params.checkpoint_every, "validate": params.validate_every}
            ends = {"log": last, "save": last, "validate": state.step == params.steps}
            due = {name: ends[name] or state.step // steps > before // steps for name, steps in every.items()}
            with group.together() if any(due.values()) else nullcontext():
                _write(state, run, journal, valid, due)
            if last:
                break


def _write(state: State, run: Run, journal: Journal | None, valid: list[Mixture], due: dict[str, bool]) -> None:
    """Log, validate and save, each if it is ``due``. Only the main process has a journal and writes."""
    if journal is None:
        state.window.clear()
        return
    try:
        if due["log"]:
            journal.steps(state.window, state.step, state.seconds)
        if due["validate"]:
            measured = quick_validate(state.ema, valid, state.device)
            if journal.validation(measured, state.step):
                kept = {name: value for name, value in state.tensors().items() if name.startswith(("ema.", "objective."))}
                save_tensors(run.folder / BEST, kept, state.header() | measured | {"step": state.step})
        if due["save"]:
            save_checkpoint(run.folder, state.step, state.tensors(), state.header())
    except OSError as error:  # for example, a full disk
        onward = "the same call goes on from the last checkpoint"
        raise TrainingError(f"training stopped at step {state.step} ({error}), expected a disk with room; {onward}") from error


def _fall_back(state: State, run: Run, reason: str) -> None:
    """End a collapsed run with its initial weights and a warning, so that a report on several arms can continue."""
    start = new_state(state.params, state.group).model.state_dict()
    state.model.load_state_dict(start)
    state.ema.load_state_dict(start)
    if state.group.main:
        save_checkpoint(run.folder, state.step, state.tensors(), state.header() | {"collapsed": reason})
        warnings.warn(f"{reason}; the run ends with the weights that it started from", stacklevel=3)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m hifitse.training.train``: one training on all started processes. Return the same exit codes as ``hifitse run``."""
    command = click.Command("python -m hifitse.training.train", help="Train one model, on all started processes.", callback=values)
    try:
        if (given := call(parameter_options("full")(command), argv)) == 0:  # --help was given
            return 0
        run = train(resolve(**given))
        said, code = f"the run is finished: {run.folder}", 0
        if launched_rank() == 0 and not run.finished:  # only the first process reads the run folder
            said, code = f"{run.step} of {run.params.steps} steps are done; the same command goes on from {run.folder}", 3
    except KeyboardInterrupt as stopped:
        said, code = str(stopped) or "training was stopped at once; the same call goes on from the last checkpoint", 130
    except HifitseError as error:
        said, code = str(error), 2 if isinstance(error, CommandError | ParameterError | GroupError) else 1
        said = f"process {launched_rank()}: {said}" if isinstance(error, GroupError) else said
    finally:
        leave()
    if launched_rank() == 0 or said.startswith("process "):
        print(f"hifitse: {said}", file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
