"""One mixture, as a pure function of parameters, split, seed, index and conditions: its scene drawn, and made into sound."""

from typing import Literal

from hifitse.data.conditions import Conditions, evaluation_conditions, training_conditions, validation_conditions
from hifitse.data.drawing import Drawing
from hifitse.data.rendering import PEAK, Mixture, Renderer
from hifitse.machine import keep_freed_memory
from hifitse.params import Params

__all__ = ["PEAK", "Conditions", "Mixer", "Mixture", "evaluation_conditions", "training_conditions", "validation_conditions"]


class Mixer(Drawing):
    """Mixtures of one split. Keeps, beside what :class:`hifitse.data.drawing.Drawing` keeps, ``cache_mb`` of decoded noise and as much of
    room responses, or 64 MB where that is more.

    Arguments and errors as there.
    """

    keeps_memory = True

    def __init__(self, params: Params, split: Literal["train", "valid", "test"]) -> None:
        if self.keeps_memory:
            keep_freed_memory()
        super().__init__(params, split)
        rooms = self.acoustics.rooms
        self.renderer = Renderer(self.reader, self.acoustics.reader, rooms.root if rooms else None, params.cache_mb * 2**20)

    def mixture(self, seed: int, index: int, conditions: Conditions, wrong_enroll: bool = False) -> Mixture:
        """Mixture number ``index`` of ``seed``; arguments and errors as :meth:`hifitse.data.drawing.Drawing.draw`."""
        return self.renderer.mixture(self.draw(seed, index, conditions, wrong_enroll))
