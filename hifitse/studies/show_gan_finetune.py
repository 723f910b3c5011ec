"""What notebook 01 displays of a fine-tuning against discriminators."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib
import numpy as np
from IPython.display import HTML, Image
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hifitse import HifitseError
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.fidelity import Fidelity
from hifitse.evaluation.rows import Row, difference, mean, verdict
from hifitse.machine import pick_device
from hifitse.metrics import Interval
from hifitse.params import Params
from hifitse.report import listening, tables
from hifitse.report.figures import BLUE, DPI, GREEN, GREY, ORANGE, STYLE, VERMILLION, WIDTH
from hifitse.report.labels import legend
from hifitse.report.show import LEAST_MIXTURES, box, card, picture, scale, voices
from hifitse.report.show_arms import expectation
from hifitse.studies import gan_finetune
from hifitse.training.adversary import FALL_DB, LOSS_FLOOR, held_steps
from hifitse.training.validation import estimate

PANELS = (
    ("discriminators' loss", "disc", VERMILLION, 0.5, "chance"),
    ("share judged correctly", "disc_told", GREEN, 0.5, "chance"),
    ("extractor: adversarial", "adversarial", BLUE, None, ""),
    ("extractor: feature maps", "feature", BLUE, None, ""),
)
"""Title, column of the history, colour, and a level to compare with."""


@matplotlib.rc_context(STYLE)
def losses_figure(histories: Mapping[str, tuple[Params, Sequence[Mapping]]]) -> Figure:
    """One column per arm with discriminators, one row per curve; the warm-up is shaded grey, the ramp after it orange.

    Args:
        histories: name of the arm -> its parameters and the rows of its history.

    Raises:
        HifitseError: no arm.
    """
    if not histories:
        raise HifitseError("curves of 0 arms with discriminators are asked for, expected at least one")
    figure = Figure(figsize=(WIDTH, 1.55 * len(PANELS) + 0.9), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(PANELS), len(histories), sharex="col", sharey="row", squeeze=False)
    for column, (name, (params, rows)) in enumerate(histories.items()):
        held, ramp = held_steps(params), params.gan_ramp * params.steps
        for axis, (title, key, colour, level, word) in zip(axes[:, column], PANELS, strict=True):
            axis.axvspan(0, held, color=GREY, alpha=0.2, lw=0, label="warm-up: only discriminators learn")
            axis.axvspan(held, held + ramp, color=ORANGE, alpha=0.2, lw=0, label="ramp: adversarial terms rise")
            if level is not None:
                axis.axhline(level, color=GREY, lw=1, ls=":", label=word)
            pairs = np.array([(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)], float).reshape(-1, 2)
            axis.plot(*pairs.T, color=colour, marker="o" if len(pairs) < 3 else None, ms=4, lw=1.3)
            axis.set_xlim(0, params.steps)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if not column:
                axis.set_ylabel(title.replace(": ", ":\n").replace("' ", "'\n").replace("they ", "they\n"), fontsize=9)
        axes[0, column].set_title(name)
        axes[-1, column].set_xlabel("step")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend(figure, handles, labels)
    return figure


MEASURES = (
    ("si_sdri_db", "SI-SDRi, dB", 2), ("si_sdr_db", "SI-SDR, dB", 2), ("pesq", "PESQ, 16 kHz", 3), ("stoi", "STOI", 3),
    ("lsd_low_db", "LSD, 0 to 8 kHz, dB", 2),
    ("lsd_high_db", "LSD, 8 to 24 kHz, dB", 2),
)  # fmt: skip
"""Column of a row, label, digits."""


def headline(gains: Mapping[str, tuple[Interval, Interval]]) -> tuple[str, str]:
    """Mark (``good``, ``weak`` or ``bad``) and headline, by the intervals of the paired differences alone.

    Args:
        gains: arm with discriminators -> difference of SI-SDRi to before, and to the same further steps without discriminators.
    """
    least = min((value.n for pair in gains.values() for value in pair), default=0)
    if least < LEAST_MIXTURES:
        return "weak", f"Too few mixtures ({least}) to say whether discriminators help."
    said = {name: tuple(verdict(value, "si_sdri_db") for value in pair) for name, pair in gains.items()}
    both = [name for name, words in said.items() if words == ("helped", "helped")]
    steps = [name for name, words in said.items() if words[0] == "helped" and name not in both]
    hurt = [name for name, words in said.items() if "hurt" in words]
    parts = [f"{', '.join(both)}: better than before, and than the same further steps without discriminators."] if both else []
    if steps:
        parts.append(f"{', '.join(steps)}: better than before, but the same further steps without discriminators do as well or better.")
    if hurt:
        parts.append(f"{', '.join(hurt)}: worse than before or than without discriminators.")
    rest = [name for name in said if name not in both + steps + hurt]
    parts += [f"{', '.join(rest)}: no measurable difference from before."] if rest else []
    return ("good" if both else "bad" if hurt else "weak"), " ".join(parts)


def answer(comparison: Comparison, control: str) -> HTML:
    """The answer in a box: SI-SDRi of each arm with discriminators less that before, and less that of the control.

    Args:
        comparison: its baseline is the run from before.
        control: name of the arm with the same further steps and no discriminators.
    """
    base, other = comparison.baseline, comparison.arms[control]
    longer = difference(other.rows, base.rows)
    cards = card(f"{control} less before", longer, "the same steps without discriminators")
    gains = {}
    for name in gan_finetune.against(comparison, control).arms:
        gains[name] = tuple(difference(comparison.arms[name].rows, rows) for rows in (base.rows, other.rows))
        cards += card(f"{name} less before", gains[name][0], expectation(comparison.expected.get(name)))
        cards += card(f"{name} less {control}", gains[name][1], "what the discriminators add")
    mark, line = headline(gains)
    stopped = " ".join(f"{name} was stopped: {arm.run.collapsed}." for name, arm in comparison.arms.items() if arm.run.collapsed)
    text = f"SI-SDRi on the same {longer.n} test mixtures of unseen {voices(base.params)}, with the weights as trained. {stopped} "
    text += "Each was trained once; the intervals are over test mixtures, and do not cover seed-to-seed variance. Before: "
    return box(mark, line, cards, text + scale(base, "the model"))


def quality(comparison: Comparison, control: str, test: Fidelity) -> HTML:
    """SI-SDR, PESQ, STOI and the distance of spectra: means, and paired differences to before and to the control."""
    lines = []
    for column, label, digits in MEASURES:
        sides = test if column.startswith("lsd") else {name: arm.rows for name, arm in comparison.all.items()}
        for name, rows in sides.items():
            value = mean(rows, column)
            changes = [_change(rows, sides[other], column, digits) for other in (comparison.baseline.name, control)]
            lines.append([label, name, tables.measured(value, digits), *changes, str(value.n)])
    header = ["measure", "arm", "mean", "less before", f"less {control}", "n"]
    caption = "means and paired differences with 95 % intervals, test mixtures with the target present; LSD is the log-spectral distance: "
    return HTML(tables.table(header, lines, caption + "less is better"))


def _change(rows: list[Row], other: list[Row], column: str, digits: int) -> str:
    return "" if rows is other else tables.measured(difference(rows, other, column), digits, True)


def choices(comparison: Comparison, chosen: Mapping[str, gan_finetune.Choice]) -> HTML:
    """Which weights of each arm are kept, by the rule on the validation list."""
    lines = []
    for name, choice in chosen.items():
        numbers = [tables.measured(choice.si_sdri, 2, True), tables.measured(choice.lsd_high, 2, True)]
        count = gan_finetune.weights(comparison.arms[name].params)
        kept = "fine-tuned" if choice.tuned else "those from before"
        lines.append([name, kept, choice.reason, *numbers, f"{count / 1e6:.2f}" if count else "–"])
    header = ["arm", "weights kept", "why", "SI-SDRi minus before, dB", "LSD minus before, dB", "added, M"]
    count = next(iter(chosen.values())).si_sdri.n if chosen else 0
    caption = f"validation mixtures: {count}; LSD: log-spectral distance above 8 kHz; added: millions of the discriminators' weights"
    return HTML(tables.table(header, lines, caption))


def rules() -> HTML:
    """The stated rules: when a run is stopped, and when fine-tuned weights are kept."""
    return HTML(
        f"<p>A run is <b>stopped</b>, and falls back to the weights from before, when for <code>gan_patience</code> steps in a row the "
        f"discriminators' loss is below {LOSS_FLOOR:g} and all they judge is right, when the mean SI-SDRi of as many training steps is "
        f"{FALL_DB:g} dB below that of the warm-up, or when a term is not finite. Fine-tuned weights are <b>kept</b> where on the "
        f"validation list SI-SDRi is at most {gan_finetune.LOSS_ALLOWED_DB:g} dB lower and the log-spectral distance from 8 to 24 kHz is "
        "smaller, by the means.</p>"
    )


def losses(comparison: Comparison) -> Image | HTML:
    """Curves of the arms with discriminators."""
    arms = {name: (arm.params, arm.run.history) for name, arm in comparison.arms.items() if arm.params.gan != "none"}
    alt = f"Curves over the steps of {', '.join(arms)}: loss and judgements of the discriminators, adversarial and feature-map terms"
    return picture(losses_figure(arms), alt)


def examples(comparison: Comparison, name: str) -> list[listening.Example]:
    """The mixtures that gained and lost most with an arm, and all arms' estimates; give each to :func:`hifitse.report.show.listen`."""
    base, found = comparison.baseline, []
    for example in listening.contrasts(base, comparison.arms[name]):
        mixture = listening.rebuild(example.row, base.evaluation)
        clips = {"mixture": mixture.mix, "target": mixture.target}
        for label, arm in comparison.all.items():
            device = pick_device(arm.params.device)
            est = estimate(arm.run.extractor().to(device), [mixture], "right", device)[0].numpy()
            clips[f"estimate, {'before' if arm is base else label}"] = est
        clips["enrolment"] = mixture.enroll[0]
        found.append(replace(example, clips=clips, pictured=tuple(clips)[:-1], note=f"{name}: {example.note}"))
    return found
