"""Resident memory of this process: now, and at most so far."""

import os
import resource
import sys
from pathlib import Path


def resident_mb() -> float:
    """Resident memory of this process, 10^6 bytes; nan where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return float("nan")


def peak_mb() -> float:
    """Most resident memory of this process so far, 10^6 bytes.

    Not what ``getrusage`` says where Linux knows better: that begins with the memory of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
        return value / 1e6 if sys.platform == "darwin" else value * 1024 / 1e6
