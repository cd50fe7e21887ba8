"""One candidate after the other, in this process."""

from __future__ import annotations

from controllers import SearchFinished
from nasbench.evaluation import Evaluator, evaluate
from nasbench.executors.executor import Executor, OnResult
from nasbench.study import Study


class Inline(Executor):
    """The simplest executor: for tests, debugging, cheap evaluators and measured latency."""

    name = "inline"

    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished."""
        while True:
            try:
                trial = study.next_trial()
            except SearchFinished:
                return
            assert trial is not None, "nothing runs beside this, so there is nothing to wait for"
            candidate = study.finish(trial.number, evaluate(evaluator, trial))
            if candidate is not None:
                on_result(candidate)
