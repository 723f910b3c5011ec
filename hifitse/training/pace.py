"""How long a step of a training takes on this machine, by a short trial; so that trainings can be as long as a time, by their steps."""

import shutil
from collections.abc import Sequence
from typing import Any

from hifitse.params import Params
from hifitse.training.abreast import train_abreast
from hifitse.training.run import Run
from hifitse.training.train import train

PROBE, WARM = 60, 20
"""Steps of a trial, and those of them that do not count."""
SEED = 2**31 - 1
"""Seed of trials: a trial is deleted, and no other training should have its folder."""


def seconds_per_step(trainings: Sequence[Params], limit_s: float, together: int = 1) -> list[float]:
    """Seconds of a step of each training, with the making of its mixtures and without validation.

    Args:
        trainings: tried one after another, or ``together`` at a time, as they will be trained.
        limit_s: s, after which a trial ends, with at least one step done.

    Raises:
        HifitseError: as training does.
    """
    trial = {"steps": PROBE, "seed": SEED, "valid_mixtures": 1, "max_minutes": limit_s / 60}
    trial |= dict.fromkeys(("validate_every", "checkpoint_every"), 10**7)
    trials, found = [each.model_copy(update=trial) for each in trainings], []
    if together > 1:
        train_abreast(trials, together, progress=False)
    for params in trials:
        run = train(params, progress=False) if together == 1 else Run.of(params)
        rows = run.history[min(WARM, len(run.history) // 2) :]
        seconds, steps = (rows[-1][name] - (rows[0][name] if len(rows) > 1 else 0) for name in ("seconds", "step"))
        found.append(seconds / steps)
        shutil.rmtree(run.folder)
    return found


def fill(params: Params, seconds: float, per_step: float) -> dict[str, Any]:
    """Changes to a training: as many steps as ``seconds`` hold at ``per_step`` seconds each, whole updates, at least one, with the schedule
    of the learning rate over them."""
    steps = max(params.accumulation, int(seconds / max(per_step, 1e-6)) // params.accumulation * params.accumulation)
    return {"steps": steps, "warmup_steps": min(params.warmup_steps, steps // 10)}
