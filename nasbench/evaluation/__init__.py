"""What scores a candidate."""

from nasbench.evaluation.evaluator import Evaluated, Evaluator, InfeasibleError, Trial, evaluate

__all__ = ["Evaluated", "Evaluator", "InfeasibleError", "Trial", "evaluate"]
