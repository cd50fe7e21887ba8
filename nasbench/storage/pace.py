"""How often something that costs more than a cheap candidate may be done."""

from __future__ import annotations

import time


class Pace:
    """Allows a number of times in a row, and from then on once in an interval: slow work is never held back by it.

    Args:
        burst: Number of times in a row.
        interval_s: Seconds until one more time is allowed.
    """

    def __init__(self, burst: int, interval_s: float) -> None:
        self.burst, self.interval_s = burst, interval_s
        self._left, self._moment = float(burst), time.monotonic()

    def allows(self) -> bool:
        """Whether it may be done now, which uses one of the times up."""
        now = time.monotonic()
        self._left = min(self.burst, self._left + (now - self._moment) / self.interval_s)
        self._moment = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
