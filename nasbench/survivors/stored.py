"""The problem of a model that lies on disk, to train and judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from nasbench.data.dataset import Data
from nasbench.data.split import Scale
from nasbench.devices.device import Device
from nasbench.models import StoredModel, save_model
from nasbench.models.code import importable
from nasbench.models.normalization import scaled
from nasbench.models.store import read_description
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import CLASSIFICATION, make_problem
from nasbench.problems.supervised import Supervised
from nasbench.training.config import TrainingConfig
from nasbench_compression import CompiledModel, Step
from nasbench_registry import UserError


def workbench(stored: StoredModel, folder: Path, seed: int, device: Device | None = None) -> Workbench:
    """The problem of a stored model, to train and judge it.

    Args:
        stored: the model.
        folder: where it lies.
        seed: of every random choice.
        device: where steps may measure what they made.

    Raises:
        UserError: its folder names no data set, or one that now has other classes or other images. Images are
            normalised as the model knows them, also where its data set has got more of them since.
    """
    origin = stored.origin
    if not origin.data and not origin.problem:
        raise UserError(f"{folder / 'model.json'} names no data set, so the model cannot be trained or judged here.")
    with importable(folder, read_description(folder)):
        training = TrainingConfig.model_validate(dict(origin.training))
        problem = make_problem(origin.problem or {"name": CLASSIFICATION}, origin.data or None, training)
    if problem.task != stored.task:
        raise UserError(
            f"{folder} was made for {stored.task}, and its data set now gives {problem.task}; use the same data."
        )
    if isinstance(problem, Supervised):
        problem = replace(problem, data=_as_known(problem.data, origin.normalization, folder))
    return Workbench(problem, seed, device)


def _as_known(data: Data, known: Mapping[str, Any], folder: Path) -> Data:
    """The data as the model knows them."""
    if known.get("labels") not in (None, list(data.labels)):
        raise UserError(
            f"{folder} was made for the classes {', '.join(known['labels'])}, and its data set now has "
            f"{', '.join(data.labels)}; use the same data."
        )
    mean, std = scaled(known, "mean"), scaled(known, "std")
    if mean is not None and std is not None:
        data = data.normalised_by(mean, std)
    targets = known.get("targets")
    return data if targets is None else replace(data, targets=Scale(tuple(targets["mean"]), tuple(targets["std"])))


def save_made(
    place: Path,
    made: nn.Module | CompiledModel,
    stored: StoredModel,
    folder: Path,
    steps: Sequence[tuple[Step, dict[str, Any]]] | None = None,
) -> Path:
    """Save what was made of a stored model: of the same space and data, and without the metrics of that one.

    Args:
        place: a folder, made if it is not there.
        made: the network, or what was compiled of it.
        stored: the model that it was made of.
        folder: where that one lies.
        steps: all that were applied, with their notes; None are those of the stored model.

    Returns:
        The file of the weights or of the artefact.
    """
    return save_model(
        place,
        made,
        build=stored.build,
        task=stored.task,
        steps=stored.steps if steps is None else steps,
        origin=replace(stored.origin, metrics={}),
    )
