"""Data, training and judging of a model that lies on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasbench.data import Split, load_data
from nasbench.devices.device import Device
from nasbench.models import Origin, StoredModel, save_model
from nasbench.models.normalization import scaled
from nasbench.models.workbench import Workbench
from nasbench.training.config import TrainingConfig
from nasbench_compression import CompiledModel, Step
from nasbench_registry import UserError


def workbench(stored: StoredModel, folder: Path, seed: int, device: Device | None = None) -> Workbench:
    """Data, training and judging of a stored model.

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
    if not origin.data:
        raise UserError(f"{folder / 'model.json'} names no data set, so the model cannot be trained or judged here.")
    options = {key: value for key, value in origin.data.items() if key != "name"}
    data = load_data(origin.data["name"], **options)
    if data.task != stored.task:
        raise UserError(
            f"{folder} was made for {stored.task}, and its data set now gives {data.task}; use the same data."
        )
    known = origin.normalization
    if known.get("labels") not in (None, list(data.labels)):
        raise UserError(
            f"{folder} was made for the classes {', '.join(known['labels'])}, and its data set now has "
            f"{', '.join(data.labels)}; use the same data."
        )
    mean, std = scaled(known, "mean"), scaled(known, "std")
    if mean is not None and std is not None:
        data = data.normalised_by(mean, std)
    return Workbench(data, TrainingConfig.model_validate(dict(origin.training)), seed, device)


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
        origin=Origin(stored.origin.data, stored.origin.training, stored.origin.normalization),
    )


def some_of(split: Split, count: int | None, seed: int) -> Split:
    """So many images by chance, for the images of a data set may lie in the order of their classes; None is all."""
    if count is None or count >= len(split):
        return split
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count]
    return Split(split.images[chosen], split.labels[chosen])
