"""A JupyterLab panel: choose the speakers, their levels and the enrolment, or use files of your own; then look and listen.

Each change triggers one extraction. Errors are shown as one sentence.
"""

import html
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from IPython.display import HTML, clear_output, display

from hifitse import HifitseError
from hifitse.commands import trial
from hifitse.commands.trial import Scene, Scenes
from hifitse.decode import SUFFIXES
from hifitse.evaluation.experiment import Arm
from hifitse.machine import is_live
from hifitse.model import Extractor

AS_DRAWN = ("as drawn", "drawn")
SIR_DB = [AS_DRAWN, *((f"{value} dB", float(value)) for value in range(-15, 21, 5))]
SNR_DB = [AS_DRAWN, *((f"{value} dB", float(value)) for value in range(-10, 31, 5)), ("no noise", math.inf)]
ROOMS = [AS_DRAWN, ("with a room", True), ("without a room", False)]
OWN = ("mixture", "enrolment")
HINT = "<p>Change anything, or press <b>extract</b>. Only the first 30 s of a file are used. Give the path of a file above 10 MB.</p>"
STALE = "hifitse-stale"  # CSS class of a result that does not match the widgets' settings
LAYOUT, AUTO = {"width": "min(100%, 400px)"}, {"width": "auto"}
LIVE = "<p>In JupyterLab this cell shows a panel: choose a test mixture, its speakers, ratios and enrolment, or drop in own files; "
LIVE += "then look and listen.</p>"


class Panel:
    """State of the panel; ``box`` is the widget to display."""

    def __init__(self, arm: Arm) -> None:
        self.arm, self.quiet = arm, False
        self.scenes = Scenes(arm.evaluation)
        self.files: dict[str, np.ndarray] = {}
        self.shown: tuple | None = None
        self._make()
        self._speakers()

    @cached_property
    def extractor(self) -> Extractor:
        return self.arm.run.extractor()

    def _make(self) -> None:
        made, last = {"style": {"description_width": "110px"}, "layout": LAYOUT}, self.arm.evaluation.eval_mixtures - 1
        slider, buttons = {"continuous_update": False} | made, {"style": made["style"] | {"button_width": "auto"}}
        self.index = widgets.BoundedIntText(value=0, min=0, max=last, description=f"mixture (0-{last})", **made)
        self.target = widgets.Dropdown(description="target", **made)
        self.interferers = widgets.SelectMultiple(description="interferers", rows=4, **made)
        self.sir, self.snr = (
            widgets.SelectionSlider(options=options, description=name, **slider) for name, options in (("SIR", SIR_DB), ("SNR", SNR_DB))
        )
        self.room = widgets.Dropdown(options=ROOMS, description="room", **made)
        self.kind = widgets.ToggleButtons(options=trial.ENROLMENTS, description="enrolment", **buttons)
        self.source = widgets.ToggleButtons(options=["test list", "own file"], description="mixture", **buttons)
        file = {"accept": ",".join(sorted(SUFFIXES)), "tooltip": "up to 10 MB", "layout": AUTO}
        self.uploads = {name: widgets.FileUpload(description=f"own {name}", **file) for name in OWN}
        text = {"continuous_update": False, "layout": LAYOUT}
        self.paths = {name: widgets.Text(placeholder=f"or the path of an own {name}", **text) for name in OWN}
        self.reasons, self.style = widgets.HTML(), widgets.HTML(f"<style>.{STALE} {{ opacity: 0.35 }}</style>")
        self.button = widgets.Button(description="extract", button_style="primary")
        self.message, self.output = widgets.HTML(HINT), widgets.Output()
        for widget in (self.target, self.interferers, self.sir, self.snr, self.room, self.kind, self.source):
            widget.observe(partial(self._do, self._extract), "value")
        self.index.observe(partial(self._do, self._chosen), "value")
        for name in OWN:
            self.uploads[name].observe(partial(self._do, partial(self._dropped, name)), "value")
            self.paths[name].observe(partial(self._do, partial(self._named, name)), "value")
        self.button.on_click(partial(self._do, self._extract))
        files = [[self.uploads[name], self.paths[name]] for name in OWN]
        rows = [[self.index], [self.target, self.room], [self.interferers], [self.sir, self.snr], [self.reasons, self.style]]
        rows += [[self.source, *files[0]], [self.kind, *files[1]], [self.button]]
        lines = [widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        self.box = widgets.VBox([*lines, self.message, self.output])

    # ---- actions of the user

    def _do(self, what: Callable[[Any], None], change: Any) -> None:
        """Handle a change made by the user. On an error, show its message and keep the previous result."""
        if self.quiet:
            return
        self.button.disabled, self.message.value = True, "<p role='status'>extracting ...</p>"
        said = ""
        try:
            with self.output:  # shows the traceback of any other exception
                try:
                    what(change["new"] if isinstance(change, dict) else None)
                except HifitseError as error:
                    said = f"<p role='alert'><b>{html.escape(str(error))}</b></p>"
        finally:
            stale = self.shown is not None and self.shown != self._settings()
            (self.output.add_class if stale else self.output.remove_class)(STALE)
            said += "<p>The result below belongs to other settings.</p>" if stale else ""
            self.button.disabled, self.message.value = False, said

    def _chosen(self, _: object) -> None:
        """Switch to another mixture and select its speakers."""
        self._speakers()
        self._extract()

    def _dropped(self, name: str, files: Any) -> None:
        """Load an uploaded file. If it cannot be used, the previous one stays."""
        if files:
            self._own(name, trial.decode_upload(files[0]))

    def _named(self, name: str, path: str) -> None:
        """Load a file by its path, like :meth:`_dropped`."""
        if path := path.strip():
            self._own(name, trial.read(Path(path).expanduser(), path))

    def _own(self, name: str, signal: np.ndarray) -> None:
        self.files[name] = signal
        with self._silently():
            if name == "mixture":
                self.source.value = "own file"
            else:
                self.kind.value = "own"
        self._extract()

    # ---- reactions of the panel

    @contextmanager
    def _silently(self) -> Iterator[None]:
        """Change widgets inside this context without triggering extractions."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False

    def _settings(self) -> tuple:
        """Return everything that a result depends on."""
        chosen = (self.index, self.target, self.interferers, self.sir, self.snr, self.room, self.kind, self.source)
        return (*(widget.value for widget in chosen), *(id(signal) for signal in self.files.values()))

    def _speakers(self) -> None:
        """Offer the test speakers and select those of the mixture. Disable rooms and noise if they are not loaded."""
        drawn, acoustics = self.scenes.scene(Scene(self.index.value)).metadata, self.scenes.acoustics
        lacking = [(self.room, acoustics.rooms, "No rooms are loaded: reverb_prob is 0.")]
        lacking += [(self.snr, acoustics.noises, "No noise is loaded: noise_prob is 0.")]
        with self._silently():
            for widget, loaded, _ in lacking:
                widget.disabled = loaded is None
                widget.value = AS_DRAWN[1] if widget.disabled else widget.value
            self.reasons.value = " ".join(why for _, loaded, why in lacking if loaded is None)
            names = sorted(self.scenes.speakers)
            self.drawn = (drawn["target_speaker"], tuple(drawn["interferer_speakers"]))
            for widget, value in zip((self.target, self.interferers), self.drawn, strict=True):
                widget.options, widget.value = names, value

    def _extract(self, _: object = None) -> None:
        if self.source.value == "own file":
            if "mixture" not in self.files:
                raise HifitseError("no mixture of your own is loaded, expected an uploaded sound or video file, or its path")
            mixture = trial.own_mixture(self.files["mixture"])
        else:  # for unchanged speakers the order of the list is kept, and so each one's level
            target, others = self.target.value, tuple(self.interferers.value)
            if target == self.drawn[0] and set(others) == set(self.drawn[1]):
                target, others = None, None
            ratios = (None if each.value == AS_DRAWN[1] else each.value for each in (self.sir, self.snr, self.room))
            mixture = self.scenes.scene(Scene(self.index.value, target, others, *ratios))
        found = trial.shown(trial.extract(self.extractor, mixture, self.kind.value, self.files.get("enrolment")))
        clear_output(wait=True)
        display(found)
        self.shown = self._settings()


def panel(arm: Arm) -> Any:
    """Return the panel of a trained arm as a widget, or one line of text if the notebook does not run interactively."""
    return Panel(arm).box if is_live() else HTML(LIVE)
