"""A bounded memory of what was computed last."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class Recent:
    """What was computed last, up to a number of bytes; each process has its own."""

    def __init__(self, limit: int = 64 * 2**20) -> None:
        self.limit = limit
        self._kept: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value kept under ``key``, or that of ``make()``, which returns it with its size in bytes."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value, size = make()
        self._kept[key] = (value, size)
        self.bytes += size
        while self.bytes > self.limit:
            self.bytes -= self._kept.popitem(last=False)[1][1]
        return value
