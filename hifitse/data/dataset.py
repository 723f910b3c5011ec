"""Mixtures to batches, in order, by any number of processes."""

import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hifitse import HifitseError
from hifitse.data.batch_rendering import BatchRenderer
from hifitse.data.conditions import Conditions, training_conditions
from hifitse.data.items import BothTalkers, MixtureDataset, Place, swapped_metadata
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import Scene
from hifitse.data.shared import Shared
from hifitse.machine import keep_freed_memory
from hifitse.params import Params

Batch = dict[str, Any]
"""mix (B, T), target (B, T), enroll (B, N, T') float32; present (B,) bool; metadata: list of B dicts.

Where asked for, wrong_enroll (B, N, T'): silence for a mixture without interferer. Where items share a mixture or an enrolment, ``shared``
says which (:class:`hifitse.data.shared.Shared`).
"""
AHEAD = 2  # batches that a GPU has ready for the training
GRACE_S = 3.0  # how long a worker goes on after SIGTERM


def collate(mixtures: list[Mixture]) -> Batch:
    """Mixtures of one length -> :data:`Batch`; HifitseError where they have several."""
    lengths = sorted({len(mixture.mix) for mixture in mixtures})
    if len(lengths) > 1:
        raise HifitseError(f"mixtures of a batch have {lengths} samples, expected one length (batch_size=1 for a list of several)")
    batch: Batch = {name: torch.from_numpy(np.stack([getattr(each, name) for each in mixtures])) for name in ("mix", "target", "enroll")}
    batch["present"] = torch.tensor([each.metadata["present"] for each in mixtures])
    batch["metadata"] = [each.metadata for each in mixtures]
    shared = [_first_of([id(getattr(each, name)) for each in mixtures]) for name in ("mix", "enroll")]  # one array is one signal
    if any(len(rows) < len(mixtures) for rows, _ in shared):
        batch["shared"] = Shared(*(indices for pair in shared for indices in pair))
    if any(each.wrong_enroll is not None for each in mixtures):
        wrong = [np.zeros_like(each.enroll) if each.wrong_enroll is None else each.wrong_enroll for each in mixtures]
        batch["wrong_enroll"] = torch.from_numpy(np.stack(wrong))
    return batch


def rendered(renderer: BatchRenderer, scenes: list[Scene], places: Sequence[Place]) -> Batch:
    """Items, at ``places`` of scenes of one length, made on the renderer's device -> :data:`Batch`, as :func:`collate` has it."""
    made = renderer.render(scenes)
    swap = [asked and bool(scenes[place].wrong_enroll) for place, asked in places]
    chosen = torch.tensor([place for place, _ in places], device=renderer.device)
    batch: Batch = {name: made[name][chosen] for name in ("mix", "target", "enroll")}
    metadata = [made["metadata"][place] for place, _ in places]
    if "wrong_enroll" in made:
        other = torch.tensor(swap, device=renderer.device)
        loudest, wrong = made["interferers"][chosen, 0], made["wrong_enroll"][chosen]
        batch["wrong_enroll"] = torch.where(other[:, None, None], batch["enroll"], wrong)
        batch["target"] = torch.where(other[:, None], loudest, batch["target"])
        batch["enroll"] = torch.where(other[:, None, None], wrong, batch["enroll"])
    batch["metadata"] = [swapped_metadata(each) if asked else each for each, asked in zip(metadata, swap, strict=True)]
    batch["present"] = torch.tensor([each["present"] for each in batch["metadata"]])
    if len({place for place, _ in places}) < len(places):
        voices = [(place, asked) for (place, _), asked in zip(places, swap, strict=True)]
        batch["shared"] = Shared(*_first_of([place for place, _ in places]), *_first_of(voices))
    return batch


def _first_of(signals: Sequence[Hashable]) -> tuple[torch.Tensor, torch.Tensor]:
    """Items that bring a signal of their own, and for each item which of those it has, by the signals' names."""
    numbers: dict[Hashable, int] = {}
    which = [numbers.setdefault(signal, len(numbers)) for signal in signals]
    return torch.tensor([which.index(number) for number in range(len(numbers))]), torch.tensor(which)


class _Batched(Dataset):
    """By its number a batch of the items ``first`` to ``last - 1``, or its scenes.

    A :class:`HifitseError` is handed over as it is, not raised with a worker's stack.
    """

    def __init__(self, dataset: MixtureDataset, first: int, last: int, size: int, scenes: bool) -> None:
        self.dataset, self.starts, self.last, self.scenes = dataset, range(first, last, size), last, scenes

    def __getitem__(self, number: int) -> Batch | tuple[list[Scene], list[Place]] | HifitseError:
        start = self.starts[number]
        indices = range(start, min(start + self.starts.step, self.last))
        try:
            return self.dataset.drawn(indices) if self.scenes else collate([self.dataset[index] for index in indices])
        except HifitseError as error:
            return error


class Batches:
    """Batches of the indices ``first`` to ``last - 1`` in order; each iteration gives the same ones.

    Args:
        dataset: where they come from.
        first, last: indices.
        batch_size: mixtures of a batch, the last one may have fewer.
        share: this process's number and how many share the batches: of 4, number 1 has batches 1, 5, 9, ...
        workers: processes that make them; 0 makes them in this one. They leave SIGINT to this process, and go on for 3 s after SIGTERM.
        renderer: makes the sound in this process, on its device, of scenes that the workers draw; ``None``: they do both.

    Raises:
        HifitseError: a mixture cannot be made, or a worker was killed.
    """

    def __init__(
        self, dataset: MixtureDataset, first: int, last: int, batch_size: int, workers: int, share: tuple[int, int] = (0, 1),
        renderer: BatchRenderer | None = None,
    ) -> None:  # fmt: skip
        self._renderer = renderer
        batches = _Batched(dataset, first, last, batch_size, renderer is not None)
        self._loader = DataLoader(
            batches,
            batch_size=None,
            sampler=range(share[0], len(batches.starts), share[1]),
            num_workers=workers,
            collate_fn=_as_is,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            # Forked workers share the lists of files; where there is no fork they are sent.
            multiprocessing_context=("fork" if sys.platform == "linux" else "spawn") if workers else None,
            pin_memory=torch.cuda.is_available() and renderer is None,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads; the workers use numpy and one torch thread only.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            batches = self._made(iter(self._loader))
        if self._renderer is None or self._renderer.device.type != "cuda":
            return batches
        return ahead(batches, self._renderer.device)

    def _made(self, batches: Iterator[Any]) -> Iterator[Batch]:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "worker" not in str(error):
                    raise
                said = f"a process that makes mixtures ended ({str(error).splitlines()[0]})"
                raise HifitseError(f"{said}: start again, with fewer workers if memory was short") from error
            if isinstance(batch, HifitseError):
                raise batch
            yield rendered(self._renderer, *batch) if self._renderer else batch


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches, made by a thread of its own in a stream of its own while the training computes; two are ready at most."""
    ready: queue.Queue[Any] = queue.Queue(AHEAD)
    stop, stream = threading.Event(), torch.cuda.Stream(device, priority=-1)  # its small kernels go before the training's large ones

    def hand_over(made: object) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                return ready.put(made, timeout=0.1)

    def work() -> None:
        try:
            with torch.cuda.stream(stream):
                for batch in batches:
                    hand_over((batch, stream.record_event()))
                    if stop.is_set():
                        return
            hand_over(None)
        except BaseException as error:  # raised where the batch is asked for
            hand_over(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (made := ready.get()) is not None:
            if isinstance(made, BaseException):
                raise made
            batch, event = made
            own = torch.cuda.current_stream(device)
            own.wait_event(event)
            for tensor in batch.values():
                if isinstance(tensor, torch.Tensor) and tensor.is_cuda:
                    tensor.record_stream(own)  # its memory is free for the other stream only when this one is done with it
            yield batch
    finally:
        stop.set()
        thread.join()


def _as_is(batch: Batch | HifitseError) -> Batch | HifitseError:
    return batch


def _start_worker(_: int) -> None:
    """A stop is the main process's affair: it ends after a whole step, and tells the workers then.

    A terminal's or a scheduler's signal reaches the whole group, so workers ignore SIGINT. They must heed SIGTERM, with which a main
    process without time clears them away, but first leave it the seconds for the batches of a step already begun.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, GRACE_S))
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
    last = total if count is None else first_index + count
    # A fine-tuning hears mixtures of its own: those of its seed are the ones that the run it starts from heard first.
    seed = (params.seed + int(params.start_from[:7], 16)) % 2**31 if params.start_from else params.seed
    curriculum = partial(training_conditions, params)
    made = BothTalkers if params.both_talkers else MixtureDataset
    dataset = made(mixer, seed, curriculum, params.both_talkers or params.loss_speaker > 0)
    on_gpu = device is not None and device.type == "cuda" and params.cache_mb > 0
    renderer = BatchRenderer(mixer.renderer, device, params.cache_mb * 2**20) if on_gpu else None
    if on_gpu and params.workers and sys.platform == "linux":
        mixer.look(total // 8, params.workers)  # or each worker would decode all recordings for themselves
    return Batches(dataset, first_index, last, params.batch_size, params.workers, share, renderer)


def list_loader(
    params: Params, mixer: Mixer, seed: int, conditions: Sequence[Conditions], batch_size: int = 1, wrong_enroll: bool = False
) -> Batches:
    """Batches of a fixed list, such as one of :func:`hifitse.data.conditions.evaluation_conditions` with ``params.eval_seed``."""
    return Batches(MixtureDataset(mixer, seed, conditions, wrong_enroll), 0, len(conditions), batch_size, params.workers)
