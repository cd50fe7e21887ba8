"""What scores a candidate."""

from nasbench.evaluators.evaluator import Evaluated, Evaluator, InfeasibleError, InvalidNetwork, Trial, evaluate
from nasbench.evaluators.outcomes import FAILURES, OUTCOMES, SCORED, Status

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
