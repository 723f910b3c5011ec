"""A panel for JupyterLab: choose who speaks, how loud and whose enrolment is given, or drop in own files; look and listen.

Each change leads to one extraction, and what goes wrong is said in one sentence.
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
from hifitse.data.mixing import Mixture
from hifitse.decode import SUFFIXES
from hifitse.evaluation.experiment import Arm
from hifitse.machine import is_live
from hifitse.model import Extractor
from hifitse.params import Params

AS_DRAWN = ("as drawn", "drawn")
SIR_DB = [AS_DRAWN, *((f"{value} dB", float(value)) for value in range(-15, 21, 5))]
SNR_DB = [AS_DRAWN, *((f"{value} dB", float(value)) for value in range(-10, 31, 5)), ("no noise", math.inf)]
ROOMS = [AS_DRAWN, ("with a room", True), ("without a room", False)]
HINT = "<p>Change anything, or press <b>extract</b>. Of own files the first 30 s are used; give the path of one above 10 MB.</p>"
STALE = "hifitse-stale"  # class of a result that does not belong to what the widgets say
WIDE = {"description_width": "110px"}
LAYOUT = {"width": "min(100%, 400px)"}
LIVE = "<p>In JupyterLab this cell shows a panel: choose a test mixture, its speakers, ratios and enrolment, or drop in own files; "
LIVE += "then look and listen.</p>"


class Panel:
    """The state behind the panel; ``box`` is what is displayed."""

    def __init__(self, arm: Arm) -> None:
        self.arm, self.params, self.quiet = arm, arm.evaluation, False
        self.scenes: Scenes | None = None
        self.files: dict[str, np.ndarray] = {}
        self.shown: tuple | None = None
        self._kept: tuple[tuple[Params, Scene], Mixture] | None = None
        self._make()
        with self._working():
            self._ready()
        self.message.value = self.message.value or HINT

    @cached_property
    def extractor(self) -> Extractor:
        return self.arm.run.extractor()

    def _make(self) -> None:
        made, last = {"style": WIDE, "layout": LAYOUT}, self.params.eval_mixtures - 1
        buttons = WIDE | {"button_width": "auto"}
        self.corpus = widgets.Text(self.params.corpus, description="corpus", continuous_update=False, **made)
        self.index = widgets.BoundedIntText(value=0, min=0, max=last, description=f"mixture (0-{last})", **made)
        self.target = widgets.Dropdown(description="target", **made)
        self.interferers = widgets.SelectMultiple(description="interferers", rows=4, **made)
        self.sir, self.snr = (
            widgets.SelectionSlider(options=options, description=name, continuous_update=False, **made)
            for name, options in (("SIR", SIR_DB), ("SNR", SNR_DB))
        )
        self.room = widgets.Dropdown(options=ROOMS, description="room", **made)
        self.kind = widgets.ToggleButtons(options=trial.ENROLMENTS, description="enrolment", style=buttons)
        self.source = widgets.ToggleButtons(options=["test list", "own file"], description="mixture", style=buttons)
        own, accept, auto = ("mixture", "enrolment"), ",".join(sorted(SUFFIXES)), {"width": "auto"}
        self.uploads = {
            name: widgets.FileUpload(accept=accept, description=f"own {name}", tooltip="up to 10 MB", layout=auto) for name in own
        }
        self.paths = {
            name: widgets.Text(placeholder=f"or the path of an own {name}", continuous_update=False, layout=LAYOUT) for name in own
        }
        self.reasons = widgets.HTML(f"<style>.{STALE} {{ opacity: 0.35 }}</style>")
        self.button = widgets.Button(description="extract", button_style="primary")
        self.message, self.output = widgets.HTML(), widgets.Output()
        for widget in (self.target, self.interferers, self.sir, self.snr, self.room, self.kind, self.source):
            widget.observe(self._changed, "value")
        self.index.observe(partial(self._do, self._chosen), "value")
        self.corpus.observe(partial(self._do, self._moved), "value")
        for name in own:
            self.uploads[name].observe(partial(self._do, partial(self._dropped, name)), "value")
            self.paths[name].observe(partial(self._do, partial(self._named, name)), "value")
        self.button.on_click(self._changed)
        rows = [[self.corpus, self.index], [self.target, self.room], [self.interferers], [self.sir, self.snr]]
        rows += [[self.reasons], [self.source, self.uploads["mixture"], self.paths["mixture"]]]
        rows += [[self.kind, self.uploads["enrolment"], self.paths["enrolment"]], [self.button]]
        lines = [widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        self.box = widgets.VBox([*lines, self.message, self.output])

    # ---- what the reader does

    def _do(self, what: Callable[[Any], None], change: Any) -> None:
        """Answer a change that the reader made."""
        if not self.quiet:
            with self._working():
                what(change["new"])

    def _changed(self, _: object = None) -> None:
        if not self.quiet:
            with self._working():
                self._extract()

    def _chosen(self, _: object) -> None:
        """Another mixture: its own speakers are chosen."""
        self._ready()
        self._speakers()
        self._extract()

    def _moved(self, corpus: str) -> None:
        """Another corpus; where it cannot be used, the one before stays."""
        params = self.params.model_copy(update={"corpus": corpus.strip()})
        try:
            scenes = Scenes(params)
        except HifitseError:
            with self._silently():
                self.corpus.value = self.params.corpus
            raise
        self.params, self.scenes = params, scenes
        self._speakers()
        self._extract()

    def _dropped(self, name: str, files: Any) -> None:
        """An own file: where it cannot be used, what was there before stays."""
        if files:
            self._own(name, trial.decode_upload(files[0]))

    def _named(self, name: str, path: str) -> None:
        """As :meth:`_dropped`, of a path."""
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

    # ---- what follows

    @contextmanager
    def _silently(self) -> Iterator[None]:
        """Widgets change without an extraction for each."""
        self.quiet = True
        try:
            yield
        finally:
            self.quiet = False

    @contextmanager
    def _working(self) -> Iterator[None]:
        """No second press meanwhile; what goes wrong is said, and what was shown stays."""
        self.button.disabled, self.message.value = True, "<p role='status'>extracting ...</p>"
        said = ""
        try:
            with self.output:  # which shows the stack of any other exception
                try:
                    yield
                except HifitseError as error:
                    said = f"<p role='alert'><b>{html.escape(str(error))}</b></p>"
        finally:
            stale = self.shown is not None and self.shown != self._settings()
            (self.output.add_class if stale else self.output.remove_class)(STALE)
            said += "<p>The result below belongs to other settings.</p>" if stale else ""
            self.button.disabled, self.message.value = False, said

    def _settings(self) -> tuple:
        """What a result depends on."""
        chosen = (self.index, self.target, self.interferers, self.sir, self.snr, self.room, self.kind, self.source)
        return (self.params.corpus, *(widget.value for widget in chosen), *(id(signal) for signal in self.files.values()))

    def _ready(self) -> None:
        """Load the corpus, once."""
        if self.scenes is None:
            self.scenes = Scenes(self.params)
            self._speakers()

    def _speakers(self) -> None:
        """Offer the test speakers, and choose those of the mixture."""
        drawn = self._mixture(Scene(self.index.value)).metadata
        acoustics = self.scenes.acoustics
        with self._silently():
            self.room.disabled, self.snr.disabled = acoustics.rooms is None, acoustics.noises is None
            lacking = {"No rooms are loaded: reverb_prob is 0.": self.room, "No noise is loaded: noise_prob is 0.": self.snr}
            for widget in lacking.values():
                widget.value = AS_DRAWN[1] if widget.disabled else widget.value
            style = self.reasons.value.partition("</style>")[0]
            self.reasons.value = f"{style}</style>{' '.join(why for why, widget in lacking.items() if widget.disabled)}"
            names = sorted(self.scenes.speakers)
            self.target.options, self.target.value = names, drawn["target_speaker"]
            self.interferers.options, self.interferers.value = names, tuple(drawn["interferer_speakers"])
            self.drawn = (drawn["target_speaker"], tuple(drawn["interferer_speakers"]))

    def _scene(self) -> Scene:
        """What the widgets say; the speakers of the list in the order of the list, so that each keeps their level."""
        target, others = self.target.value, tuple(self.interferers.value)
        same = target == self.drawn[0] and set(others) == set(self.drawn[1])
        target, others = (None, None) if same else (target, others)
        sir, snr, room = (None if each.value == AS_DRAWN[1] else each.value for each in (self.sir, self.snr, self.room))
        return Scene(self.index.value, target, others, sir, snr, room)

    def _mixture(self, scene: Scene) -> Mixture:
        """The mixture of a scene; the last one is kept, for another enrolment of it."""
        place = (self.params, scene)
        if self._kept is None or self._kept[0] != place:
            self._kept = (place, self.scenes.scene(scene))
        return self._kept[1]

    def _extract(self) -> None:
        if self.source.value == "own file":
            if "mixture" not in self.files:
                raise HifitseError("no mixture was dropped in, expected 'own file' with one; sound and video files can be read")
            mixture = trial.own_mixture(self.files["mixture"])
        else:
            self._ready()
            mixture = self._mixture(self._scene())
        found = trial.shown(trial.extract(self.extractor, mixture, self.kind.value, self.files.get("enrolment")))
        clear_output(wait=True)
        display(found)
        self.shown = self._settings()


def panel(arm: Arm) -> Any:
    """The panel of a trained arm as a widget, or one line of text where nobody is there to use it."""
    return Panel(arm).box if is_live() else HTML(LIVE)
