"""The candidates that searches are compared by."""

from __future__ import annotations

from collections.abc import Sequence

from nasbench.experiment.experiment import Experiment
from nasbench.objectives.reward import broken_limit
from nasbench.search.record import Candidate, comparable


def within_limits(candidates: Sequence[Candidate], experiment: Experiment) -> list[Candidate]:
    """Those that were trained for the most epochs and meet every limit, in the order in which they finished."""
    done = comparable(candidates, experiment.training.epochs)
    fine = [each for each in done if each.scores and broken_limit(experiment.objectives, each.metrics) is None]
    return sorted(fine, key=lambda each: each.finished_s)
