"""Indices to mixtures: item i of a dataset is mixture i, whichever process makes it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hifitse.data.conditions import Conditions
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import Scene

Place = tuple[int, bool]
"""Number of a mixture, and whether its loudest interferer is asked for."""


class MixtureDataset(Dataset):
    """Map-style dataset; item i is the :class:`Mixture` of index i, a pure function of the arguments.

    ``conditions`` are a list by index, or a function of the index; ``wrong_enroll``: also draw enrolments of an interferer.
    """

    def __init__(
        self, mixer: Mixer, seed: int, conditions: Sequence[Conditions] | Callable[[int], Conditions], wrong_enroll: bool = False
    ) -> None:
        self.mixer, self.seed, self.conditions, self.wrong_enroll = mixer, seed, conditions, wrong_enroll

    def __len__(self) -> int:
        return len(self.conditions)

    def __getitem__(self, index: int) -> Mixture:
        return self.mixer.mixture(*self._of(index))

    def _of(self, index: int) -> tuple[int, int, Conditions, bool]:
        conditions = self.conditions(index) if callable(self.conditions) else self.conditions[index]
        return self.seed, index, conditions, self.wrong_enroll

    def drawn(self, indices: Sequence[int]) -> tuple[list[Scene], list[Place]]:
        """The scenes of items, and for each item which of them it is, and whether its loudest interferer is asked for."""
        return [self.mixer.draw(*self._of(index)) for index in indices], [(place, False) for place in range(len(indices))]


class BothTalkers(MixtureDataset):
    """Each mixture twice: item 2 k asks for its target, item 2 k + 1 for its loudest interferer, each with an enrolment of their own.

    The same sound must then give two different voices, and the enrolment alone says which: a batch with both teaches its use
    from the first step on. A mixture without interferer comes twice as it is.
    """

    _last: tuple[int, Mixture] | None = None

    def __getitem__(self, index: int) -> Mixture:
        number = index - index % 2
        if self._last is None or self._last[0] != number:
            self._last = (number, super().__getitem__(number))
        return swapped(self._last[1]) if index % 2 else self._last[1]

    def drawn(self, indices: Sequence[int]) -> tuple[list[Scene], list[Place]]:
        numbers = sorted({index - index % 2 for index in indices})
        return super().drawn(numbers)[0], [(numbers.index(index - index % 2), bool(index % 2)) for index in indices]


def swapped(mixture: Mixture) -> Mixture:
    """The same mixture with its loudest interferer, always present, as the target; one without ``wrong_enroll`` comes back as it is.

    The metadata stay those of the mixture as it was drawn, but for ``id``, ``present`` and the mark ``swapped``.
    """
    if mixture.wrong_enroll is None:
        return mixture
    metadata = swapped_metadata(mixture.metadata)
    interferers = np.concatenate([mixture.target[None], mixture.interferers[1:]])
    return Mixture(mixture.mix, mixture.interferers[0], interferers, mixture.noise, mixture.wrong_enroll, mixture.enroll, metadata)


def swapped_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a swapped mixture."""
    return metadata | {"id": f"{metadata['id']}-swapped", "present": True, "swapped": True}
