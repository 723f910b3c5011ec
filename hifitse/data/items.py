"""Indices to mixtures: item i of a dataset is mixture i, whichever process makes it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from hifitse.data.conditions import Conditions
from hifitse.data.mixing import PEAK, Mixer, Mixture
from hifitse.data.surroundings import power


class MixtureDataset(Dataset):
    """Map-style dataset; item i is the :class:`Mixture` of index i, a pure function of the arguments.

    Args:
        mixer: makes the mixtures.
        seed: seed of all of them.
        conditions: a list by index, or a function of the index.
        wrong_enroll: also draw enrolments of an interferer.
    """

    def __init__(
        self, mixer: Mixer, seed: int, conditions: Sequence[Conditions] | Callable[[int], Conditions], wrong_enroll: bool = False
    ) -> None:
        self.mixer, self.seed, self.wrong_enroll = mixer, seed, wrong_enroll
        self.conditions = conditions

    def __len__(self) -> int:
        if callable(self.conditions):
            raise TypeError("a dataset whose conditions are a function has no length")
        return len(self.conditions)

    def __getitem__(self, index: int) -> Mixture:
        conditions = self.conditions(index) if callable(self.conditions) else self.conditions[index]
        return self.mixer.mixture(self.seed, index, conditions, self.wrong_enroll)


class BothTalkers(MixtureDataset):
    """Each mixture twice: item 2 k asks for its target, item 2 k + 1 for its loudest interferer, each with an enrolment of their own.

    The same sound must then give two different voices, and the enrolment alone says which: a batch with both teaches its use
    from the first step on. A mixture without interferer comes twice as it is.
    """

    _last: tuple[int, Mixture] | None = None

    def __getitem__(self, index: int) -> Mixture:
        number = index - index % 2
        if self._last is None or self._last[0] != number:
            self._last = (number, self._pair(number))
        return swapped(self._last[1]) if index % 2 else self._last[1]

    def _pair(self, number: int) -> Mixture:
        """The mixture of items ``number`` and ``number + 1``."""
        return super().__getitem__(number)


def swapped(mixture: Mixture) -> Mixture:
    """The same mixture with its loudest interferer, always present, as the target; one without ``wrong_enroll`` comes back as it is.

    The metadata stay those of the mixture as it was drawn, but for ``id``, ``present`` and the mark ``swapped``.
    """
    if mixture.wrong_enroll is None:
        return mixture
    metadata = mixture.metadata | {"id": f"{mixture.metadata['id']}-swapped", "present": True, "swapped": True}
    interferers = np.concatenate([mixture.target[None], mixture.interferers[1:]])
    return Mixture(mixture.mix, mixture.interferers[0], interferers, mixture.noise, mixture.wrong_enroll, mixture.enroll, metadata)


class Remixed(BothTalkers):
    """Each batch's mixtures ``remix`` times: the second time every target has the loudest interferer of the next mixture, and so on.

    Sources of a batch are mixed anew in music separation (Demucs, Défossez et al. 2019); here each voice brings its enrolment along.
    An item is a pure function of its index still: items ``batch_size * g`` onward are made from ``batch_size / (2 * remix)`` drawn
    mixtures of their own. The new interferer takes the old one's power, so that the ratio drawn for the mixture holds. In rooms, each
    voice keeps its own. Where the next mixture's interferer is the target himself, or there is none, the one after it is taken.

    Args:
        batch_size: items of a group; a multiple of ``2 * remix``.
        remix: mixtures in which each voice is heard; 1 is :class:`BothTalkers`.
        others: as :class:`hifitse.data.dataset.MixtureDataset`.
    """

    def __init__(self, *args: object, batch_size: int, remix: int) -> None:
        super().__init__(*args)
        self.batch_size, self.remix = batch_size, remix
        self.drawn = batch_size // (2 * remix)
        self._group: tuple[int, dict[int, Mixture]] = (-1, {})

    def _pair(self, number: int) -> Mixture:
        group, item = divmod(number, self.batch_size)
        turn, member = divmod(item // 2, self.drawn)
        mixture = self._drawn(group, member)
        for step in range(turn, self.drawn if turn else 0):
            other = self._drawn(group, (member + step) % self.drawn)
            if other.wrong_enroll is not None and other.metadata["interferer_speakers"][0] != mixture.metadata["target_speaker"]:
                return remixed(mixture, other, turn)
        return mixture

    def _drawn(self, group: int, member: int) -> Mixture:
        """The mixtures of a group lie evenly over its items, so that the curriculum sees them where they belong."""
        if self._group[0] != group:
            self._group = (group, {})
        if member not in self._group[1]:
            self._group[1][member] = super()._pair(group * self.batch_size + 2 * self.remix * member)
        return self._group[1][member]


def remixed(mixture: Mixture, other: Mixture, turn: int) -> Mixture:
    """The mixture with the loudest interferer of another one in place of its own, as loud as that was; one without any comes back as it is.

    Args:
        mixture, other: of one length; ``other`` has an interferer with an enrolment.
        turn: goes into the name.
    """
    if mixture.wrong_enroll is None:
        return mixture
    ratio = np.float32(np.sqrt(power(mixture.interferers[0]) / power(other.interferers[0])))
    interferers = np.concatenate([other.interferers[:1] * ratio, mixture.interferers[1:]])
    mix = mixture.target + interferers.sum(0) + mixture.noise
    parts = {"mix": mix, "target": mixture.target, "interferers": interferers, "noise": mixture.noise}
    peak = max(float(np.abs(part).max(initial=0)) for part in parts.values())
    if peak > PEAK:
        parts = {name: part * np.float32(PEAK / peak) for name, part in parts.items()}
    metadata = mixture.metadata | {"id": f"{mixture.metadata['id']}-remix{turn}", "similarity": None}
    for name in ("speakers", "utterances", "starts_s", "speeds"):
        key = f"interferer_{name}"
        metadata[key] = [other.metadata[key][0], *mixture.metadata[key][1:]]
    return replace(mixture, **parts, wrong_enroll=other.wrong_enroll, metadata=metadata)
