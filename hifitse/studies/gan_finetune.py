"""Notebook 01: a finished baseline trained on, with and without discriminators, and what changes."""

from collections.abc import Mapping
from typing import Any

from IPython.display import HTML, Image

from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import BANDS_HZ, Fidelity
from hifitse.evaluation.rows import BASELINE, difference, mean
from hifitse.params import PHASED, Params
from hifitse.report import tables
from hifitse.report.figures import lines, series
from hifitse.report.show import box, card, picture, scale, table, voices
from hifitse.report.show_arms import expectation, headline, trainings
from hifitse.training.adversary import discriminators, held_steps
from hifitse.training.run import Run

TUNING = ("freeze_norms", "gan", "disc_channels", "disc_lr", "gan_seconds", "gan_warmup", "gan_ramp", "gan_patience")
TUNING += ("loss_adversarial", "loss_feature")
"""Parameters of a fine-tuning; the run that it starts from has their defaults. That run may itself start from another."""
LOSS_ALLOWED_DB = 0.1
"""dB of SI-SDRi on the validation list that may be lost for a better spectrum above 8 kHz."""
PANELS = {
    "discriminators' loss (dotted: chance)": "disc", "share judged correctly (dotted: chance)": "disc_told",
    "extractor: adversarial": "adversarial", "extractor: feature maps": "feature",
}  # fmt: skip
"""Title -> column of the history."""
MEASURES = {
    "si_sdri_db": ("SI-SDRi, dB", 2), "si_sdr_db": ("SI-SDR, dB", 2), "pesq": ("PESQ, 16 kHz", 3), "stoi": ("STOI", 3),
    "lsd_low_db": ("LSD, 0 to 8 kHz, dB", 2), "lsd_high_db": ("LSD, 8 to 24 kHz, dB", 2),
}  # fmt: skip
"""Column of a row -> label, digits."""


def before(params: Params) -> Params:
    """The same parameters without fine-tuning: those of the run to start from."""
    return Params(**{name: value for name, value in params.model_dump().items() if name not in TUNING})


def changes(
    params: Params, gan: str = "none", share: float = 0.3, rate: float = 0.05, disc_rate: float = 0.4, **values: Any
) -> dict[str, Any]:
    """What makes a fine-tuning of the run of ``params``: on with its last phase, at a small rate, its layer norms frozen.

    Without discriminators it has as many steps as the extractor learns in with them, that is without their warm-up. Discriminators hear
    an eighth of a segment, and have their papers' width beside an extractor of 128 features or more, else an eighth of it.

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


def choose(comparison: Comparison, validation: Fidelity) -> dict[str, dict[str, Any]]:
    """Which weights are kept: the fine-tuned ones where SI-SDRi is at most 0.1 dB lower and the spectrum above 8 kHz nearer, by the means.

    Args:
        comparison: its baseline is the run from before.
        validation: rows of all arms on the validation list, of :func:`hifitse.evaluation.experiment.fidelity` for the split "valid".

    Returns:
        Arm -> ``tuned`` (its own weights are kept), ``why``, and the differences ``si_sdri_db`` and ``lsd_high_db``.
    """
    found = {}
    for name, arm in comparison.arms.items():
        gain, distance = (difference(validation[name], validation[BASELINE], metric) for metric in ("si_sdri_db", "lsd_high_db"))
        tuned, why = False, arm.run.collapsed
        if not why and not gain.mean >= -LOSS_ALLOWED_DB:
            why = f"SI-SDRi is more than {LOSS_ALLOWED_DB:g} dB lower"
        elif not why and not distance.mean < 0:
            why = "the spectrum above 8 kHz is no nearer to the target's"
        elif not why:
            tuned, why = True, f"SI-SDRi is not more than {LOSS_ALLOWED_DB:g} dB lower and the spectrum above 8 kHz is nearer"
        found[name] = {"tuned": tuned, "why": why, "si_sdri_db": gain, "lsd_high_db": distance}
    return found


def choices(chosen: Mapping[str, Mapping[str, Any]]) -> HTML:
    """What :func:`choose` found, one row per arm."""
    titles = {"why": "why", "si_sdri_db": "SI-SDRi minus before, dB", "lsd_high_db": "LSD above 8 kHz minus before, dB"}
    rows = [
        {"arm": name, "weights kept": "fine-tuned" if one["tuned"] else "those from before"} | {titles[key]: one[key] for key in titles}
        for name, one in chosen.items()
    ]
    return table(rows, "by the means on the validation list, with 95 % intervals")


def record(comparison: Comparison, test: Fidelity, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What ``metrics.json`` keeps of a fine-tuning beside the arms' metrics."""
    found = {}
    for name, arm in comparison.arms.items():
        trained = discriminators(arm.params).parameters() if arm.params.gan != "none" else ()
        row = {"discriminator_parameters": sum(weight.numel() for weight in trained), "collapsed": arm.run.collapsed}
        row |= {"kept": chosen[name]["tuned"], "why": chosen[name]["why"]}
        found[name] = row | {"test": {metric: vars(difference(test[name], test[BASELINE], metric)) for metric in BANDS_HZ}}
    return found


WORDS = {
    "helped": ("good", "better than the same further steps without discriminators"),
    "hurt": ("bad", "worse than the same further steps without discriminators"),
    "neutral": ("weak", "no measurable difference from the same further steps without discriminators"),
}
"""Verdict -> mark of its box, and what it says."""


def answer(comparison: Comparison, control: str) -> HTML:
    """The answer in a box: SI-SDRi of each arm with discriminators minus that before, and minus that of the control.

    Args:
        comparison: its baseline is the run from before.
        control: name of the arm with the same further steps and no discriminators.
    """
    base, other = comparison.baseline, comparison.arms[control]
    longer = difference(other.rows, base.rows)
    cards, added = card(f"{control} minus before", longer, "the same steps without discriminators"), {}
    for name in (name for name in comparison.arms if name != control):
        before, added[name] = (difference(comparison.arms[name].rows, rows) for rows in (base.rows, other.rows))
        cards += card(f"{name} minus before", before, expectation(comparison.expected.get(name)))
        cards += card(f"{name} minus {control}", added[name], "what the discriminators add")
    stopped = " ".join(f"{name} was stopped: {arm.run.collapsed}." for name, arm in comparison.arms.items() if arm.run.collapsed)
    text = f"SI-SDRi on the same {longer.n} test mixtures of unseen {voices(base.params)}, with the weights as trained. {stopped} "
    text += f"{trainings(comparison)} Before: {scale(base, 'the model')}"
    return box(*headline(added, WORDS), cards, text)


def quality(comparison: Comparison, control: str, test: Fidelity) -> HTML:
    """SI-SDR, PESQ, STOI and the distance of spectra: means, and paired differences to before and to the control."""
    shown = []
    for column, (label, digits) in MEASURES.items():
        sides = test if column.startswith("lsd") else {name: arm.rows for name, arm in comparison.all.items()}
        for name, rows in sides.items():
            value = mean(rows, column)
            row = {"measure": label, "arm": name, "mean": tables.measured(value, digits)}
            for words, against in (("before", comparison.baseline.name), (control, control)):
                change = "" if name == against else tables.measured(difference(rows, sides[against], column), digits, True)
                row[f"minus {words}"] = change
            shown.append(row | {"n": value.n})
    caption = "means and paired differences with 95 % intervals, test mixtures with the target present; LSD is the log-spectral distance: "
    return table(shown, caption + "less is better")


def losses(comparison: Comparison) -> Image:
    """One panel per measure, one curve per arm with discriminators; the warm-up is shaded grey, the ramp after it orange."""
    arms = {name: arm for name, arm in comparison.arms.items() if arm.params.gan != "none"}
    panels = {title: {name: series(arm.run.history, key) for name, arm in arms.items()} for title, key in PANELS.items()}
    params = next(iter(arms.values())).params
    held = held_steps(params)
    spans = {"warm-up: only discriminators learn": (0, held), "ramp: adversarial terms rise": (held, held + params.gan_ramp * params.steps)}
    alt = f"Curves over the steps of {', '.join(arms)}: loss and judgements of the discriminators, adversarial and feature-map terms"
    return picture(lines(panels, "step", levels=dict.fromkeys(list(PANELS)[:2], 0.5), spans=spans), alt)
