"""A finished run -> a model's folder: weights in 16 bits, what was measured with exactly these weights, and the card that says so."""

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import EvalResult, ModelCardData

from hifitse import HifitseError
from hifitse.evaluation.evaluate import evaluate
from hifitse.evaluation.presence import calibrate
from hifitse.evaluation.rows import mean, summarise
from hifitse.files import CheckpointError
from hifitse.model import Extractor
from hifitse.params import ParameterError, Params, resolve
from hifitse.presets import load_yaml
from hifitse.report.tables import interval, number
from hifitse.studies.default_model import markdown
from hifitse.training.checkpoint import BEST, load_tensors
from hifitse.training.run import ModelInside, Run

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
USE = """from hifitse.model import Extractor

extractor = Extractor.from_pretrained("FOLDER or owner/model")
est = extractor.extract(mix, enroll, sample_rate)  # arrays or tensors, any rate"""


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
        if all(params.corpus == params.noise == params.rooms == "synthetic" for params in trainings):
            return cls(
                "mit",
                "MIT licence, as the library hifitse that made these files: see its LICENSE. They contain no recordings. The voices of the "
                "training were made by espeak-ng, a program under GPL-3.0-or-later, of which nothing is contained here.\n",
            )
        return cls("other", "No licence is stated: it depends on the recordings the model was trained on, which params.json names.\n")


def card(params: Params, metrics: dict[str, Any], licence: Licence, before: Sequence[Params] = ()) -> str:
    """The text of the card, Markdown with the header that the Hugging Face Hub reads; arguments as :func:`export` makes them."""
    minutes = round(metrics["seconds_of_training"] / 60)
    made = (
        f"{metrics['parameters'] / 1e6:.2f} M parameters, stored as {metrics['weights']}; run `{metrics['run']}` of the preset "
        f"`{params.preset}`, {metrics['steps']} steps of {params.batch_size} mixtures of {params.seconds:g} s, "
        f"{minutes} minutes on {metrics['device']}. `params.json` holds every parameter; the same parameters train it again."
    )
    began = "It started from the weights of run"
    parts = [f"---\n{_head(metrics, licence)}\n---\n# HiFi-TSE extractor"]
    parts += ["Target speaker extraction at 48 kHz: a mixture and a recording of one person in, that person's voice out."]
    parts += [f"```python\n{USE}\n```", "## How it was made", made, "## What it was trained on", _data(params)]
    for later, each in itertools.pairwise((params, *before)):
        parts.append(f"{began} `{later.start_from}` ({each.steps} steps). {_data(each)}")
        began = "That one started from those of run"
    parts += ["## How good it is", *(_quality(name, found) for name, found in metrics["evaluations"].items())]
    parts += ["### Under other conditions", markdown(metrics["default_model"])] if "default_model" in metrics else []
    parts += ["## Limits", "\n".join(f"- {limit}" for limit in _limits(params, metrics)), "## Licence", licence.text]
    return "\n\n".join(parts).rstrip() + "\n"


def _head(metrics: dict[str, Any], licence: Licence) -> str:
    """What the Hugging Face Hub reads, its table of results included."""
    results = [
        EvalResult(
            task_type="audio-to-audio", task_name="target speaker extraction", dataset_type=name, metric_type=metric, metric_name=label,
            dataset_name=found["data"]["corpus"], metric_value=round(found["metrics"][metric]["mean"], 3),
        )
        for name, found in metrics["evaluations"].items()
        for metric, label in ROWS.items()
        if found["metrics"][metric]["mean"] is not None
    ]  # fmt: skip
    tags = ["target-speaker-extraction", "speech", "48kHz"]
    known = {"model_name": "HiFi-TSE extractor", "eval_results": results} if results else {}
    return ModelCardData(library_name="hifitse", license=licence.name, tags=tags, **known).to_yaml()


def _data(params: Params) -> str:
    made = f"of {params.synthetic_speakers} **synthetic voices** (espeak-ng) the training part, no recordings of people"
    voices = made if params.corpus == "synthetic" else f"the training part of the speech in `{params.corpus}`"
    fewest, most = min(params.interferers_min), max(params.interferers_max)
    others = f"{fewest} to {most} interferers" if most > fewest else f"{most} interferer{'s' * (most != 1)}"
    rooms = "no rooms" if params.reverb_prob == 0 else f"rooms ({params.rooms}) in {params.reverb_prob:.0%} of the mixtures"
    share = f"{params.band_limit_prob:.0%} of the mixtures, and of the enrolments,"
    lower = f" {share} were as if recorded at 16 to 44.1 kHz." if params.band_limit_prob else ""
    return (
        f"Voices: {voices}. Mixtures: {others} at {params.sir_min_db:g} to {params.sir_max_db:g} dB, noise ({params.noise}) at "
        f"{min(params.snr_min_db):g} to {max(params.snr_max_db):g} dB, {rooms}. Enrolments of {params.enroll_seconds:g} s.{lower}"
    )


def _quality(name: str, found: dict[str, Any]) -> str:
    """One evaluation as a table; 95 % bootstrap intervals over the mixtures."""
    data = found["data"]
    voices = "synthetic voices" if data["corpus"] == "synthetic" else f"recordings of people (`{data['corpus']}`)"
    title = f"### On {voices}" + ("" if name == "training" else f" (overlay `{name}`)")
    about = f"{data['eval_mixtures']} mixtures of held-out voices; noise: {data['noise']}; " + (
        "no rooms." if data["reverb_prob"] == 0 else f"rooms in {data['reverb_prob']:.0%} of the mixtures: {data['rooms']}."
    )
    lines = ["| metric | mean | 95 % interval | mixtures |", "|---|---|---|---|"]
    lines += [_row(label, found["metrics"][metric]) for metric, label in ROWS.items()]
    lines += [_row(f"SI-SDRi {place}, dB", value) for place, value in found["si_sdri_db_by_room"].items()]
    return f"{title}\n\n{about}\n\n" + "\n".join(lines) + f"\n\n{_verdict(found['metrics'])}"


def _row(label: str, value: dict[str, Any]) -> str:
    return f"| {label} | {number(value['mean'])} | {interval(value)} | {value['n']} |"


def _verdict(metrics: dict[str, Any]) -> str:
    """What the numbers mean for a user, by the interval of SI-SDRi alone."""
    low, high = metrics["si_sdri_db"]["low"], metrics["si_sdri_db"]["high"]
    if low is None or high is None:
        return "Too few mixtures to tell whether it helps."
    if high < 0:
        return "**On these data it does harm: the estimate is farther from the target than the mixture is. Do not use it for such data.**"
    return "On these data it helps." if low > 0 else "On these data it is not shown to help."


def _limits(params: Params, metrics: dict[str, Any]) -> list[str]:
    found = []
    if params.corpus == "synthetic":
        others = [each["metrics"]["si_sdri_db"] for each in metrics["evaluations"].values() if each["data"]["corpus"] != "synthetic"]
        told = f"measured: {number(others[0]['mean'])} dB SI-SDRi" if others else "not measured"
        found.append(f"Its training voices came from a synthesiser. For recordings of people ({told}) train a model on recordings.")
    else:
        found.append("Expect less on voices, microphones and languages unlike those of its training.")
    if params.reverb_prob == 0:
        found.append("It was trained without reverberation.")
    if max(params.interferers_max) == 1:
        found.append("It was trained on at most two people at once.")
    found.append("It was not measured on telephone speech, music, singing or whispering, nor by language, age or sex of the speakers.")
    found.append("Extract people's voices only where you may.")
    return found


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
        done = f"has done {run.step} of its {run.params.steps} steps"
        raise CheckpointError(f"run {run.folder.name} of {name!r} {done}, expected a finished one: {run.command}")
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
    """Measure a finished run's rounded weights and write the model's folder. Minutes, unless the rows are in the run's folder from before.

    Args:
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
        params = run.params if overlay is None else laid(run.params, overlay)
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
    """Parameters of the trainings whose weights this one began with, directly or by way of others, the nearest first; the model that
    comes with the library is the last."""
    found, name = [], run.params.start_from
    while name:
        earlier = Run.named(name)
        found.append(earlier.params)
        name = "" if isinstance(earlier, ModelInside) else earlier.params.start_from
    return found


def laid(params: Params, overlay: str) -> Params:
    """The parameters with an overlay over the preset; what the run changed, and the overlay does not name, stays."""
    plain, named = resolve(params.preset), load_yaml(overlay, "overlay")
    own = {name: value for name, value in params if value != getattr(plain, name) and name not in named}
    return resolve(params.preset, overlay, **own)


def _measured(rows: list[dict[str, Any]], params: Params) -> dict[str, Any]:
    """Metrics of the test list, and SI-SDRi apart for mixtures in a room and without one, where there are both."""
    places = {"in a room": [row for row in rows if row["room"]], "without a room": [row for row in rows if not row["room"]]}
    split = {name: asdict(mean(some)) for name, some in places.items() if any(row["present"] for row in some)}
    split = {name: {key: value if math.isfinite(value) else None for key, value in each.items()} for name, each in split.items()}
    sources = {name: getattr(params, name) for name in ("corpus", "noise", "rooms", "reverb_prob", "eval_mixtures", "eval_seed")}
    return {"data": sources, "metrics": summarise(rows), "si_sdri_db_by_room": split if len(split) > 1 else {}}
