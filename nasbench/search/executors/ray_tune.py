"""Several candidates at a time under Ray Tune (Liaw et al. 2018, arXiv 1807.05118)."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile

from nasbench.evaluators.evaluator import Evaluator
from nasbench.search.executors.cluster import connected
from nasbench.search.executors.deaths import Deaths
from nasbench.search.executors.executor import Executor, OnResult
from nasbench.search.executors.schedulers import get_scheduler, remember
from nasbench.search.executors.searcher import make_searcher, make_watch
from nasbench.search.executors.worker import Worker, run_trial, travelling
from nasbench.search.study import Study


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
        options = self.options
        worker = Worker.of(study, evaluator, options)
        deaths = Deaths(worker.checkpoints, options.candidate_minutes)
        with (
            contextlib.redirect_stdout(sys.stderr),  # Ray tells of lost machines on standard output
            deaths.heard(),
            connected(self.config, options.ray, options.code_folder),
            tempfile.TemporaryDirectory(prefix="nasbench-ray-") as folder,
        ):
            import ray
            from ray import tune

            scheduler = get_scheduler(options.scheduler, study.full_epochs)
            remember(scheduler, options.scheduler, study)
            resources = {"cpu": self.config.cpus, "gpu": self.config.gpus}
            with travelling():
                # First, for Tune keeps parameters that it cannot put, and fails with them in every later search.
                ray.put(worker)
                trainable = tune.with_parameters(run_trial, worker=worker)
            searcher = make_searcher(study, deaths, on_result, self.config.workers)
            tuner = tune.Tuner(
                tune.with_resources(trainable, resources),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=scheduler,
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[make_watch(searcher)]),
            )
            try:
                tuner.fit()
            except tune.TuneError as error:
                if error.__context__ is None:
                    raise
                raise error.__context__ from None  # what the study raised while Tune told it of something
        if study.stop_reason is None:
            raise RuntimeError("Ray Tune ended although the search had not; resume it")
