"""What scores a candidate."""

from nasbench.evaluation.evaluator import Evaluated, Evaluator, InfeasibleError, InvalidNetwork, Trial, evaluate
from nasbench.evaluation.outcomes import FAILURES, OUTCOMES, SCORED, Status

__all__ = [
    "FAILURES",
    "OUTCOMES",
    "SCORED",
    "Evaluated",
    "Evaluator",
    "InfeasibleError",
    "InvalidNetwork",
    "Status",
    "Trial",
    "evaluate",
]
