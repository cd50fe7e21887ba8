"""What time a search goes by."""

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
        seconds: that have passed; whoever runs the candidates moves it on.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        """Seconds that have passed."""
        return self.seconds
