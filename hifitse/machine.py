"""The machine: compute device, CPU cores and threads, memory, progress bars."""

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
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # options of ``mallopt`` in glibc (malloc.h)


class TrainingError(HifitseError):
    """Training cannot continue: the loss is not finite, or the requested device is not available."""


def is_live() -> bool:
    """Return whether a user is at the notebook. Papermill and nbconvert tell the kernel that there is nobody to type."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def progress_bar(*args: Any, **options: Any) -> Any:
    """Return a ``tqdm`` progress bar of the available width: a widget in JupyterLab, a line of text in a terminal or under papermill."""
    if is_live():
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm(*args, dynamic_ncols=True, **options)


def pick_device(name: str) -> torch.device:
    """Return the device that parameter ``device`` names; auto prefers CUDA, then MPS. Raises TrainingError: not available."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(n for n, ok in there.items() if ok) if name == "auto" else name
    if not there[name]:
        raise TrainingError(f"parameter 'device' is {name!r}, expected one of: auto, {', '.join(n for n, ok in there.items() if ok)}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return the name of a device for reports: the GPU, or the processor architecture and number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{platform.machine()} {device.type}, {count} thread{'s' if count != 1 else ''}"


def usable_cores(group: str = "/sys/fs/cgroup") -> int:
    """Return the number of cores that this process may use by its affinity and the quota of its control group; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for root in (group, f"{group}/cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            with contextlib.suppress(OSError, ValueError):  # other version of control groups, or no limit ("max", -1)
                quota, period = (int(word) for name in names for word in Path(root, name).read_text().split())
                cores = min(cores, math.ceil(quota / period)) if quota > 0 else cores
    return max(1, cores)


def set_threads(count: int) -> int:
    """Set the number of CPU threads of torch and return it. 0: its default, but at most :func:`usable_cores`."""
    torch.set_num_threads(count or min(torch.get_num_threads(), usable_cores()))
    return torch.get_num_threads()


@functools.cache
def half_precision(precision: str, device: torch.device) -> bool:
    """Return whether the model computes in bfloat16. If ``precision`` asks for it but the GPU lacks it, warn once and use float32."""
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        warnings.warn(f"{torch.cuda.get_device_name(device)} has no bfloat16, so the model computes in float32", stacklevel=2)
        return False
    return precision == "bf16"


def make_room_for_workers(workers: int, batch_mb: float, shared: str = "/dev/shm") -> None:
    """Ensure that workers can hand over batches of ``batch_mb`` (10^6 bytes), five in flight each; allow more open files if needed.
    Raises HifitseError: the limit of open files or the shared memory is too small."""
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
    """Let torch compute with ``count`` CPU threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def keep_freed_memory() -> bool:
    """Make glibc allocate large blocks on its heap and never return memory to the system. Return whether that was possible.

    By default glibc returns freed blocks, and the system clears every page at its next use, which took a seventh of the time of training
    on a CPU. The process stays as large as its peak.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl; Windows
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST // 2)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))
