"""One training on several processes: each takes its share of an update's batches, and all make the same update.

An update is made of ``accumulation`` steps, each a batch of ``batch_size`` mixtures. Process r of P takes the batches r, r + P, ...
What is drawn for a batch is a function of its number in the update; gradients and logged values are added up over the processes. So
mixtures and loss curve are those of one process, but for the order of sums, and memory depends on ``batch_size`` alone.

Gradients are added once an update, in one message, instead of during the backward pass as ``DistributedDataParallel`` does: whatever
else learns (weights of loss terms, discriminators) goes the same way.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch

from hifitse import HifitseError
from hifitse.params import Params

T = TypeVar("T")
WAIT = timedelta(hours=1)  # how long the others wait for one process: it may be making the synthetic voices, or validating


class GroupError(HifitseError):
    """The processes cannot train together."""


class Group:
    """The processes of one training, ``size`` of which this is number ``rank`` on ``device`` (``None``: by the parameters alone); by
    default this one alone, for which all here costs nothing. Only the ``main`` one writes, logs and validates."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size, self.device, self.main = rank, size, device, rank == 0

    @classmethod
    def join(cls, params: Params) -> "Group":
        """The group that ``accelerate launch``, ``torchrun`` or a script has started: ``WORLD_SIZE`` processes.
        Raises GroupError: ``accumulation`` cannot be shared equally, or this process has no GPU of its own."""
        size = int(os.environ.get("WORLD_SIZE") or 1)
        if size == 1:
            return cls()
        refuse_unequal(params, size)
        cpu = params.device in ("cpu", "mps") or (params.device == "auto" and not torch.cuda.is_available())
        local, gpus = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
        if not cpu and local >= gpus:
            raise GroupError(f"process {local} of this machine has no GPU of its own, expected as many processes as GPUs, here {gpus}")
        from accelerate import PartialState  # slow to import, and needed by several processes only

        state = PartialState(cpu=cpu, timeout=WAIT)
        return cls(state.process_index, state.num_processes, state.device)

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        with _others():
            return gather_object([value])

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails in one process fails in all, with the same sentence, so that none waits for one that has stopped."""
        error = None
        try:
            yield
        except HifitseError as caught:
            error = caught
        if failed := [each for each in self.gather(error) if each is not None]:
            raise failed[0]

    def from_main(self, make: Callable[[], T]) -> T:
        """What the main process makes, in all of them; only it may look at the disk, which others may see late."""
        with self.together():
            made = make() if self.main else None
        if self.size == 1:
            return made
        from accelerate.utils import broadcast_object_list

        with _others():
            return broadcast_object_list([made])[0]

    def add_up(self, row: dict[str, float]) -> dict[str, float]:
        """Sums over the processes' rows, by name."""
        rows = self.gather(row)
        names = dict.fromkeys(name for each in rows for name in each)
        return {name: sum(each[name] for each in rows if name in each) for name in names}

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; one that no process has stays away."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        parameters = list(parameters)
        there = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        parts = [there, *(torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters)]
        with _others():
            counts, *sums = reduce(torch.cat(parts), "sum").split([len(part) for part in parts])
        for parameter, count, total in zip(parameters, counts.tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter) if count else None


def refuse_unequal(params: Params, size: int) -> None:
    """Raises GroupError: the batches of an update, or of the last one, cannot be dealt equally to ``size`` processes."""
    for name in ("accumulation", "steps"):
        if getattr(params, name) % size:
            raise GroupError(f"parameter {name!r} is {getattr(params, name)}, expected on {size} processes a multiple of {size}")


@contextmanager
def _others() -> Iterator[None]:
    """The end of another process, which torch tells in many ways, in one sentence."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0][:200]
        onward = "start them again, they go on from the last checkpoint"
        raise GroupError(f"another process of this training has ended ({reason}), expected all to run: {onward}") from error


def leave() -> None:
    """Take leave of the other processes; nothing where there are none."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launched_rank() -> int:
    """Number of this process among those that were started together, 0 for one alone; known before they join."""
    return int(os.environ.get("RANK") or 0)


@contextmanager
def graceful_stop(patient: bool) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a stop ends after a whole step. A second signal stops at once, unless ``patient``:
    where several processes train together, a scheduler and a launcher each send theirs."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        stop.set()
        if not patient:
            signal.signal(number, before[number])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
