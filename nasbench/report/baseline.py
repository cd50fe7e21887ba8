"""The comparison of a controller's search with independent ones at random with the same budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench.evaluators.outcomes import SCORED
from nasbench.objectives.hypervolume import Scale, growth
from nasbench.objectives.statistics import NEEDED, chance_interval, verdict
from nasbench.report.within_limits import within_limits
from nasbench.search.record import RecordedCandidate
from nasbench.search.settings import RunSettings

Curve = npt.NDArray[np.float64]
Search = list[RecordedCandidate | None]  # the candidates of a budget, in order; None for one that breaks a limit

ENOUGH = NEEDED + 1  # number of random searches that a user is advised to run

SAID = {
    "better": "the controller was better",
    "worse": "the controller was worse",
    "no difference": "the controller was not better than chance allows",
}


def hypervolume_over_time(candidates: Sequence[RecordedCandidate], settings: RunSettings) -> dict[str, Any] | None:
    """The hypervolume after each candidate that is done; None with a single objective, or without such candidates."""
    done = within_limits(candidates, settings)
    if len(settings.objectives) < 2 or not done:
        return None
    scale = Scale.of(settings.objectives, [candidate.metrics for candidate in done])
    values = growth(scale.points([candidate.metrics for candidate in done]))
    return {"seconds": [candidate.finished_s for candidate in done], "values": values, **scale.to_json()}


def compare_with_baseline(
    candidates: Sequence[RecordedCandidate], baselines: Sequence[Sequence[RecordedCandidate]], settings: RunSettings
) -> dict[str, Any] | None:
    """The best so far of a search beside those of random ones with as many candidates; None while there is none.

    With one score it is the best score, with several the hypervolume on a common scale. A random search draws its
    candidates independently of each other, so each part of one is a random search, too: those of the baselines are cut
    into parts with as many candidates as this search has, which are drawn without replacement. Where this search is no
    better than they are, it is one more of their kind, and beyond all but k - 1 of n of them in k / (n + 1) of cases,
    whatever is compared. So from `NEEDED` random searches on there is a verdict, which is wrong in 2.5 % of cases at
    most, and below that none. (To draw parts with replacement, as a bootstrap does, would call one random search better
    than another in half of all cases: no draw exceeds what was found.)

    Args:
        candidates: Candidates of the search.
        baselines: Candidates of each random search.
        settings: Settings of the search.
    """
    feasible, budget = within_limits(candidates, settings), sum(candidate.status in SCORED for candidate in candidates)
    feasible_baselines = [within_limits(baseline, settings) for baseline in baselines]
    parts = [part for pair in zip(baselines, feasible_baselines, strict=True) for part in _parts(*pair, budget)]
    if not feasible or not parts:
        return None
    several = len(feasible[0].scores or ()) > 1
    scale = Scale.of(
        settings.objectives, [candidate.metrics for candidate in itertools.chain(feasible, *feasible_baselines)]
    )
    floor = min(candidate.scores[0] for candidate in itertools.chain(feasible, *feasible_baselines) if candidate.scores)

    def curve(search: Search) -> Curve:
        if not several:
            scores = [
                floor if candidate is None or not candidate.scores else candidate.scores[0] for candidate in search
            ]
            return np.maximum.accumulate(np.array(scores, dtype=np.float64))
        grown = iter(growth(scale.points([candidate.metrics for candidate in search if candidate is not None])))
        values, last = [], 0.0
        for candidate in search:
            last = last if candidate is None else next(grown)
            values.append(last)
        return np.array(values)

    search_curve = curve(_scored(candidates, feasible))
    curves = np.array([curve(part) for part in parts])
    low, high, coverage = chance_interval(curves)
    outcome = verdict(float(search_curve[-1]), curves[:, -1].tolist())
    measure = "hypervolume" if several else "score"
    name = str((settings.asked["baseline"] or {}).get("name", "random"))
    return {
        "controller": name,
        "measure": measure,
        "candidates": budget,
        "searches": len(parts),
        "count": list(range(1, budget + 1)),
        "mean": curves.mean(axis=0).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "coverage_pct": 100 * coverage,
        "search": search_curve.tolist(),
        "verdict": outcome,
        "better": None if outcome is None else outcome == "better",
        "statement": _statement(settings.way, name, measure, search_curve, curves, outcome),
    }


def _statement(
    controller: str, name: str, measure: str, search_curve: Curve, curves: Curve, outcome: str | None
) -> str:
    """The outcome of the comparison for people; where it allows no verdict, how to get one."""
    budget, count, last = len(search_curve), len(curves), curves[:, -1]
    reached = f"{controller} reached a {measure} of {search_curve[-1]:.4g} with {budget:,} candidates"
    if outcome is not None:
        low, high, coverage = chance_interval(last)
        return (
            f"{reached}; {count:,} {name} searches with as many reached {last.mean():.4g} on average "
            f"({100 * coverage:.0f} % of such searches lie between {low:.4g} and {high:.4g}): {SAID[outcome]}."
        )
    searches = f"one {name} search" if count == 1 else f"{count} {name} searches"
    average = "" if count == 1 else " on average"
    return (
        f"{reached}; {searches} with as many reached {last.mean():.4g}{average}. Fewer than {NEEDED} such searches do "
        f"not tell whether that is more than chance: go on with nasbench resume -o "
        f"'baseline={{name: {name}, candidates: {ENOUGH * budget}}}', or seeds: {ENOUGH} in a small space; or run both "
        f"searches with several seeds, and use nasbench compare."
    )


def _scored(candidates: Sequence[RecordedCandidate], feasible: Sequence[RecordedCandidate]) -> Search:
    """The candidates that count towards the budget, as they were proposed; None for those that break a limit."""
    numbers = {candidate.id for candidate in feasible}
    scored = sorted(
        (candidate for candidate in candidates if candidate.status in SCORED), key=lambda candidate: candidate.id
    )
    return [candidate if candidate.id in numbers else None for candidate in scored]


def _parts(
    candidates: Sequence[RecordedCandidate], feasible: Sequence[RecordedCandidate], budget: int
) -> Iterator[Search]:
    """As many whole searches of this budget as there are in a longer one."""
    scored = _scored(candidates, feasible)
    for start in range(0, len(scored) - budget + 1, max(1, budget)):
        if budget:
            yield scored[start : start + budget]
