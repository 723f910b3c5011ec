"""The curriculum as a figure: how hard the mixtures are from the first step of a training to the last."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hifitse.data.conditions import Conditions, training_conditions
from hifitse.params import Params
from hifitse.report.figures import BLUE, DPI, GREY, STYLE, WIDTH
from hifitse.report.labels import legend

PANELS = {
    "target-to-noise\nratio, dB": ("snr_min_db", "snr_max_db", 1),
    "interferers": ("interferers_min", "interferers_max", 1),
    "target absent,\n% of mixtures": ("absent_prob", None, 100),
    "noisy enrolment,\n% of mixtures": ("noisy_enroll_prob", None, 100),
    "similarity of\ninterferers": ("similarity", None, 1),
}
"""Label of a panel -> lower and upper parameter, and the factor to the label's unit."""


def _course(params: Params) -> tuple[np.ndarray, list[Conditions]]:
    """Steps at which each phase starts and ends (2 P,), and the conditions there; between them all runs in a straight line."""
    borders = [*params.phase_starts, 1.0]
    shares = [share for start, stop in zip(borders[:-1], borders[1:], strict=True) for share in (start, stop - 1e-9 * (stop - start))]
    total = params.steps * params.batch_size
    return np.array(shares) * params.steps, [training_conditions(params, share * total) for share in shares]


def _values(params: Params, conditions: Sequence[Conditions], name: str, factor: float) -> np.ndarray:
    if name == "similarity":
        return np.array([params.at_phase(name, each.phase) for each in conditions], float)
    return factor * np.array([getattr(each, name) for each in conditions], float)


def _varies(drawn: Sequence[tuple[np.ndarray, list[np.ndarray]]]) -> bool:
    """Whether the lower or the upper limit changes, or is another for the baseline."""
    return any(np.ptp(np.concatenate(limit)) > 0 for limit in zip(*(limits for _, limits in drawn), strict=True))


@matplotlib.rc_context(STYLE)
def schedule(params: Params, baseline: Params | None = None) -> Figure:
    """The curriculum over the steps of the training, as :func:`hifitse.data.conditions.training_conditions` draws from it.

    Panels that stay the same throughout, for both, are left out; if all do, all are shown.

    Args:
        params: whose curriculum is drawn in colour, phases parted by dotted lines.
        baseline: whose curriculum is drawn in grey, dashed.
    """
    sides = [(each, *_course(each)) for each in (params, baseline) if each is not None]
    curves = {
        label: [(steps, [_values(each, found, name, factor) for name in names if name]) for each, steps, found in sides]
        for label, (*names, factor) in PANELS.items()
    }
    panels = {label: drawn for label, drawn in curves.items() if _varies(drawn)} or curves
    figure = Figure(figsize=(WIDTH, 1.25 * len(panels) + 0.9), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    for axis, (label, drawn) in zip(axes, panels.items(), strict=True):
        for number, (steps, limits) in reversed(list(enumerate(drawn))):
            style = {"color": GREY, "ls": "--", "lw": 1.4, "zorder": 3} if number else {"color": BLUE, "lw": 1.8}
            if len(limits) == 2 and not number:
                axis.fill_between(steps, *limits, color=BLUE, alpha=0.22, lw=0)
            for values in limits:
                axis.plot(steps, values, **style)
        for start in params.phase_starts[1:]:
            axis.axvline(start * params.steps, color="black", lw=0.9, ls=":")
        axis.set_ylabel(label, fontsize=9)
        axis.set_xlim(0, params.steps)
        axis.margins(y=0.16)
        if np.ptp(axis.dataLim.intervaly) == 0:  # a flat line: the axis from 0, not a magnified nothing
            axis.set_ylim(min(0, 1.2 * axis.dataLim.y0) - 0.1, max(1, 1.2 * axis.dataLim.y0))
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=label == "interferers", min_n_ticks=2))
    figure.align_ylabels(axes)
    figure.get_layout_engine().set(h_pad=0.07)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    _name_phases(axes[0], params)
    if baseline is not None:
        handles = [Line2D([], [], color=BLUE, lw=1.8), Line2D([], [], color=GREY, ls="--", lw=1.4)]
        legend(figure, handles, ["this curriculum", "baseline"])
    return figure


def _name_phases(axis: Axes, params: Params) -> None:
    """Numbers above the phases, with the word where there is room for it."""
    borders = [*params.phase_starts, 1.0]
    for number, (start, stop) in enumerate(zip(borders[:-1], borders[1:], strict=True), start=1):
        text = f"phase {number}" if stop - start > 0.1 else f"{number}" if stop - start > 0.025 else ""
        axis.text((start + stop) / 2, 1.03, text, transform=axis.transAxes, ha="center", va="bottom", fontsize=9, color=GREY)
