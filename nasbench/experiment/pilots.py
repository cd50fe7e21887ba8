"""Two candidates trained for a few seconds, to know what all of them will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nasbench.devices.registry import get_device
from nasbench.evaluators.costs import paper_costs
from nasbench.experiment.experiment import Experiment
from nasbench.latency.calibrate import distinct_sample
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Problem
from nasbench.problems.supervised import Supervised
from nasbench.tables.devices import published_device
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace
from search_spaces.fresh_model import fresh_model

SAMPLES = 16
PILOT_S = 4.0  # seconds of training, unless three batches take longer
VALIDATED = 512  # number of images that a validation is timed on


@dataclass(frozen=True)
class Pilot:
    """The times of one candidate on this machine.

    Attributes:
        architecture: Architecture in the notation of the space.
        macs: Multiply-adds of one image.
        batches: Number of batches that were trained and timed, after a first one to warm up.
        seconds_per_batch: Mean seconds of these batches.
        seconds_per_epoch: Seconds of training on all training images.
        seconds_per_validation: Seconds of judging on all validation images.
        setup_seconds: Seconds of building, counting, and what the first batch took more than the others.
        compile_seconds: Seconds of compiling for the device's runtime; 0 if the experiment needs no latency.
        trained_seconds: Seconds that were spent on the pilot's training.
    """

    architecture: str
    macs: float
    batches: int
    seconds_per_batch: float
    seconds_per_epoch: float
    seconds_per_validation: float
    setup_seconds: float
    compile_seconds: float
    trained_seconds: float

    def seconds(self, epochs: int, validations: int) -> float:
        """Seconds of a candidate with so many epochs and validations, without a measurement of its latency."""
        return self.setup_seconds + epochs * self.seconds_per_epoch + validations * self.seconds_per_validation


@dataclass(frozen=True)
class Sampled:
    """A random sample, and the pilots from it.

    Attributes:
        pilots: Pilots at the lower and at the upper quartile of MACs; one if there is only one network.
        size_bytes: Mean size over the sample in bytes.
    """

    pilots: Sequence[Pilot]
    size_bytes: float


def run_pilots(experiment: Experiment, space: SearchSpace, problem: Problem, device: torch.device) -> Sampled:
    """Cost `SAMPLES` random architectures and train two of them for a short time; nothing is kept.

    Args:
        experiment: Experiment that says how candidates are trained and what device they are for.
        space: Space that is searched.
        problem: Problem that candidates are trained for.
        device: Device on which the pilots are trained.

    Raises:
        UserError: no network could be built and trained.
    """
    sized, failures = [], []
    task = problem.task
    for arch in distinct_sample(space, SAMPLES, np.random.default_rng(experiment.seed)):
        try:
            sized.append((arch, paper_costs(fresh_model(space, arch, task, experiment.seed), task)))
        except Exception as error:  # a network may fail in any way; the others tell what the search takes
            failures.append(_words(space, arch, error))
    sized.sort(key=lambda entry: entry[1]["macs"])
    pilots: dict[Architecture, Pilot] = {}
    for quartile in (0.25, 0.75):
        position = quartile * (len(sized) - 1)
        for index in sorted(range(len(sized)), key=lambda index: abs(index - position)):
            arch, costs = sized[index]
            try:
                if arch not in pilots:
                    pilots[arch] = _pilot(experiment, space, problem, device, arch, costs["macs"])
                break
            except Exception as error:
                failures.append(_words(space, arch, error))
    if not pilots:
        raise UserError(f"no network of space {space.name!r} could be built and trained: {failures[0]}.")
    return Sampled(list(pilots.values()), float(np.mean([sampled_costs["size_bytes"] for _, sampled_costs in sized])))


def _pilot(
    experiment: Experiment, space: SearchSpace, problem: Problem, device: torch.device, arch: Architecture, macs: float
) -> Pilot:
    begun = time.perf_counter()
    model = fresh_model(space, arch, problem.task, experiment.seed)
    paper_costs(model, problem.task)
    setup_s = time.perf_counter() - begun
    batches, one_batch_problem = _in_batches(problem)
    times: list[float] = []
    last = started = time.perf_counter()

    def on_epoch(number: int, metrics: Metrics) -> bool:
        nonlocal last
        now = time.perf_counter()
        times.append(now - last)
        last = now
        return len(times) < 4 or now - started < PILOT_S

    # Without a learning rate nothing can diverge.
    one_batch_problem.fit(
        model,
        seed=experiment.seed,
        epochs=1 + max(3, batches),
        learning_rate=0.0,
        report=on_epoch,
        device=str(device),
    )
    trained_s = time.perf_counter() - started
    batch_s = float(np.mean(times[1:] or [trained_s]))
    begun = time.perf_counter()
    few = problem.fewer(VALIDATED, experiment.seed)
    few.score_on(str(device), model)
    share = (problem.judged("val") or 1) / (few.judged("val") or 1)
    validation_s = (time.perf_counter() - begun) * share
    compile_s = 0.0
    runtime = get_device(experiment.device, published_device)
    if experiment.needs_latency and runtime.times_networks:
        begun = time.perf_counter()
        runtime.compile(model, problem.task)
        compile_s = time.perf_counter() - begun
    return Pilot(
        architecture=space.format(arch),
        macs=macs,
        batches=len(times) - 1,
        seconds_per_batch=batch_s,
        seconds_per_epoch=batches * batch_s,
        seconds_per_validation=validation_s,
        setup_seconds=setup_s + max(0.0, (times or [batch_s])[0] - batch_s),
        compile_seconds=compile_s,
        trained_seconds=trained_s,
    )


def _in_batches(problem: Problem) -> tuple[int, Problem]:
    """Steps of an epoch, and the problem with a single batch, so that each epoch is a step; as it is, if not ours."""
    if not isinstance(problem, Supervised):
        return 1, problem
    size, train = problem.training.batch_size, problem.data.train
    one_batch = replace(problem.data, train=train.rows(slice(size)))
    patient = problem.training.model_copy(update={"chance_epochs": None})
    return max(1, len(train) // size), replace(problem, data=one_batch, training=patient)


def _words(space: SearchSpace, arch: Architecture, error: Exception) -> str:
    return f"{space.format(arch)}: {type(error).__name__}: {' '.join(str(error).split())}"
