"""Memory that the process has freed stays with it, for the next use."""

import ctypes
import functools

LARGEST = 2**31 - 1
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of glibc's ``mallopt`` (malloc.h)."""


@functools.cache
def keep_freed_memory() -> bool:
    """From now on glibc takes large blocks from its heap, and returns none of it to the system.

    By itself it hands freed blocks back, and the system clears every page anew at its next use: a training step on a CPU frees and takes
    a gigabyte in blocks of the same sizes, and the recipe of ``demo-best`` spent a seventh of its time so; a mixture frees some twenty
    signals, which cost a third of its time on one machine and little on another. The process stays as large as it was at most.

    Returns:
        Whether the C library could be told; others than glibc keep their ways.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl; Windows
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST // 2)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))
