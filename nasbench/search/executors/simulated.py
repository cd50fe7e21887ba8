"""Candidates whose results are looked up, on a clock that goes as their training would have."""

from __future__ import annotations

import heapq
from dataclasses import replace

from controllers import SearchFinished, stalled
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.trial import Evaluated
from nasbench.search.clock import SimulatedClock
from nasbench.search.executors.executor import Executor, OnResult
from nasbench.search.study import Study


class Simulated(Executor):
    """Simulated workers: each takes a candidate, is busy for its simulated seconds, and hands in the outcome.

    So a controller meets the outcomes in the order in which they would have come. The evaluation during which the time
    of a search runs out is still part of it.
    """

    name = "simulated"

    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished; its clock has to be a `SimulatedClock`."""
        clock = study.clock
        if not isinstance(clock, SimulatedClock):
            raise TypeError("a simulated executor needs a study with a simulated clock")
        running: list[tuple[float, int, Evaluated]] = []  # end, number, outcome
        finished = False
        while True:
            while not finished and len(running) < self.config.workers:
                try:
                    trial = study.next_trial()
                except SearchFinished:
                    finished = True
                    break
                if trial is None:
                    if not running:
                        raise stalled(study.controller_name)
                    break
                evaluated = evaluate(evaluator, trial, curve_of=study.quality)
                evaluated = replace(evaluated, seconds=evaluated.simulated_s)
                heapq.heappush(running, (clock.seconds + evaluated.simulated_s, trial.number, evaluated))
            if not running:
                return
            clock.seconds, number, evaluated = heapq.heappop(running)
            candidate = study.finish(number, evaluated)
            if candidate is not None:
                on_result(candidate)
