"""The clocks that measure the time of a search."""

from __future__ import annotations

import time


class WallClock:
    """Seconds as they pass."""

    def now(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic()


class SimulatedClock:
    """Seconds that evaluations would have taken, where their results are looked up.

    Attributes:
        seconds: Seconds that have passed; the executor of the candidates moves the clock on.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        """Seconds that have passed."""
        return self.seconds
