"""The README.md of a model's folder: what made it, on what, how good it is, and what it is not good for; from numbers, not by hand."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hifitse import HifitseError
from hifitse.params import Params
from hifitse.report.tables import interval, number
from hifitse.studies.default_model import markdown

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


@dataclass(frozen=True)
class Licence:
    """Under which terms a model is given away: ``name`` as the Hugging Face Hub writes it, such as ``mit``, ``cc-by-nc-sa-4.0`` or, where
    none is stated, ``other``; and the text of the file LICENSE.
    """

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
    """The text of the card, Markdown with the header that the Hugging Face Hub reads.

    Args:
        params: of the training.
        metrics: as :func:`hifitse.commands.exporting.export` writes them.
        before: of the trainings whose weights this one began with, directly or by way of others, the nearest first.
    """
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
