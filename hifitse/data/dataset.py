"""From mixtures to batches, in order, with any number of worker processes."""

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

Place = tuple[int, bool]  # index of a mixture, and whether its loudest interferer is asked for
Batch = dict[str, Any]
"""mix (B, T), target (B, T), enroll (B, N, T') float32; present (B,) bool; metadata: list of B dicts. If requested, also wrong_enroll
(B, N, T'), silent for mixtures without interferers. ``shared``: :class:`Shared`, if items share mixtures or enrolments."""
AHEAD = 2  # batches that a GPU keeps ready for the training
GRACE_S = 3  # seconds for which a worker continues after SIGTERM


class Shared(NamedTuple):
    """Which rows of a batch of B items are distinct, so that each mixture and each enrolment is encoded once; all int64."""

    unique_mix: Tensor  # first item of each distinct mixture
    mix_index: Tensor  # (B,): for each item, the index of its mixture in unique_mix
    unique_enroll: Tensor  # first item of each distinct enrolment
    enroll_index: Tensor  # (B,): for each item, the index of its enrolment in unique_enroll

    def to(self, device: torch.device) -> "Shared":
        """Return a copy on a device. Indexing a GPU's tensors with indices on the CPU would make the CPU wait each time."""
        return Shared(*(each.to(device, non_blocking=True) for each in self))


@dataclass(frozen=True)
class Items:
    """Items by index, a pure function of these values: item i is mixture i.
    With ``both``, each mixture comes twice: item 2 k asks for its target and item 2 k + 1 for its loudest interferer, if it has one. Only
    the enrolment tells which, so that the model learns from the first step on to use it."""

    mixer: Mixer
    seed: int
    conditions: Callable[[int], Conditions]  # by the mixture's index
    wrong_enroll: bool = False  # also draw enrolments of the first interferer
    both: bool = False

    def drawn(self, indices: Sequence[int]) -> tuple[list[Scene], list[Place]]:
        """Return the scenes of items, and for each item the index of its scene and whether it asks for the loudest interferer."""
        numbers = [index - index % 2 if self.both else index for index in indices]
        each = sorted(set(numbers))
        scenes = [self.mixer.draw(self.seed, number, self.conditions(number), self.wrong_enroll) for number in each]
        return scenes, [(each.index(number), number < index) for number, index in zip(numbers, indices, strict=True)]


def swapped(mixture: Mixture) -> Mixture:
    """Return the mixture with its loudest interferer, always present, as the target; unchanged if it has no ``wrong_enroll``. Of the
    metadata, only ``id`` and ``present`` change, and ``swapped`` is added; ``interferers`` stay the same."""
    if mixture.wrong_enroll is None:
        return mixture
    metadata = mixture.metadata | {"id": f"{mixture.metadata['id']}-swapped", "present": True, "swapped": True}
    enrolled = {"enroll": mixture.wrong_enroll, "wrong_enroll": mixture.enroll}
    return replace(mixture, target=mixture.interferers[0], metadata=metadata, **enrolled)


def collate(mixtures: Sequence[Mixture], places: Sequence[Place]) -> Batch:
    """Collate the items at these places of mixtures, of one length, into a :data:`Batch`."""
    items = [swapped(mixtures[place]) if asked else mixtures[place] for place, asked in places]

    def stacked(signals: Iterable[Any]) -> Tensor:
        return torch.stack([torch.as_tensor(signal) for signal in signals])

    batch: Batch = {name: stacked(getattr(each, name) for each in items) for name in ("mix", "target", "enroll")}
    batch["present"] = torch.tensor([each.metadata["present"] for each in items])
    batch["metadata"] = [each.metadata for each in items]
    shared = [_first_of([id(getattr(each, name)) for each in items]) for name in ("mix", "enroll")]  # the same array is the same signal
    if any(len(rows) < len(items) for rows, _ in shared):
        batch["shared"] = Shared(*(indices for pair in shared for indices in pair))
    if any(each.wrong_enroll is not None for each in items):
        batch["wrong_enroll"] = stacked(each.enroll * 0 if each.wrong_enroll is None else each.wrong_enroll for each in items)
    return batch


def _first_of(signals: Sequence[Hashable]) -> tuple[Tensor, Tensor]:
    """Return the first item of each distinct signal, and for each item the number of its signal."""
    numbers: dict[Hashable, int] = {}
    which = [numbers.setdefault(signal, len(numbers)) for signal in signals]
    return torch.tensor([which.index(number) for number in range(len(numbers))]), torch.tensor(which)


@dataclass
class _Batched(Dataset):
    """Batches of items, or of their scenes, by number. A :class:`HifitseError` is returned, not raised with a worker's stack trace."""

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
    """Batches of the indices ``first`` to ``last - 1`` in order, the last one maybe smaller; each iteration gives the same batches.
    Raises HifitseError: a mixture cannot be made, or a worker was killed.

    Args:
        share: the number of this process, and how many share the batches: of 4, process 1 gets batches 1, 5, 9, ...
        workers: processes that make batches; 0: this process does.
        renderer: renders scenes that the workers draw, in this process and on its device; with ``None`` the workers also render."""

    def __init__(
        self, items: Items, first: int, last: int, batch_size: int, workers: int, share: tuple[int, int] = (0, 1),
        renderer: BatchRenderer | None = None,
    ) -> None:  # fmt: skip
        self._renderer = renderer
        batches = _Batched(items, range(first, last), batch_size, renderer is not None)
        # Forked workers share the lists of files; spawned ones get copies.
        context = "fork" if sys.platform == "linux" else "spawn"
        processes = {"persistent_workers": True, "prefetch_factor": 4, "multiprocessing_context": context} if workers else {}
        self._loader = DataLoader(
            batches, batch_size=None, sampler=range(share[0], len(batches), share[1]), collate_fn=_as_is, num_workers=workers,
            worker_init_fn=_start_worker, pin_memory=torch.cuda.is_available() and renderer is None, **processes,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        with warnings.catch_warnings():  # about forking with threads; the workers use only numpy and one torch thread
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
    """Raise HifitseError if a worker was killed or has no memory. Torch reports the former from a signal handler, at any moment."""
    try:
        yield
    except torch.OutOfMemoryError:  # on the GPU, not in a worker
        raise
    except (RuntimeError, MemoryError) as error:
        if not any(words in f"{type(error)} {error}" for words in ("DataLoader worker (pid", "MemoryError", "allocate memory")):
            raise
        cure = "start again, with fewer workers if memory was short"
        raise HifitseError(f"a process that makes mixtures was killed or ran out of memory; {cure}") from error


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches, made in a separate thread and CUDA stream while the training computes; at most two are ready."""
    stream = torch.cuda.Stream(device, priority=-1)  # high priority: its small kernels run before the large ones of the training

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
                        tensor.record_stream(own)  # so that the other stream reuses its memory only when this one is done with it
                yield batch
        finally:
            for each in waiting:
                each.cancel()


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """Set up a worker's signals and threads. A terminal or scheduler signals the whole group, but the main process decides when to stop. So
    workers ignore SIGINT, and after SIGTERM, by which the main process ends them, they continue for 3 s to serve a step already begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
    torch.set_num_threads(1)
    keep_freed_memory()  # a worker that was not forked does not inherit this from the mixer


def training_loader(
    params: Params, mixer: Mixer, first_index: int = 0, count: int | None = None, share: tuple[int, int] = (0, 1),
    device: torch.device | None = None,
) -> Batches:  # fmt: skip
    """Return the training batches from mixture ``first_index`` on: of ``count`` mixtures, or of all that the run has left. They do not
    depend on ``params.workers``, ``share`` or interruptions. With ``params.cache_mb`` above 0, a GPU renders them."""
    total = params.steps * params.batch_size
    # Fine-tuning uses other mixtures: its seed alone would repeat the first ones of the run that it starts from.
    seed = (params.seed + int(params.start_from[:7], 16)) % 2**31 if params.start_from else params.seed
    both = params.both_talkers
    items = Items(mixer, seed, partial(training_conditions, params), both or params.loss_speaker > 0, both)
    on_gpu = device is not None and device.type == "cuda" and params.cache_mb > 0
    renderer = BatchRenderer(mixer.renderer, device, params.cache_mb * 2**20) if on_gpu else None
    if on_gpu and params.workers and sys.platform == "linux":
        # otherwise each worker would decode all recordings itself; the limit is what a short run uses of a huge corpus
        mixer.look(total // 8, params.workers)
    last = total if count is None else first_index + count
    return Batches(items, first_index, last, params.batch_size, params.workers, share, renderer)
