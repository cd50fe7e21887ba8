"""Which candidates survive."""

from __future__ import annotations

import numpy as np

from nasbench.study import Candidate, Study


def choose_survivors(study: Study, number: int) -> list[Candidate]:
    """Up to `number` done candidates, the best first; only those that were trained for the most epochs.

    With one score: the front in the order of the score, filled up with the best of the others if it is too short.
    With several: members of the front spread evenly along the first objective, both of its ends included.
    """
    done = [candidate for candidate in study.comparable if candidate.scores]
    front = set(study.front)
    if done and len(done[0].scores or ()) == 1:
        return sorted(done, key=lambda c: (c.id in front, c.scores, -c.id), reverse=True)[:number]
    members = sorted((c for c in done if c.id in front), key=lambda c: (c.scores, -c.id), reverse=True)
    if len(members) > number > 0:
        members = [members[index] for index in np.linspace(0, len(members) - 1, number).round().astype(int)]
    rest = sorted((c for c in done if c.id not in front), key=lambda c: (c.scores, -c.id), reverse=True)
    return [*members, *rest][:number]
