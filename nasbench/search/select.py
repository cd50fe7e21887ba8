"""Which candidates survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasbench.objectives.reward import broken_limit, pareto_front
from nasbench.search.record import RecordedCandidate
from nasbench.search.remeasured import at_best, overlay
from nasbench.search.study import Study
from nasbench_registry import UserError


def choose_survivors(
    study: Study, number: int | Sequence[int], measured: Mapping[int, Mapping[str, Any]] | None = None
) -> list[RecordedCandidate]:
    """Up to `number` done candidates, the best first; only those that were trained for the most epochs.

    Candidates that are named survive in the order in which they are named, whatever they are worth.
    With one score: the front in the order of the score, filled up with the best of the others if it is too short.
    With several: members of the front spread evenly along the first objective, both of its ends included.

    Args:
        study: Study whose candidates are chosen from.
        number: Number of survivors, or the numbers of the candidates themselves.
        measured: Latencies that were measured after the search, as JSON, by the number of the candidate; who breaks a
            hard limit by them beyond doubt, by the lower end of its interval, does not survive.

    Raises:
        UserError: A named candidate is not done.
    """
    if not isinstance(number, int):
        return [_named(study, candidate_number) for candidate_number in number]
    objectives = study.objectives
    measured = measured or {}
    candidates = overlay(study.comparable, measured, study.objectives, study.reward)
    done = [
        candidate
        for candidate in candidates
        if candidate.scores and broken_limit(objectives, at_best(candidate, measured)) is None
    ]
    front = set(pareto_front(objectives, {candidate.id: candidate.metrics for candidate in done}))
    if done and len(done[0].scores or ()) == 1:
        return sorted(done, key=lambda c: (c.id in front, c.scores, -c.id), reverse=True)[:number]
    members = sorted((c for c in done if c.id in front), key=lambda c: (c.scores, -c.id), reverse=True)
    if len(members) > number > 0:
        members = [members[index] for index in np.linspace(0, len(members) - 1, number).round().astype(int)]
    rest = sorted((c for c in done if c.id not in front), key=lambda c: (c.scores, -c.id), reverse=True)
    return [*members, *rest][:number]


def _named(study: Study, number: int) -> RecordedCandidate:
    candidate = study.record.candidates.get(number)
    if candidate is None or candidate.status != "done":
        reason = "is none of this search" if candidate is None else f"is {candidate.status}"
        raise UserError(
            f"survivors: candidate {number} {reason}; name candidates that are done (trials.csv lists them), with "
            f"nasbench resume RUN -o 'survivors=[...]', or give how many shall be chosen."
        )
    return candidate
