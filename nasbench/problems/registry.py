"""The problems by name, and how one is made of the sections `problem`, `data` and `training`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from nasbench.data.registry import described_data, load_data
from nasbench.problems.image_classification import ImageClassification
from nasbench.problems.image_segmentation import ImageSegmentation
from nasbench.problems.names import PROBLEMS
from nasbench.problems.problem import Problem
from nasbench.problems.regression import Regression
from nasbench.problems.supervised import Supervised
from nasbench.training.config import TrainingConfig
from nasbench_registry import Registry, UserError, check_options

problems: Registry[Problem] = Registry("problem", Problem, PROBLEMS, group="nasbench.problems")


FILLED = ("data", "training", "data_source")
"""Parameters that a problem derived from `Supervised` gets from other sections, and that are no options."""


def make_problem(
    problem: Mapping[str, Any], data: Mapping[str, Any] | None = None, training: TrainingConfig | None = None
) -> Problem:
    """The problem of the sections `problem`, `data` and `training`.

    Args:
        problem: Name and options; a problem that is derived from `Supervised` takes no options.
        data: Name and options of the data set. A problem of the user's own that is not derived from `Supervised` gets
            it, loaded, if it has a parameter `data`.
        training: How networks are trained; likewise, if it has a parameter `training`.

    Raises:
        UserError: A name or an option is wrong, or the data are missing, or have other targets.
    """
    name, options = str(problem["name"]), {key: value for key, value in problem.items() if key != "name"}
    kind = problems.find(name)
    if issubclass(kind, Supervised):
        for filled in FILLED:  # a class keeps what it is given, and so its `source` names it
            options.pop(filled, None)
        check_options(kind, options, what=f"problem {name!r}", reserved=FILLED)
        if data is None:
            raise UserError(f"problem {name!r} needs the section data; name a data set.")
        return kind.loaded(data, training)
    parts: dict[str, Any] = {}
    if data is not None:
        about, of_data = described_data(data)
        parts["data"] = lambda: load_data(about, **of_data)
    if training is not None:
        parts["training"] = lambda: training
    accepted = {key: make for key, make in parts.items() if key in inspect.signature(kind).parameters}
    check_options(kind, options, what=f"problem {name!r}", reserved=accepted)
    return kind(**{key: make() for key, make in accepted.items()}, **options)


def image_classification(data: Any = "digits", *, training: TrainingConfig | None = None, **options: Any) -> Problem:
    """One class for each image, or for each row of a table; for the arguments see `Supervised.of`."""
    return ImageClassification.of(data, training=training, **options)


def image_segmentation(data: Any, *, training: TrainingConfig | None = None, **options: Any) -> Problem:
    """A class for each pixel of an image; for the arguments see `Supervised.of`."""
    return ImageSegmentation.of(data, training=training, **options)


def regression(data: Any, *, training: TrainingConfig | None = None, **options: Any) -> Problem:
    """Numbers for each image, or for each row of a table; for the arguments see `Supervised.of`."""
    return Regression.of(data, training=training, **options)
