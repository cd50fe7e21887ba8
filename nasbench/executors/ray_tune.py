"""Several candidates at a time under Ray Tune (Liaw et al. 2018, arXiv 1807.05118)."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from controllers import SearchFinished
from nasbench.evaluation import Evaluated, Evaluator, Trial, evaluate
from nasbench.executors.executor import Executor, OnResult
from nasbench.study import Study
from search_spaces import Architecture


class RayTune(Executor):
    """A Ray Tune run whose searcher is the study; no controller knows Ray."""

    name = "ray"

    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished; starts a local Ray and stops it again, unless one is running here."""
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study is the record
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray import tune

        ours = not ray.is_initialized()
        if ours:
            ray.init(
                address="local",
                num_cpus=self.config.workers * self.config.cpus,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                # A user's space may lie outside of every installed package.
                runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}},
            )
        try:
            with tempfile.TemporaryDirectory(prefix="nasbench-ray-") as folder:
                resources = {"cpu": self.config.cpus, "gpu": self.config.gpus}
                trainable = tune.with_resources(tune.with_parameters(_train, evaluator=evaluator), resources)
                tuner = tune.Tuner(
                    trainable,
                    tune_config=tune.TuneConfig(
                        search_alg=_searcher(study, on_result),
                        num_samples=-1,
                        max_concurrent_trials=self.config.workers,
                        reuse_actors=True,
                    ),
                    run_config=tune.RunConfig(storage_path=folder, verbose=0),
                )
                tuner.fit()
                if study.stop_reason is None:
                    raise KeyboardInterrupt  # Tune swallows it and returns
        finally:
            if ours:
                ray.shutdown()


def _train(config: dict[str, Any], evaluator: Evaluator) -> None:
    """What a worker does: evaluate, and report once, in plain values."""
    from ray import tune

    sent = config["trial"]
    trial = Trial(sent["number"], Architecture.from_json(sent["arch"]), sent["epochs"], sent["seed"])
    # As text, for Ray Tune flattens nested results.
    tune.report({"evaluated": json.dumps(evaluate(evaluator, trial).to_json())})


def _searcher(study: Study, on_result: OnResult) -> Any:
    """Ray Tune's view of the study. Built here, so that Ray is imported only where it is used."""
    from ray.tune.search import Searcher

    class StudySearcher(Searcher):
        def __init__(self, study: Study, on_result: OnResult) -> None:
            super().__init__(metric="evaluated", mode="max")
            self.study, self.on_result = study, on_result
            self.numbers: dict[str, int] = {}

        def __getstate__(self) -> dict[str, Any]:
            """Nothing: Tune pickles its searcher for a restore of its own, which the study makes needless."""
            return {}

        def suggest(self, trial_id: str) -> Any:
            try:
                trial = self.study.next_trial()
            except SearchFinished:
                return Searcher.FINISHED
            if trial is None:
                return None
            self.numbers[trial_id] = trial.number
            sent = {
                "number": trial.number,
                "arch": trial.arch.to_json(),
                "epochs": trial.epochs,
                "seed": trial.seed,
            }
            return {"trial": sent}

        def on_trial_complete(
            self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
        ) -> None:
            number = self.numbers.pop(trial_id)
            if error or result is None or "evaluated" not in result:
                evaluated = Evaluated("failed", {}, "WorkerDied: the worker process ended before it reported", 0.0)
            else:
                evaluated = Evaluated.from_json(json.loads(result["evaluated"]))
            candidate = self.study.finish(number, evaluated)
            if candidate is not None:
                self.on_result(candidate)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the study saves itself."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the study resumes by itself."""

    return StudySearcher(study, on_result)
