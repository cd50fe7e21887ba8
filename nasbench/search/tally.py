"""What came of the candidates so far, kept up to date as they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import pareto_front
from nasbench.search.record import RecordedCandidate, comparable


class Tally:
    """Counts, the best candidate and the front of a search, at a cost that does not grow with its candidates.

    Args:
        objectives: of the search.
        full_epochs: of a candidate that was asked for without a number of epochs.
        candidates: those that are there already.
    """

    def __init__(
        self, objectives: Sequence[Objective], full_epochs: int, candidates: Iterable[RecordedCandidate] = ()
    ) -> None:
        self._objectives, self._full_epochs = objectives, full_epochs
        self.counts: Counter[str] = Counter()
        self.trained_s = 0.0
        self.best: RecordedCandidate | None = None
        self._front: list[RecordedCandidate] = []
        for candidate in candidates:
            self.begin()
            if candidate.status != "running":
                self.end(candidate)

    @property
    def front(self) -> list[int]:
        """The numbers of the candidates that no other dominates in the objectives, ascending."""
        return sorted(candidate.id for candidate in self._front)

    def begin(self) -> None:
        """A candidate is running."""
        self.counts["running"] += 1

    def end(self, candidate: RecordedCandidate) -> None:
        """A running candidate ended."""
        self.counts["running"] -= 1
        self.counts[candidate.status] += 1
        if not candidate.cached:
            self.trained_s += candidate.training_seconds
        if candidate.status != "done":
            return
        # Whom a member dominated, no newcomer brings back; who was trained for fewer epochs than others is out.
        rivals = comparable([*self._front, candidate], self._full_epochs)
        members = set(pareto_front(self._objectives, {rival.id: rival.metrics for rival in rivals}))
        self._front = [rival for rival in rivals if rival.id in members]
        best = [candidate] if self.best is None else [self.best, candidate]
        self.best = max(comparable(best, self._full_epochs), key=lambda rival: rival.scores or ())
