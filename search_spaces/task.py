"""What a network has to do."""

from __future__ import annotations

from dataclasses import dataclass

from nasbench_registry import UserError


@dataclass(frozen=True)
class Task:
    """What a network has to do: the shape of one image (channels, height, width) and the number of classes."""

    input_shape: tuple[int, int, int]
    classes: int

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.input_shape)
        if len(shape) != 3 or min(shape) < 1:
            raise UserError(f"input_shape {self.input_shape!r} is not (channels, height, width) with sizes above 0.")
        if self.classes < 2:
            raise UserError(f"classes is {self.classes}; a classification task has at least 2.")
        object.__setattr__(self, "input_shape", shape)
