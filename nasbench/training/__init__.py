"""Training and scoring of networks."""

from nasbench.training.loop import Diverged, Score, score, train

__all__ = ["Diverged", "Score", "score", "train"]
