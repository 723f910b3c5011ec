"""A panel for JupyterLab: choose a test mixture, how loud the others are and whose enrolment is given; listen and look."""

from dataclasses import replace

import numpy as np
import torch
from IPython.display import HTML, clear_output, display

from hifitse import figures, players
from hifitse.data.conditions import evaluation_conditions
from hifitse.data.mixing import Mixture
from hifitse.experiment import Arm
from hifitse.listening import rebuild
from hifitse.metrics import level_db, si_sdr
from hifitse.show import picture
from hifitse.style import FRAGMENTS
from hifitse.validation import estimate


def is_live() -> bool:
    """Whether somebody sits before the notebook: papermill and nbconvert tell the kernel that nobody can type."""
    from IPython import get_ipython

    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def remix(mixture: Mixture, sir_db: float) -> np.ndarray:
    """The mixture ``(T,)`` with every interferer brought to ``sir_db`` below the target; as it is where the target is absent.

    Args:
        mixture: its parts stay as they are.
        sir_db: dB, target to each interferer, by RMS over the whole mixture.
    """
    if not np.any(mixture.target):
        return mixture.mix
    levels = level_db(torch.from_numpy(np.vstack([mixture.target[None], mixture.interferers]))).numpy()  # (1 + I,)
    gains = 10 ** ((levels[0] - levels[1:] - sir_db) / 20)
    return (mixture.target + gains @ mixture.interferers + mixture.noise).astype(np.float32)


def show(arm: Arm, index: int, sir_db: float, kind: str) -> None:
    """Extract from one test mixture and display the numbers, the spectrograms and the players.

    Args:
        arm: a trained arm.
        index: of the test list.
        sir_db: as in :func:`remix`.
        kind: "right", "wrong" or "zero".
    """
    mixture = rebuild({"list": "test", "index": index}, arm.evaluation)
    if kind == "wrong" and mixture.wrong_enroll is None:
        print("this mixture has no wrong enrolment, for its target is absent or alone: the right one is used")
        kind = "right"
    mixture = replace(mixture, mix=remix(mixture, sir_db))
    est = estimate(arm.run.extractor(), [mixture], kind, "cpu")[0].numpy()
    target = torch.from_numpy(mixture.target)
    if target.any():
        after, before = (float(si_sdr(torch.from_numpy(signal), target)) for signal in (est, mixture.mix))
        print(f"SI-SDR {before:+.1f} dB before, {after:+.1f} dB after, improvement {after - before:+.1f} dB")
    else:
        print("the target is absent: silence is right")
    clips = {"mixture": mixture.mix, "target": mixture.target, "estimate": est}
    enroll = {"right": mixture.enroll, "wrong": mixture.wrong_enroll, "zero": np.zeros_like(mixture.enroll)}[kind]
    display(picture(figures.spectrograms(clips), f"Spectrograms of test mixture {index}, {kind} enrolment"))
    listen = players.players(clips | {"enrolment": enroll[0]}, f"test mixture {index}, {kind} enrolment")
    display(HTML(f"<style>{FRAGMENTS}</style>{listen}"))


def panel(arm: Arm) -> object:
    """The panel as a widget, or one line of text where nobody is there to use it."""
    if not is_live():
        return HTML("<p>In JupyterLab this cell shows a panel: choose a test mixture, its SIR and the enrolment, then listen.</p>")
    import ipywidgets as widgets

    count = len(evaluation_conditions(arm.evaluation)["test"])
    index = widgets.BoundedIntText(value=0, min=0, max=count - 1, description="mixture")
    sir = widgets.FloatSlider(value=0, min=-10, max=20, step=1, description="SIR, dB", continuous_update=False)
    kind = widgets.ToggleButtons(options={"right": "right", "wrong": "wrong", "silent": "zero"}, description="enrolment")
    button = widgets.Button(description="extract", button_style="primary")
    output = widgets.Output()

    def work(_: object = None) -> None:
        button.disabled = True
        try:
            with output:
                clear_output(wait=True)
                show(arm, index.value, sir.value, kind.value)
        finally:
            button.disabled = False

    button.on_click(work)
    return widgets.VBox([widgets.HBox([index, sir]), widgets.HBox([kind, button]), output])
