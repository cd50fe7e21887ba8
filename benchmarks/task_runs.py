"""The tasks of docs/search-my-task.md and docs/problems.md, as often as one wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_diabetes, load_digits

import nasbench as nb

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Example:
    """Example of a page of the documentation.

    Attributes:
        problem: Function that makes the problem.
        space: Space that is searched.
        goals: Objectives of the search.
        candidates: Number of candidates of the search.
        recipe: Compression steps that the best candidate goes through.
    """

    problem: Callable[[], nb.Problem]
    space: str | dict[str, Any]
    goals: dict[str, Any]
    candidates: int
    recipe: tuple[Any, ...]


def diabetes() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """442 patients: ten columns, and how the disease went on."""
    rows, values = load_diabetes(return_X_y=True, scaled=False)
    return rows, values


def scenes(count: int = 400, side: int = 24) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Three zeros and ones on an empty ground: images, and masks of ground, zero and one."""
    rng, raw = np.random.default_rng(0), load_digits(n_class=2)
    images, masks = np.zeros((count, 1, side, side), np.uint8), np.zeros((count, side, side), int)
    for image, mask in zip(images, masks, strict=True):
        corners = rng.choice([(0, 0), (0, 12), (12, 0), (12, 12)], 3, replace=False)
        for top, left in corners + rng.integers(0, 5, (3, 2)):
            number = rng.integers(len(raw.target))
            place = slice(top, top + 8), slice(left, left + 8)
            image[0][place] = raw.images[number] * 255 / 16
            mask[place] = np.where(raw.images[number] > 4, 1 + raw.target[number], 0)
    return images, masks


EXAMPLES = {
    "digits": Example(
        lambda: nb.image_classification("digits", epochs=6, batch_size=32, learning_rate=0.005),
        {"name": "mobile", "widths": [16, 32], "layers": 1, "blocks": ["convolution", "fire", "resnet_basic"]},
        {"val_acc_pct": "max", "macs": "min"},
        6,
        (nb.Prune(macs_ratio=0.6, epochs=6), nb.Quantize(precision="int8")),
    ),
    "diabetes": Example(
        lambda: nb.regression(diabetes, epochs=40, batch_size=32, learning_rate=0.01),
        "mlp",
        {"val_rmse": "min", "params": "min"},
        8,
        (nb.Prune(macs_ratio=0.5, epochs=10), nb.Distill(epochs=10), nb.Quantize(precision="int8")),
    ),
    "scenes": Example(
        lambda: nb.image_segmentation(
            scenes, labels=["ground", "zero", "one"], epochs=12, batch_size=32, learning_rate=0.01
        ),
        {"name": "unet", "depths": [1, 2], "widths": [8]},
        {"val_miou_pct": "max"},
        2,
        (nb.Quantize(precision="int8"),),
    ),
}


def run_example(example: Example, seed: int, folder: Path) -> tuple[Metrics, Metrics]:
    """Search, compress and compile with one seed; test metrics of the searched network and of the int8 artefact."""
    problem = example.problem()
    controller = {"name": "nsga2", "population": 4} if len(example.goals) > 1 else "random"
    result = nb.search(
        example.space,
        problem=problem,
        controller=controller,
        objectives=example.goals,
        candidates=example.candidates,
        folder=folder,
        seed=seed,
        progress=False,
    )
    searched = result.best.model()
    small = searched.compress(list(example.recipe), seed=seed).export("onnxruntime")
    assert searched.network is not None and small.compiled is not None, "a search gives networks, export an artefact"
    return problem.score(searched.network, "test"), problem.score(small.compiled, "test")
