"""Candidates whose latency was predicted during the search and measured when it was over."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

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
        candidates: done ones.
        measured: the latency of some of them as JSON, by number: median in milliseconds, batch, protocol.
        objectives: of the search.
        reward: gives the scores.
    """
    return [
        _measured(candidate, measured[candidate.id], objectives, reward) if candidate.id in measured else candidate
        for candidate in candidates
    ]


def _measured(
    candidate: RecordedCandidate, latency: Mapping[str, Any], objectives: Sequence[Objective], reward: Reward
) -> RecordedCandidate:
    known = {name: value for name, value in candidate.metrics.items() if name != "latency_std_ms"}
    known |= {"latency_ms": latency["median"], "throughput_per_s": 1000 * latency["batch"] / latency["median"]}
    return dataclasses.replace(candidate, metrics=known, scores=scores(objectives, reward, known))
