"""Export a finished run as a model folder: 16-bit weights, metrics measured with exactly these weights, and the model card."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.manifest import SOURCES, sources
from hifitse.data.mixing import Mixer
from hifitse.data.scene import evaluation_conditions
from hifitse.evaluation.evaluate import evaluate
from hifitse.evaluation.rows import METRICS, mean, numbers, summarise
from hifitse.model import Extractor
from hifitse.model.extract_files import PRESENCE_S, Levels
from hifitse.model.extraction import taken_db
from hifitse.model.pretrained import packed, unpacked
from hifitse.model.verifier import likeness
from hifitse.params import Params
from hifitse.report import tables
from hifitse.studies.default_model import markdown
from hifitse.training.checkpoint import BEST, load_tensors
from hifitse.training.run import ModelInside, Run
from hifitse.training.validation import estimate

CARD = Path(tables.__file__).parent / "templates" / "card.md"
DTYPE = torch.float16  # half the size of float32 and finer than bfloat16; trained weights are far from its limits
FALSE_ALARM_RATE = 0.05  # share of 100 ms steps without the speaker in which presence is reported
MIXTURES = 160  # at most, with and without the speaker each; with 40 the detection rate varied from 29 to 64 %
ACTIVE_DB = -20.0  # the speaker counts as speaking above this level, relative to the 95th percentile of 100 ms steps


class Licence(NamedTuple):
    """Licence of a model: its name on the Hugging Face Hub, ``other`` if none is stated, and the text of LICENSE."""

    name: str
    text: str

    @classmethod
    def read(cls, path: Path) -> "Licence":
        """Read a text file whose first line is the name. Raises HifitseError: the file is unreadable, or its first line is not a name."""
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
        """Return MIT if all training data were synthetic, else a licence ``other`` without terms."""
        if any({params.corpus, params.noise, params.rooms} != {"synthetic"} for params in trainings):
            return cls("other", "No licence is stated: it depends on the recordings the model was trained on, which params.json names.\n")
        text = "MIT licence, as the library hifitse that made these files: see its LICENSE. They contain no recordings. The voices of the "
        text += "training were made by espeak-ng, a program under GPL-3.0-or-later, of which nothing is contained here.\n"
        return cls("mit", text)


def card(params: Params, metrics: dict[str, Any], licence: Licence, before: Sequence[Params] = ()) -> str:
    """Return the model card as Markdown with the metadata header of the Hugging Face Hub, from what :func:`export` prepares."""
    found = metrics["evaluations"]["training"]
    results = [
        EvalResult(
            task_type="audio-to-audio", task_name="target speaker extraction", dataset_type="training", metric_type=metric,
            metric_name=each.title, dataset_name=found["data"]["corpus"], metric_value=round(found["metrics"][metric]["mean"], 3),
        )
        for metric, each in METRICS.items() if found["metrics"][metric]["mean"] is not None
    ]  # fmt: skip
    known = {"model_name": "HiFi-TSE extractor", "eval_results": results} if results else {}
    head = ModelCardData(library_name="hifitse", license=licence.name, tags=["target-speaker-extraction", "speech", "48kHz"], **known)
    study = markdown(metrics["default_model"]) if "default_model" in metrics else ""
    values = {"params": params, "metrics": metrics, "found": found, "licence": licence, "before": before, "labels": METRICS, "study": study}
    formats = {"number": tables.number, "interval": tables.interval, "duration": tables.duration}
    return str(ModelCard.from_template(head, str(CARD), **formats, **values)).strip() + "\n"


def _shown(params: Params) -> Params:
    """Return the parameters with the names alone of absolute paths: where a corpus lies on its author's disk concerns nobody."""
    texts = {name: sources(getattr(params, name)) for name in SOURCES}
    names = {name: ", ".join(Path(each).name if Path(each).is_absolute() else each for each in some) for name, some in texts.items()}
    return params.model_copy(update=names)


def conditions(path: Path, run: Run) -> dict[str, Any]:
    """Read the results of notebook 14 for this run from its ``metrics.json``. Raises HifitseError: not readable, or of another model."""
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
    """Evaluate a finished run's rounded weights and write the model folder. Takes minutes, unless the rows are cached in the run's folder.

    ``licence``: by default :meth:`Licence.of` all trainings of the model. ``study``: results of notebook 14 from :func:`conditions`.
    ``best``: use the weights of the best validation, not the final ones. Raises HifitseError: evaluation or writing fails.
    """
    before = _before(run)  # first, so that a missing run is reported before minutes are spent
    model, params, shown = run.extractor(best), run.params, _shown(run.params)
    model.load_state_dict(unpacked(packed(model.state_dict(), DTYPE)))  # so that what is measured is what is stored
    metrics = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "weights": str(DTYPE).removeprefix("torch.") + (", of the verifier mostly int8" if params.verifier else ""),
        "run": run.folder.name,
        "steps": load_tensors(run.folder / BEST)[1]["step"] if best else run.step,
        "seconds_of_training": round(run.seconds),
        "device": run.device,
        "evaluations": {"training": _measured(evaluate(model, params, run.folder, progress, lists=("test",)), shown)},
    }
    presence = calibrate(model, params)
    metrics |= ({"presence": presence} if presence else {}) | ({"default_model": study} if study else {})
    licence = licence or Licence.of(params, *before)
    text = card(shown, metrics, licence, before)
    model.save_pretrained(folder, shown.model_dump(mode="json"), metrics, text, licence.text, dtype=DTYPE)
    return folder


def _before(run: Run) -> list[Params]:
    """Return the parameters of all earlier trainings in the run's ``start_from`` chain, nearest first. The chain ends at the bundled
    model, if it is reached."""
    found, name = [], run.params.start_from
    while name:
        earlier = Run.named(name)
        found.append(_shown(earlier.params))
        name = "" if isinstance(earlier, ModelInside) else earlier.params.start_from
    return found


def _measured(rows: list[dict[str, Any]], params: Params) -> dict[str, Any]:
    """Summarise the rows of the test list, with SI-SDRi split by mixtures with and without a room if there are both."""
    places = {"in a room": [row for row in rows if row["room"]], "without a room": [row for row in rows if not row["room"]]}
    split = {name: numbers(mean(some)) for name, some in places.items() if any(row["present"] for row in some)}
    sources = {name: getattr(params, name) for name in ("corpus", "noise", "rooms", "reverb_prob", "eval_mixtures", "eval_seed")}
    return {"data": sources, "metrics": summarise(rows), "si_sdri_db_by_room": split if len(split) > 1 else {}}


def calibrate(extractor: Extractor, params: Params) -> dict[str, float | int] | None:
    """Calibrate ``hifitse extract --presence`` on mixtures of validation speakers, drawn like a test list of four times the length.

    Returns:
        ``threshold_likeness``, its ``false_alarm_rate``, the ``detection_rate`` while the speaker speaks, and ``absent``, the number of
        100 ms steps without the speaker. ``two_voices_db``: relative level of what the extractor removes from a clean enrolment, exceeded
        by 5 % of them; ``two_voices_rate``: share of enrolments of two people at once that exceed it. ``None`` if no mixture of the list
        lacks the speaker, or the extractor has no verifier.
    """
    absent, speaking, alone, both = [], [], [], []
    conditions = evaluation_conditions(params.model_copy(update={"eval_mixtures": 4 * params.eval_mixtures}))["test"]
    if extractor.verifier is None or not any(each.absent for each in conditions):
        return None
    mixer = Mixer(params, "valid")
    for index, each in enumerate(conditions):
        found = absent if each.absent else speaking
        if len(found) == MIXTURES:
            continue
        mixture = mixer.mixture(params.eval_seed, index, each, wrong_enroll=True)
        if not mixture.metadata["noisy_enroll"] and mixture.wrong_enroll is not None:
            alone.append(taken_db(extractor, mixture.enroll[0]))
            both.append(taken_db(extractor, mixture.enroll[0] + mixture.wrong_enroll[0]))
        est = estimate(extractor, [mixture], "right", next(extractor.parameters()).device)[0].numpy()
        alike = likeness(extractor.verifier, est, mixture.enroll, PRESENCE_S)
        if not each.absent:
            target = Levels(len(est), SAMPLE_RATE)
            target.add(mixture.mix, mixture.target)
            alike = alike[(target.power[1] > np.percentile(target.power[1], 95) * 10 ** (ACTIVE_DB / 10))[: len(alike)]]
        found.append(alike)
    alike = np.concatenate(absent)
    threshold = round(float(np.quantile(alike, 1 - FALSE_ALARM_RATE)), 3)
    detected = float(np.mean(np.concatenate(speaking) >= threshold)) if speaking else float("nan")
    rates = {"false_alarm_rate": round(float(np.mean(alike >= threshold)), 3), "detection_rate": round(detected, 3)}
    limit = round(float(np.quantile(alone, 1 - FALSE_ALARM_RATE)), 1) if alone else None
    two = {"two_voices_db": limit, "two_voices_rate": round(float(np.mean(np.array(both) > limit)), 3)} if alone else {}
    return {"threshold_likeness": threshold, **rates, "absent": len(alike), **two}
