"""How long a differentiable search trains, and how fast."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nasbench.supernet.differentiable.method import Method
from nasbench_registry import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Options that every differentiable method takes beside its own; defaults are those of DARTS.

    Attributes:
        epochs: Epochs over the half of the training examples that weights are fitted on; None is the number of the
            paper.
        weights_first: Number of epochs that train the weights alone, before the parameters of the method move, for
            operations without weights are ahead of the others at first (as in PC-DARTS, Xu et al. 2020, arXiv
            1907.05737).
        batch_size: Batch size of weights, and of the parameters of the method.
        learning_rate: Learning rate of SGD with momentum for the weights; it falls along a cosine.
        weight_decay: Weight decay of the weights.
        architecture_rate: Learning rate of Adam for the parameters of the method.
        architecture_decay: Weight decay of the parameters of the method.
        train_examples: Number of training examples that are taken by chance; None takes all.
    """

    epochs: int | None = None
    weights_first: int = 0
    batch_size: int = 64
    learning_rate: float = 0.025
    weight_decay: float = 3e-4
    architecture_rate: float = 3e-4
    architecture_decay: float = 1e-3
    train_examples: int | None = None

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("epochs", "batch_size", "train_examples")}
        for name, count in counts.items():
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
                raise UserError(f"{name}={count!r} of a differentiable search must be a whole number from 1.")
        if not isinstance(self.weights_first, int) or isinstance(self.weights_first, bool) or self.weights_first < 0:
            raise UserError(
                f"weights_first={self.weights_first!r} of a differentiable search must be a whole number from 0."
            )
        for name in ("learning_rate", "architecture_rate"):
            if not _is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise UserError(f"{name}={getattr(self, name)!r} of a differentiable search must be a number above 0.")
        for name in ("weight_decay", "architecture_decay"):
            if not _is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)!r} of a differentiable search must be a number from 0.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def divided(kind: type[Method], options: Mapping[str, Any]) -> tuple[SearchSettings, dict[str, Any]]:
    """The settings among the options of a controller, and the options of its method.

    Args:
        kind: Class of the method.
        options: Options of the controller.

    Raises:
        UserError: An option is of neither, or a setting has a bad value.
    """
    common = {field.name for field in fields(SearchSettings)}
    parameters = inspect.signature(kind).parameters
    method_names = {name for name in parameters if name not in ("space", "seed")}
    for name in options:
        if name not in common | method_names:
            raise unknown("option", name, common | method_names, where=f"of controller {kind.name!r}")
    settings = SearchSettings(**{name: value for name, value in options.items() if name in common})
    method_options = {name: value for name, value in options.items() if name not in common}
    for name, value in method_options.items():
        default = parameters[name].default
        whole = isinstance(default, int)
        if _is_number(default) and (not _is_number(value) or (whole and not isinstance(value, int))):
            raise UserError(
                f"{name}={value!r} of controller {kind.name!r} must be a {'whole ' if whole else ''}number."
            )
    return settings, method_options
