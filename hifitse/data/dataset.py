"""Mixtures to batches, in order, by any number of processes."""

import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hifitse import HifitseError
from hifitse.data.batch_rendering import BatchRenderer
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import Conditions, Scene, training_conditions
from hifitse.machine import keep_freed_memory
from hifitse.params import Params

Place = tuple[int, bool]  # number of a mixture, and whether its loudest interferer is asked for
Batch = dict[str, Any]
"""mix (B, T), target (B, T), enroll (B, N, T') float32; present (B,) bool; metadata: list of B dicts.

Where asked for, wrong_enroll (B, N, T'): silence for a mixture without interferer. Where items share a mixture or an enrolment, ``shared``
says which (:class:`Shared`).
"""
AHEAD = 2  # batches that a GPU has ready for the training
GRACE_S = 3  # how long a worker goes on after SIGTERM


class Shared(NamedTuple):
    """Which rows of a batch of B items differ, so that each mixture and each enrolment is encoded once; all int64."""

    unique_mix: Tensor  # items that bring a mixture of their own
    mix_index: Tensor  # (B,): for each item, which of unique_mix its mixture is
    unique_enroll: Tensor  # items that bring an enrolment of their own
    enroll_index: Tensor  # (B,): for each item, which of unique_enroll its enrolment is

    def to(self, device: torch.device) -> "Shared":
        """The same on a device. Rows of a GPU's tensors that are picked by indices of the CPU make it wait each time."""
        return Shared(*(each.to(device, non_blocking=True) for each in self))


@dataclass(frozen=True)
class Items:
    """Items by their index, a pure function of these values: item i is mixture i.
    With ``both`` each mixture comes twice: item 2 k asks for its target, item 2 k + 1 for its loudest interferer, each with an enrolment
    of their own. The same sound must then give two different voices, and the enrolment alone says which: a batch with both teaches its
    use from the first step on. A mixture without interferer comes twice as it is."""

    mixer: Mixer
    seed: int
    conditions: Callable[[int], Conditions]  # by the mixture's index
    wrong_enroll: bool = False  # also draw enrolments of an interferer
    both: bool = False

    def drawn(self, indices: Sequence[int]) -> tuple[list[Scene], list[Place]]:
        """The scenes of items, and for each item which of them it is, and whether its loudest interferer is asked for."""
        numbers = [index - index % 2 if self.both else index for index in indices]
        each = sorted(set(numbers))
        scenes = [self.mixer.draw(self.seed, number, self.conditions(number), self.wrong_enroll) for number in each]
        return scenes, [(each.index(number), number < index) for number, index in zip(numbers, indices, strict=True)]


def swapped(mixture: Mixture) -> Mixture:
    """The same mixture with its loudest interferer, always present, as the target; one without ``wrong_enroll`` comes back as it is.
    The metadata stay those of the mixture as it was drawn, but for ``id``, ``present`` and the mark ``swapped``; so do the interferers.
    """
    if mixture.wrong_enroll is None:
        return mixture
    metadata = mixture.metadata | {"id": f"{mixture.metadata['id']}-swapped", "present": True, "swapped": True}
    enrolled = {"enroll": mixture.wrong_enroll, "wrong_enroll": mixture.enroll}
    return replace(mixture, target=mixture.interferers[0], metadata=metadata, **enrolled)


def collate(mixtures: Sequence[Mixture], places: Sequence[Place]) -> Batch:
    """Items at places of mixtures of one length -> :data:`Batch`; HifitseError where they have several."""
    items = [swapped(mixtures[place]) if asked else mixtures[place] for place, asked in places]
    lengths = sorted({len(each.mix) for each in items})
    if len(lengths) > 1:
        raise HifitseError(f"mixtures of a batch have {lengths} samples, expected one length (batch_size=1 for a list of several)")

    def stacked(signals: Iterable[Any]) -> Tensor:
        return torch.stack([torch.as_tensor(signal) for signal in signals])

    batch: Batch = {name: stacked(getattr(each, name) for each in items) for name in ("mix", "target", "enroll")}
    batch["present"] = torch.tensor([each.metadata["present"] for each in items])
    batch["metadata"] = [each.metadata for each in items]
    shared = [_first_of([id(getattr(each, name)) for each in items]) for name in ("mix", "enroll")]  # one array is one signal
    if any(len(rows) < len(items) for rows, _ in shared):
        batch["shared"] = Shared(*(indices for pair in shared for indices in pair))
    if any(each.wrong_enroll is not None for each in items):
        batch["wrong_enroll"] = stacked(each.enroll * 0 if each.wrong_enroll is None else each.wrong_enroll for each in items)
    return batch


def _first_of(signals: Sequence[Hashable]) -> tuple[Tensor, Tensor]:
    """Items that bring a signal of their own, and for each item which of those it has, by the signals' names."""
    numbers: dict[Hashable, int] = {}
    which = [numbers.setdefault(signal, len(numbers)) for signal in signals]
    return torch.tensor([which.index(number) for number in range(len(numbers))]), torch.tensor(which)


@dataclass
class _Batched(Dataset):
    """By its number a batch of items, or its scenes; a :class:`HifitseError` is handed over as it is, not raised with a worker's stack."""

    items: Items
    indices: range
    size: int
    scenes: bool

    def __len__(self) -> int:
        return -(-len(self.indices) // self.size)

    def __getitem__(self, number: int) -> Batch | tuple[list[Scene], list[Place]] | HifitseError:
        try:
            scenes, places = self.items.drawn(self.indices[number * self.size : (number + 1) * self.size])
            return (scenes, places) if self.scenes else collate(list(map(self.items.mixer.renderer.mixture, scenes)), places)
        except HifitseError as error:
            return error


class Batches:
    """Batches of the indices ``first`` to ``last - 1`` in order; each iteration gives the same ones.

    Args:
        batch_size: mixtures of a batch, the last one may have fewer.
        share: this process's number and how many share the batches: of 4, number 1 has batches 1, 5, 9, ...
        workers: processes that make them; 0 makes them in this one. They leave SIGINT to this process, and go on for 3 s after SIGTERM.
        renderer: makes the sound in this process, on its device, of scenes that the workers draw; ``None``: they do both.

    Raises:
        HifitseError: a mixture cannot be made, or a worker was killed."""

    def __init__(
        self, items: Items, first: int, last: int, batch_size: int, workers: int, share: tuple[int, int] = (0, 1),
        renderer: BatchRenderer | None = None,
    ) -> None:  # fmt: skip
        self._renderer = renderer
        batches = _Batched(items, range(first, last), batch_size, renderer is not None)
        # Forked workers share the lists of files; where there is no fork they are sent.
        context = "fork" if sys.platform == "linux" else "spawn"
        processes = {"persistent_workers": True, "prefetch_factor": 4, "multiprocessing_context": context} if workers else {}
        self._loader = DataLoader(
            batches, batch_size=None, sampler=range(share[0], len(batches), share[1]), collate_fn=_as_is, num_workers=workers,
            worker_init_fn=_start_worker, pin_memory=torch.cuda.is_available() and renderer is None, **processes,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        with warnings.catch_warnings():  # of any fork beside threads; the workers use numpy and one torch thread only
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            batches = self._made(iter(self._loader))
        on_gpu = self._renderer is not None and self._renderer.device.type == "cuda"
        return ahead(batches, self._renderer.device) if on_gpu else batches

    def _made(self, batches: Iterator[Any]) -> Iterator[Batch]:
        with deaths_said():
            for batch in batches:
                if isinstance(batch, HifitseError):
                    raise batch
                yield collate(self._renderer.render(batch[0]), batch[1]) if self._renderer else batch


@contextmanager
def deaths_said() -> Iterator[None]:
    """HifitseError where a worker was killed, or has no memory. Torch tells the first by a signal, whatever this process does just then."""
    try:
        yield
    except torch.OutOfMemoryError:  # the card's, not a worker's
        raise
    except (RuntimeError, MemoryError) as error:
        if not any(words in f"{type(error)} {error}" for words in ("DataLoader worker (pid", "MemoryError", "allocate memory")):
            raise
        cure = "expected it to go on; start again, with fewer workers if memory was short"
        raise HifitseError(f"a process that makes mixtures was killed or ran out of memory, {cure}") from error


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches, made by a thread of its own in a stream of its own while the training computes; two are ready at most."""
    stream = torch.cuda.Stream(device, priority=-1)  # its small kernels go before the training's large ones

    def make() -> tuple[Batch | None, Any]:
        with torch.cuda.stream(stream):
            return next(batches, None), stream.record_event()

    with ThreadPoolExecutor(1, "batches") as thread:
        waiting = deque(thread.submit(make) for _ in range(AHEAD + 1))
        try:
            while (made := waiting.popleft().result())[0] is not None:
                waiting.append(thread.submit(make))
                batch, event = made
                own = torch.cuda.current_stream(device)
                own.wait_event(event)
                for tensor in batch.values():
                    if isinstance(tensor, Tensor) and tensor.is_cuda:
                        tensor.record_stream(own)  # its memory is free for the other stream only when this one is done with it
                yield batch
        finally:
            for each in waiting:
                each.cancel()


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """A stop is the main process's affair, but a terminal's or a scheduler's signal reaches the whole group: workers ignore SIGINT. They
    must heed SIGTERM, with which a main process clears them away, but leave it the seconds for the batches of a step already begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
    torch.set_num_threads(1)
    keep_freed_memory()  # which a worker that was not forked does not know from the mixer


def training_loader(
    params: Params, mixer: Mixer, first_index: int = 0, count: int | None = None, share: tuple[int, int] = (0, 1),
    device: torch.device | None = None,
) -> Batches:  # fmt: skip
    """Batches of the training from mixture ``first_index`` on, ``count`` mixtures or all that the run has left.
    On a GPU with ``params.cache_mb`` above 0 they are made there, of recordings that it keeps; else on the CPU. Those of a resumed run are
    those of an uninterrupted one, whatever ``params.workers`` is, and those of all processes that ``share`` them together those of one.
    """
    total = params.steps * params.batch_size
    # A fine-tuning hears mixtures of its own: those of its seed are the ones that the run it starts from heard first.
    seed = (params.seed + int(params.start_from[:7], 16)) % 2**31 if params.start_from else params.seed
    both = params.both_talkers
    items = Items(mixer, seed, partial(training_conditions, params), both or params.loss_speaker > 0, both)
    on_gpu = device is not None and device.type == "cuda" and params.cache_mb > 0
    renderer = BatchRenderer(mixer.renderer, device, params.cache_mb * 2**20) if on_gpu else None
    if on_gpu and params.workers and sys.platform == "linux":
        # or each worker would decode all recordings for themselves; of a huge corpus no more than a short run comes to hear
        mixer.look(total // 8, params.workers)
    last = total if count is None else first_index + count
    return Batches(items, first_index, last, params.batch_size, params.workers, share, renderer)
