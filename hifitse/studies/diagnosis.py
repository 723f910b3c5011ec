"""Why the plan's baseline was weak: its known faults as changes that put them back, and what its way of testing hides.

The library is right by default; each fault is a switch. What is known of them is what the plan says, in a few words: where that leaves
something open, the docstrings here say what was assumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hifitse.evaluation.comparison import Changes, Comparison
from hifitse.evaluation.experiment import measure
from hifitse.evaluation.rows import BASELINE, Row, compare, of_list
from hifitse.params import Params

TOGETHER = "all faults"
"""The arm with every fault at once."""
CONTROL = "AdamW"
"""The arm with the published optimiser and its usual decays, where the preset has another; no fault."""
RIGHT_TEST = "as everywhere here"
"""The evaluation without faults."""
WIDE_SIR_DB = 15.0
"""dB: of a test whose target-to-interferer ratios nobody chose, lowest and highest are assumed to be this far from 0."""


@dataclass(frozen=True)
class Fault:
    """A suspected fault of the plan's baseline.

    Attributes:
        name: of the arm that has it.
        was: what the plan's baseline did.
        here: what is done in its place.
        shows: metrics in which it should show beside SI-SDRi; "selectivity" is SI-SDRi with the right minus that with a wrong enrolment.
        against: arm that it is compared with, where that is not the baseline.
    """

    name: str
    was: str
    here: str
    shows: tuple[str, ...] = ("selectivity", "confusion_rate")
    against: str = BASELINE


FAULTS = (
    Fault(
        "enrolment at its own speed",
        "the target's speed was changed by up to 10 %, its enrolment's was not: another voice was enrolled than the one to extract",
        "one factor for both",
    ),
    Fault(
        "absent loss flat below -30 dBFS",
        "where the target is absent, an output below -30 dBFS cost nothing, however quiet the mixture",
        "the output's level relative to the mixture's",
        ("absent_level_db", "absent_suppression_db"),
    ),
    Fault(
        "crops not checked",
        "a crop was taken wherever it fell: a target said to be there may be silent for much of it, or throughout",
        "at least 40 % of a crop is speech",
        ("selectivity",),
    ),
    Fault(
        "attention band by band",
        "mixture and enrolment were compared within one band at a time, so that pitch and formants never met",
        "attention over all bands at once",
    ),
    Fault(
        "enrolment only band by band",
        "and no embedding of the whole voice either, as in the published model",
        "attention over all bands, and an embedding pooled over all bands",
    ),
    Fault("beta 0.8", "AdamW's gradient was averaged with a decay of 0.8", "the usual 0.9", ("selectivity",), CONTROL),
)
"""In the order in which the report has them."""


def arms(params: Params) -> dict[str, Changes]:
    """Arm -> changes: each fault alone, the control of the optimiser, and all faults together.

    A fault that the preset has itself cannot be put back, and is left out; so is the control where the preset's optimiser is AdamW.

    * Own speed is that of the recording: the enrolment is left as it is. That both got factors of their own is possible too.
    * Unchecked crops need pauses to fall into. The synthetic voices have none of any length, so utterances get as much silence before
      and after them as a training mixture is long: how much the published recordings had is not known.
    * The decay of 0.8 is taken for that of the gradient (beta 1), as in HiFi-GAN's training; that it was the other is possible. Muon
      has no such decay, so the arm is trained by AdamW, at a rate that was tried for it here, and compared with the control.

    Args:
        params: of the baseline.
    """
    adamw: dict[str, Any] = {"optimizer": "adamw", "lr": max(2e-3, params.lr_min)} if params.optimizer != "adamw" else {}
    found: dict[str, dict[str, Any]] = {
        "enrolment at its own speed": {"enroll_speed": "own"},
        "absent loss flat below -30 dBFS": {"loss_absent_kind": "floor"},
        "crops not checked": {"min_activity": 0.0, "untrimmed_s": min(10.0, params.seconds)},
        "attention band by band": {"usef": "band"},
        "enrolment only band by band": {"usef": "band", "speaker_blocks": 0},
        CONTROL: adamw,
        "beta 0.8": adamw | {"adam_beta1": 0.8},
    }
    found[TOGETHER] = {name: value for changes in found.values() for name, value in changes.items()}
    ids = {name: Params(**(params.model_dump() | changes)).run_id for name, changes in found.items()}
    return {name: changes for name, changes in found.items() if ids[name] != params.run_id}


def reference(comparison: Comparison, fault: Fault) -> str:
    """Name of the arm that a fault is compared with: the control where it was trained, else the baseline."""
    return fault.against if fault.against in comparison.arms else comparison.baseline.name


def against_control(comparison: Comparison, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Comparisons of the arms whose reference is the control, as :func:`hifitse.evaluation.rows.compare`; of all faults together too."""
    if CONTROL not in comparison.arms:
        return []
    names = [fault.name for fault in FAULTS if fault.against == CONTROL] + [TOGETHER]
    control = comparison.arms[CONTROL].rows
    return [compare(name, comparison.arms[name].rows, control, metric) | {"baseline": CONTROL} for metric in metrics for name in names]


def protocols(params: Params) -> dict[str, tuple[Params, str]]:
    """Way of testing -> parameters of the evaluation and the split whose voices are used; the right one is not among them.

    Args:
        params: of the right evaluation.
    """
    wide = {"sir_min_db": -WIDE_SIR_DB, "sir_max_db": WIDE_SIR_DB}
    changes: dict[str, tuple[Changes, str]] = {
        "voices, rooms and noises of the training": ({}, "train"),
        "enrolments at their own speed": ({"enroll_speed": "own"}, "test"),
        "crops not checked": ({"min_activity": 0.0, "untrimmed_s": min(10.0, params.seconds)}, "test"),
        f"SIR from -{WIDE_SIR_DB:.0f} to {WIDE_SIR_DB:.0f} dB": (wide, "test"),
    }
    return {name: (Params(**(params.model_dump() | changed | {"eval_pesq": False})), split) for name, (changed, split) in changes.items()}


def tested(
    comparison: Comparison, names: Sequence[str] = (BASELINE, TOGETHER), progress: bool = True
) -> dict[str, Mapping[str, list[Row]]]:
    """Way of testing -> arm -> rows of the test list, the right way first.

    Args:
        comparison: of trained arms.
        names: of the arms to test.
        progress: show progress bars.
    """
    some = {name: comparison.all[name] for name in names}
    found: dict[str, Mapping[str, list[Row]]] = {RIGHT_TEST: {name: of_list(arm.rows, "test") for name, arm in some.items()}}
    for way, (params, split) in protocols(comparison.baseline.evaluation).items():
        found[way] = {name: measure(arm, params, ("test",), split=split, progress=progress) for name, arm in some.items()}
    return found
