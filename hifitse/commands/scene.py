"""A mixture of the test list, changed by hand: other speakers, other ratios, with or without a room; all else stays as it was drawn."""

import copy
import math
from dataclasses import dataclass, replace

from hifitse import HifitseError
from hifitse.data.conditions import evaluation_conditions
from hifitse.data.mixing import Mixer, Mixture
from hifitse.evaluation.evaluate import listed_mixture
from hifitse.params import Params


@dataclass(frozen=True)
class Scene:
    """What to take from the test list and what to change; ``None`` is: as drawn.

    Attributes:
        index: of the test list.
        target, interferers: names of test speakers, of the latter 0 to 8.
        sir_db: dB, target to each interferer, -40 to 40.
        snr_db: dB, target to noise, -40 to 60; infinity: without noise.
        room: with or without one.
    """

    index: int = 0
    target: str | None = None
    interferers: tuple[str, ...] | None = None
    sir_db: float | None = None
    snr_db: float | None = None
    room: bool | None = None


class Scenes(Mixer):
    """Makes scenes of the test speakers, rooms and noises of an evaluation's parameters; a scene without changes is the evaluation's own
    mixture. Errors as :class:`hifitse.data.mixing.Mixer`.
    """

    def __init__(self, params: Params) -> None:
        super().__init__(params, "test")
        self.conditions = evaluation_conditions(params)["test"]
        self.chosen: list[str] = []

    def scene(self, scene: Scene) -> Mixture:
        """The mixture of a scene. Raises HifitseError: what is asked for is not allowed, or the parameters have no noise or room for it."""
        self._check(scene)
        conditions = self.conditions[scene.index]
        made = copy.copy(self)  # rooms of enrolments stay those of self.acoustics, so that only the mixture changes
        values: dict[str, float] = {}
        if scene.target is not None or scene.interferers is not None:
            drawn = listed_mixture(self, self.params.eval_seed, scene.index, conditions).metadata
            target = scene.target or drawn["target_speaker"]
            others = drawn["interferer_speakers"] if scene.interferers is None else scene.interferers
            made.chosen = [target, *(name for name in others if name != target)]
            count = len(made.chosen) - 1
            conditions = replace(conditions, interferers_min=count, interferers_max=count)
        if scene.sir_db is not None:
            values |= {"sir_min_db": scene.sir_db, "sir_max_db": scene.sir_db}
        if scene.snr_db is not None:
            values["noise_prob"] = float(math.isfinite(scene.snr_db))
            if math.isfinite(scene.snr_db):
                conditions = replace(conditions, snr_min_db=scene.snr_db, snr_max_db=scene.snr_db)
        if scene.room is not None:
            made.acoustics = copy.copy(self.acoustics)
            made.acoustics.reverb_prob = float(scene.room)
        made.params = self.params.model_copy(update=values)
        return listed_mixture(made, self.params.eval_seed, scene.index, conditions)

    def _check(self, scene: Scene) -> None:
        if not 0 <= scene.index < len(self.conditions):
            raise HifitseError(f"mixture is {scene.index}, expected 0 to {len(self.conditions) - 1}")
        for name in (scene.target, *(scene.interferers or ())):
            if name is not None and name not in self.corpus.speakers:
                raise HifitseError(f"speaker is {name!r}, expected one of the test speakers: {', '.join(self.speakers[:5])} ...")
        if len(scene.interferers or ()) > 8:
            raise HifitseError(f"{len(scene.interferers)} interferers are asked for, expected 0 to 8")
        for name, value, high in (("SIR", scene.sir_db, 40), ("SNR", scene.snr_db, 60)):
            if value is not None and not -40 <= value <= high and not (name == "SNR" and value == math.inf):
                raise HifitseError(f"{name} is {value} dB, expected -40 to {high}")
        if scene.snr_db is not None and math.isfinite(scene.snr_db) and self.acoustics.noises is None:
            raise HifitseError(f"SNR is {scene.snr_db} dB and these parameters have no noise, expected parameters with noise_prob above 0")

    def _names(self, target: int, others: list[int], count: int, similarity: float) -> list[str]:
        # A mixture without target and noise has an interferer even where none was chosen.
        if not self.chosen:
            return super()._names(target, others, count, similarity)
        rest = (name for name in map(self.speakers.__getitem__, (target, *others)) if name not in self.chosen)
        return [*self.chosen, *rest][: count + 1]
