"""Candidates whose latency was predicted during the search and measured when it was over."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.experiment.experiment import Experiment
from nasbench.objectives.reward import scores
from nasbench.search.record import Candidate


def overlay(
    candidates: Sequence[Candidate], measured: Mapping[int, Mapping[str, Any]], experiment: Experiment
) -> list[Candidate]:
    """The candidates with their measured latencies in place of the predicted ones, and the scores that follow.

    Args:
        candidates: done ones.
        measured: the latency of some of them as JSON, by number: median in milliseconds, batch, protocol.
        experiment: whose reward gives the scores.
    """
    return [_measured(each, measured[each.id], experiment) if each.id in measured else each for each in candidates]


def _measured(candidate: Candidate, latency: Mapping[str, Any], experiment: Experiment) -> Candidate:
    known = {name: value for name, value in candidate.metrics.items() if name != "latency_std_ms"}
    known |= {"latency_ms": latency["median"], "throughput_per_s": 1000 * latency["batch"] / latency["median"]}
    return dataclasses.replace(candidate, metrics=known, scores=scores(experiment, known))
