"""The problems by name, and how one is made of the sections `problem`, `data` and `training`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nasbench.data.dataset import Data
from nasbench.data.given import data_of
from nasbench.data.registry import described_data, load_data
from nasbench.problems.image_classification import ImageClassification
from nasbench.problems.image_segmentation import ImageSegmentation
from nasbench.problems.problem import Problem
from nasbench.problems.regression import Regression
from nasbench.problems.supervised import Supervised
from nasbench.training.config import TrainingConfig
from nasbench_registry import Registry, UserError, check_options

CLASSIFICATION = "image_classification"
PROBLEMS: dict[str, type[Problem]] = {
    CLASSIFICATION: ImageClassification,
    "image_segmentation": ImageSegmentation,
    "regression": Regression,
}

problems: Registry[Problem] = Registry("problem", Problem, PROBLEMS, group="nasbench.problems")

FILLED = ("data", "training")
"""Parameters of a problem of the user's own that the sections of the same names fill."""
GIVEN = "<given>"
"""The name of a data set that was given as an object, which no name finds again."""


def make_problem(
    problem: Mapping[str, Any], data: Mapping[str, Any] | None = None, training: TrainingConfig | None = None
) -> Problem:
    """The problem of the sections `problem`, `data` and `training`.

    Args:
        problem: name and options; one of ours takes none.
        data: name and options of the data set; a problem of the user's own may have data of its own.
        training: how networks are trained.

    Raises:
        UserError: a name or an option is wrong, or the data are missing, or have other targets.
    """
    name, options = str(problem["name"]), {key: value for key, value in problem.items() if key != "name"}
    kind = problems.find(name)
    if issubclass(kind, Supervised) and name in PROBLEMS:
        check_options(kind, options, what=f"problem {name!r}", reserved=("data", "training", "data_source"))
        if data is None:
            raise UserError("the experiment has no section data; name a data set.")
        return _supervised(kind, name, _loaded(kind, data), training, data)
    filled = {"data": data, "training": training}
    taken = [key for key in FILLED if key in inspect.signature(kind).parameters and filled[key] is not None]
    check_options(kind, options, what=f"problem {name!r}", reserved=taken)
    parts: dict[str, Any] = {}
    if "data" in taken and data is not None:
        parts["data"] = _loaded(kind, data)
    if "training" in taken:
        parts["training"] = training
    return kind(**parts, **options)


def _loaded(kind: type[Problem], data: Mapping[str, Any]) -> Data:
    name, options = described_data(data)
    if name == GIVEN:
        raise UserError("the data of this problem were given as an object; give the problem again, by `problem=`.")
    return load_data(name, kind=getattr(kind, "kind", None), **options)


def _supervised(
    kind: type[Supervised], name: str, data: Data, training: TrainingConfig | None, source: Mapping[str, Any]
) -> Supervised:
    wanted = getattr(kind, "kind", data.kind)
    if data.kind != wanted:
        raise UserError(
            f"problem {name!r} needs {_NEEDED[wanted]}, and data set {data.name!r} gives {_NEEDED[data.kind]}; take "
            f"the problem {next(other for other, one in PROBLEMS.items() if getattr(one, 'kind', '') == data.kind)!r}, "
            f"or other data."
        )
    return kind(data, training or TrainingConfig(), dict(source))


_NEEDED = {
    "classes": "one class for each example",
    "masks": "a class for each pixel",
    "values": "numbers for each example",
}


def _factory(name: str, data: Any, training: TrainingConfig | None, options: dict[str, Any]) -> Problem:
    """A problem of ours from Python: options of the training and of the data set may be given directly."""
    known = {key: options.pop(key) for key in list(options) if key in TrainingConfig.model_fields}
    chosen = (training or TrainingConfig()).model_copy(
        update={key: getattr(TrainingConfig.model_validate(known), key) for key in known}
    )
    kind = PROBLEMS[name]
    assert issubclass(kind, Supervised), "problems of ours are made of examples with targets"
    if callable(data) and not isinstance(data, Data):
        data = importable_name(data) or data(**{key: options.pop(key) for key in _own(data, options)})
    if isinstance(data, str):
        source = {"name": data, **options}
        return make_problem({"name": name}, source, chosen)
    return _supervised(
        kind, name, data_of(data, GIVEN, getattr(kind, "kind", None), **options), chosen, {"name": GIVEN}
    )


def _own(function: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    return [key for key in options if key in inspect.signature(function).parameters]


def importable_name(function: Callable[..., Any]) -> str | None:
    """``module:function``, if another process finds the function by it."""
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", "<locals>")
    return None if module == "__main__" or "<" in name or "." in name else f"{module}:{name}"


def image_classification(data: Any = "digits", *, training: TrainingConfig | None = None, **options: Any) -> Problem:
    """One class for each image, or for each row of a table.

    Args:
        data: name of the data set, see ``nasbench list datasets``; a function that gives one, or ``module:function``;
            or what such a function gives, see `nasbench.data.given.data_of`.
        training: how networks are trained; options of `TrainingConfig` may be given directly instead.
        options: those of `TrainingConfig`, such as ``epochs=3``, and those of the data set.

    Raises:
        UserError: a name or an option is unknown, or the data are missing.
    """
    return _factory(CLASSIFICATION, data, training, options)


def image_segmentation(data: Any, *, training: TrainingConfig | None = None, **options: Any) -> Problem:
    """A class for each pixel of an image; for the arguments see `image_classification`."""
    return _factory("image_segmentation", data, training, options)


def regression(data: Any, *, training: TrainingConfig | None = None, **options: Any) -> Problem:
    """Numbers for each image, or for each row of a table; for the arguments see `image_classification`."""
    return _factory("regression", data, training, options)
