"""Candidates whose latency was predicted during the search and measured when it was over."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.objectives.metrics import latency_and_throughput
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Reward, scores
from nasbench.search.record import RecordedCandidate


def overlay(
    candidates: Sequence[RecordedCandidate],
    measured: Mapping[int, Mapping[str, Any]],
    objectives: Sequence[Objective],
    reward: Reward,
) -> list[RecordedCandidate]:
    """The candidates with their measured latencies in place of the predicted ones, and the scores that follow.

    Args:
        candidates: Candidates that are done.
        measured: Measured latency of some of them as JSON, by number: median in milliseconds, batch, protocol.
        objectives: Objectives of the search.
        reward: Reward that gives the scores.
    """
    return [
        _measured(candidate, measured[candidate.id], objectives, reward) if candidate.id in measured else candidate
        for candidate in candidates
    ]


def at_best(candidate: RecordedCandidate, measured: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """The metrics of a candidate, with the lower end of the interval of its latency, if it was measured and has one.

    A limit that lies in the interval is not broken: noise must not drop who was within it when the search decided.
    """
    low = measured.get(candidate.id, {}).get("low")
    if low is None or math.isnan(low):
        return dict(candidate.metrics)
    return dict(candidate.metrics) | latency_and_throughput(low, measured[candidate.id]["batch"])


def _measured(
    candidate: RecordedCandidate, latency: Mapping[str, Any], objectives: Sequence[Objective], reward: Reward
) -> RecordedCandidate:
    metrics = {name: value for name, value in candidate.metrics.items() if name != "latency_std_ms"}
    metrics |= latency_and_throughput(latency["median"], latency["batch"])
    return dataclasses.replace(candidate, metrics=metrics, scores=scores(objectives, reward, metrics))
