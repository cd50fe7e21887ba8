"""Where a model of a problem comes from, and the problem again, to train and evaluate it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasbench.data.dataset import Data
from nasbench.data.split import Scale
from nasbench.models.code import importable
from nasbench.models.normalization import normalization_of, scaled
from nasbench.models.store import Origin, read_description
from nasbench.problems.names import CLASSIFICATION
from nasbench.problems.problem import Problem
from nasbench.problems.registry import make_problem
from nasbench.problems.supervised import Supervised
from nasbench.training.config import TrainingConfig
from nasbench_registry import UserError
from search_spaces import Task


def origin_of(problem: Problem, metrics: Mapping[str, Any] | None = None) -> Origin:
    """Where a model of a problem comes from.

    Args:
        problem: Problem that it was trained for.
        metrics: Metrics that were measured of it.
    """
    training = problem.training.model_dump(mode="json")
    if not isinstance(problem, Supervised):
        return Origin({}, training, {}, metrics or {}, problem.source)
    return Origin(dict(problem.data_source), training, normalization_of(problem.data), metrics or {}, problem.source)


def problem_of(origin: Origin, task: Task, folder: Path) -> Problem:
    """The problem of a stored model.

    Args:
        origin: Origin of the model.
        task: Inputs and outputs of its network.
        folder: Folder of the model.

    Raises:
        UserError: The folder names no data set, or one that now has other classes or other images. Images are
            normalised as the model knows them, also where its data set has got more of them since.
    """
    if not origin.data and not origin.problem:
        raise UserError(
            f"{folder / 'model.json'} names no data set, so the model cannot be trained or judged here; import or save "
            f"it again with its data."
        )
    with importable(folder, read_description(folder)):
        return problem_from(origin, task, folder)


def problem_from(origin: Origin, task: Task, folder: Path) -> Problem:
    """The same, where all code that it needs can be imported already; `folder` is for the errors."""
    training = TrainingConfig.model_validate(dict(origin.training))
    problem = make_problem(origin.problem or {"name": CLASSIFICATION}, origin.data or None, training)
    if problem.task != task and problem.task.packed() != task:
        raise UserError(f"{folder} was made for {task}, and its data set now gives {problem.task}; use the same data.")
    if isinstance(problem, Supervised):
        problem = replace(problem, data=_as_known(problem.data, origin.normalization, folder))
    return problem


def _as_known(data: Data, normalization: Mapping[str, Any], folder: Path) -> Data:
    """The data as the model knows them."""
    if normalization.get("labels") not in (None, list(data.labels)):
        raise UserError(
            f"{folder} was made for the classes {', '.join(normalization['labels'])}, and its data set now has "
            f"{', '.join(data.labels)}; use the same data."
        )
    mean, std = scaled(normalization, "mean"), scaled(normalization, "std")
    if mean is not None and std is not None:
        data = data.normalised_by(mean, std)
    targets = normalization.get("targets")
    return data if targets is None else replace(data, targets=Scale(tuple(targets["mean"]), tuple(targets["std"])))
