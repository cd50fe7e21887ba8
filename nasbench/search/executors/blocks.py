"""How many cheap candidates are evaluated together."""

from __future__ import annotations

BLOCK_S = 0.1  # what a block should take: little is evaluated again after a kill, and little is waited for


class BlockSize:
    """As many candidates as are evaluated in `BLOCK_S`, estimated from the blocks before; the first one comes alone.

    Args:
        most: Largest number of candidates that the evaluator takes at once.
    """

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 1

    def took(self, candidates: int, seconds: float) -> None:
        """Learn what a block cost; it doubles at most, for a first one may have been luckily quick."""
        fits = int(BLOCK_S * candidates / seconds) if seconds > 0 else self.most
        self.count = max(1, min(self.most, fits, 2 * max(candidates, self.count)))
