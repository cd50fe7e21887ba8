"""An end for work that may not have one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class TimeUp(BaseException):
    """The limit is reached; not an Exception, which a library on the way might catch."""


@contextmanager
def time_limit(seconds: float, *, processor: bool = False) -> Iterator[None]:
    """Raise TimeUp in the block when the time is over; only in the main thread.

    Args:
        seconds: Length of the time.
        processor: Whether the seconds are those of the processor and not of the clock.
    """

    def stop(number: int, frame: object) -> None:
        raise TimeUp

    timer, kind = (signal.ITIMER_PROF, signal.SIGPROF) if processor else (signal.ITIMER_REAL, signal.SIGALRM)
    before = signal.signal(kind, stop)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(kind, before)
