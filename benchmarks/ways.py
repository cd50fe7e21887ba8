"""Three ways to evaluate the same candidates: by our engine, by Ray Tune alone, by a loop in this process."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.trial import Trial
from nasbench.experiment.build import Prepared
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.run import search_run
from nasbench.experiment.stored import start_run
from nasbench.objectives.metrics import Metrics
from nasbench.search.callbacks import Callback
from nasbench.search.executors.cluster import connected
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError

STAMPS = ("began_s", "ended_s", "process")


class Stamped(Evaluator):
    """An evaluator that also reports when and in which process it worked.

    Its clock is `time.monotonic()`, which all processes of a machine share.

    Args:
        evaluator: Evaluator that scores a candidate.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__(evaluator.space, evaluator.task)
        self.evaluator = evaluator

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the evaluator, and `STAMPS`."""
        return (*self.evaluator.metrics, *STAMPS)

    def __call__(self, candidate: Candidate) -> Metrics:
        """The metrics of the candidate, and `STAMPS`."""
        began_s = time.monotonic()
        metrics = self.evaluator(candidate)
        return {**metrics, "began_s": began_s, "ended_s": time.monotonic(), "process": float(os.getpid())}


@dataclass(frozen=True)
class Evaluation:
    """One candidate of a pass; moments are seconds of `time.monotonic()`.

    Attributes:
        number: Number of the candidate from 0, in the order of handing out.
        architecture: Architecture in the notation of the space.
        seed: Random seed of its weights and training.
        process: Number of the process that evaluated it.
        began_s: Moment when its evaluation began.
        ended_s: Moment when its evaluation ended.
        training_seconds: Seconds that were spent in training and validation.
        val_acc_pct: Validation accuracy of the trained network, in percent.
        val_loss: Validation loss of the trained network.
    """

    number: int
    architecture: str
    seed: int
    process: int
    began_s: float
    ended_s: float
    training_seconds: float
    val_acc_pct: float
    val_loss: float


@dataclass(frozen=True)
class Pass:
    """All candidates, evaluated in one way.

    Attributes:
        way: Way: engine, ray_tune or loop.
        workers: Number of workers.
        called_s: Moment when the way was called; moments are seconds of `time.monotonic()`.
        heard_s: Moment when it had received and recorded the last result.
        left_s: Moment when it was over, processes and files tidied up.
        evaluations: Evaluations by number of the candidate.
    """

    way: str
    workers: int
    called_s: float
    heard_s: float
    left_s: float
    evaluations: tuple[Evaluation, ...]

    @property
    def begun_s(self) -> float:
        """Moment when a worker began with the first candidate."""
        return min(evaluation.began_s for evaluation in self.evaluations)

    @property
    def startup_s(self) -> float:
        """Seconds until a worker began with the first candidate: to start Ray, its workers, and their imports."""
        return self.begun_s - self.called_s

    @property
    def wall_s(self) -> float:
        """Seconds from the beginning of the first candidate until the last result was heard."""
        return self.heard_s - self.begun_s

    @property
    def candidates_per_hour(self) -> float:
        """Candidates an hour, without start-up."""
        return 3600 * len(self.evaluations) / self.wall_s

    @property
    def training_s(self) -> float:
        """Mean seconds of training of a candidate."""
        return sum(evaluation.training_seconds for evaluation in self.evaluations) / len(self.evaluations)

    @property
    def utilization_pct(self) -> float:
        """Seconds of training / (workers x wall seconds), in percent."""
        return 100 * self.training_s * len(self.evaluations) / (self.workers * self.wall_s)

    @property
    def tail_s(self) -> float:
        """Seconds at the end in which a worker had no candidate any more; no way of handing out avoids them."""
        ends: dict[int, float] = {}
        for evaluation in self.evaluations:
            ends[evaluation.process] = max(ends.get(evaluation.process, 0.0), evaluation.ended_s)
        return max(ends.values()) - min(ends.values())

    @property
    def between_ms(self) -> float | None:
        """Mean milliseconds that a worker waits between two candidates; None if no worker had two."""
        waits: list[float] = []
        latest: dict[int, float] = {}
        for evaluation in sorted(self.evaluations, key=lambda evaluation: evaluation.began_s):
            if evaluation.process in latest:
                waits.append(evaluation.began_s - latest[evaluation.process])
            latest[evaluation.process] = evaluation.ended_s
        return 1000 * sum(waits) / len(waits) if waits else None

    def to_json(self) -> dict[str, Any]:
        """The raw moments, and what follows from them."""
        derived = ("startup_s", "wall_s", "candidates_per_hour", "training_s", "utilization_pct", "tail_s")
        return asdict(self) | {name: getattr(self, name) for name in (*derived, "between_ms")}


@dataclass(frozen=True)
class Work:
    """Work that every way gets.

    Attributes:
        prepared: Parts of an experiment with executor ray, and as many candidates as there are trials.
        trials: Trials in the order of handing out.
        code_folder: Folder of a user's own modules.
    """

    prepared: Prepared
    trials: Sequence[Trial]
    code_folder: Path

    @property
    def experiment(self) -> Experiment:
        """The experiment that is run."""
        return self.prepared.experiment

    def evaluator(self, folder: RunFolder) -> Stamped:
        """The evaluator of the candidates; weights and states of training go into a folder."""
        return Stamped(self.prepared.evaluator(folder, None))

    def evaluation(self, trial: Trial, metrics: Mapping[str, float]) -> Evaluation:
        """The evaluation of a trial, from its metrics with stamps."""
        return Evaluation(
            number=trial.number,
            architecture=self.prepared.space.format(trial.arch),
            seed=trial.seed,
            process=int(metrics["process"]),
            began_s=metrics["began_s"],
            ended_s=metrics["ended_s"],
            training_seconds=metrics["training_seconds"],
            val_acc_pct=metrics["val_acc_pct"],
            val_loss=metrics["val_loss"],
        )


def by_engine(work: Work, folder: Path) -> Pass:
    """Evaluate as `nasbench search` does: controller, journal, disk, scalars for TensorBoard, Ray executor.

    Raises:
        UserError: A candidate is not done at the first attempt.
    """
    heard_s = 0.0

    class Clock(Callback):
        def candidate_done(self, candidate: RecordedCandidate, study: Study) -> None:
            nonlocal heard_s
            heard_s = time.monotonic()

    run = RunFolder(folder)
    start_run(run, work.experiment, work.code_folder, "python -m benchmarks.engine")
    with run.locked():
        called_s = time.monotonic()
        evaluator = work.evaluator(run)
        study = work.prepared.study(run, evaluator)
        search_run(work.prepared, run, study, evaluator, Clock())
        left_s = time.monotonic()
    for candidate in study.candidates:
        if candidate.status != "done" or candidate.attempts:
            raise _unsound("engine", candidate.id, candidate.error or candidate.attempts[0]["error"])
    evaluations = (
        work.evaluation(
            Trial(candidate.id, candidate.arch, candidate.epochs, study.seed_of(candidate.arch)),
            candidate.metrics | {"training_seconds": candidate.training_seconds},
        )
        for candidate in study.candidates
    )
    return Pass("engine", work.experiment.executor.workers, called_s, heard_s, left_s, tuple(evaluations))


def by_ray_tune(work: Work, folder: Path) -> Pass:
    """Evaluate as a user of Ray Tune alone would: a trainable, a list of configurations, no record but Tune's own.

    Tune's loggers are off, as they are in the engine.

    Raises:
        UserError: A candidate raised an error.
    """
    executor = work.experiment.executor
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    heard_s = 0.0
    called_s = time.monotonic()
    with (
        contextlib.redirect_stdout(sys.stderr),
        connected(executor, work.experiment.ray, work.code_folder),
        tempfile.TemporaryDirectory(prefix="nasbench-ray-") as storage,
    ):
        from ray import tune

        class Clock(tune.Callback):
            def on_trial_result(self, *arguments: Any, **options: Any) -> None:
                nonlocal heard_s
                heard_s = time.monotonic()

        evaluator = work.evaluator(RunFolder(folder.resolve()))
        trainable = tune.with_parameters(_train, evaluator=evaluator, trials=list(work.trials))
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": executor.cpus, "gpu": executor.gpus}),
            param_space={"number": tune.grid_search(list(range(len(work.trials))))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[Clock()]),
        )
        grid = tuner.fit()
        results = [grid[index] for index in range(len(grid))]
    left_s = time.monotonic()
    evaluations = []
    for trial, result in zip(work.trials, results, strict=True):
        if result.error is not None:
            raise _unsound("Ray Tune", trial.number, f"{type(result.error).__name__}: {result.error}")
        config, metrics = result.config or {}, result.metrics or {}
        assert config["number"] == trial.number, "Ray Tune gives results in the order of the configurations"
        evaluations.append(work.evaluation(trial, metrics))
    return Pass("ray_tune", executor.workers, called_s, heard_s, left_s, tuple(evaluations))


def _train(config: dict[str, Any], evaluator: Evaluator, trials: Sequence[Trial]) -> None:
    from ray import tune

    tune.report(dict(_metrics(evaluator, trials[config["number"]])))


def _metrics(evaluator: Evaluator, trial: Trial) -> Metrics:
    """The metrics of a trial that nobody stops."""
    return evaluator(Candidate(trial, evaluator.space, evaluator.task, lambda epoch, metrics: True))


def by_loop(work: Work, folder: Path) -> Pass:
    """Evaluate one candidate after the other in this process, with nothing around it."""
    threads = torch.get_num_threads()
    called_s = time.monotonic()
    evaluator = work.evaluator(RunFolder(folder.resolve()))
    metrics = [_metrics(evaluator, trial) for trial in work.trials]
    heard_s = time.monotonic()
    torch.set_num_threads(threads)
    evaluations = (work.evaluation(*pair) for pair in zip(work.trials, metrics, strict=True))
    return Pass("loop", 1, called_s, heard_s, heard_s, tuple(evaluations))


WAYS: dict[str, Callable[[Work, Path], Pass]] = {"engine": by_engine, "ray_tune": by_ray_tune, "loop": by_loop}


def _unsound(way: str, number: int, error: str | None) -> UserError:
    words = " ".join(str(error).split())[:300]
    return UserError(
        f"candidate {number} was not done by {way}: {words}; times can only be compared where every candidate is "
        f"trained to its end: change its space or training, or take another --seed."
    )
