"""A finished run -> a model's folder: weights in 16 bits, what was measured with exactly these weights, and the card that says so."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hifitse import HifitseError
from hifitse.commands.model_card import Licence, card
from hifitse.evaluation.evaluate import evaluate
from hifitse.evaluation.presence import calibrate
from hifitse.evaluation.rows import mean, summarise
from hifitse.files import CheckpointError
from hifitse.metrics import Interval
from hifitse.model import Extractor
from hifitse.params import ParameterError, Params, resolve
from hifitse.presets import load_yaml
from hifitse.training.checkpoint import BEST, load_tensors
from hifitse.training.run import ModelInside, Run

DTYPE = torch.float16  # half the size of float32, and finer than bfloat16; trained weights are far from its limits


def find_run(name: str, presets: Sequence[str]) -> Run:
    """The run of a preset, or the one in a folder. Raises HifitseError: neither, or the training is not finished."""
    if name in presets:
        run = Run.of(resolve(name))
    else:
        try:
            run = Run.at(Path(name))
        except ParameterError:
            raise
        except (OSError, ValueError):
            raise HifitseError(f"run is {name!r}, expected a folder in runs/ or one of the presets {', '.join(presets)}") from None
    if not run.finished:
        done = f"{run.step} of its {run.params.steps} steps"
        raise CheckpointError(f"run {run.folder.name} of {name!r} has done {done}, expected a finished one: {run.command}")
    return run


def rounded(run: Run, best: bool = False) -> Extractor:
    """The run's averaged weights, or those of its best validation, as they will be stored: rounded to 16 bits, in float32 again."""
    model = run.extractor(best)
    model.load_state_dict({name: tensor.to(DTYPE).float() for name, tensor in model.state_dict().items()})
    return model


def conditions(path: Path, run: Run) -> dict[str, Any]:
    """The numbers of notebook 14 of this run, from its ``metrics.json``. Raises HifitseError: not readable, or of another model."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        study, model = content["default_model"], content["params"]["start_from"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HifitseError(f"study {path} cannot be read ({error!r}), expected metrics.json of 14_default_model") from None
    if model != run.folder.name:
        raise HifitseError(f"study {path} is of {model or 'the model inside'}, expected start_from {run.folder.name}")
    return study


def export(
    run: Run, folder: Path, also: Sequence[str] = (), licence: Licence | None = None, progress: bool = True,
    study: dict[str, Any] | None = None, best: bool = False,
) -> Path:  # fmt: skip
    """Measure a run's rounded weights and write the model's folder. Minutes, unless the rows are in the run's folder from before.

    Args:
        run: finished.
        folder: made where it does not exist; see :mod:`hifitse.model.pretrained` for its files.
        also: overlays in ``params/`` on whose data the model is measured too, beside those it was trained on.
        licence: of the model; ``None``: MIT for one that heard synthetic sound only, else no statement.
        study: what the model does under other conditions, as :func:`conditions` reads it.
        best: the weights of the best validation instead of those of the end.

    Raises HifitseError: as evaluation and writing do.
    """
    before = _before(run)  # first of all: what is missing is said before minutes are spent
    model, evaluations = rounded(run, best), {}
    for overlay in (None, *also):
        params = run.params if overlay is None else resolve(run.params.preset, overlay, **_changed(run.params, overlay))
        rows = evaluate(model, params, run.folder, progress, lists=("test",))
        evaluations[overlay or "training"] = _measured(rows, params)
    metrics = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "weights": str(DTYPE).removeprefix("torch."),
        "run": run.folder.name,
        "steps": load_tensors(run.folder / BEST)[1]["step"] if best else run.step,
        "seconds_of_training": round(run.seconds),
        "device": run.device,
        "evaluations": evaluations,
    }
    presence = calibrate(model, run.params)
    metrics |= ({"presence": presence} if presence else {}) | ({"default_model": study} if study else {})
    params = run.params.model_dump(mode="json")
    licence = licence or Licence.of(run.params, *before)
    model.save_pretrained(folder, params, metrics, card(run.params, metrics, licence, before), licence.text, dtype=DTYPE)
    return folder


def _before(run: Run) -> list[Params]:
    """Of the trainings whose weights this one began with, directly or by way of others, the nearest first.

    The model that comes with the library is the last: what it began with stands in its own card.
    """
    found, name = [], run.params.start_from
    while name:
        earlier = Run.named(name)
        found.append(earlier.params)
        name = "" if isinstance(earlier, ModelInside) else earlier.params.start_from
    return found


def _changed(params: Params, overlay: str) -> dict[str, Any]:
    """What the run changed beside its preset, and the overlay does not name."""
    plain, laid = resolve(params.preset).model_dump(), load_yaml(overlay, "overlay")
    return {name: value for name, value in params.model_dump().items() if value != plain[name] and name not in laid}


def _measured(rows: list[dict[str, Any]], params: Params) -> dict[str, Any]:
    """Metrics of the test list, and SI-SDRi apart for mixtures in a room and without one, where there are both."""
    places = {"in a room": [row for row in rows if row["room"]], "without a room": [row for row in rows if not row["room"]]}
    split = {name: _interval(mean(some)) for name, some in places.items() if any(row["present"] for row in some)}
    sources = {name: getattr(params, name) for name in ("corpus", "noise", "rooms", "reverb_prob", "eval_mixtures", "eval_seed")}
    return {"data": sources, "metrics": summarise(rows), "si_sdri_db_by_room": split if len(split) > 1 else {}}


def _interval(found: Interval) -> dict[str, float | int | None]:
    numbers = {name: getattr(found, name) for name in ("mean", "low", "high")}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()} | {"n": found.n}
