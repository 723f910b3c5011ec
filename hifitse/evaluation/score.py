"""Score the estimates of any system, given as audio files: the same rows, intervals and confusions as for models of this library."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.lists import list_mixer
from hifitse.evaluation.evaluate import Item, measured, plain
from hifitse.evaluation.perceptual import PerceptualPool
from hifitse.evaluation.rows import METRICS, mean, numbers, of_list, summarise
from hifitse.files import write_text
from hifitse.machine import progress_bar
from hifitse.params import Params

SLACK_S = 0.01  # s: by how much an estimate may differ in length from its mixture, as left by resampling; it is cut or padded
UNTREATED = {"si_sdr_mix_db": "SI-SDR of the mixtures, dB", "pesq_mix": "PESQ of the mixtures", "stoi_mix": "STOI of the mixtures"}
"""Column of the rows -> label."""


def score(params: Params, estimates: Path, progress: bool = True) -> list[dict[str, Any]]:
    """Compute the rows of a system's estimates, as :func:`hifitse.evaluation.evaluate.evaluate` does for an extractor.

    Args:
        params: ``eval_list`` names the list; ``corpus``, ``noise`` and ``rooms`` its recordings; ``eval_pesq`` enables PESQ and STOI.
        estimates: folder with ``<id>.wav`` for each scene, at any sample rate, and optionally ``wrong/<id>.wav``, extracted with the
            wrong enrolment.

    Raises HifitseError: no list is given, an estimate is missing, or its length differs from the mixture's.
    """
    if not params.eval_list:
        raise HifitseError("eval_list is empty, expected the list of scenes that the estimates are of")
    mixer = list_mixer(params, "test")
    scenes = [(name, index, scene) for name, listed in mixer.scenes.items() for index, scene in enumerate(listed)]
    missing = [scene.id for _, _, scene in scenes if not (estimates / f"{scene.id}.wav").is_file()]
    if missing:
        raise HifitseError(f"{estimates} lacks {len(missing)} of {len(scenes)} estimates, expected {missing[0]}.wav and so on")
    rows: list[dict[str, Any]] = []
    with PerceptualPool() as pool:
        for name, index, scene in progress_bar(scenes, desc="score", unit="mixture", disable=not progress):
            item = Item(name, index, scene.conditions, mixer.mixture(scene.seed, index, scene.conditions))
            samples = len(item.mixture.mix)
            ests = {"right": _estimate(estimates / f"{scene.id}.wav", samples)}
            wrong = estimates / "wrong" / f"{scene.id}.wav"
            if wrong.is_file() and "wrong" in item.enrolments:
                ests["wrong"] = _estimate(wrong, samples)
            rows.append(measured(item, ests, pool if params.eval_pesq else None))
    return [plain(row) for row in rows]


def write_score(rows: Sequence[dict[str, Any]], folder: Path, title: str) -> str:
    """Write ``rows.jsonl``, ``metrics.json`` and ``report.md`` to a folder. Return the report."""
    names = dict.fromkeys(row["list"] for row in rows)
    metrics = {name: summarise(rows, name) | {key: numbers(mean(rows, key, name)) for key in UNTREATED} for name in names}
    text = "\n".join(_report(rows, metrics, title)) + "\n"
    write_text(folder / "rows.jsonl", "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    write_text(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    write_text(folder / "report.md", text)
    return text


def _report(rows: Sequence[dict[str, Any]], metrics: dict[str, Any], title: str) -> Iterator[str]:
    yield f"# {title}"
    for name, of_metric in metrics.items():
        mine = of_list(rows, name)
        speakers, absent = mine["target_speaker"].nunique(), (~mine["present"]).sum()
        yield f"\n## List {name}: {len(mine)} mixtures, {absent} of them without the target; target speakers: {speakers}\n"
        yield "| metric | mean | 95 % interval | mixtures |\n|---|---|---|---|"
        for metric, label in ({name: each.title for name, each in METRICS.items()} | UNTREATED).items():
            value = of_metric[metric]
            if value["n"]:
                low, high = ("?" if each is None else f"{each:z.2f}" for each in (value["low"], value["high"]))
                yield f"| {label} | {value['mean']:z.2f} | {low} to {high} | {value['n']} |"
        for metric in ("pesq", "stoi"):
            if failed := mine[f"{metric}_error"].count():
                yield f"\n{metric.upper()} could not be measured on {failed} estimates, which are not in its mean."


def _estimate(path: Path, samples: int) -> torch.Tensor:
    est = audio.read(path)
    if abs(len(est) - samples) > SLACK_S * SAMPLE_RATE:
        raise HifitseError(f"estimate {path} has {len(est) / SAMPLE_RATE:.2f} s, expected the {samples / SAMPLE_RATE:.2f} s of its mixture")
    return torch.from_numpy(audio.crop_or_pad(est, samples))
