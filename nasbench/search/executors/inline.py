"""One candidate after the other, in this process."""

from __future__ import annotations

import time

from controllers import SearchFinished, stalled
from nasbench.evaluators.evaluate import evaluate, evaluate_many
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.trial import Evaluated
from nasbench.search.executors.blocks import BlockSize
from nasbench.search.executors.executor import Executor, OnResult
from nasbench.search.study import Study


class Inline(Executor):
    """The simplest executor: for tests, debugging, cheap evaluators and measured latency.

    A candidate that takes too long is only noticed between two batches, and one that ends the process ends the search.
    An evaluator that takes several candidates at once gets as many as the controller can give without an outcome.
    """

    name = "inline"

    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished."""
        size = BlockSize(evaluator.at_once)
        while True:
            try:
                trials = study.next_trials(size.count)
            except SearchFinished:
                return
            if not trials:  # nothing runs beside this, so there is nothing to wait for
                raise stalled(study.controller_name)
            number = trials[0].number

            def report(epoch: int, so_far: Evaluated, number: int = number) -> bool:
                if str(epoch) in so_far.curve:
                    study.report(number, epoch, so_far.curve[str(epoch)])
                return True

            began = time.monotonic()
            if len(trials) == 1:
                outcomes = [evaluate(evaluator, trials[0], report, curve_of=study.quality)]
            else:
                outcomes = evaluate_many(evaluator, trials, curve_of=study.quality)
            size.took(len(trials), time.monotonic() - began)
            for trial, evaluated in zip(trials, outcomes, strict=True):
                candidate = study.finish(trial.number, evaluated)
                if candidate is not None:
                    on_result(candidate)
