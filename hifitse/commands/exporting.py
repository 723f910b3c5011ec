"""A finished run -> a model's folder: weights in 16 bits, what was measured with exactly these weights, and the card that says so."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hifitse import HifitseError
from hifitse.evaluation.evaluate import evaluate
from hifitse.evaluation.presence import calibrate
from hifitse.evaluation.rows import mean, numbers, summarise
from hifitse.files import CheckpointError
from hifitse.model import Extractor
from hifitse.model.pretrained import packed, unpacked
from hifitse.params import ParameterError, Params, resolve
from hifitse.report import tables
from hifitse.studies.default_model import markdown
from hifitse.training.checkpoint import BEST, load_tensors
from hifitse.training.run import ModelInside, Run

CARD = Path(tables.__file__).parent / "templates" / "card.md"
DTYPE = torch.float16  # half the size of float32, and finer than bfloat16; trained weights are far from its limits
ROWS = {
    "si_sdri_db": "SI-SDRi, right enrolment, dB",
    "si_sdri_wrong_enroll_db": "SI-SDRi, wrong enrolment, dB",
    "si_sdri_zero_enroll_db": "SI-SDRi, silence as enrolment, dB",
    "si_sdr_db": "SI-SDR, dB",
    "pesq": "PESQ (16 kHz wide band)",
    "stoi": "STOI",
    "confusion_rate": "estimates nearer to an interferer",
    "absent_suppression_db": "suppression where the target is absent, dB",
}


class Licence(NamedTuple):
    """Under which terms a model is given away: a name as on the Hugging Face Hub, ``other`` where none is stated; the text of LICENSE."""

    name: str
    text: str

    @classmethod
    def read(cls, path: Path) -> "Licence":
        """From a text file whose first line is the name. Raises HifitseError: it cannot be read, or its first line is no such name."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise HifitseError(f"licence {path} cannot be read ({error}), expected a text file") from None
        name = text.partition("\n")[0].strip()
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,40}", name):
            raise HifitseError(f"licence {path} begins with {name[:60]!r}, expected a first line such as mit or cc-by-nc-sa-4.0")
        return cls(name, text.rstrip() + "\n")

    @classmethod
    def of(cls, *trainings: Params) -> "Licence":
        """MIT where the library made the sound of these trainings itself, else no statement."""
        if any({params.corpus, params.noise, params.rooms} != {"synthetic"} for params in trainings):
            return cls("other", "No licence is stated: it depends on the recordings the model was trained on, which params.json names.\n")
        text = "MIT licence, as the library hifitse that made these files: see its LICENSE. They contain no recordings. The voices of the "
        text += "training were made by espeak-ng, a program under GPL-3.0-or-later, of which nothing is contained here.\n"
        return cls("mit", text)


def card(params: Params, metrics: dict[str, Any], licence: Licence, before: Sequence[Params] = ()) -> str:
    """The text of the card, Markdown with the header that the Hugging Face Hub reads; arguments as :func:`export` makes them."""
    found = metrics["evaluations"]["training"]
    results = [
        EvalResult(
            task_type="audio-to-audio", task_name="target speaker extraction", dataset_type="training", metric_type=metric,
            metric_name=label, dataset_name=found["data"]["corpus"], metric_value=round(found["metrics"][metric]["mean"], 3),
        )
        for metric, label in ROWS.items() if found["metrics"][metric]["mean"] is not None
    ]  # fmt: skip
    known = {"model_name": "HiFi-TSE extractor", "eval_results": results} if results else {}
    head = ModelCardData(library_name="hifitse", license=licence.name, tags=["target-speaker-extraction", "speech", "48kHz"], **known)
    study = markdown(metrics["default_model"]) if "default_model" in metrics else ""
    values = {"params": params, "metrics": metrics, "found": found, "licence": licence, "before": before, "labels": ROWS, "study": study}
    filled = ModelCard.from_template(head, str(CARD), number=tables.number, interval=tables.interval, **values)
    return str(filled).strip() + "\n"


def find_run(name: str, presets: Sequence[str]) -> Run:
    """The run of a preset, or the one in a folder. Raises HifitseError: neither, or the training is not finished."""
    try:
        run = Run.of(resolve(name)) if name in presets else Run.at(Path(name))
    except ParameterError:
        raise
    except (OSError, ValueError):
        raise HifitseError(f"run is {name!r}, expected a folder in runs/ or one of the presets {', '.join(presets)}") from None
    if not run.finished:
        done = f"has done {run.step} of its {run.params.steps} steps"
        raise CheckpointError(f"run {run.folder.name} of {name!r} {done}, expected a finished one: {run.command}")
    return run


def rounded(run: Run, best: bool = False) -> Extractor:
    """The run's averaged weights, or those of its best validation, as they will be stored: rounded to 16 or 8 bits, in float32 again."""
    model = run.extractor(best)
    model.load_state_dict(unpacked(packed(model.state_dict(), DTYPE)))
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
    run: Run, folder: Path, licence: Licence | None = None, progress: bool = True, study: dict[str, Any] | None = None, best: bool = False
) -> Path:
    """Measure a finished run's rounded weights and write the model's folder. Minutes, unless the rows are in the run's folder from before.

    ``licence``: ``None`` is MIT for a model that heard synthetic sound only, else no statement. ``study``: as :func:`conditions` reads it.
    ``best``: the weights of the best validation instead of those of the end. Raises HifitseError: as evaluation and writing do.
    """
    before = _before(run)  # first of all: what is missing is said before minutes are spent
    model, params = rounded(run, best), run.params
    metrics = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "weights": str(DTYPE).removeprefix("torch."),
        "run": run.folder.name,
        "steps": load_tensors(run.folder / BEST)[1]["step"] if best else run.step,
        "seconds_of_training": round(run.seconds),
        "device": run.device,
        "evaluations": {"training": _measured(evaluate(model, params, run.folder, progress, lists=("test",)), params)},
    }
    presence = calibrate(model, params)
    metrics |= ({"presence": presence} if presence else {}) | ({"default_model": study} if study else {})
    licence = licence or Licence.of(params, *before)
    text = card(params, metrics, licence, before)
    model.save_pretrained(folder, params.model_dump(mode="json"), metrics, text, licence.text, dtype=DTYPE)
    return folder


def _before(run: Run) -> list[Params]:
    """Parameters of the trainings whose weights this one began with, directly or by way of others, the nearest first; the model that
    comes with the library is the last."""
    found, name = [], run.params.start_from
    while name:
        earlier = Run.named(name)
        found.append(earlier.params)
        name = "" if isinstance(earlier, ModelInside) else earlier.params.start_from
    return found


def _measured(rows: list[dict[str, Any]], params: Params) -> dict[str, Any]:
    """Metrics of the test list, and SI-SDRi apart for mixtures in a room and without one, where there are both."""
    places = {"in a room": [row for row in rows if row["room"]], "without a room": [row for row in rows if not row["room"]]}
    split = {name: numbers(mean(some)) for name, some in places.items() if any(row["present"] for row in some)}
    sources = {name: getattr(params, name) for name in ("corpus", "noise", "rooms", "reverb_prob", "eval_mixtures", "eval_seed")}
    return {"data": sources, "metrics": summarise(rows), "si_sdri_db_by_room": split if len(split) > 1 else {}}
