"""Notebook 12: why the plan's baseline was weak. Parameter changes put its known faults back; faults of its test protocol are measured.

The library is correct by default, and each fault is a switch. The plan describes the faults in a few words only. Comments in this module
state what was assumed where the plan leaves something open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from IPython.display import HTML

from hifitse.evaluation.comparison import Changes, Comparison
from hifitse.evaluation.experiment import measure
from hifitse.evaluation.rows import BASELINE, SELECTIVITY, Rows, difference, frame, matrix, mean, of_list, speakers
from hifitse.metrics import paired, unpaired
from hifitse.params import Params
from hifitse.report import tables
from hifitse.report.show import table
from hifitse.report.show_arms import judged

TOGETHER = "all faults"
"""Arm with all faults at once."""
CONTROL = "AdamW"
"""Control arm, not a fault: the published optimiser with its usual decays, where the preset uses another one."""
RIGHT_TEST = "as everywhere here"
"""Label of the evaluation without faults."""
WIDE_SIR_DB = 15.0
"""dB: uncontrolled target-to-interferer ratios are assumed to range from minus this value to plus this value."""
Ways = Mapping[str, Mapping[str, Rows]]
"""Test protocol -> arm -> rows of the test list, the correct protocol first."""
SHOWN = {
    SELECTIVITY: ("right minus wrong enrolment", "dB", 2), "confusion_rate": ("confusions", "", 2),
    "absent_level_db": ("output level, target absent", "dB", 1), "absent_suppression_db": ("suppression, target absent", "dB", 1),
}  # fmt: skip
"""Metric that a fault should affect -> label, unit, digits."""


@dataclass(frozen=True)
class Fault:
    """A suspected fault of the plan's baseline."""

    name: str  # of the arm with the fault
    was: str  # what the plan's baseline did
    here: str  # what the library does instead
    changes: Changes  # parameters that put the fault back; a value of ``None`` depends on the preset
    shows: tuple[str, ...] = (SELECTIVITY, "confusion_rate")  # metrics besides SI-SDRi that the fault should affect
    against: str = BASELINE  # arm to compare with, if it was trained; otherwise the baseline


FAULTS = (
    Fault(
        "enrolment at its own speed",
        "the target's speed was changed by up to 10 %, its enrolment's was not: another voice was enrolled than the one to extract",
        "one factor for both",
        {"enroll_speed": "own"},  # the recording's own speed; the plan may also have drawn two factors
    ),
    Fault(
        "absent loss flat below -30 dBFS",
        "where the target is absent, an output below -30 dBFS cost nothing, however quiet the mixture",
        "the output's level relative to the mixture's",
        {"loss_absent_kind": "floor"},
        ("absent_level_db", "absent_suppression_db"),
    ),
    Fault(
        "crops not checked",
        "a crop was taken wherever it fell: a target said to be there may be silent for much of it, or throughout",
        "at least 40 % of a crop is speech",
        # The fault needs pauses, and synthetic voices hardly pause. So each utterance gets silence before and after it, as long as a
        # training mixture (at most 10 s). How much silence the original recordings had is unknown.
        {"min_activity": 0.0, "untrimmed_s": None},
        (SELECTIVITY,),
    ),
    Fault(
        "attention band by band",
        "mixture and enrolment were compared within one band at a time, so that pitch and formants never met",
        "attention over all bands at once",
        {"usef": "band"},
    ),
    Fault(
        "enrolment only band by band",
        "and no embedding of the whole voice either, as in the published model",
        "attention over all bands, and an embedding pooled over all bands",
        {"usef": "band", "speaker_blocks": 0, "verifier": False},
    ),
    # Assumed to be the decay of the gradient, as in HiFi-GAN's training. Muon has no such decay, so arm and control use AdamW.
    Fault("beta 0.8", "AdamW's gradient was averaged with a decay of 0.8", "the usual 0.9", {"adam_beta1": 0.8}, (SELECTIVITY,), CONTROL),
)
"""The faults in the order of the report."""


def _changes(changes: Changes, params: Params) -> dict[str, Any]:
    """Replace ``None`` by the value that depends on the preset."""
    return {name: min(10.0, params.seconds) if value is None else value for name, value in changes.items()}


def arms(params: Params) -> dict[str, Changes]:
    """Return arm -> changes: each fault alone, the optimiser's control, and all faults together.

    A fault that the preset already has is left out. So is the control if the preset's optimiser is AdamW.
    """
    # a learning rate that was tried with AdamW here
    adamw: dict[str, Any] = {"optimizer": "adamw", "lr": max(2e-3, params.lr_min)} if params.optimizer != "adamw" else {}
    found: dict[str, dict[str, Any]] = {}
    for fault in FAULTS:
        if fault.against == CONTROL:
            found[CONTROL] = adamw
        found[fault.name] = found.get(fault.against, {}) | _changes(fault.changes, params)
    found[TOGETHER] = {name: value for changes in found.values() for name, value in changes.items()}
    ids = {name: Params(**(params.model_dump() | changes)).run_id for name, changes in found.items()}
    return {name: changes for name, changes in found.items() if ids[name] != params.run_id}


def tested(comparison: Comparison) -> Ways:
    """Test the baseline and the arm with all faults under the correct protocol, and with one fault of the testing at a time."""
    own_speed, unchecked = (FAULTS[place].changes for place in (0, 2))
    faulty: dict[str, tuple[Changes, Literal["test", "train"]]] = {
        "voices, rooms and noises of the training": ({}, "train"),
        "enrolments at their own speed": (own_speed, "test"),
        "crops not checked": (unchecked, "test"),
        f"SIR from -{WIDE_SIR_DB:.0f} to {WIDE_SIR_DB:.0f} dB": ({"sir_min_db": -WIDE_SIR_DB, "sir_max_db": WIDE_SIR_DB}, "test"),
    }
    arms, right = {name: comparison.all[name] for name in (BASELINE, TOGETHER)}, comparison.baseline.evaluation
    found = {RIGHT_TEST: {name: of_list(arm.rows, "test") for name, arm in arms.items()}}
    for way, (changes, split) in faulty.items():
        params = Params(**(right.model_dump() | {"eval_pesq": False} | _changes(changes, right)))
        found[way] = {name: measure(arm, params, ("test",), split=split) for name, arm in arms.items()}
    return found


def faults(comparison: Comparison) -> HTML:
    """Return a table of the faults: what each was, what the library does instead, its cost in SI-SDRi, its effect on other metrics."""
    columns, rows = ("SI-SDRi with the fault, difference in dB", "against", "verdict", "where it should show"), []
    for fault in FAULTS:
        here, cells = "nothing else: the preset has this fault itself", ["not measured", "", "", ""]
        if fault.name in comparison.arms:
            here, against = fault.here, fault.against if fault.against in comparison.arms else BASELINE
            sides = comparison.arms[fault.name].rows, comparison.all[against].rows
            cost, shown = difference(*sides), []
            for metric in fault.shows:
                label, unit, digits = SHOWN[metric]
                shown.append(f"{label} {tables.measured(difference(*sides, metric), digits, True)} {unit}".strip())
            cells = [cost, against, judged(cost), "; ".join(shown)]
        row = {"fault": fault.name, "in the plan's baseline": fault.was, "here in its place": here}
        rows.append(row | dict(zip(columns, cells, strict=True)))
    return table(rows, "paired differences with 95 % intervals, on correct test mixtures")


def protocol_table(ways: Ways) -> HTML:
    """Return a table of how far each fault of the testing moves the baseline's numbers."""
    right, rows = frame(ways[RIGHT_TEST][BASELINE]), []
    for way, of_arms in ways.items():
        mine = frame(of_arms[BASELINE])
        same = (mine["split"].values == right["split"].values).all()  # the same voices at every index
        values, named = [matrix(mine), matrix(right)], [speakers(mine), speakers(right)]
        moved = "" if way == RIGHT_TEST else paired(*values, speakers=named[0]) if same else unpaired(*values, speakers=named)
        row = {"tested on": way, "SI-SDRi of the baseline, dB": mean(mine), "moved by, dB": moved, "SI-SDR, dB": mean(mine, "si_sdr_db")}
        rows.append(row | {"confusions": tables.measured(mean(mine, "confusion_rate"))})
    return table(rows, "means with 95 % intervals; unpaired where the voices differ")
