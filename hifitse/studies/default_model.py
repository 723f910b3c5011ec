"""Notebook 14: what the default model can do and where it fails. Each condition gives one row of numbers, compared with its aims.

Every condition evaluates the same weights on held-out people, rooms and noises. Only the named parameters change.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Image
from torch import nn

from hifitse import HifitseError
from hifitse.data.augment import low_pass
from hifitse.data.manifest import missing
from hifitse.data.mixing import Mixture
from hifitse.evaluation.comparison import DRY, ELSEWHERE
from hifitse.evaluation.evaluate import evaluate
from hifitse.evaluation.experiment import Arm, OwnModel
from hifitse.evaluation.rows import Rows, frame
from hifitse.machine import pick_device
from hifitse.metrics import Interval, bootstrap
from hifitse.model import Extractor, SecondPass
from hifitse.params import Params
from hifitse.report import figures, listening, tables
from hifitse.report.show import LEAST_MIXTURES, box, card, picture, table
from hifitse.training.run import Run, runs_dir

REFERENCE = "people, dry"
"""The reference condition of ``change_db``."""
EVERYWHERE = {"gap_db": 12.0, "confusion_rate": 0.04, "worse_rate": 0.06}
"""Aims of every condition whose metric is SI-SDRi: least right minus wrong enrolment in dB, largest shares of the mixtures."""
NAMES = {
    "si_sdri_db": ("SI-SDRi", 1), "si_sdr_db": ("SI-SDR", 1), "gap_db": ("right minus wrong enrolment", 1),
    "confusion_rate": ("confusions, share", 3), "worse_rate": ("worse than the mixture, share", 3),
    "absent_suppression_db": ("suppression", 1), "change_db": (f"SI-SDRi minus that of {REFERENCE}", 2),
}  # fmt: skip
"""Metric -> label, digits. The unit is dB unless the label says otherwise."""
AT_MOST = ("confusion_rate", "worse_rate", "change_db")
CARDS = (REFERENCE, "people, rooms and noise", "RAVDESS, dry", "Persian, dry")
"""Conditions shown in the verdict."""
Found = Mapping[str, Any]
"""Counts ``aims`` and ``aims_met``, and ``conditions``: name -> ``question, mixtures, people, rooms, metrics, aims``."""


@dataclass(frozen=True)
class BandLimit:
    """Low-pass all parts of a mixture at ``edge_hz``, as if it had been recorded at a lower rate. Enrolments stay unchanged.

    Converters and resamplers cut off at about 95 % of half their sample rate.
    """

    edge_hz: float

    def __call__(self, mixture: Mixture) -> Mixture:
        parts = torch.from_numpy(np.stack([mixture.target, mixture.noise, *mixture.interferers]))
        parts = low_pass(parts, torch.full((len(parts),), self.edge_hz)).numpy()
        return replace(mixture, mix=parts.sum(0), target=parts[0], noise=parts[1], interferers=parts[2:])


@dataclass(frozen=True)
class Condition:
    """One way to test the model."""

    name: str
    question: str  # that the row answers
    changes: Mapping[str, Any]  # evaluation parameters that differ from the preset's
    aim: float | None = None
    metric: str = "si_sdri_db"  # that the aim is set for; of ``change_db``, SI-SDRi minus that of ``REFERENCE``, the size is limited
    share: float = 0.5  # of the preset's ``eval_mixtures``
    change: Callable[[Mixture], Mixture] | None = None  # applied to each mixture before extraction
    wrap: Callable[[Extractor], nn.Module] | None = None

    @property
    def aims(self) -> dict[str, float]:
        """All aims of the condition: metric -> aim."""
        own = {} if self.aim is None else {self.metric: self.aim}
        return own | (EVERYWHERE if self.metric == "si_sdri_db" else {})

    def params(self, params: Params) -> Params:
        """Return the parameters of the evaluation."""
        count = max(4, round(self.share * params.eval_mixtures))
        return Params(**(params.model_dump() | DRY | {"eval_mixtures": count} | dict(self.changes)))


MEASURED = "$HIFITSE_DATA/rir"
"""Measured rooms, not used in any training of the default model."""
ROOMS = {"reverb_prob": 1.0, "noise_prob": 1.0, "eval_rooms": MEASURED}
RAVDESS, PERSIAN = (ELSEWHERE | {"corpus": f"$HIFITSE_DATA/{name}"} for name in ("speech", "speech_swb"))
LONE = {"interferers_min": [0], "interferers_max": [0]}
CONDITIONS = (
    Condition(REFERENCE, "Two people, nothing else?", {}, 8.0, share=1.0),
    Condition("people of one source", "And if microphone and room do not tell them apart?", {"same_source_prob": 1.0}),
    Condition("people, rooms and noise", "In measured rooms that no training heard, with noise?", ROOMS, 5.0, share=1.0),
    Condition("RAVDESS, dry", "Actors of a studio never heard?", RAVDESS, 6.0, share=1.0),
    Condition("Persian, dry", "A language and microphones never heard?", PERSIAN, 5.0, share=1.0),
    Condition("lone target", "Does a person who speaks alone pass untouched?", LONE, 25.0, "si_sdr_db"),
    Condition("absent target", "Is it silent where the person is not there?", {"eval_absent_share": 0.95}, 15.0, "absent_suppression_db"),
    Condition("mixture from 16 kHz", "As good on the common band?", {}, 0.5, "change_db", change=BandLimit(7_600.0)),
    Condition("mixture from 44.1 kHz", "As good on the common band?", {}, 0.5, "change_db", change=BandLimit(20_950.0)),
    *(Condition(f"{n} enrolments", "Do more enrolments help?", {"enrollments": n}) for n in (2, 3)),
    *(
        Condition(f"enrolment of {seconds} s", "How long must it be?", {"enroll_seconds": float(seconds), "enroll_seconds_min": 0.0})
        for seconds in (1, 2, 4, 8)
    ),
    Condition("noisy enrolment", "An enrolment in noise?", {"eval_enroll": "noisy"}),
    Condition("reverberant enrolment", "An enrolment in a measured room?", {"eval_enroll": "reverberant", "eval_rooms": MEASURED}),
    Condition("coded enrolment", "An enrolment through a codec?", {"eval_enroll": "codec"}),
    Condition("enrolment at another pitch", "Up to four semitones lower or higher?", {"eval_enroll": "pitch"}),
    Condition("alike voices", "Interferers among the tenth most like the target?", {"similarity": [0.9]}),
    Condition("second pass", "Does the first estimate help as a second enrolment?", {}, wrap=SecondPass),
)


def default_extractor(params: Params) -> Extractor:
    """Return the bundled model, or that of the finished run named by ``start_from``, with the preset's ``shifts``."""
    if not params.start_from:
        return Extractor.from_pretrained()
    run = Run.named(params.start_from)
    return replace(run, params=run.params.model_copy(update={"shifts": params.shifts})).extractor()


def measure(params: Params, extractor: Extractor) -> tuple[Found, dict[str, str], dict[str, pd.DataFrame]]:
    """Evaluate the extractor under each condition. Finished rows are cached in ``runs/default_model/``.

    Returns the summary, condition -> why it was left out, and condition -> rows. Raises HifitseError: the evaluation fails, or recordings
    of the reference condition are missing.
    """
    extractor = extractor.to(pick_device(params.device))
    rows: dict[str, pd.DataFrame] = {}
    left_out: dict[str, str] = {}
    for condition in CONDITIONS:
        asked = condition.params(params)
        if why := missing(asked.corpus, asked.noise, asked.rooms, asked.eval_rooms):
            left_out[condition.name] = why
            continue
        tested = condition.wrap(extractor).eval() if condition.wrap else extractor
        kept = runs_dir() / "default_model"
        mine = frame(evaluate(tested, asked, kept, lists=("test",), change=condition.change, silent=False))
        rows[condition.name] = mine[~mine["present"]] if condition.metric == "absent_suppression_db" else mine
    if REFERENCE in left_out:
        raise HifitseError(f"condition {REFERENCE!r} cannot be measured: {left_out[REFERENCE]}")
    return summary([(each, rows[each.name]) for each in CONDITIONS if each.name in rows]), left_out, rows


def summary(rows: Sequence[tuple[Condition, Rows]]) -> Found:
    """Summarise the rows of each condition for the report, ``metrics.json``, the model card and the README. The reference comes first."""
    found = {}
    for condition, mine in rows:
        mine, metrics = frame(mine), summarise(mine, rows[0][1])
        entry = {"question": condition.question, "mixtures": len(mine), "people": mine["target_speaker"].nunique()}
        entry |= {"rooms": mine["room"].nunique(), "metrics": {name: vars(value) for name, value in metrics.items()}}
        aims = {name: judged(name, aim, metrics[name]) for name, aim in condition.aims.items() if name in metrics}
        found[condition.name] = entry | {"aims": aims}
    every = [aim["met"] for entry in found.values() for aim in entry["aims"].values()]
    return {"conditions": found, "aims": len(every), "aims_met": sum(every)}


def summarise(rows: Rows, reference: Rows) -> dict[str, Interval]:
    """Return the metrics of a condition that have values; ``change_db`` is paired with the reference by mixture index."""
    numbers = ["si_sdri_db", "si_sdri_wrong_enroll_db", "si_sdr_db", "absent_suppression_db", "snr_db", "confused"]
    mine, before = (frame(each).set_index("index").astype(dict.fromkeys(numbers, float)) for each in (rows, reference))
    two = mine["n_interferers"] > 0
    right = mine["si_sdri_db"].where(two | mine["snr_db"].notna())  # a lone target without noise cannot be improved
    values = {
        "si_sdri_db": right,
        "si_sdri_wrong_enroll_db": mine["si_sdri_wrong_enroll_db"],
        "gap_db": right - mine["si_sdri_wrong_enroll_db"],
        "confusion_rate": mine["confused"].where(two & mine["present"]),
        "worse_rate": right.lt(0).where(right.notna()).astype(float),
        "si_sdr_db": mine["si_sdr_db"],
        "absent_suppression_db": mine["absent_suppression_db"],
        "change_db": right - before["si_sdri_db"].reindex(mine.index),
    }
    return {name: value for name, each in values.items() if (value := bootstrap(each, speakers=mine["target_speaker"])).n}


def judged(metric: str, aim: float, value: Interval) -> dict[str, Any]:
    """Return ``aim``, ``met`` (judged by the mean) and ``certain``: enough mixtures, and both ends of the interval agree."""

    def met(number: float) -> bool:
        return (abs(number) if metric == "change_db" else number) <= aim if metric in AT_MOST else number >= aim

    around = metric == "change_db" and value.low < 0 < value.high  # an aim for a size: no change lies within the interval
    enough = value.n >= LEAST_MIXTURES and np.isfinite(value.low)
    certain = enough and met(value.low) == met(value.high) == met(value.mean) and (met(value.mean) or not around)
    return {"aim": aim, "met": met(value.mean), "certain": bool(certain)}


def word(aim: Mapping[str, Any]) -> str:
    """Return "met" or "missed", with a question mark if the verdict is not certain."""
    return ("met" if aim["met"] else "missed") + ("" if aim["certain"] else "?")


def certain(found: Found) -> str:
    """Return a sentence with the number of aims that are met, and missed, by the whole interval."""
    sure = Counter(aim["met"] for entry in found["conditions"].values() for aim in entry["aims"].values() if aim["certain"])
    return f"{sure[True]} aims are met and {sure[False]} missed by the whole interval; the mean alone decides the others."


def _said(entry: Mapping[str, Any], metric: str, digits: int | None = None, scale: float = 1.0) -> str:
    """Format a metric's mean and 95 % interval, just computed or read from ``metrics.json``; a dash if it is missing."""
    if metric not in entry["metrics"]:
        return "–"
    value = {name: None if end is None else scale * end for name, end in entry["metrics"][metric].items()}
    digits = NAMES.get(metric, ("", 1))[1] if digits is None else digits
    return f"{tables.number(value['mean'], digits)} ({tables.interval(value, digits)})"


def answer(found: Found) -> HTML:
    """Return the verdict: how many aims are met, and SI-SDRi under the four most important conditions."""
    met, aims, least = found["aims_met"], found["aims"], found["conditions"][REFERENCE]["mixtures"]
    line = f"{met} of {aims} aims are met."
    mark = "good" if met == aims else "weak" if met else "bad"
    if least < LEAST_MIXTURES:
        mark, line = "weak", f"Too few mixtures ({least}) to say what it can do."
    cards = ""
    for name in (name for name in CARDS if name in found["conditions"]):
        gain, aim = (found["conditions"][name][kind]["si_sdri_db"] for kind in ("metrics", "aims"))
        cards += card(name, Interval(**gain), f"aim {aim['aim']:+g} dB")
    text = f"SI-SDRi with the right enrolment, on people, rooms and noises that no training has heard. {certain(found)}"
    return box(mark, line, cards, text)


def conditions(found: Found, left_out: Mapping[str, str]) -> HTML:
    """Return a table with one row per condition, including those that were not measured."""
    columns = {"SI-SDRi, right, dB": "si_sdri_db", "SI-SDRi, wrong, dB": "si_sdri_wrong_enroll_db", "confusions": "confusion_rate"}
    columns |= {"worse than the mixture": "worse_rate"}
    rows = []
    for name, entry in found["conditions"].items():
        row = {"condition": name} | {key: entry[key] for key in ("question", "mixtures", "people", "rooms")}
        rows.append(row | {label: _said(entry, metric) for label, metric in columns.items()})
    rows += [dict.fromkeys(rows[0], "") | {"condition": name, "question": f"not measured: {why}"} for name, why in left_out.items()]
    return table(rows, "means with 95 % intervals")


def aims(found: Found) -> HTML:
    """Return a table of all aims, missed ones first. A question mark means that the verdict is not certain."""
    every = [(name, entry, metric, aim) for name, entry in found["conditions"].items() for metric, aim in entry["aims"].items()]
    rows = []
    for name, entry, metric, aim in sorted(every, key=lambda each: each[3]["met"]):
        row = {"condition": name, "what": NAMES[metric][0], "aim": f"{'at most' if metric in AT_MOST else 'at least'} {aim['aim']:g}"}
        rows.append(row | {"measured": _said(entry, metric), "verdict": word(aim)})
    return table(rows)


def by_condition(found: Found) -> Image:
    """Plot SI-SDRi with the right enrolment under each condition with two talkers."""
    every = [(name, entry["metrics"]) for name, entry in found["conditions"].items() if "gap_db" in entry["metrics"]]
    rows = [(name, Interval(**metrics["si_sdri_db"]), None) for name, metrics in every]
    return picture(figures.forest(rows, "SI-SDRi, dB"), f"SI-SDRi with 95 % intervals under {len(rows)} conditions")


def examples(params: Params, rows: Mapping[str, pd.DataFrame], extractor: Extractor) -> list[listening.Example]:
    """Return the best, median and worst mixture of the reference with their estimates; arguments and rows as in :func:`measure`."""
    asked = CONDITIONS[0].params(params)
    return listening.examples(Arm(REFERENCE, asked, OwnModel(extractor, asked), rows[REFERENCE].assign(seed=asked.seed), asked))


def markdown(found: Found) -> str:
    """Return the table for the model card as Markdown, from a summary just computed or read from ``metrics.json``."""
    lines = ["| condition | mixtures, people, rooms | SI-SDRi right, dB | wrong, dB | confusions | aim |", "|---|---|---|---|---|---|"]
    for name, entry in found["conditions"].items():
        confusions = f"{_said(entry, 'confusion_rate', 0, 100)} %" if "confusion_rate" in entry["metrics"] else "–"
        cells = [", ".join(str(entry[what] or "none") for what in ("mixtures", "people", "rooms"))]
        cells += [_said(entry, "si_sdri_db"), _said(entry, "si_sdri_wrong_enroll_db"), confusions]
        own = [(metric, aim) for metric, aim in entry["aims"].items() if metric not in EVERYWHERE]
        said = [
            f"{NAMES[metric][0]} {_said(entry, metric, 1)}, aim {aim['aim']:g}: {'met' if aim['met'] else 'missed'}" for metric, aim in own
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {'; '.join(said) or '–'} |")
    return "\n".join([*lines, "", f"{found['aims_met']} of {found['aims']} aims are met. {certain(found)}"])
