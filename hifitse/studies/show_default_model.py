"""What the default model can do, as a notebook displays it and as its card says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from IPython.display import HTML, Image

from hifitse.evaluation.experiment import Arm
from hifitse.metrics import Interval
from hifitse.model import Extractor
from hifitse.report import comparison_figures, listening, report, tables
from hifitse.report.show import LEAST_MIXTURES, box, card, picture
from hifitse.studies.default_model import REFERENCE, Result, numbers

NAMES = {
    "si_sdri_db": ("SI-SDRi", 1), "si_sdr_db": ("SI-SDR", 1), "gap_db": ("right minus wrong enrolment", 1),
    "confusion_rate": ("confusions, share", 3), "worse_rate": ("worse than the mixture, share", 3),
    "absent_suppression_db": ("suppression", 1), "change_db": (f"SI-SDRi minus that of {REFERENCE}", 2),
}  # fmt: skip
"""Metric -> words, digits; dB where nothing is said."""
CARDS = (REFERENCE, "people, rooms and noise", "RAVDESS, dry", "Persian, dry")
"""Conditions in the verdict."""


def answer(results: Mapping[str, Result]) -> HTML:
    """The verdict: how many aims are met, and the four conditions that matter most."""
    judged = [each for result in results.values() for each in result.judged]
    met, least = sum(each.met for each in judged), len(results[REFERENCE].rows)
    line = f"{met} of {len(judged)} aims are met."
    mark = "good" if met == len(judged) else "weak" if met else "bad"
    if least < LEAST_MIXTURES:
        mark, line = "weak", f"Too few mixtures ({least}) to say what it can do."
    shown = [(name, results[name]) for name in CARDS if name in results]
    cards = [card(name, result.metrics["si_sdri_db"], f"aim {result.condition.aim:+g} dB") for name, result in shown]
    return box(mark, line, "".join(cards), "SI-SDRi with the right enrolment, on people, rooms and noises that no training has heard.")


def _said(metrics: Mapping[str, Interval], name: str) -> str:
    return tables.measured(metrics[name], NAMES.get(name, ("", 1))[1]) if name in metrics else "–"


def conditions(results: Mapping[str, Result], left_out: Mapping[str, str]) -> HTML:
    """One row per condition, also where it fails."""
    columns = ("si_sdri_db", "si_sdri_wrong_enroll_db", "confusion_rate", "worse_rate")
    rows = []
    for name, result in results.items():
        own = [each for each in result.judged if each.metric == result.condition.metric]
        verdict = "; ".join(f"{NAMES[each.metric][0]} {_said(result.metrics, each.metric)}, aim {each.aim:g}: {each.word}" for each in own)
        counted = [str(len(result.rows)), str(result.people), str(result.rooms)]
        rows.append([name, result.condition.question, *counted, *(_said(result.metrics, each) for each in columns), verdict or "no aim"])
    rows += [[name, "", "0", "", "", *[""] * len(columns), f"not measured: {why}"] for name, why in left_out.items()]
    header = ["condition", "question", "mixtures", "people", "rooms", "SI-SDRi, right, dB", "SI-SDRi, wrong, dB", "confusions"]
    return HTML(tables.table([*header, "worse than the mixture", "aim"], rows, "means with 95 % intervals"))


def aims(results: Mapping[str, Result]) -> HTML:
    """Every aim, missed ones first. A question mark: the 95 % interval holds the aim."""
    judged = [(name, each) for name, result in results.items() for each in result.judged]
    rows = [
        [name, NAMES[each.metric][0], ("at most " if each.metric in ("confusion_rate", "worse_rate", "change_db") else "at least ")
         + f"{each.aim:g}", tables.measured(each.value, NAMES[each.metric][1]), each.word]
        for name, each in sorted(judged, key=lambda pair: pair[1].met)
    ]  # fmt: skip
    return HTML(tables.table(["condition", "what", "aim", "measured", "verdict"], rows))


def by_condition(results: Mapping[str, Result]) -> Image:
    """SI-SDRi with the right enrolment under each condition that has two talkers."""
    rows = [(name, result.metrics["si_sdri_db"], None) for name, result in results.items() if "gap_db" in result.metrics]
    return picture(comparison_figures.forest(rows, "SI-SDRi, dB"), f"SI-SDRi with 95 % intervals under {len(rows)} conditions")


@dataclass(frozen=True)
class _Ready:
    """What stands for a run where a model is only used."""

    model: Extractor

    def extractor(self) -> Extractor:
        """The model itself."""
        return self.model


def examples(result: Result, extractor: Extractor) -> list[listening.Example]:
    """The best, median and worst mixture of a condition, with their estimates."""
    rows = [dict(row) | {"seed": result.params.seed} for row in result.rows]
    return listening.examples(Arm(result.condition.name, result.params, _Ready(extractor), rows, result.params))


def content(notebook: str, params: Any, results: Mapping[str, Result], left_out: Mapping[str, str]) -> dict[str, Any]:
    """What ``metrics.json`` holds."""
    return report.metrics(notebook, params, []) | {"default_model": numbers(results), "left_out": dict(left_out)}


def markdown(found: Mapping[str, Any]) -> str:
    """The table of the model's card and the README.

    Args:
        found: as :func:`hifitse.studies.default_model.numbers` makes it, from ``metrics.json`` or fresh.
    """
    lines = ["| condition | mixtures, people | SI-SDRi right, dB | wrong, dB | confusions | aim |", "|---|---|---|---|---|---|"]
    for name, row in found["conditions"].items():
        metrics = row["metrics"]

        def said(metric: str, digits: int = 1, scale: float = 1.0, of: Mapping[str, Any] = metrics) -> str:
            if metric not in of:
                return "–"
            value = {key: None if of[metric][key] is None else scale * of[metric][key] for key in ("mean", "low", "high")}
            return f"{tables.number(value['mean'], digits)} ({tables.interval(value, digits)})"

        own = [(metric, aim) for metric, aim in row["aims"].items() if metric not in ("gap_db", "confusion_rate", "worse_rate")]
        aim = "; ".join(
            f"{NAMES[metric][0]} {said(metric)}, aim {each['aim']:g}: {'met' if each['met'] else 'missed'}" for metric, each in own
        )
        confusions = f"{said('confusion_rate', 0, 100)} %" if "confusion_rate" in metrics else "–"
        cells = [said("si_sdri_db"), said("si_sdri_wrong_enroll_db"), confusions]
        lines.append(f"| {name} | {row['mixtures']}, {row['people']} | {' | '.join(cells)} | {aim or '–'} |")
    return "\n".join([*lines, "", f"{found['aims_met']} of {found['aims']} aims are met."])
