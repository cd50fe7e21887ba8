"""The contract of a search algorithm: ask for a proposal, tell what came of it.

A controller sees spaces, proposals and scores. It never sees the name of a metric, a sign, a file, a network or a
worker: whatever runs it turns measurements into scores, of which larger is always better.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace


class SearchFinished(Exception):
    """The controller has nothing more to propose, now or later."""


@dataclass(frozen=True)
class Proposal:
    """What to evaluate.

    Attributes:
        arch: the architecture.
        epochs: the fidelity asked for; None is the full budget.
    """

    arch: Architecture
    epochs: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a proposal.

    Attributes:
        proposal: the proposal that was evaluated.
        scores: larger is better, one for each objective; None if the candidate failed.
        violation: how far a failed candidate is beyond the limits that it breaks, larger is worse; None if that is not
            known, or it failed in another way.
    """

    proposal: Proposal
    scores: tuple[float, ...] | None
    violation: float | None = None

    def __post_init__(self) -> None:
        if self.violation is not None and (self.scores is not None or not self.violation >= 0):
            raise ValueError(f"violation {self.violation!r} must be 0 or more, of a candidate without scores.")
        if self.scores is None:
            return
        scores = tuple(float(score) for score in self.scores)
        if not scores or not all(math.isfinite(score) for score in scores):
            raise ValueError(f"scores {self.scores!r} must be finite numbers; tell a failed candidate as None.")
        object.__setattr__(self, "scores", scores)


class Controller(ABC):
    """A search algorithm over one space.

    The public methods check; subclasses define `_propose`, `_observe`, `_state` and `_load_state`, and draw every
    random number from `self.rng`.

    Args:
        space: what is searched.
        seed: of every random choice; the same seed and the same outcomes give the same proposals.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    multi_objective: ClassVar[bool] = False
    """Whether it takes several scores. One that does not refuses them with a UserError."""
    multi_fidelity: ClassVar[bool] = False
    """Whether it asks for fewer epochs than the full budget; then it has an option `max_epochs`, the full budget."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)

    def ask(self) -> Proposal | None:
        """The next proposal; None while it has to wait for outcomes.

        Raises:
            SearchFinished: there will be no further proposal.
        """
        return self._propose()

    def tell(self, outcome: Outcome) -> None:
        """Take an outcome, in any order; architectures that were never asked for are welcome (warm start).

        Raises:
            UserError: the architecture is not of this space, or there are several scores and `multi_objective`
                is False.
        """
        self.space.require_valid(outcome.proposal.arch)
        if outcome.scores is not None and len(outcome.scores) > 1 and not self.multi_objective:
            raise UserError(
                f"controller {self.name!r} takes one score, not {len(outcome.scores)}; use reward weighted_product or "
                f"scalar, or a controller for several objectives."
            )
        self._observe(outcome)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `ask` depends on, as JSON values."""
        return {"controller": self.name, "rng": self.rng.bit_generator.state, **self._state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the controller that gave this state stood.

        Raises:
            UserError: the state is another controller's.
        """
        if state.get("controller") != self.name:
            raise UserError(f"the state belongs to controller {state.get('controller')!r}, not to {self.name!r}.")
        self.rng.bit_generator.state = dict(state["rng"])
        self._load_state(state)

    @abstractmethod
    def _propose(self) -> Proposal | None: ...

    def _observe(self, outcome: Outcome) -> None:  # noqa: B027  # an algorithm without memory has nothing to do
        """Learn from a checked outcome."""

    def _state(self) -> dict[str, Any]:
        return {}

    def _load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore what `_state` gave."""


def dominance(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """For scores (n, objectives): an (n, n) array, True at [i, j] where i dominates j; `dominates` for many at once."""
    above, below = scores[:, None], scores[None]
    return np.asarray((above >= below).all(axis=2) & (above > below).any(axis=2))


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether scores `a` are nowhere worse than `b` and somewhere better."""
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))
