"""One candidate after the other, in this process."""

from __future__ import annotations

from controllers import SearchFinished, stalled
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.trial import Evaluated
from nasbench.search.executors.executor import Executor, OnResult
from nasbench.search.study import Study


class Inline(Executor):
    """The simplest executor: for tests, debugging, cheap evaluators and measured latency.

    A candidate that takes too long is only noticed between two batches, and one that ends the process ends the search.
    """

    name = "inline"

    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished."""
        while True:
            try:
                trial = study.next_trial()
            except SearchFinished:
                return
            if trial is None:  # nothing runs beside this, so there is nothing to wait for
                raise stalled(study.controller_name)
            number = trial.number

            def report(epoch: int, so_far: Evaluated, number: int = number) -> bool:
                if str(epoch) in so_far.curve:
                    study.report(number, epoch, so_far.curve[str(epoch)])
                return True

            candidate = study.finish(number, evaluate(evaluator, trial, report, curve_of=study.quality))
            if candidate is not None:
                on_result(candidate)
