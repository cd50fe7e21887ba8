"""Train one architecture from scratch, seed by seed: what comes after a search, before its result is reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench.devices.device import Device
from nasbench.evaluators.costs import CandidateCosts
from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.trained import Trained
from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.experiment.build import training_alone, training_limits
from nasbench.experiment.experiment import Experiment
from nasbench.models import save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.origin import origin_of
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Problem
from nasbench.search.study import network_seed
from nasbench.storage.code_digest import code_digests
from nasbench.storage.files import read_json, write_json
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

CHECKPOINTS, ABOUT = "checkpoints", "train.json"


@dataclass(frozen=True)
class Retrained:
    """The result of training with one seed.

    Attributes:
        seed: Seed of the training.
        folder: Model folder, if it is done.
        status: One of `OUTCOMES`.
        error: Reason for which it is not done.
        metrics: Metrics of the problem, such as val_acc_pct and test_acc_pct, macs, params, size_bytes, and
            training_seconds; empty if it is not done.
    """

    seed: int
    folder: str
    status: str
    error: str | None
    metrics: dict[str, float]


def retrain(
    experiment: Experiment,
    space: SearchSpace,
    arch: Architecture,
    problem: Problem,
    place: Path,
    seed: int,
    on_epoch: Callable[[int, Metrics], None] = lambda epoch, metrics: None,
) -> Retrained:
    """Train an architecture as a candidate of the experiment is trained, keep the network, and judge it on test images.

    The weights are those that a search with this seed and this training gives the architecture. What was trained before
    is kept: a finished network is not trained again, and one in training goes on from its last epoch.

    Args:
        experiment: Experiment whose data, training and executor count; its objectives, recipe and device do not.
        space: Space of the architecture.
        arch: Architecture to train.
        problem: Problem of the experiment.
        place: Folder that becomes a model folder.
        seed: Random seed in place of that of the experiment.
        on_epoch: Function that is called after each epoch with its metrics.

    Raises:
        UserError: the folder holds another network, or this one with another training.
    """
    plain = training_alone(experiment, problem).model_copy(
        update={
            "seed": seed,
            "scheduler": None,
            "cache": None,
            "search": experiment.search.model_copy(update={"candidate_minutes": None}),
        }
    )
    facts = {
        "architecture": {"text": space.format(arch), "picks": list(arch.picks)},
        **plain.model_dump(mode="json", include={"seed", "problem", "data", "space", "training"}),
        "images": problem.digest,
        "code": code_digests(space),
    }
    before = _read(place / ABOUT)
    if before and {name: before.get(name) for name in facts} != facts:
        changed = ", ".join(name for name in facts if before.get(name) != facts[name])
        raise UserError(f"{place} holds a network with another {changed}; give another folder.")
    if "metrics" in before:
        return Retrained(seed, str(place), "done", None, before["metrics"])
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / ABOUT, facts)

    trial = Trial(0, arch, None, network_seed(seed, space, arch), full_epochs=plain.training.epochs)
    checkpoints = place / CHECKPOINTS

    def report_epoch(epoch: int, so_far: Evaluated) -> bool:
        on_epoch(epoch, so_far.metrics)
        return True

    evaluator = Trained(
        space,
        problem,
        CandidateCosts(Device(), frozenset(plain.needed_metrics)),
        checkpoints=str(checkpoints),
        limits=training_limits(plain),
    )
    evaluated = evaluate(evaluator, trial, report_epoch)
    if evaluated.status != "done":
        return Retrained(seed, str(place), evaluated.status, evaluated.error, {})
    model = evaluator.trained(0, arch, trial.seed, None)
    metric_names = (*problem.metrics, "macs", "params", "size_bytes")
    metrics = {name: evaluated.metrics[name] for name in metric_names}
    metrics |= {
        **problem.score_on(evaluator.limits.device, model, "test"),
        "training_seconds": evaluated.training_seconds,
    }
    save_model(
        place,
        model,
        build=SpaceBuild(experiment.space.name, experiment.space.options, arch),
        task=problem.task,
        origin=origin_of(problem, metrics),
    )
    write_json(place / ABOUT, facts | {"metrics": metrics})  # last: with its metrics it is finished
    shutil.rmtree(checkpoints)
    return Retrained(seed, str(place), "done", None, metrics)


def _read(file: Path) -> dict[str, Any]:
    """The facts that an earlier run left; nothing if there was none."""
    return read_json(file, "delete it, and the network is trained again") if file.exists() else {}
