"""A stop that is asked for by a signal and comes after a whole step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def graceful_stop(patient: bool = False) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a stop ends after a whole step.

    A second signal stops at once, unless ``patient``: where several processes train together, a scheduler and a launcher each send theirs.
    """
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
