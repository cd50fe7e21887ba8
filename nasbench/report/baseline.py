"""What a controller was worth: its search against one at random with the same budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench.objectives.hypervolume import Scale, growth
from nasbench.report.within_limits import within_limits
from nasbench.search.record import RecordedCandidate
from nasbench.search.settings import RunSettings

RESAMPLED = 100  # random searches, made of the candidates of one
CONFIDENCE = 0.95

Curve = npt.NDArray[np.float64]


def hypervolume_over_time(candidates: Sequence[RecordedCandidate], settings: RunSettings) -> dict[str, Any] | None:
    """The hypervolume after each candidate that is done; None with a single objective, or without such candidates."""
    done = within_limits(candidates, settings)
    if len(settings.objectives) < 2 or not done:
        return None
    scale = Scale.of(settings.objectives, [each.metrics for each in done])
    values = growth(scale.points([each.metrics for each in done]))
    return {"seconds": [each.finished_s for each in done], "values": values, **scale.to_json()}


def compare_with_baseline(
    candidates: Sequence[RecordedCandidate], baseline: Sequence[RecordedCandidate], settings: RunSettings
) -> dict[str, Any] | None:
    """The best so far of a search beside that of a random one; None while either has no candidate that is done.

    With one score it is the best score, with several the hypervolume on a common scale. A random search draws its
    candidates independently, so that others like it are made by drawing from those it had, with replacement: their mean
    and the middle 95 % of them are the band that the search is compared with.

    Args:
        candidates: of the search.
        baseline: of the random search.
        settings: what the search was asked.
    """
    ours, theirs = within_limits(candidates, settings), within_limits(baseline, settings)
    if not ours or not theirs:
        return None
    several = len(ours[0].scores or ()) > 1
    scale = Scale.of(settings.objectives, [each.metrics for each in (*ours, *theirs)])

    def curve(chosen: Sequence[RecordedCandidate | None]) -> Curve:
        """Best so far; None stands for a candidate that came to nothing."""
        if several:
            points = scale.points([each.metrics for each in chosen if each is not None])
            grown = iter(growth(points))
            values, last = [], 0.0
            for each in chosen:
                last = last if each is None else next(grown)
                values.append(last)
            return np.array(values)
        scores = [-np.inf if each is None or not each.scores else each.scores[0] for each in chosen]
        return np.maximum.accumulate(np.array(scores, dtype=np.float64))

    drawn = _with_failures(baseline, theirs)
    rng = np.random.default_rng(0)
    others = np.array(
        [curve([drawn[index] for index in rng.integers(len(drawn), size=len(drawn))]) for _ in range(RESAMPLED)]
    )
    floor = min((each.scores[0] for each in theirs if each.scores), default=0.0)
    others = np.where(np.isfinite(others), others, 0.0 if several else floor)  # nothing done yet
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(others, [tail, 100 - tail], axis=0)
    own = curve(_with_failures(candidates, ours))
    own = np.where(np.isfinite(own), own, 0.0 if several else floor)
    at = np.minimum(np.arange(len(drawn)), len(own) - 1)
    better = bool(own[-1] > high[-1])
    measure = "hypervolume" if several else "score"
    return {
        "controller": settings.asked["baseline"],
        "measure": measure,
        "candidates": len(drawn),
        "count": list(range(1, len(drawn) + 1)),
        "mean": others.mean(axis=0).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "search": own[at].tolist(),
        "better": better,
        "statement": (
            f"{settings.controller} reached a {measure} of {own[-1]:.4g} with {len(own)} candidates; "
            f"{settings.asked['baseline']} search with the same budget reached {others[:, -1].mean():.4g} on "
            f"average with "
            f"{len(drawn)} (95 % interval {low[-1]:.4g} to {high[-1]:.4g}): "
            + ("the controller was better." if better else "the controller was not better than chance allows.")
        ),
    }


def _with_failures(
    candidates: Sequence[RecordedCandidate], done: Sequence[RecordedCandidate]
) -> list[RecordedCandidate | None]:
    """All that finished, in their order; None for what came to nothing."""
    fine = {each.id for each in done}
    finished = sorted((each for each in candidates if each.status != "running"), key=lambda each: each.finished_s)
    return [each if each.id in fine else None for each in finished]
