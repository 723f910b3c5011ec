"""The curriculum as a figure: how hard the mixtures are from the first step of a training to the last."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from IPython.display import HTML, Image
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hifitse.data.conditions import training_conditions
from hifitse.evaluation.experiment import Arm
from hifitse.params import Params
from hifitse.report.figures import BLUE, DPI, GREY, STYLE, WIDTH, legend
from hifitse.report.show import picture

PANELS = {
    "target-to-noise\nratio, dB": ("snr_min_db", "snr_max_db", 1),
    "interferers": ("interferers_min", "interferers_max", 1),
    "target absent,\n% of mixtures": ("absent_prob", None, 100),
    "noisy enrolment,\n% of mixtures": ("noisy_enroll_prob", None, 100),
    "similarity of\ninterferers": ("similarity", None, 1),
}
"""Label of a panel -> lower and upper parameter, and the factor to the label's unit."""


def schedule(arm: Arm, baseline: Arm) -> list[HTML | Image]:
    """The curriculum of a variant beside the baseline's, with its name above, to be displayed one after the other."""
    starts = ", ".join(f"{100 * start:.0f} %" for start in arm.params.phase_starts)
    alt = f"Curriculum of {arm.name}: phases from {starts} of the steps"
    return [HTML(Markup("<h3>{}</h3>").format(arm.name)), picture(course(arm.params, baseline.params), alt)]


def _limits(params: Params, names: Sequence[str | None], factor: float, shares: np.ndarray) -> list[np.ndarray]:
    """Lower and, where there is one, upper limit at each share of the training."""
    drawn = [training_conditions(params, share * params.steps * params.batch_size) for share in shares]
    phased = "similarity" in names  # the one that is no condition of a mixture, but of a phase
    reads = [[params.at_phase(name, each.phase) if phased else getattr(each, name) for each in drawn] for name in names if name]
    return [factor * np.array(values, float) for values in reads]


@matplotlib.rc_context(STYLE)
def course(params: Params, baseline: Params | None = None) -> Figure:
    """The curriculum over the steps of the training, as :func:`hifitse.data.conditions.training_conditions` draws from it.

    Panels that stay the same throughout, for both, are left out; if all do, all are shown.

    Args:
        params: whose curriculum is drawn in colour, phases parted by dotted lines.
        baseline: whose curriculum is drawn in grey, dashed.
    """
    sides = [each for each in (params, baseline) if each is not None]
    borders = [*params.phase_starts, 1.0]
    jumps = [border - early for each in sides for border in [*each.phase_starts, 1.0] for early in (0, 1e-9)]
    shares = np.unique([*np.linspace(0, 1, 200), *jumps])
    shares = shares[(shares >= 0) & (shares < 1)]
    curves = {label: [_limits(each, names, factor, shares) for each in sides] for label, (*names, factor) in PANELS.items()}
    varies = {label for label, drawn in curves.items() if any(np.ptp(limit) > 0 for limit in map(np.concatenate, zip(*drawn, strict=True)))}
    panels = {label: drawn for label, drawn in curves.items() if label in varies} or curves
    figure = Figure(figsize=(WIDTH, 1.25 * len(panels) + 0.9), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (label, drawn) in zip(axes, panels.items(), strict=True):
        for limit in drawn[1] if baseline is not None else ():
            axis.plot(shares * baseline.steps, limit, color=GREY, ls="--", lw=1.4, zorder=3)
        for limit in drawn[0]:
            axis.plot(shares * params.steps, limit, color=BLUE, lw=1.8)
        if len(drawn[0]) == 2:
            axis.fill_between(shares * params.steps, *drawn[0], color=BLUE, alpha=0.22, lw=0)
        for start in params.phase_starts[1:]:
            axis.axvline(start * params.steps, color="black", lw=0.9, ls=":")
        axis.set_ylabel(label, fontsize=9)
        axis.margins(y=0.16)
        if np.ptp(axis.dataLim.intervaly) == 0:  # a flat line: the axis from 0, not a magnified nothing
            axis.set_ylim(min(0, 1.2 * axis.dataLim.y0) - 0.1, max(1, 1.2 * axis.dataLim.y0))
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=label == "interferers", min_n_ticks=2))
    for number, (start, stop) in enumerate(zip(borders[:-1], borders[1:], strict=True), start=1):
        text = f"phase {number}" if stop - start > 0.1 else f"{number}" if stop - start > 0.025 else ""
        place = {"transform": axes[0].transAxes, "ha": "center", "va": "bottom"}
        axes[0].text((start + stop) / 2, 1.03, text, fontsize=9, color=GREY, **place)
    figure.align_ylabels(axes)
    figure.get_layout_engine().set(h_pad=0.07)
    axes[-1].set(xlabel="step", xlim=(0, params.steps))
    axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    if baseline is not None:
        handles = [Line2D([], [], color=BLUE, lw=1.8), Line2D([], [], color=GREY, ls="--", lw=1.4)]
        legend(figure, handles, ["this curriculum", "baseline"])
    return figure
