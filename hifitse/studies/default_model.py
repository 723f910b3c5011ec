"""What the default model can do and where it fails: one condition, one row of numbers, and the aim it is held against.

Every condition evaluates the same weights on people, rooms and noises that no training has heard. Only the named parameters change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.audio import crop_or_pad, resample
from hifitse.data.manifest import CorpusError, locate, sources
from hifitse.data.mixing import Mixture
from hifitse.evaluation.evaluate import evaluate
from hifitse.machine import pick_device
from hifitse.metrics import Interval, bootstrap, paired
from hifitse.model import Extractor, SecondPass
from hifitse.params import Params
from hifitse.training.run import Run, runs_dir

DRY = {"reverb_prob": 0.0, "noise_prob": 0.0, "noisy_enroll_prob": [0.0], "eval_absent_share": 0.0, "eval_pesq": False}
REFERENCE = "people, dry"
"""The condition that ``change_db`` refers to."""
AT_MOST = frozenset(("confusion_rate", "worse_rate"))
EVERYWHERE = {"gap_db": 12.0, "confusion_rate": 0.04, "worse_rate": 0.06}
"""Aims of each condition with two talkers: right minus wrong enrolment, dB; shares of the mixtures, at most."""


@dataclass(frozen=True)
class BandLimit:
    """A mixture as if recorded at another rate: what lies above half of it is gone from every part; enrolments stay.

    Attributes:
        rate: Hz.
    """

    rate: int

    def __call__(self, mixture: Mixture) -> Mixture:
        def limited(signal: np.ndarray) -> np.ndarray:
            return crop_or_pad(resample(resample(signal, SAMPLE_RATE, self.rate), self.rate, SAMPLE_RATE), len(signal))

        parts = [limited(part) for part in (mixture.target, mixture.noise, *mixture.interferers)]
        target, noise, interferers = parts[0], parts[1], np.array(parts[2:], np.float32).reshape(mixture.interferers.shape)
        return replace(mixture, mix=target + noise + interferers.sum(0), target=target, noise=noise, interferers=interferers)


@dataclass(frozen=True)
class Condition:
    """One way to test the model.

    Attributes:
        name: of the row.
        question: that the row answers.
        changes: parameters of the evaluation, over those of the preset.
        aim: of ``metric``; ``None``: no aim is set.
        metric: that the condition is about. ``change_db`` is SI-SDRi minus that of ``REFERENCE``, whose size is at most the aim.
        share: of the preset's ``eval_mixtures``.
        change: of each mixture before it is heard.
        wrap: of the extractor.
    """

    name: str
    question: str
    changes: Mapping[str, Any]
    aim: float | None = None
    metric: str = "si_sdri_db"
    share: float = 0.5
    change: Callable[[Mixture], Mixture] | None = None
    wrap: Callable[[Extractor], nn.Module] | None = None

    @property
    def aims(self) -> dict[str, float]:
        """Metric -> aim."""
        own = {} if self.aim is None else {self.metric: self.aim}
        return own | (EVERYWHERE if self.metric == "si_sdri_db" else {})

    def params(self, params: Params) -> Params:
        """Parameters of the evaluation."""
        count = max(4, round(self.share * params.eval_mixtures))
        return Params(**(params.model_dump() | DRY | {"eval_mixtures": count} | dict(self.changes)))


def _other(corpus: str) -> dict[str, Any]:
    """Another corpus, of which as many speakers as may be are tested: none of them was trained on."""
    return {"corpus": f"$HIFITSE_DATA/{corpus}", "train_only": "vctk_", "test_share": 0.49, "valid_share": 0.2, "similarity": [0.0]}


ROOMS = {"reverb_prob": 1.0, "noise_prob": 1.0, "rooms": "$HIFITSE_DATA/rir"}
LONE = {"interferers_min": [0], "interferers_max": [0]}
CONDITIONS = (
    Condition(REFERENCE, "Two people, nothing else?", {}, 8.0, share=1.0),
    Condition("people of one source", "And if microphone and room do not tell them apart?", {"same_source_prob": 1.0}),
    Condition("people, rooms and noise", "In measured rooms that no training heard, with noise?", ROOMS, 5.0, share=1.0),
    Condition("RAVDESS, dry", "Actors of a studio never heard?", _other("speech"), 6.0, share=1.0),
    Condition("Persian, dry", "A language and microphones never heard?", _other("speech_swb"), 5.0, share=1.0),
    Condition("lone target", "Does a person who speaks alone pass untouched?", LONE, 25.0, "si_sdr_db"),
    Condition("absent target", "Is it silent where the person is not there?", {"eval_absent_share": 0.95}, 15.0, "absent_suppression_db"),
    Condition("mixture from 16 kHz", "As good on the common band?", {}, 0.5, "change_db", change=BandLimit(16_000)),
    Condition("mixture from 44.1 kHz", "As good on the common band?", {}, 0.5, "change_db", change=BandLimit(44_100)),
    *(Condition(f"{n} enrolments", "Do more enrolments help?", {"enrollments": n}) for n in (2, 3)),
    *(
        Condition(f"enrolment of {seconds} s", "How long must it be?", {"enroll_seconds": float(seconds), "enroll_seconds_min": 0.0})
        for seconds in (1, 2, 4, 8)
    ),
    Condition("noisy enrolment", "An enrolment in noise?", {"eval_enroll": "noisy"}),
    Condition("reverberant enrolment", "An enrolment in a room?", {"eval_enroll": "reverberant"}),
    Condition("coded enrolment", "An enrolment through a codec?", {"eval_enroll": "codec"}),
    Condition("alike voices", "Interferers among the tenth most like the target?", {"similarity": [0.9]}),
    Condition("second pass", "Does the first estimate help as a second enrolment?", {}, wrap=SecondPass),
)


@dataclass(frozen=True)
class Judged:
    """A measured value against its aim."""

    metric: str
    aim: float
    value: Interval

    @property
    def met(self) -> bool:
        """Whether the mean reaches the aim."""
        if self.metric == "change_db":
            return abs(self.value.mean) <= self.aim
        return self.value.mean <= self.aim if self.metric in AT_MOST else self.value.mean >= self.aim

    @property
    def certain(self) -> bool:
        """Whether the whole 95 % interval lies on the mean's side of the aim."""
        ends = [replace(self, value=replace(self.value, mean=end)).met for end in (self.value.low, self.value.high)]
        return ends == [self.met] * 2 and np.isfinite(self.value.low)

    @property
    def word(self) -> str:
        """ "met" or "missed", with a question mark where the interval holds both."""
        return ("met" if self.met else "missed") + ("" if self.certain else "?")


@dataclass(frozen=True)
class Result:
    """What a condition measured.

    Attributes:
        condition: as asked.
        params: of the evaluation.
        rows: as :func:`hifitse.evaluation.evaluate.evaluate` makes them.
        metrics: metric -> mean over the mixtures with its 95 % interval; those without a value are missing.
    """

    condition: Condition
    params: Params
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    metrics: Mapping[str, Interval]

    @property
    def judged(self) -> list[Judged]:
        """Each aim that could be measured."""
        return [Judged(name, aim, self.metrics[name]) for name, aim in self.condition.aims.items() if name in self.metrics]

    @property
    def people(self) -> int:
        """Different target speakers."""
        return len({row["target_speaker"] for row in self.rows})

    @property
    def rooms(self) -> int:
        """Different rooms."""
        return len({row["room"] for row in self.rows} - {None})


def default_extractor(params: Params) -> Extractor:
    """The model that comes with the library, or that of the finished run that ``start_from`` names."""
    return Run.named(params.start_from).extractor() if params.start_from else Extractor.from_pretrained()


def missing(params: Params) -> str:
    """Which recordings an evaluation asks for that are not here; empty where all are."""
    for text in (params.corpus, params.noise, params.rooms):
        for source in sources(text):
            try:
                if source != "synthetic":
                    locate(source, "source")
            except CorpusError as error:
                return str(error)
    return ""


def measure(
    params: Params, extractor: Extractor, conditions: Sequence[Condition] = CONDITIONS, progress: bool = True
) -> tuple[dict[str, Result], dict[str, str]]:
    """Evaluate the extractor under each condition; finished rows are kept in ``runs/`` and found again.

    Args:
        params: of the preset whose corpus the model is to be tested on.
        extractor: in evaluation mode.
        conditions: the first is the reference of ``change_db``.
        progress: show progress bars.

    Returns:
        Condition -> result, and condition -> why it was left out.

    Raises:
        HifitseError: as the evaluation does, or the first condition cannot be measured.
    """
    extractor = extractor.to(pick_device(params.device))
    results: dict[str, Result] = {}
    left_out: dict[str, str] = {}
    for condition in conditions:
        asked = condition.params(params)
        if why := missing(asked):
            left_out[condition.name] = why
            continue
        tested = condition.wrap(extractor).eval() if condition.wrap else extractor
        rows = evaluate(tested, asked, runs_dir() / "default_model", progress, lists=("test",), change=condition.change, silent=False)
        if condition.metric == "absent_suppression_db":
            rows = [row for row in rows if not row["present"]]
        first = next(iter(results.values())).rows if results else rows
        results[condition.name] = Result(condition, asked, rows, summarise(rows, first))
    if conditions[0].name in left_out:
        raise HifitseError(f"condition {conditions[0].name!r} cannot be measured: {left_out[conditions[0].name]}")
    return results, left_out


def summarise(rows: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> dict[str, Interval]:
    """Metrics of a condition; ``change_db`` is paired with the mixtures of the same index in the reference."""

    def column(name: str, of: Sequence[Mapping[str, Any]] = rows) -> np.ndarray:
        return np.array([row[name] for row in of], np.float64)

    mixed = [bool(row["n_interferers"] or row["snr_db"] is not None) for row in rows]  # a lone target has nothing to be improved
    right, wrong = np.where(mixed, column("si_sdri_db"), np.nan), column("si_sdri_wrong_enroll_db")
    confused = np.array([row["confused"] if row["n_interferers"] and row["present"] else None for row in rows], np.float64)
    before = {row["index"]: row["si_sdri_db"] for row in reference}
    found = {
        "si_sdri_db": bootstrap(right),
        "si_sdri_wrong_enroll_db": bootstrap(wrong),
        "gap_db": paired(right, wrong),
        "confusion_rate": bootstrap(confused),
        "worse_rate": bootstrap(np.where(np.isfinite(right), right < 0, np.nan)),
        "si_sdr_db": bootstrap(column("si_sdr_db")),
        "absent_suppression_db": bootstrap(column("absent_suppression_db")),
        "change_db": paired(right, np.array([before.get(row["index"]) for row in rows], np.float64)),
    }
    return {name: value for name, value in found.items() if value.n}


def numbers(results: Mapping[str, Result]) -> dict[str, Any]:
    """The numbers for ``metrics.json``, the model's card and the README."""
    judged = [each for result in results.values() for each in result.judged]
    rows = {
        name: {
            "question": result.condition.question, "mixtures": len(result.rows), "people": result.people, "rooms": result.rooms,
            "metrics": {metric: vars(value) for metric, value in result.metrics.items()},
            "aims": {each.metric: {"aim": each.aim, "met": each.met, "certain": bool(each.certain)} for each in result.judged},
        }
        for name, result in results.items()
    }  # fmt: skip
    return {"conditions": rows, "aims": len(judged), "aims_met": sum(each.met for each in judged)}
