"""A record that is not kept: for simulated searches by the thousand."""

from __future__ import annotations

from collections.abc import Sequence

from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.objectives.objective import Objective
from nasbench.search.record import RecordedCandidate, fill
from search_spaces import SearchSpace


class MemoryRecord:
    """Every candidate of a study, in memory alone; see `nasbench.search.disk_record.DiskRecord`.

    Args:
        space: Search space whose architectures are recorded.
        objectives: Objectives of the search.
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        self.space, self.objectives = space, objectives
        self.candidates: dict[int, RecordedCandidate] = {}

    def create(self, trial: Trial, asks: int = 1, *, block: bool = False) -> None:
        """Write down that a candidate is running; its notation is not needed in memory, and left out."""
        self.candidates[trial.number] = RecordedCandidate(trial.number, trial.arch, trial.epochs)

    def waited(self, asks: int, *, block: bool = False) -> None:
        """Nothing: no process goes on with this record."""

    def flush(self) -> None:
        """Nothing: there is no disk."""

    def report(self, number: int, epoch: int, value: float) -> None:
        """Write down what a running candidate is worth after an epoch."""
        self.candidates[number].curve[str(epoch)] = value

    def attempt(self, number: int, evaluated: Evaluated) -> None:
        """Write down an attempt that another one will follow."""
        attempt = {"status": evaluated.status, "error": evaluated.error, "seconds": evaluated.seconds}
        self.candidates[number].attempts.append(attempt)

    def finish(
        self, number: int, evaluated: Evaluated, scores: tuple[float, ...] | None, finished_s: float
    ) -> RecordedCandidate:
        """Write down what came of a candidate."""
        candidate = self.candidates[number]
        candidate.curve.update(evaluated.curve)
        fill(candidate, vars(evaluated) | {"scores": scores, "finished_s": finished_s})
        return candidate
