"""Notebook 05: how hard the mixtures are from the first step of a training to the last."""

import numpy as np
from IPython.display import HTML, Image
from matplotlib.figure import Figure

from hifitse.data.scene import training_conditions
from hifitse.evaluation.experiment import Arm
from hifitse.params import Params
from hifitse.report.figures import BLUE, GREY, lines
from hifitse.report.page import piece
from hifitse.report.show import picture

PANELS = {
    "target-to-noise ratio, dB: lowest and highest": ("snr_min_db", "snr_max_db"),
    "interferers: fewest and most": ("interferers_min", "interferers_max"),
    "target absent, share of mixtures": ("absent_prob",),
    "noisy enrolment, share of mixtures": ("noisy_enroll_prob",),
    "similarity of interferers": ("similarity",),
}
"""Title of a panel -> its parameters."""
COLOURS = {"this curriculum": BLUE, "baseline": GREY}


def schedule(arm: Arm, baseline: Arm) -> list[HTML | Image]:
    """The curriculum of a variant beside the baseline's, with its name above, to be displayed one after the other."""
    starts = ", ".join(f"{100 * start:.0f} %" for start in arm.params.phase_starts)
    about = f"phases from {starts} of the steps"
    return [HTML(piece("heading", arm.name, about)), picture(course(arm.params, baseline.params), f"Curriculum of {arm.name}: {about}")]


def course(params: Params, baseline: Params) -> Figure:
    """Two curricula over the steps, as the training draws from them; panels that stay the same for both are left out."""
    panels, varying = {}, {}
    for title, names in PANELS.items():
        curves = {label: [_curve(each, name) for name in names] for label, each in zip(COLOURS, (params, baseline), strict=True)}
        panels[title] = {label: [point for one in mine for point in (*one, (np.nan, np.nan))] for label, mine in curves.items()}
        if any(len({value for one in of_both for _, value in one}) > 1 for of_both in zip(*curves.values(), strict=True)):
            varying[title] = panels[title]
    return lines(varying or panels, "step", colours=COLOURS)


def _curve(params: Params, name: str) -> list[tuple[float, float]]:
    """A parameter at many steps."""
    shares = np.linspace(0, 1, 401)[:-1]
    drawn = [training_conditions(params, share * params.steps * params.batch_size) for share in shares]
    values = [params.at_phase(name, each.phase) if name == "similarity" else getattr(each, name) for each in drawn]
    return list(zip(shares * params.steps, values, strict=True))
