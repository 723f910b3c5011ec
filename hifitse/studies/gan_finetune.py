"""Notebook 01: fine-tune a finished baseline with and without discriminators, and measure what changes."""

from collections.abc import Mapping
from typing import Any

from IPython.display import HTML, Image

from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.experiment import BANDS_HZ, Fidelity
from hifitse.evaluation.rows import BASELINE, difference, mean
from hifitse.params import PHASED, Params
from hifitse.report import tables
from hifitse.report.figures import lines, series
from hifitse.report.show import box, card, picture, scale, table, tested
from hifitse.report.show_arms import expectation, headline, trainings
from hifitse.training.adversary import discriminators, held_steps
from hifitse.training.run import Run

TUNING = ("freeze_norms", "gan", "disc_channels", "disc_lr", "gan_seconds", "gan_warmup", "gan_ramp", "gan_patience")
TUNING += ("loss_adversarial", "loss_feature")
"""Parameters of fine-tuning. The run to start from has their defaults, but may itself start from another run."""
LOSS_ALLOWED_DB = 0.1
"""Largest loss of SI-SDRi on the validation list, in dB, that is accepted for a better spectrum above 8 kHz."""
PANELS = {
    "discriminators' loss (dotted: chance)": "disc", "share judged correctly (dotted: chance)": "disc_told",
    "extractor: adversarial": "adversarial", "extractor: feature maps": "feature",
}  # fmt: skip
"""Title -> column of the history."""
MEASURES = {
    "si_sdri_db": ("SI-SDRi, dB", 2), "si_sdr_db": ("SI-SDR, dB", 2), "pesq": ("PESQ, 16 kHz", 3), "stoi": ("STOI", 3),
    "lsd_low_db": ("LSD, 0 to 8 kHz, dB", 2), "lsd_high_db": ("LSD, 8 to 24 kHz, dB", 2),
}  # fmt: skip
"""Row column -> label, digits."""


def before(params: Params) -> Params:
    """Return the parameters without fine-tuning, which are those of the run to start from."""
    return Params(**{name: value for name, value in params.model_dump().items() if name not in TUNING})


def changes(params: Params, gan: str = "none", share: float = 0.3, rate: float = 0.05, disc_rate: float = 0.4) -> dict[str, Any]:
    """Return the changes that fine-tune the run of ``params``: its last phase at a small learning rate, with frozen layer norms.

    Without discriminators, the run has only as many steps as the extractor learns in with them, that is without their warm-up. The
    discriminators hear an eighth of a segment. Their width is that of their papers if the extractor has at least 128 features, else 4.

    Args:
        gan: "none", "hifigan" or "stft".
        share: number of steps as a share of the baseline's.
        rate: learning rate as a share of the baseline's peak rate; the plan's is 0.05 (1e-5 of 2e-4).
        disc_rate: the same for the discriminators. They start untrained: at 0.05 those of the demo were still at chance after 50 steps.
    """
    lr, steps, last = rate * params.lr, max(2, round(share * params.steps)), len(params.phase_starts) - 1
    found = {"start_from": Run.of(before(params)).folder.name, "freeze_norms": True, "lr": lr, "lr_min": min(params.lr_min, lr)}
    found |= {"steps": steps, "warmup_steps": min(params.warmup_steps, steps // 10), "phase_starts": [0.0]}
    found |= {name: [params.at_phase(name, last)] for name in PHASED if len(getattr(params, name)) > 1}
    tuned = {"gan": gan, "disc_lr": min(1.0, disc_rate * params.lr), "disc_channels": 32 if params.features >= 128 else 4}
    tuned["gan_seconds"] = max(0.1, params.seconds / 8)
    found |= tuned if gan != "none" else {}
    if gan == "none":
        found["steps"] -= held_steps(params.model_copy(update={"gan": "stft", "steps": found["steps"]}))
    return found


def choose(comparison: Comparison, validation: Fidelity) -> dict[str, dict[str, Any]]:
    """Choose the weights to keep, by means: fine-tuned ones if SI-SDRi drops by at most 0.1 dB and the spectrum above 8 kHz improves.

    ``validation``: rows of all arms from :func:`hifitse.evaluation.experiment.fidelity` with the split "valid". Returns arm -> ``tuned``
    (whether the fine-tuned weights are kept), ``why``, and the differences ``si_sdri_db`` and ``lsd_high_db``.
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
    """Return a table of the result of :func:`choose`, one row per arm."""
    titles = {"why": "why", "si_sdri_db": "SI-SDRi minus before, dB", "lsd_high_db": "LSD above 8 kHz minus before, dB"}
    rows = [
        {"arm": name, "weights kept": "fine-tuned" if one["tuned"] else "those from before"} | {titles[key]: one[key] for key in titles}
        for name, one in chosen.items()
    ]
    return table(rows, "by the means on the validation list, with 95 % intervals")


def record(comparison: Comparison, test: Fidelity, chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what ``metrics.json`` stores about fine-tuning in addition to the arms' metrics."""
    found = {}
    for name, arm in comparison.arms.items():
        trained = discriminators(arm.params).parameters() if arm.params.gan != "none" else ()
        row = {"discriminator_parameters": sum(weight.numel() for weight in trained), "collapsed": arm.run.collapsed}
        row |= {"kept": chosen[name]["tuned"], "why": chosen[name]["why"]}
        found[name] = row | {"test": {metric: difference(test[name], test[BASELINE], metric) for metric in BANDS_HZ}}
    return found


def answer(comparison: Comparison, control: str) -> HTML:
    """Return the verdict: SI-SDRi of each arm with discriminators relative to the run before fine-tuning, which is the baseline, and to
    ``control``, the arm with the same further steps without discriminators."""
    base, other = comparison.baseline, comparison.arms[control]
    longer = difference(other.rows, base.rows)
    cards, added = card(f"{control} minus before", longer, "the same steps without discriminators"), {}
    for name in (name for name in comparison.arms if name != control):
        before, added[name] = (difference(comparison.arms[name].rows, rows) for rows in (base.rows, other.rows))
        cards += card(f"{name} minus before", before, expectation(comparison.expected.get(name)))
        cards += card(f"{name} minus {control}", added[name], "what the discriminators add")
    runs = [(name, run) for name, arm in comparison.arms.items() for run in (arm.run, *arm.others)]
    stopped = " ".join(f"{name} was stopped: {run.collapsed}." for name, run in runs if run.collapsed)
    text = f"SI-SDRi on the same {longer.n} test mixtures of {tested(base.params)}, with the weights as trained. {stopped} "
    text += f"{trainings(comparison)} Before: {scale(base, 'the model')}"
    return box(*headline(added, "the same further steps without discriminators"), cards, text)


def quality(comparison: Comparison, control: str, test: Fidelity) -> HTML:
    """Return a table of SI-SDR, PESQ, STOI and spectral distances: means, and paired differences to the baseline and the control."""
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
    """Plot one panel per measure with one curve per arm with discriminators. The warm-up is shaded grey, the following ramp orange."""
    arms = {name: arm for name, arm in comparison.arms.items() if arm.params.gan != "none"}
    panels = {title: {name: series(arm.run.history, key) for name, arm in arms.items()} for title, key in PANELS.items()}
    params = next(iter(arms.values())).params
    held = held_steps(params)
    spans = {"warm-up: only discriminators learn": (0, held), "ramp: adversarial terms rise": (held, held + params.gan_ramp * params.steps)}
    alt = f"Curves over the steps of {', '.join(arms)}: loss and judgements of the discriminators, adversarial and feature-map terms"
    return picture(lines(panels, "step", levels=dict.fromkeys(list(PANELS)[:2], 0.5), spans=spans), alt)
