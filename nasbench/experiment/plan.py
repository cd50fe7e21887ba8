"""An estimate of a search, before it begins: hours, disk, and the machine that it would run on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from nasbench.devices.device import processor_name
from nasbench.experiment.build import Prepared
from nasbench.experiment.doubts import doubts
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.pilots import Pilot, run_pilots
from nasbench.latency.calibrate import SECONDS_EACH
from nasbench.latency.operator_table import MOST
from nasbench.supernet.differentiable.registry import METHODS, named_controllers
from nasbench.survivors.stages import MEASURE_S
from nasbench_compression import Recipe

MEASURED_S = 0.5  # seconds to measure the latency of a candidate
STATE = 3  # a checkpoint of a training holds the weights and two moments of each
TEACHER = 4 / 3  # forward and backward cost three forward passes, and a teacher adds one


@dataclass(frozen=True)
class Estimate:
    """An estimate of a search, from pilots that were trained on this machine.

    Attributes:
        seconds_per_candidate: Mean over the pilots, all epochs and validations included.
        search_hours: Hours of all candidates, divided among the workers.
        calibration_hours: Hours of measuring latencies before the search.
        compression_hours: Hours of the recipe and its measurements, for all survivors.
        disk_gb: Size of the run folder at its largest, in units of 1e9 bytes.
        device: Machine: processor, cores, gpu, workers, threads of a worker, latency runtime (None without one).
        pilots: Pilots that were trained.
        warnings: Sentences on what stands against the plan, or makes the estimate uncertain.
    """

    seconds_per_candidate: float
    search_hours: float
    calibration_hours: float
    compression_hours: float
    disk_gb: float
    device: dict[str, Any]
    pilots: Sequence[Pilot]
    warnings: Sequence[str]

    @property
    def total_hours(self) -> float:
        """Hours of calibration, search and compression."""
        return self.calibration_hours + self.search_hours + self.compression_hours

    @property
    def trained_seconds(self) -> float:
        """Seconds that were spent on the training of the pilots."""
        return sum(pilot.trained_seconds for pilot in self.pilots)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, and total_hours and trained_seconds."""
        return asdict(self) | {"total_hours": self.total_hours, "trained_seconds": self.trained_seconds}


def estimate(experiment: Experiment, prepared: Prepared) -> Estimate:
    """Train two pilots for some seconds each and reckon from them; nothing is kept.

    Every candidate is taken to be trained to its last epoch, none to fail, and no recipe step to be rolled back.
    Workers that want more threads than the machine has cores slow each other down accordingly.

    Raises:
        UserError: no network of the space could be built and trained.
    """
    executor, search = experiment.executor, experiment.search
    with_gpu = executor.gpus > 0 and torch.cuda.is_available()
    with _threads(executor.threads):
        sampled = run_pilots(
            experiment, prepared.network_space, prepared.required, torch.device("cuda" if with_gpu else "cpu")
        )
    pilots = sampled.pilots
    compile_s = min(pilot.compile_seconds for pilot in pilots)  # the first one also loads the runtime
    measured = experiment.needs_latency and experiment.device.latency == "measured"
    predicted = experiment.needs_latency and not measured and prepared.calibration is None
    epochs = experiment.training.epochs
    candidate_s = float(np.mean([pilot.seconds(epochs, _validations(experiment)) for pilot in pilots]))
    candidate_s += compile_s + MEASURED_S if measured else 0.0

    cores = len(os.sched_getaffinity(0))
    threads = executor.workers * executor.threads
    crowded = max(1.0, threads / cores) if experiment.ray.address is None else 1.0
    candidate_s *= crowded
    workers = min(executor.workers, search.candidates)

    epoch_s = float(np.mean([pilot.seconds_per_epoch for pilot in pilots]))
    validation_s = float(np.mean([pilot.seconds_per_validation for pilot in pilots]))
    recipes = prepared.recipes()
    tuned = float(np.mean([_tuned_epochs(recipe) for recipe in recipes]))
    stages = 1 + max(len(recipe.steps) for recipe in recipes)
    if prepared.searches_recipes:  # each candidate is compressed; that networks recur is not reckoned with
        candidate_s += crowded * (tuned * epoch_s + validation_s + compile_s + MEASURED_S)
    survivor_s = tuned * epoch_s + stages * (validation_s + compile_s + MEASURE_S)

    fixed = sampled.size_bytes * stages * experiment.survivor_count
    if experiment.checkpoints.every is not None:
        fixed += sampled.size_bytes * STATE * workers
    keep = experiment.checkpoints.keep
    kept_candidates = search.candidates if keep is None else min(keep, search.candidates)

    device = {
        "processor": processor_name(),
        "cores": cores,
        "gpu": torch.cuda.get_device_name() if with_gpu else None,
        "workers": executor.workers,
        "threads": executor.threads,
        "runtime": experiment.device.runtime if experiment.needs_latency else None,
    }
    result = Estimate(
        seconds_per_candidate=candidate_s,
        search_hours=search.candidates * candidate_s / workers / 3600,
        calibration_hours=experiment.device.samples * (compile_s + SECONDS_EACH) / 3600 if predicted else 0.0,
        compression_hours=experiment.survivor_count * survivor_s / 3600,
        disk_gb=(fixed + kept_candidates * sampled.size_bytes) / 1e9,
        device=device,
        pilots=pilots,
        warnings=(),
    )
    warnings = _warnings(experiment, result, fixed, sampled.size_bytes, with_gpu)
    return replace(result, warnings=(*doubts(experiment, prepared.space), *warnings))


def _tuned_epochs(recipe: Recipe) -> float:
    """Epochs of fine-tuning, in units of one without a teacher."""
    return float(
        sum(step.options().get("epochs", 0) * (TEACHER if step.name == "distill" else 1) for step in recipe.steps)
    )


def _validations(experiment: Experiment) -> int:
    every = experiment.training.validate_every or (1 if experiment.scheduler else None)
    return 1 if every is None else -(-experiment.training.epochs // every)


def _warnings(
    experiment: Experiment, expected: Estimate, fixed_bytes: float, size_bytes: float, with_gpu: bool
) -> Iterator[str]:
    executor, search = experiment.executor, experiment.search
    candidates, candidate_s = search.candidates, expected.seconds_per_candidate
    if search.max_hours is not None and expected.search_hours > search.max_hours:
        fit = int(search.max_hours * 3600 * min(executor.workers, candidates) / candidate_s)
        yield (
            f"search.max_hours={search.max_hours:g} will end the search after about {fit:,} of {candidates:,} "
            f"candidates."
        )
    if search.max_disk_gb is not None and expected.disk_gb > search.max_disk_gb:
        fit = max(0, int((search.max_disk_gb * 1e9 - fixed_bytes) / size_bytes))
        yield (
            f"search.max_disk_gb={search.max_disk_gb:g} is too little for what is kept; it holds the weights of about "
            f"{fit:,} candidates. Lower checkpoints.keep, or survivors."
        )
    if search.candidate_minutes is not None and candidate_s > 60 * search.candidate_minutes:
        yield (
            f"search.candidate_minutes={search.candidate_minutes:g} is less than a candidate takes, "
            f"{candidate_s / 60:.2g} minutes: most will be timed out."
        )
    if expected.calibration_hours and experiment.device.predictor in ("lookup", "auto"):
        yield (
            f"device.predictor {experiment.device.predictor!r} measures up to {MOST} operators of the space before the "
            f"search, too: some minutes more for the calibration."
        )
    if experiment.ray.address is not None:
        yield f"the pilots ran on this machine, not on the cluster at {experiment.ray.address}."
    elif executor.workers * executor.threads > expected.device["cores"]:
        yield (
            f"{executor.workers} workers with {executor.threads} threads each share {expected.device['cores']} cores "
            f"and slow each other down; the estimate divides the cores among them. Lower executor.workers or "
            f"executor.cpus."
        )
    if executor.gpus > 0 and not with_gpu:
        yield f"executor.gpus is {executor.gpus:g}, but this machine has no GPU: the pilots ran on the CPU."
    if 0 < executor.gpus < 1 and with_gpu:
        yield "several candidates will share a GPU, and each pilot had it alone: they may take longer."
    if experiment.scheduler is not None:
        yield f"scheduler {experiment.scheduler.name} stops candidates early, so the search will take less."
    if experiment.controller.name in METHODS:
        yield (
            f"controller {experiment.controller.name!r} trains a network of mixed edges between the candidates, which "
            f"is not part of the estimate."
        )
    if named_controllers.find(experiment.controller.name).multi_fidelity:
        yield (
            f"controller {experiment.controller.name!r} asks for fewer epochs for most candidates, so the search will "
            f"take less."
        )
    if experiment.cache is not None:
        yield "what the cache knows is not trained again, so the search may take less."


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
