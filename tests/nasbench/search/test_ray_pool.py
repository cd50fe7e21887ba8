"""Cheap candidates under Ray, in blocks, by real processes."""

import os
import signal

import pytest
from tests_support import begin

from nasbench.evaluators.evaluator import Evaluator
from nasbench.experiment.build import Brought
from nasbench.search.executors.ray_pool import RayPool
from search_spaces import get_space

pytestmark = pytest.mark.slow

CANDIDATES, DEADLY, FAILS = 60, 17, 23


class Pooled(Evaluator):
    """One candidate kills the process that evaluates it, and with it whatever is in its block; another one fails."""

    def __call__(self, candidate):
        (metrics,) = self.evaluate_many([candidate])
        if isinstance(metrics, Exception):
            raise metrics
        return metrics

    def evaluate_many(self, candidates):
        numbers = [candidate.number for candidate in candidates]
        if DEADLY in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        return [
            ValueError("no good")
            if candidate.number == FAILS
            else {
                "val_acc_pct": float(sum(candidate.arch.picks)),
                "macs": 1.0 + candidate.arch.picks[0],
                "process": float(os.getpid()),
                "together": float(len(candidates)),
            }
            for candidate in candidates
        ]


def test_a_process_that_dies_loses_only_the_candidate_that_ends_it(tmp_path, small):
    experiment = small(
        controller={"name": "random"},
        executor={"name": "ray", "workers": 2, "cpus": 1},
        search={"candidates": CANDIDATES, "repeats": "evaluated"},
    )
    evaluator = Pooled(get_space(experiment.space.name, **experiment.space.options))
    run = begin(tmp_path / "run", experiment, Brought(evaluate=evaluator))
    executor, heard = run.prepared.executor(run.folder, evaluator), []
    assert isinstance(executor, RayPool)
    executor.run(run.study, evaluator, heard.append)
    ended = {candidate.id: candidate.status for candidate in run.study.candidates}
    assert {number: status for number, status in ended.items() if status != "done"} == {
        DEADLY: "crashed",
        FAILS: "failed",
    }
    assert run.study.count("done") == CANDIDATES and len(heard) == CANDIDATES + 2
    assert [len(c.attempts) for c in run.study.candidates if c.attempts] == [2], "only that one was tried again"
    assert run.study.candidates[FAILS].error == "ValueError: no good"
    done = [candidate.metrics for candidate in run.study.candidates if candidate.status == "done"]
    assert len({metrics["process"] for metrics in done}) >= 3, "two processes, and one in the place of one that died"
    assert os.getpid() not in {metrics["process"] for metrics in done}
    assert max(metrics["together"] for metrics in done) > 1
