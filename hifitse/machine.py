"""The machine: the device to compute on, CPU threads, memory that stays with the process, and how much that is."""

import contextlib
import ctypes
import functools
import math
import os
import platform
import resource
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hifitse import HifitseError

LARGEST = 2**31 - 1
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of glibc's ``mallopt`` (malloc.h)


class TrainingError(HifitseError):
    """Training cannot go on: the loss is not finite, or the device asked for is not there."""


def is_live() -> bool:
    """Whether somebody sits before the notebook: papermill and nbconvert tell the kernel that nobody can type."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def progress_bar(*args: Any, **options: Any) -> Any:
    """A ``tqdm`` as wide as there is room: a widget in JupyterLab; on a terminal, and in a notebook that papermill runs, a line."""
    if is_live():
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm(*args, dynamic_ncols=True, **options)


def pick_device(name: str) -> torch.device:
    """The device of parameter ``device``; auto takes CUDA, then MPS, then the CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(n for n, ok in there.items() if ok) if name == "auto" else name
    if not there[name]:
        raise TrainingError(f"parameter 'device' is {name!r}, expected one of: auto, {', '.join(n for n, ok in there.items() if ok)}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """For reports: the GPU's name, or processor architecture and number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{platform.machine()} {device.type}, {count} thread{'s' if count != 1 else ''}"


def usable_cores(group: str = "/sys/fs/cgroup") -> int:
    """Cores that this process may use: its affinity, and the quota of its control group where there is one; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for root in (group, f"{group}/cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            with contextlib.suppress(OSError, ValueError):  # no such version of control groups, or no limit ("max", -1)
                quota, period = (int(word) for name in names for word in Path(root, name).read_text().split())
                cores = min(cores, math.ceil(quota / period)) if quota > 0 else cores
    return max(1, cores)


def set_threads(count: int) -> int:
    """From now on torch computes with ``count`` CPU threads; 0: its own number, at most :func:`usable_cores`. Returns it."""
    torch.set_num_threads(count or min(torch.get_num_threads(), usable_cores()))
    return torch.get_num_threads()


@functools.cache
def half_precision(precision: str, device: torch.device) -> bool:
    """Whether the model computes in bfloat16: asked for, and the card has it. One without is said once, and computes in float32."""
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        warnings.warn(f"{torch.cuda.get_device_name(device)} has no bfloat16, so the model computes in float32", stacklevel=2)
        return False
    return precision == "bf16"


def make_room_for_workers(workers: int, batch_mb: float, shared: str = "/dev/shm") -> None:
    """See that worker processes can hand over batches of ``batch_mb`` 10^6 bytes, five under way each: open files and shared memory.
    Raises HifitseError: either is too little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 256 + 64 * workers
    if workers and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise HifitseError(f"ulimit -n is {hard}, expected {wanted} for {workers} workers: raise it, or use fewer workers")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    needed = 5 * workers * batch_mb
    if workers and os.path.isdir(shared) and (free := shutil.disk_usage(shared).free / 1e6) < needed:
        cure = "give it more (docker: --shm-size) or use fewer workers or a smaller batch_size"
        raise HifitseError(f"{shared} has {free:.0f} MB free, expected {needed:.0f} MB for {workers} workers: {cure}")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch computes with ``count`` CPU threads until the end of the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def keep_freed_memory() -> bool:
    """From now on glibc takes large blocks from its heap, and returns none of it to the system. Returns whether it could be told.

    By itself it hands freed blocks back, and the system clears every page at its next use, which took a seventh of a training's time
    on a CPU. The process stays as large as it was at most.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl; Windows
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST // 2)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))
