"""Cheap candidates under Ray: a pool of processes that take them in blocks."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controllers import SearchFinished, stalled
from nasbench.evaluators.evaluate import evaluate_many
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.search.executors.blocks import BlockSize
from nasbench.search.executors.cluster import connected
from nasbench.search.executors.deaths import Deaths
from nasbench.search.executors.executor import Executor, OnResult
from nasbench.search.executors.worker import Worker, edited_code, travelling, watched
from nasbench.search.study import Study


class RayPool(Executor):
    """As many actors of Ray as there are workers; each evaluates a block and gets the next one.

    Ray Tune would take some fifty milliseconds for each candidate, to start, watch and stop a trial of its own. A block
    whose process ends is handed out again, each of its candidates alone: then it shows which one ends a process.
    """

    name = "ray"

    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished, on the cluster of `ray.address` or on a Ray of this machine."""
        options = self.options
        worker = Worker.of(study, evaluator, options)
        deaths = Deaths(worker.checkpoints, options.candidate_minutes)
        with (
            contextlib.redirect_stdout(sys.stderr),  # Ray tells of lost machines on standard output
            connected(self.config, options.ray, options.code_folder),
        ):
            import ray

            with travelling():
                shared = ray.put(worker)
            actors: Any = ray.remote(BlockWorker).options(num_cpus=self.config.cpus, num_gpus=self.config.gpus)
            self._loop(study, lambda: actors.remote(shared), evaluator, deaths, on_result)

    def _loop(
        self, study: Study, start: Callable[[], Any], evaluator: Evaluator, deaths: Deaths, on_result: OnResult
    ) -> None:
        import ray

        idle = deque(start() for _ in range(self.config.workers))
        size = BlockSize(evaluator.at_once)
        in_flight: dict[Any, tuple[Any, list[Trial], float]] = {}  # by the promise of its outcomes
        while True:
            try:
                while idle and (trials := study.next_trials(size.count)):
                    worker = idle.popleft()
                    promise = worker.evaluate.remote([trial.to_json() for trial in trials])
                    in_flight[promise] = worker, trials, time.monotonic()
            except SearchFinished:
                return  # only when nothing is being evaluated
            if not in_flight:
                raise stalled(study.controller_name)
            for promise in ray.wait(list(in_flight), num_returns=1)[0]:
                worker, trials, began = in_flight.pop(promise)
                seconds = time.monotonic() - began
                try:
                    outcomes = [Evaluated.from_json(outcome) for outcome in ray.get(promise)]
                    idle.append(worker)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None  # the disk is full, say: that ends the search
                except ray.exceptions.RayError as error:
                    # A new one: Ray's own restart refuses what is asked of it before it is there again.
                    idle.append(start())
                    if len(trials) > 1:
                        study.give_back([trial.number for trial in trials])
                        continue
                    number = trials[0].number
                    deaths.exceptions[str(number)] = error
                    outcomes = [deaths.explain(str(number), number, seconds)]
                else:
                    size.took(len(trials), seconds)
                for trial, evaluated in zip(trials, outcomes, strict=True):
                    candidate = study.finish(trial.number, evaluated)
                    if candidate is not None:
                        on_result(candidate)


class BlockWorker:
    """An actor of the pool.

    Args:
        worker: Evaluating side of the search, which travels to the actor.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker, self.edited = worker, edited_code(worker)

    def evaluate(self, block: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Evaluate candidates, in plain values."""
        worker, trials = self.worker, [Trial.from_json(entry) for entry in block]
        if self.edited is not None:
            return [self.edited.to_json() for _ in trials]
        limit_s = None if worker.limit_s is None else worker.limit_s * len(trials)
        with watched(worker.checkpoints, trials[0].number, limit_s):
            outcomes = evaluate_many(worker.evaluator, trials, curve_of=worker.quality)
        return [outcome.to_json() for outcome in outcomes]
