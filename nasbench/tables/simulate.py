"""Searches on a tabular benchmark with a simulated clock: thousands of them in seconds.

A proposal costs the seconds that its training took when the table was made. Workers are simulated, too: each takes a
proposal, is busy for its seconds, and hands in the outcome, so that a controller meets the answers in the order in
which they would have come.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from controllers import Controller, Outcome, Proposal, SearchFinished, stalled
from nasbench_registry import UserError
from search_spaces import Architecture

MAX_REPEATS = 20  # a search with free repeats ends after so many proposals for each query that it may make


class Oracle(Protocol):
    """What a simulated evaluation gives and costs. Architectures are told by their row in the table."""

    @property
    def epochs(self) -> int:
        """The full fidelity."""

    def row(self, arch: Architecture) -> int:
        """The row of an architecture."""

    def score(self, row: int, epochs: int | None) -> float:
        """What the controller is told, larger is better; `epochs` is the fidelity, None the full one."""

    def seconds(self, row: int, epochs: int | None) -> float:
        """What the evaluation costs."""


@dataclass(frozen=True)
class Trace:
    """The evaluations of one simulated search, in the order in which they ended.

    Attributes:
        rows: (k,) row of each evaluated architecture.
        scores: (k,) what the controller was told.
        ended_s: (k,) simulated seconds at which each ended, ascending.
        full: (k,) whether it had the full fidelity.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    ended_s: npt.NDArray[np.float64]
    full: npt.NDArray[np.bool_]


def simulate(
    controller: Controller,
    oracle: Oracle,
    *,
    budget_s: float | None = None,
    max_queries: int | None = None,
    until_row: int | None = None,
    workers: int = 1,
    free_repeats: bool = False,
) -> Trace:
    """Run one search until its budget is spent.

    The evaluation during which the budget runs out is still part of the trace, for curves are read off between two
    evaluations. Repeated proposals cost again, unless `free_repeats` is set.

    Args:
        controller: fresh.
        oracle: what evaluations give and cost.
        budget_s: simulated seconds.
        max_queries: evaluations.
        until_row: the search ends when this row has been evaluated.
        workers: evaluations at a time.
        free_repeats: an architecture that has been evaluated is answered at once, without seconds or a query; a
            search that proposes hardly anything else ends after `MAX_REPEATS` * `max_queries` proposals.
    """
    if budget_s is None and max_queries is None:
        raise UserError("a simulated search needs an end; give budget_s or max_queries.")
    running: list[tuple[float, int, Proposal, int]] = []  # end, number, proposal, row
    rows: list[int] = []
    scores: list[float] = []
    ended: list[float] = []
    full: list[bool] = []
    evaluated: set[int] = set()
    now, asked, queries, finished = 0.0, 0, 0, False
    while True:
        while not finished and len(running) < workers:
            if budget_s is not None and now >= budget_s:
                break
            if max_queries is not None and (queries >= max_queries or asked >= MAX_REPEATS * max_queries):
                break
            try:
                proposal = controller.ask()
            except SearchFinished:
                finished = True
                break
            if proposal is None:
                if not running:
                    raise stalled(controller.name)
                break
            row, cost = oracle.row(proposal.arch), 0.0
            if not (free_repeats and row in evaluated):
                cost = oracle.seconds(row, proposal.epochs)
                queries += 1
            heapq.heappush(running, (now + cost, asked, proposal, row))
            asked += 1
        if not running:
            break
        now, _, proposal, row = heapq.heappop(running)
        score = oracle.score(row, proposal.epochs)
        controller.tell(Outcome(proposal, (score,)))
        evaluated.add(row)
        rows.append(row)
        scores.append(score)
        ended.append(now)
        full.append(proposal.epochs in (None, oracle.epochs))
        if row == until_row or (budget_s is not None and now >= budget_s):
            break
    return Trace(np.array(rows, dtype=np.int64), np.array(scores), np.array(ended), np.array(full, dtype=np.bool_))
