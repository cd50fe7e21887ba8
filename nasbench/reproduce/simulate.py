"""Searches of a tabular benchmark by the thousand: a study in memory, on a simulated clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controllers import Controller, Proposal, SearchFinished, stalled
from nasbench.evaluators.tabular import Tabular
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Scalar
from nasbench.search.clock import SimulatedClock
from nasbench.search.config import ExecutorConfig, SearchConfig
from nasbench.search.executors.executor import ExecutorOptions
from nasbench.search.executors.simulated import Simulated
from nasbench.search.memory_record import MemoryRecord
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench.storage.checkpoints import Checkpoints
from nasbench_registry import UserError
from search_spaces import Architecture

ENDLESS = 10**9  # candidates, where something else ends the search
REPEATS = 20  # proposals for each different network, of a controller that repeats itself


@dataclass(frozen=True)
class Trace:
    """The evaluations of one simulated search, in the order in which they ended.

    Attributes:
        rows: (k,) row of each evaluated architecture in the table.
        scores: (k,) scores that the controller got.
        ended_s: (k,) simulated seconds at which each ended, ascending.
        full: (k,) whether it had the full fidelity.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    ended_s: npt.NDArray[np.float64]
    full: npt.NDArray[np.bool_]


def proposals(controller: Controller, name: str, most: int) -> Iterator[Proposal]:
    """The proposals of a controller, one at a time; the outcome of each has to be told before the next one.

    Args:
        controller: Controller.
        name: Name of the controller.
        most: Largest number of proposals.

    Raises:
        UserError: The controller waits although all outcomes were told.
    """
    for _ in range(most):
        try:
            proposal = controller.ask()
        except SearchFinished:
            return
        if proposal is None:
            raise stalled(name)
        yield proposal


def simulate(
    controller: Controller,
    evaluator: Tabular,
    *,
    budget_s: float | None = None,
    max_queries: int | None = None,
    until_row: int | None = None,
    start_with: Sequence[Architecture] = (),
    workers: int = 1,
) -> Trace:
    """Run one search until its budget is spent.

    With a budget of seconds repeated proposals cost again, and the evaluation during which the budget runs out is still
    part of the trace, for curves are read off between two evaluations. With a budget of queries, an architecture that
    was evaluated is answered at once.

    Args:
        controller: Fresh controller.
        evaluator: Evaluator that looks candidates up.
        budget_s: Budget of simulated seconds.
        max_queries: Budget of different architectures.
        until_row: Row of the table after whose evaluation the search ends.
        start_with: Architectures that are evaluated before the controller is asked.
        workers: Number of evaluations at a time.

    Raises:
        UserError: neither budget is given.
    """
    if budget_s is None and max_queries is None:
        raise UserError("a simulated search needs an end; give budget_s or max_queries.")
    objective = Objective(metric=evaluator.metrics[0], goal="max")
    budget = SearchConfig(
        candidates=max_queries or ENDLESS,
        max_hours=None if budget_s is None else budget_s / 3600,
        repeats="answered" if budget_s is None else "evaluated",
    )
    study = Study(
        controller,
        [objective],
        Scalar(name="scalar"),
        budget,
        MemoryRecord(evaluator.space, [objective]),
        full_epochs=evaluator.oracle.epochs,
        clock=SimulatedClock(),
        identity=evaluator.identity,
        workers=workers,
        start_with=start_with,
    )
    ended: list[RecordedCandidate] = []

    def on_result(candidate: RecordedCandidate) -> None:
        ended.append(candidate)
        if until_row is not None and evaluator.oracle.row(candidate.arch) == until_row:
            study.stop("the row that was searched for is evaluated")

    executor = ExecutorConfig(name="ray" if workers > 1 else "inline", workers=workers)
    Simulated(ExecutorOptions(executor, Checkpoints(Path()), Path())).run(study, evaluator, on_result)
    failed = [candidate.error for candidate in ended if candidate.status != "done"]
    if failed:
        raise UserError(f"a simulated search met a candidate that the table cannot answer: {failed[0]}")
    return Trace(
        np.array([evaluator.oracle.row(candidate.arch) for candidate in ended], dtype=np.int64),
        np.array([candidate.scores[0] if candidate.scores else np.nan for candidate in ended]),
        np.array([candidate.finished_s for candidate in ended]),
        np.array([candidate.epochs in (None, evaluator.oracle.epochs) for candidate in ended], dtype=np.bool_),
    )
