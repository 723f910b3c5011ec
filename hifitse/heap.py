"""Memory that the process has freed stays with it, for the next use."""

import ctypes
import functools

LARGEST = 2**31 - 1
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of glibc's ``mallopt`` (malloc.h)."""


@functools.cache
def keep_freed_memory() -> bool:
    """From now on glibc takes large blocks from its heap, and returns none of it to the system.

    By itself it hands freed blocks back, and the system clears every page anew at their next use. A training step on a CPU frees and takes
    a gigabyte in blocks of the same sizes, of which the recipe of ``demo-best`` spent a seventh of its time, and a mixture some twenty
    signals, of which making them spent a third. The process stays as large as it was at most.

    Returns:
        Whether the C library could be told; others than glibc keep their ways.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl; Windows
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST // 2)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))
