"""A watcher of a search that shows nothing."""

from __future__ import annotations

from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study


class Silent:
    """Hears how a search goes, and keeps it to itself."""

    def phase(self, name: str, total: int) -> None:
        """A new part of the work begins."""

    def advance(self, done: int, text: str = "") -> None:
        """So much of the part is done."""

    def candidate(self, candidate: RecordedCandidate, study: Study) -> None:
        """A candidate finished."""

    def retry(self, number: int, status: str, error: str | None) -> None:
        """An attempt at a candidate failed, and another one will follow."""

    def stopping(self) -> None:
        """The user wants to stop; the running candidates finish first."""
