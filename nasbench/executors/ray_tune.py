"""Several candidates at a time under Ray Tune (Liaw et al. 2018, arXiv 1807.05118)."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controllers import SearchFinished
from nasbench.evaluation import Evaluated, Evaluator
from nasbench.evaluation.checkpoints import Checkpoints
from nasbench.executors.cluster import connected
from nasbench.executors.executor import Executor, OnResult
from nasbench.executors.schedulers import get_scheduler, remember
from nasbench.executors.worker import Worker, run_trial
from nasbench.study import Study


class RayTune(Executor):
    """A Ray Tune run whose searcher is the study; no controller knows Ray."""

    name = "ray"

    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished, on the cluster of `ray.address` or on a Ray of this machine."""
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study is the record
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # whoever runs the search decides what Ctrl-C does
        os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
        # By default one candidate at a time may wait for its process to start; if candidates take less time than that,
        # the only process that runs serves them all, and the others never come to be.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self.config.workers)
        experiment = study.experiment
        with (
            connected(experiment, study.folder.code_folder()),
            tempfile.TemporaryDirectory(prefix="nasbench-ray-") as folder,
        ):
            from ray import tune

            scheduler = get_scheduler(experiment.scheduler, experiment.training.epochs)
            remember(scheduler, experiment, study.candidates)
            worker = Worker(evaluator, experiment, Checkpoints(study.folder.checkpoints.resolve()))
            resources = {"cpu": self.config.cpus, "gpu": self.config.gpus}
            tuner = tune.Tuner(
                tune.with_resources(tune.with_parameters(run_trial, worker=worker), resources),
                tune_config=tune.TuneConfig(
                    search_alg=_searcher(study, worker, on_result, self.config.workers),
                    scheduler=scheduler,
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            tuner.fit()
        if study.stop_reason is None:
            raise RuntimeError("Ray Tune ended although the search had not; resume it")


def _searcher(study: Study, worker: Worker, on_result: OnResult, workers: int) -> Any:
    """Ray Tune's view of the study. Built here, so that Ray is imported only where it is used."""
    from ray.tune.search import Searcher

    class StudySearcher(Searcher):
        # Pickled by Tune with its class: so what it works with are attributes, not names from outside.
        def __init__(self, study: Study, worker: Worker, on_result: OnResult, workers: int) -> None:
            super().__init__(metric="evaluated", mode="max")
            self.study, self.worker, self.on_result, self.workers = study, worker, on_result, workers
            self.numbers: dict[str, int] = {}
            self.started: dict[str, float] = {}
            self.latest: dict[str, Evaluated] = {}
            self.paused: set[str] = set()

        def __getstate__(self) -> dict[str, Any]:
            """Nothing: Tune pickles its searcher for a restore of its own, which the study makes needless."""
            return {}

        def suggest(self, trial_id: str) -> Any:
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
            self._hear(trial_id, result)

        def on_trial_complete(
            self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
        ) -> None:
            if result is not None and not error:
                self._hear(trial_id, result)
            if trial_id not in self.numbers:
                return  # its last report was heard before
            if error or trial_id not in self.latest:
                self._finish(
                    trial_id, _died(self.worker, self.numbers[trial_id], time.monotonic() - self.started[trial_id])
                )
            else:
                self._finish(trial_id, self.latest[trial_id])

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the study saves itself."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the study resumes by itself."""

        def _hear(self, trial_id: str, result: Mapping[str, Any]) -> None:
            if trial_id not in self.numbers or "evaluated" not in result:
                return
            evaluated = Evaluated.from_json(json.loads(result["evaluated"]))
            self.latest[trial_id] = evaluated
            if evaluated.status != "stopped":  # which it only is if no further report comes
                self._finish(trial_id, evaluated)
                return
            for epoch, accuracy in evaluated.curve.items():
                self.study.report(self.numbers[trial_id], int(epoch), accuracy)

        def _finish(self, trial_id: str, evaluated: Evaluated) -> None:
            number = self.numbers.pop(trial_id)
            self.started.pop(trial_id)
            self.latest.pop(trial_id, None)
            self.paused.discard(trial_id)
            candidate = self.study.finish(number, evaluated)
            if candidate is not None:
                self.on_result(candidate)

    return StudySearcher(study, worker, on_result, workers)


def _died(worker: Worker, number: int, seconds: float) -> Evaluated:
    """What came of a candidate whose worker ended without a report."""
    notes = worker.checkpoints.hang(number)
    where = _where(notes)
    notes.unlink(missing_ok=True)
    if where is None:
        return Evaluated(
            "crashed", {}, "WorkerDied: the worker process or its machine ended before it reported", seconds
        )
    limit = worker.experiment.search.candidate_minutes
    return Evaluated("timed_out", {}, f"it hung after search.candidate_minutes={limit} {where}", seconds)


def _where(notes: Path) -> str | None:
    """The line at which the evaluating thread stood, from the traceback of a hanging worker; None if it wrote none."""
    try:
        text = notes.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    frames = [re.findall(r'File "([^"]+)", line (\d+) in (\S+)', thread) for thread in text.split("hread 0x")]
    evaluating = [thread for thread in frames if any(function == "evaluate" for _, _, function in thread)]
    if not evaluating:
        return "somewhere" if text.strip() else None
    file, line, function = evaluating[0][0]
    return f"in {Path(file).name}, line {line}, {function}"
