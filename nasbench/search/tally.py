"""Counts over the outcomes so far, kept up to date as candidates end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controllers import dominates
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import objective_scores
from nasbench.search.record import RecordedCandidate


class Tally:
    """Counts, the best candidate and the front of a search, at a cost that does not grow with its candidates.

    Args:
        objectives: Objectives of the search.
        full_epochs: Epochs of a candidate that was asked for without a number of epochs.
        candidates: Candidates that are there already.
    """

    def __init__(
        self, objectives: Sequence[Objective], full_epochs: int, candidates: Iterable[RecordedCandidate] = ()
    ) -> None:
        self._objectives, self._full_epochs = objectives, full_epochs
        self.counts: Counter[str] = Counter()
        self.cached = 0
        self.trained_s = self.finished_s = 0.0
        self.best: RecordedCandidate | None = None
        self.changes = 0
        """How often the front got another member."""
        self._front: dict[tuple[float, ...], list[int]] = {}  # by their values, which many may share in a small space
        self._epochs = 0  # the most of a done candidate
        for candidate in candidates:
            self.begin()
            if candidate.status != "running":
                self.end(candidate)

    @property
    def front(self) -> list[int]:
        """The numbers of the candidates that no other dominates in the objectives, ascending."""
        return sorted(number for numbers in self._front.values() for number in numbers)

    @property
    def front_size(self) -> int:
        """How many these are."""
        return sum(map(len, self._front.values()))

    def begin(self) -> None:
        """A candidate is running."""
        self.counts["running"] += 1

    def end(self, candidate: RecordedCandidate) -> None:
        """A running candidate ended."""
        self.counts["running"] -= 1
        self.counts[candidate.status] += 1
        self.finished_s = max(self.finished_s, candidate.finished_s)
        self.cached += candidate.cached
        if not candidate.cached:
            self.trained_s += candidate.training_seconds
        if candidate.status == "done":
            self._compare(candidate)

    def utilization(self, workers: int) -> float | None:
        """See `nasbench.search.record.utilization`."""
        return self.trained_s / (workers * self.finished_s) if self.finished_s else None

    def to_json(self) -> dict[str, Any]:
        """All but the best candidate, as JSON values."""
        return {
            "counts": dict(self.counts),
            "cached": self.cached,
            "trained_s": self.trained_s,
            "finished_s": self.finished_s,
            "epochs": self._epochs,
            "front": [[values, numbers] for values, numbers in self._front.items()],
        }

    def load(self, saved: Mapping[str, Any], best: RecordedCandidate | None) -> None:
        """Take up what `to_json` gave, and the best candidate."""
        self.counts = Counter(saved["counts"])
        self.cached, self.trained_s, self.finished_s = saved["cached"], saved["trained_s"], saved["finished_s"]
        self._epochs, self.best = saved["epochs"], best
        self._front = {tuple(values): list(numbers) for values, numbers in saved["front"]}

    def _compare(self, candidate: RecordedCandidate) -> None:
        """Whether it is the best, or on the front; who was trained for fewer epochs than others is neither."""
        epochs = candidate.epochs or self._full_epochs
        if epochs < self._epochs:
            return
        if epochs > self._epochs:
            self._epochs, self.best, self._front = epochs, None, {}
        if self.best is None or (candidate.scores or ()) > (self.best.scores or ()):
            self.best = candidate
        values = objective_scores(self._objectives, candidate.metrics)
        # Whom a member dominated, no newcomer brings back.
        if values not in self._front:
            if any(dominates(member, values) for member in self._front):
                return
            for member in [member for member in self._front if dominates(values, member)]:
                del self._front[member]
            self._front[values] = []
        self._front[values].append(candidate.id)
        self.changes += 1
