"""Score what a differentiable search derives by the weights that it shares."""

from __future__ import annotations

from pathlib import Path

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.evaluator import Evaluator
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Problem
from nasbench.storage.files import read_json
from nasbench.storage.run_folder import EPOCHS
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace


class SharedWeights(Evaluator):
    """The quality that the search saw after the last epoch that derived the candidate; nothing is trained alone.

    Args:
        space: Search space that candidates belong to.
        problem: Problem of the search.
        differentiable: Folder of the differentiable search.
    """

    summary = "by the shared weights of a differentiable controller"

    def __init__(self, space: SearchSpace, problem: Problem | None, *, differentiable: Path | None = None) -> None:
        if problem is None:
            raise UserError("evaluator 'shared_weights' judges by validation examples; give the section data.")
        super().__init__(space, problem.task)
        self._quality, self._folder = problem.quality, differentiable

    @property
    def metrics(self) -> tuple[str, ...]:
        """The quality of the problem."""
        return (self._quality,)

    def identity(self, arch: Architecture) -> Architecture:
        """The architecture itself: of those that build equal networks, each has other shared weights."""
        return arch

    def __call__(self, candidate: Candidate) -> Metrics:
        """Look it up in the epochs that the search recorded.

        Raises:
            UserError: The search derived no such architecture.
        """
        recorded = read_json((self._folder or Path()) / EPOCHS, "resume the run, and it is made again", ("history",))
        for epoch in reversed(recorded["history"]):
            if tuple(epoch["picks"]) == candidate.arch.picks:
                return {self._quality: float(epoch["val_quality"])}
        raise UserError(
            f"evaluator 'shared_weights' knows what the search derived, and not {candidate.architecture}; "
            "leave out start_with, or take another evaluator."
        )
