"""Score a candidate by its costs alone: counted, and predicted by a stored calibration."""

from __future__ import annotations

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.costs import LATENCY, ON_PAPER, paper_costs
from nasbench.evaluators.evaluator import Evaluator
from nasbench.latency.calibration import Calibration
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Problem
from nasbench_registry import UserError
from search_spaces import SearchSpace


class Predicted(Evaluator):
    """Costs without training: multiply-adds, parameters, bytes, and the latency that a calibration predicts.

    Args:
        space: Search space that candidates belong to.
        problem: Problem whose task the networks are built for.
        calibration: Measurements that latency is predicted from, those of `device.calibration`; None predicts none.
    """

    summary = "costs alone: counted, and latency predicted by a calibration"

    def __init__(self, space: SearchSpace, problem: Problem | None, calibration: Calibration | None = None) -> None:
        if problem is None:
            raise UserError("evaluator 'predicted' builds networks for a data set; give the section data.")
        super().__init__(space, problem.task)
        self._problem_task = problem.task
        self._predictor = None if calibration is None else calibration.predictor(space)
        self._batch = 1 if calibration is None else int(calibration.protocol["batch"])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of `ON_PAPER`, and with a calibration latency_ms and throughput_per_s."""
        latency = () if self._predictor is None else (*LATENCY, "latency_std_ms")
        return (*ON_PAPER, *latency)

    def __call__(self, candidate: Candidate) -> Metrics:
        """Build the network and count it."""
        return paper_costs(
            candidate.network(),
            self._problem_task,
            self._predictor,
            arch=candidate.arch,
            batch=self._batch,
            peak=True,
            micro=True,
        )
