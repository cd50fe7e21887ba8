"""Ray Tune's view of a study."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from controllers import SearchFinished
from nasbench.evaluators.trial import Evaluated
from nasbench.search.executors.deaths import Deaths
from nasbench.search.executors.executor import OnResult
from nasbench.search.study import Study


def make_searcher(study: Study, deaths: Deaths, on_result: OnResult, workers: int) -> Any:
    """A searcher of Ray Tune that holds a study. Made here, so that Ray is imported only where it is used.

    Args:
        study: Study that hands out candidates and takes their outcomes.
        deaths: Explains why a worker ended without a report.
        on_result: Called with each finished candidate.
        workers: Number of candidates that may be in training at a time; paused ones are not counted.
    """
    from ray.tune.search import Searcher

    class StudySearcher(Searcher):
        # Tune pickles a searcher with its class: what it works with are attributes, then, not names from outside.
        def __init__(self, study: Study, deaths: Deaths, on_result: OnResult, workers: int) -> None:
            super().__init__(metric="evaluated", mode="max")
            self.study, self.deaths, self.on_result, self.workers = study, deaths, on_result, workers
            self.numbers: dict[str, int] = {}
            self.started: dict[str, float] = {}
            self.latest: dict[str, Evaluated] = {}
            self.paused: set[str] = set()
            self.trials: dict[str, Any] = {}  # all that Tune knows, by id; see `make_watch`

        def __getstate__(self) -> dict[str, Any]:
            """Nothing: Tune pickles its searcher for a restore of its own, which the study makes needless."""
            return {}

        def suggest(self, trial_id: str) -> Any:
            self._give_up_lost()
            if len(self.numbers) - len(self.paused) >= self.workers:
                return None
            try:
                trial = self.study.next_trial()
            except SearchFinished:
                return Searcher.FINISHED
            if trial is None:
                return None
            self.numbers[trial_id] = trial.number
            self.started[trial_id] = time.monotonic()
            return {"trial": trial.to_json()}

        def on_pause(self, trial_id: str) -> None:
            """Hyperband pauses a candidate: another one may run meanwhile."""
            self.paused.add(trial_id)

        def on_unpause(self, trial_id: str) -> None:
            self.paused.discard(trial_id)

        def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
            if trial_id not in self.numbers or "evaluated" not in result:
                return
            evaluated = Evaluated.from_json(json.loads(result["evaluated"]))
            self.latest[trial_id] = evaluated
            if evaluated.status != "stopped":  # which it only is if no further report comes
                self._finish(trial_id, evaluated)
                return
            for epoch, accuracy in evaluated.curve.items():
                self.study.report(self.numbers[trial_id], int(epoch), accuracy)

        def on_trial_complete(
            self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
        ) -> None:
            if result is not None and not error:
                self.on_trial_result(trial_id, result)
            if trial_id not in self.numbers:
                return  # its last report was heard before
            if error or trial_id not in self.latest:
                seconds = time.monotonic() - self.started[trial_id]
                self._finish(trial_id, self.deaths.explain(trial_id, self.numbers[trial_id], seconds))
            else:
                self._finish(trial_id, self.latest[trial_id])

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the study saves itself."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the study resumes by itself."""

        def _give_up_lost(self) -> None:
            """Finish candidates that Tune gave up in silence.

            It does so where the process that a candidate was to take over is still busy with the one before.
            """
            lost = [key for key in self.numbers if key in self.trials and self.trials[key].status == "ERROR"]
            for trial_id in lost:
                self.deaths.add(trial_id, "the process of the candidate before it was still busy")
                self.on_trial_complete(trial_id, error=True)

        def _finish(self, trial_id: str, evaluated: Evaluated) -> None:
            number = self.numbers.pop(trial_id)
            self.started.pop(trial_id)
            self.latest.pop(trial_id, None)
            self.paused.discard(trial_id)
            candidate = self.study.finish(number, evaluated)
            if candidate is not None:
                self.on_result(candidate)

    return StudySearcher(study, deaths, on_result, workers)


def make_watch(searcher: Any) -> Any:
    """A callback of Ray Tune that shows a searcher the list of all trials, with the status that Tune gives them."""
    from ray.tune import Callback

    class Watch(Callback):
        def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
            known = searcher.trials
            known.update((trial.trial_id, trial) for trial in trials[len(known) :])

    return Watch()
