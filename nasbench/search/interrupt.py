"""Ctrl-C: once lets the running candidates finish, twice stops now; either way the run can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from nasbench.search.study import Study

INTERRUPTED = "stopped by Ctrl-C"


@contextmanager
def stoppable(study: Study, on_stop: Callable[[], None], *, handle_signals: bool = True) -> Iterator[None]:
    """Within the context the first SIGINT stops the handing out of candidates, the next one and SIGTERM stop at once.

    Args:
        study: Study that hands out the candidates.
        on_stop: Called at the first SIGINT, to tell the user.
        handle_signals: Whether to handle the signals. False leaves them to the caller, and SIGINT raises
            KeyboardInterrupt at once.

    Raises:
        KeyboardInterrupt: At the second SIGINT or at SIGTERM, or when the context ends after the first one.
    """
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted or number == signal.SIGTERM:
            raise KeyboardInterrupt
        interrupted = True
        study.stop(INTERRUPTED)
        on_stop()

    # Only in the main thread may signals be handled.
    if not handle_signals or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if study.stop_reason == INTERRUPTED:
        raise KeyboardInterrupt
