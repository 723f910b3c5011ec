"""One training on several processes: each takes its share of an update's batches, and all make the same update.

An update consists of ``accumulation`` steps, each of one batch of ``batch_size`` mixtures. Process r of P takes batches r, r + P, ...
Everything random about a batch depends only on its number, gradients are summed over the processes, and logged values are averaged over
all batches. So mixtures and loss curve are those of a single process, up to the order of summation, and memory depends on ``batch_size``
alone.

Gradients are summed once per update, in one message, and not during the backward pass as in ``DistributedDataParallel``. The learned
weights of loss terms and the discriminators are handled in the same way.
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
WAIT = timedelta(hours=1)  # timeout for the slowest process, which may be making the synthetic voices or validating


class GroupError(HifitseError):
    """The processes cannot train together."""


class Group:
    """The ``size`` processes of one training. This process is number ``rank`` and uses ``device`` (``None``: chosen by the parameters).
    By default it is the only one, and all methods are free. Only the ``main`` process writes, logs and validates."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size, self.device, self.main = rank, size, device, rank == 0

    @classmethod
    def join(cls, params: Params) -> "Group":
        """Join the ``WORLD_SIZE`` processes started by ``accelerate launch``, ``torchrun`` or a script.
        Raises GroupError: ``accumulation`` or ``steps`` cannot be shared equally, or there is no GPU for this process."""
        size = int(os.environ.get("WORLD_SIZE") or 1)
        if size == 1:
            return cls()
        refuse_unequal(params, size)
        cpu = params.device in ("cpu", "mps") or (params.device == "auto" and not torch.cuda.is_available())
        local, gpus = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
        if not cpu and local >= gpus:
            raise GroupError(f"process {local} of this machine has no GPU of its own, expected as many processes as GPUs, here {gpus}")
        from accelerate import PartialState  # slow to import, and only needed with several processes

        state = PartialState(cpu=cpu, timeout=WAIT)
        return cls(state.process_index, state.num_processes, state.device)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in order of rank."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        with _others():
            return gather_object([value])

    @contextmanager
    def together(self) -> Iterator[None]:
        """If the block fails in one process, raise the same error in all of them, so that none waits for a stopped one."""
        error = None
        try:
            yield
        except HifitseError as caught:
            error = caught
        if failed := [each for each in self.gather(error) if each is not None]:
            raise failed[0]

    def from_main(self, make: Callable[[], T]) -> T:
        """Call ``make`` in the main process and return its result in all: other processes may see changes on a shared disk late."""
        with self.together():
            made = make() if self.main else None
        if self.size == 1:
            return made
        from accelerate.utils import broadcast_object_list

        with _others():
            return broadcast_object_list([made])[0]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; it stays ``None`` if no process has one."""
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
    """Raise GroupError if the batches of an update, or of the last update, cannot be shared equally by ``size`` processes."""
    for name in ("accumulation", "steps"):
        if getattr(params, name) % size:
            raise GroupError(f"parameter {name!r} is {getattr(params, name)} for {size} processes, expected a multiple of {size}")


@contextmanager
def _others() -> Iterator[None]:
    """Turn the various errors by which torch reports the end of another process into one :class:`GroupError`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0][:200]
        onward = "start them again to resume from the last checkpoint"
        raise GroupError(f"another process of this training has ended ({reason}), expected all to keep running: {onward}") from error


def leave() -> None:
    """Leave the process group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launched_rank() -> int:
    """Return the rank that the launcher gave this process, 0 if it runs alone; available before :meth:`Group.join`."""
    return int(os.environ.get("RANK") or 0)


@contextmanager
def graceful_stop(patient: bool) -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, so that training can finish its step before it stops. A second signal stops it at once,
    unless ``patient``: several processes get one signal from the scheduler and another from the launcher."""
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
