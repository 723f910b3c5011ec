"""Fine-tuning a finished baseline, with and without discriminators: what changes, and which weights are kept by which rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import Arm
from hifitse.evaluation.fidelity import Fidelity
from hifitse.evaluation.rows import Row, difference
from hifitse.metrics import Interval
from hifitse.model.discriminators import discriminators
from hifitse.params import PHASED, Params
from hifitse.training.adversary import held_steps
from hifitse.training.run import Run

TUNING = ("start_from", "freeze_norms", "gan", "disc_channels", "disc_lr", "gan_seconds", "gan_warmup", "gan_ramp", "gan_patience")
TUNING += ("loss_adversarial", "loss_feature")
"""Parameters of a fine-tuning; the run that it starts from has their defaults."""
LOSS_ALLOWED_DB = 0.1
"""dB of SI-SDRi on the validation list that may be lost for a better spectrum above 8 kHz."""


def before(params: Params) -> Params:
    """The same parameters without fine-tuning: those of the run to start from."""
    return Params(**{name: value for name, value in params.model_dump().items() if name not in TUNING})


def start(params: Params) -> Run:
    """The finished run that a fine-tuning of these parameters starts from, found by them.

    Raises:
        HifitseError: it is not there, or not finished; the message names it.
    """
    return Run.named(Run.of(before(params)).folder.name)


def changes(
    params: Params, gan: str = "none", share: float = 0.3, rate: float = 0.05, disc_rate: float = 0.4, **values: Any
) -> dict[str, Any]:
    """What makes a fine-tuning of the run of ``params``: on with its last phase, at a small rate, its layer norms frozen.

    Without discriminators it has as many steps as the extractor learns in with them, that is without their warm-up. Discriminators hear
    an eighth of a segment, 0.5 s with the preset ``full``, and have their papers' width beside an extractor of 128 features or more.
    Beside a smaller one they have an eighth of it: 8 wide and with 0.5 s, HiFi-GAN's took ten times the demo extractor's own time.

    Args:
        params: of the baseline.
        gan: "none", "hifigan" or "stft".
        share: steps as a share of the baseline's.
        rate: learning rate as a share of the baseline's highest; 0.05 is the plan's, 1e-5 of 2e-4.
        disc_rate: that of the discriminators, which start from nothing: at 0.05 the demo's could not tell anything after 50 steps.
        values: further parameters, which come before those.
    """
    lr, steps, last = rate * params.lr, max(2, round(share * params.steps)), len(params.phase_starts) - 1
    found = {"start_from": Run.of(before(params)).folder.name, "freeze_norms": True, "lr": lr, "lr_min": min(params.lr_min, lr)}
    found |= {"steps": steps, "warmup_steps": min(params.warmup_steps, steps // 10), "phase_starts": [0.0]}
    found |= {name: [params.at_phase(name, last)] for name in PHASED if len(getattr(params, name)) > 1}
    tuned = {"gan": gan, "disc_lr": min(1.0, disc_rate * params.lr), "disc_channels": 32 if params.features >= 128 else 4}
    tuned["gan_seconds"] = max(0.1, params.seconds / 8)
    found |= (tuned if gan != "none" else {}) | values
    if gan == "none":
        found["steps"] -= held_steps(params.model_copy(update={"gan": "stft", "steps": found["steps"]}))
    return found


def against(comparison: Comparison, control: str) -> Comparison:
    """The other variants compared with one of them in place of the baseline."""
    arms = {name: arm for name, arm in comparison.arms.items() if name != control}
    return Comparison(comparison.arms[control], arms, {})


def weights(params: Params) -> int:
    """Number of the discriminators' weights, which training alone has; 0 without."""
    return sum(weight.numel() for weight in discriminators(params).parameters()) if params.gan != "none" else 0


@dataclass(frozen=True)
class Choice:
    """Which weights of a fine-tuned arm are kept.

    Attributes:
        tuned: whether they are the fine-tuned ones; else those from before.
        si_sdri: fine-tuned less before on the validation list, dB.
        lsd_high: the same for the log-spectral distance from 8 to 24 kHz, dB; below 0 is better.
        reason: in one sentence.
    """

    tuned: bool
    si_sdri: Interval
    lsd_high: Interval
    reason: str


def choose(comparison: Comparison, validation: Fidelity) -> dict[str, Choice]:
    """Fine-tuned weights are kept where SI-SDRi is at most 0.1 dB lower and the spectrum above 8 kHz nearer, by the means.

    Args:
        comparison: its baseline is the run from before.
        validation: rows of all arms on the validation list, of :func:`hifitse.evaluation.fidelity.fidelity` for the split "valid".
    """
    base = validation[comparison.baseline.name]
    return {name: _choice(arm, validation[name], base) for name, arm in comparison.arms.items()}


def _choice(arm: Arm, rows: Sequence[Row], base: Sequence[Row]) -> Choice:
    gain, distance = (difference(rows, base, metric) for metric in ("si_sdri_db", "lsd_high_db"))
    if arm.run.collapsed:
        return Choice(False, gain, distance, arm.run.collapsed)
    if not gain.mean >= -LOSS_ALLOWED_DB:
        return Choice(False, gain, distance, f"SI-SDRi is more than {LOSS_ALLOWED_DB:g} dB lower")
    if not distance.mean < 0:
        return Choice(False, gain, distance, "the spectrum above 8 kHz is no nearer to the target's")
    return Choice(True, gain, distance, f"SI-SDRi is not more than {LOSS_ALLOWED_DB:g} dB lower and the spectrum above 8 kHz is nearer")


def record(comparison: Comparison, test: Fidelity, choices: Mapping[str, Choice]) -> dict[str, Any]:
    """What ``metrics.json`` keeps of a fine-tuning beside the arms' metrics."""
    base = test[comparison.baseline.name]
    found = {}
    for name, choice in choices.items():
        run, params = comparison.arms[name].run, comparison.arms[name].params
        distances = {metric: vars(difference(test[name], base, metric)) for metric in ("lsd_low_db", "lsd_high_db")}
        valid = {"si_sdri_db": vars(choice.si_sdri), "lsd_high_db": vars(choice.lsd_high)}
        found[name] = {"discriminator_parameters": weights(params), "collapsed": run.collapsed, "kept": choice.tuned}
        found[name] |= {"why": choice.reason, "validation": valid, "test": distances}
    return found
