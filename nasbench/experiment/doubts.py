"""Warnings on what an experiment does and its user may not have meant: given before the search, which then runs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nasbench.experiment.experiment import Experiment
from nasbench.objectives.metrics import CAPACITY
from nasbench.objectives.statistics import NEEDED
from nasbench.report.baseline import ENOUGH
from search_spaces import SearchSpace

COUNTED = 100_000  # most architectures that are listed, within two seconds, to know how many networks they are
ROOM = 10
"""With fewer networks for each candidate a controller that converges runs out of new ones: with 3 to 4 of them,
regularized evolution and NSGA-II proposed 1,000 known ones in a row after a quarter to a third of 2,000 candidates."""
UNIFORM = ("random", "hyperband", "local_search")  # do not converge on a part of the space for good


def doubts(experiment: Experiment, space: SearchSpace) -> Iterator[str]:
    """Sentences, each with what to change.

    Args:
        experiment: Experiment that is about to run.
        space: Space of architectures, or of architectures together with recipes.
    """
    for objective in experiment.objectives:
        if objective.goal == "max" and objective.metric in CAPACITY:
            yield (
                f"objective {objective.metric} has goal 'max', so that the search goes for large networks; write "
                f"goal: min if it is a cost."
            )
    candidates = experiment.search.candidates
    if (baseline := experiment.baseline) is not None:
        baseline_candidates = baseline.candidates or candidates
        searches = baseline.seeds * (baseline_candidates // candidates)
        cost = f"the baseline evaluates {baseline.seeds * baseline_candidates:,} further candidates"
        if searches < NEEDED:
            yield (
                f"{cost}, {searches} random search(es) like this one, and fewer than {NEEDED} allow no verdict on "
                f"the controller; write baseline: {{name: random, candidates: {ENOUGH * candidates}}} if that is "
                f"affordable."
            )
        else:
            yield f"{cost}, {searches} random searches like this one."
    counted = math.prod(space.layout.sizes) <= COUNTED
    networks = space.count_distinct() if counted else space.size
    space_text = f"space {space.name!r} has {networks:,} {'different networks' if counted else 'architectures'}"
    if networks < candidates:
        yield f"{space_text}, and search.candidates asks for {candidates:,}: the search ends when all are known."
    elif networks < ROOM * candidates and experiment.controller.name not in UNIFORM:
        yield (
            f"{space_text}, and search.candidates asks for {candidates:,}: controller {experiment.controller.name!r} "
            f"may end the search earlier, when it proposes only what is known already; controller random does not."
        )
