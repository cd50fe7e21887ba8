"""The problem of a model that lies on disk, to train and evaluate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from nasbench.devices.device import Device
from nasbench.models import StoredModel, save_model
from nasbench.models.origin import problem_of
from nasbench.models.workbench import Workbench
from nasbench_compression import CompiledModel, Step


def workbench(
    stored: StoredModel, folder: Path, seed: int, device: Device | None = None, trains_on: str = "cpu"
) -> Workbench:
    """The problem of a stored model, to train and evaluate it.

    Args:
        stored: Stored model.
        folder: Folder of the model.
        seed: Random seed of every random choice.
        device: Device on which steps may measure what they made.
        trains_on: Where networks are trained: cpu or cuda.

    Raises:
        UserError: As `problem_of`.
    """
    return Workbench(problem_of(stored.origin, stored.task, folder), seed, device, trains_on=trains_on)


def save_made(
    place: Path,
    result: nn.Module | CompiledModel,
    stored: StoredModel,
    folder: Path,
    steps: Sequence[tuple[Step, dict[str, Any]]] | None = None,
) -> Path:
    """Save what was made of a stored model: of the same space and data, and without the metrics of that one.

    Args:
        place: Folder to write; created if it is not there.
        result: Network, or what was compiled of it.
        stored: Model that it was made of.
        folder: Folder of that model.
        steps: All steps that were applied, with their notes; None are those of the stored model.

    Returns:
        The file of the weights or of the artefact.
    """
    return save_model(
        place,
        result,
        build=stored.build,
        task=stored.task,
        steps=stored.steps if steps is None else steps,
        origin=replace(stored.origin, metrics={}),
    )
