"""Mixtures to batches: item i of a dataset is mixture i, whichever process makes it."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hifitse import HifitseError
from hifitse.data.conditions import Conditions, training_conditions
from hifitse.data.mixing import Mixer, Mixture
from hifitse.params import Params

Batch = dict[str, Any]
"""mix (B, T), target (B, T), enroll (B, N, T') float32; present (B,) bool; metadata: list of B dicts.

Where asked for, wrong_enroll (B, N, T'): silence for a mixture without interferer.
"""


GRACE_S = 3.0
"""s: how long a worker goes on after SIGTERM."""


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
            self._last = (number, super().__getitem__(number))
        return swapped(self._last[1]) if index % 2 else self._last[1]


def swapped(mixture: Mixture) -> Mixture:
    """The same mixture with its loudest interferer, always present, as the target; one without ``wrong_enroll`` comes back as it is.

    The metadata stay those of the mixture as it was drawn, but for ``id``, ``present`` and the mark ``swapped``.
    """
    if mixture.wrong_enroll is None:
        return mixture
    metadata = mixture.metadata | {"id": f"{mixture.metadata['id']}-swapped", "present": True, "swapped": True}
    interferers = np.concatenate([mixture.target[None], mixture.interferers[1:]])
    return Mixture(mixture.mix, mixture.interferers[0], interferers, mixture.noise, mixture.wrong_enroll, mixture.enroll, metadata)


class TrainingConditions:
    """The curriculum as a function of the index; a class, so that it can be sent to a process that was not forked."""

    def __init__(self, params: Params) -> None:
        self.params = params

    def __call__(self, index: int) -> Conditions:
        return training_conditions(self.params, index)


def collate(mixtures: list[Mixture]) -> Batch:
    """Mixtures of one length -> :data:`Batch`.

    Raises:
        HifitseError: different lengths; those need ``batch_size=1``.
    """
    lengths = sorted({len(mixture.mix) for mixture in mixtures})
    if len(lengths) > 1:
        raise HifitseError(f"mixtures of a batch have {lengths} samples, allowed is one length (batch_size=1 for a list of several)")
    batch: Batch = {name: torch.from_numpy(np.stack([getattr(each, name) for each in mixtures])) for name in ("mix", "target", "enroll")}
    batch["present"] = torch.tensor([each.metadata["present"] for each in mixtures])
    batch["metadata"] = [each.metadata for each in mixtures]
    if any(each.wrong_enroll is not None for each in mixtures):
        wrong = [np.zeros_like(each.enroll) if each.wrong_enroll is None else each.wrong_enroll for each in mixtures]
        batch["wrong_enroll"] = torch.from_numpy(np.stack(wrong))
    return batch


class _Batched(Dataset):
    """A batch of a dataset for a list of indices; a :class:`HifitseError` is handed over as it is, not raised with a worker's stack."""

    def __init__(self, dataset: MixtureDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, indices: list[int]) -> Batch | HifitseError:
        try:
            return collate([self.dataset[index] for index in indices])
        except HifitseError as error:
            return error


class Batches:
    """Batches of the indices ``first`` to ``last - 1`` in order; each iteration gives the same ones.

    Args:
        dataset: where they come from.
        first, last: indices.
        batch_size: mixtures of a batch, the last one may have fewer.
        workers: processes that make them; 0 makes them in this one. They leave SIGINT to this process, and go on for 3 s after SIGTERM.

    Raises:
        HifitseError: a mixture cannot be made, or a worker was killed.
    """

    def __init__(self, dataset: MixtureDataset, first: int, last: int, batch_size: int, workers: int) -> None:
        self._loader = DataLoader(
            _Batched(dataset),
            batch_size=None,
            sampler=_Spans(first, last, batch_size),
            num_workers=workers,
            collate_fn=_as_is,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            # Forked workers share the lists of files; where there is no fork they are sent.
            multiprocessing_context=("fork" if sys.platform == "linux" else "spawn") if workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads; the workers use numpy and one torch thread only.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            batches = iter(self._loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "worker" not in str(error):
                    raise
                first_line = str(error).splitlines()[0]
                advice = "start again, with fewer workers if memory was short"
                raise HifitseError(f"a process that makes mixtures ended ({first_line}): {advice}") from error
            if isinstance(batch, HifitseError):
                raise batch
            yield batch


class _Spans:
    """Lists of consecutive indices, made when they are asked for: a run may have a hundred million."""

    def __init__(self, first: int, last: int, size: int) -> None:
        self.first, self.last, self.size = first, last, size

    def __len__(self) -> int:
        return max(0, -(-(self.last - self.first) // self.size))

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(self.first, self.last, self.size):
            yield list(range(start, min(start + self.size, self.last)))


def _as_is(batch: Batch | HifitseError) -> Batch | HifitseError:
    return batch


def _start_worker(_: int) -> None:
    """A stop is the main process's affair: it ends after a whole step, and tells the workers then.

    A terminal's or a scheduler's signal reaches the whole group, so workers ignore SIGINT. They must heed SIGTERM, with which a main
    process without time clears them away, but first leave it the seconds that it needs for the batches of a step already begun.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, GRACE_S))
    torch.set_num_threads(1)


def training_loader(params: Params, mixer: Mixer, first_index: int = 0, count: int | None = None) -> Batches:
    """Batches of the training from mixture ``first_index`` on, ``count`` mixtures or all that the run has left.

    The batches of a resumed run are those of an uninterrupted one, whatever ``params.workers`` is.
    """
    total = params.steps * params.batch_size * params.accumulation
    last = total if count is None else first_index + count
    kind = BothTalkers if params.both_talkers else MixtureDataset
    wrong_enroll = params.both_talkers or params.loss_speaker > 0
    # A fine-tuning hears mixtures of its own: those of its seed are the ones that the run it starts from heard first.
    seed = (params.seed + int(params.start_from[:7], 16)) % 2**31 if params.start_from else params.seed
    dataset = kind(mixer, seed, TrainingConditions(params), wrong_enroll)
    return Batches(dataset, first_index, last, params.batch_size, params.workers)


def list_loader(
    params: Params, mixer: Mixer, seed: int, conditions: Sequence[Conditions], batch_size: int = 1, wrong_enroll: bool = False
) -> Batches:
    """Batches of a fixed list, such as one of :func:`hifitse.data.conditions.evaluation_conditions` with ``params.eval_seed``."""
    return Batches(MixtureDataset(mixer, seed, conditions, wrong_enroll), 0, len(conditions), batch_size, params.workers)
