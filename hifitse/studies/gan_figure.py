"""The losses of discriminators and extractor over the steps of a fine-tuning."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hifitse import HifitseError
from hifitse.params import Params
from hifitse.report.figures import BLUE, DPI, GREEN, GREY, ORANGE, STYLE, VERMILLION, WIDTH
from hifitse.report.labels import legend
from hifitse.training.adversary import held_steps

PANELS = (
    ("discriminators' loss", "disc", VERMILLION, 0.5, "who cannot tell"),
    ("share they judge right", "disc_told", GREEN, 0.5, "who cannot tell"),
    ("extractor: adversarial", "adversarial", BLUE, None, ""),
    ("extractor: feature maps", "feature", BLUE, None, ""),
)
"""Title, column of the history, colour, and a level to compare with."""


@matplotlib.rc_context(STYLE)
def losses(histories: Mapping[str, tuple[Params, Sequence[Mapping]]]) -> Figure:
    """One column an arm with discriminators, one row a curve; the warm-up is shaded grey, the ramp after it orange.

    Args:
        histories: name of the arm -> its parameters and the rows of its history.

    Raises:
        HifitseError: no arm.
    """
    if not histories:
        raise HifitseError("curves of 0 arms with discriminators are asked for, allowed is at least one")
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
