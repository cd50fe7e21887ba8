"""One choice of a space, and the condition under which it has to be made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasbench_registry import UserError

if TYPE_CHECKING:
    from search_spaces.core import DecisionSpace


@dataclass(frozen=True)
class Inner:
    """The space that a run of decisions was taken from, and its name among the parts of the outer space."""

    name: str
    space: DecisionSpace
    when: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Decision:
    """One choice of a space.

    Attributes:
        name: Name of the decision, unique in the space.
        options: JSON values to choose from, in an order where neighbours are similar if there is such an order.
        when: The condition under which the decision matters, as {name of an earlier decision: the option, or a tuple
            of the options, that it must have}; all of them must hold, and those decisions must matter themselves.
            ``Decision("kernel", (3, 5), when={"block": ("convolution", "fire")})``. Without one it always matters.
        inner: Inner space that the decision belongs to; filled in by `inside`.
    """

    name: str
    options: tuple[Any, ...]
    when: Mapping[str, Any] = field(default_factory=dict, hash=False)
    inner: Inner | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise UserError(f"decision {self.name!r} has no options; give it at least one.")
        texts = [self.text(index) for index in range(len(self.options))]
        if len(set(texts)) != len(texts):
            raise UserError(f"decision {self.name!r} repeats an option among {', '.join(texts)}; list each one once.")
        conditions = {
            name: tuple(options) if isinstance(options, list | tuple) else (options,)
            for name, options in dict(self.when).items()
        }
        object.__setattr__(self, "when", conditions)

    def text(self, index: int) -> str:
        """Option number `index` as text: a string as it is, anything else as JSON."""
        option = self.options[index]
        if isinstance(option, str):
            return option
        try:
            return json.dumps(option)
        except TypeError:
            raise UserError(
                f"decision {self.name!r} has the option {option!r}, which is not a JSON value; use numbers, strings, "
                f"booleans or lists, and turn them into modules in build()."
            ) from None
