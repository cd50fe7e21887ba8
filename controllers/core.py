"""The contract of a search algorithm: ask for a proposal, tell what came of it.

A controller sees spaces, proposals and scores. It never sees the name of a metric, a sign, a file, a network or a
worker: whatever runs it turns measurements into scores, of which larger is always better.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
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
    """A candidate to evaluate.

    Attributes:
        arch: Architecture to evaluate.
        epochs: Epochs to train it for; None is the full budget.
    """

    arch: Architecture
    epochs: int | None = None


@dataclass(frozen=True)
class Outcome:
    """The outcome of a proposal.

    Attributes:
        proposal: Proposal that was evaluated.
        scores: Scores, one for each objective, of which larger is better; None if the candidate failed.
        violation: How far a failed candidate is beyond the limits that it breaks, larger is worse; None if that is not
            known, or it failed in another way.
        seconds: Seconds that the evaluation took, for controllers that weigh a gain against its cost; None if that is
            not known.
        shared_seconds: Part of `seconds` that later proposals with the same network need not spend again, such as its
            training; 0 if it was there already, None if that is not known.

    Raises:
        UserError: The scores are not finite numbers, or the violation is no finite number from 0, of a candidate
            without scores.
    """

    proposal: Proposal
    scores: tuple[float, ...] | None
    violation: float | None = None
    seconds: float | None = None
    shared_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.violation is not None:
            violation = _finite(self.violation)
            if self.scores is not None or violation is None or violation < 0:
                raise UserError(
                    f"violation {self.violation!r} must be a finite number from 0, of a candidate without scores; tell "
                    f"None where it is not known."
                )
            object.__setattr__(self, "violation", violation)
        if self.scores is not None:
            scores = tuple(map(_finite, self.scores)) if isinstance(self.scores, Iterable) else ()
            if not scores or None in scores:
                raise UserError(
                    f"scores {self.scores!r} must be a tuple of finite numbers, one for each objective; tell a failed "
                    f"candidate as None."
                )
            object.__setattr__(self, "scores", scores)


def _finite(value: Any) -> float | None:
    """The value as a number of Python; None if it is no finite number."""
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class Controller(ABC):
    """A search algorithm over one space.

    The public methods check; subclasses define `_propose`, `_observe`, `_state` and `_load_state`, and draw every
    random number from `self.rng`.

    Args:
        space: Search space.
        seed: Random seed of every random choice; the same seed and the same outcomes give the same proposals.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    multi_objective: ClassVar[bool] = False
    """Whether it takes several scores. One that does not refuses them with a UserError."""
    multi_fidelity: ClassVar[bool] = False
    """Whether it asks for fewer epochs than the full budget; then it has an option `max_epochs`, the full budget."""
    takes_budget: ClassVar[bool] = False
    """Whether it has an option `budget_seconds`, of all evaluations together."""
    ends_by_itself: ClassVar[bool] = False
    """Whether its search is complete when it has nothing more to propose, with however few candidates."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.objectives: int | None = None  # scores of an outcome, once one has come
        self.on_work: Callable[[str], None] = lambda text: None
        """Called with a line for the user by a controller that works long until its next proposal."""

    @property
    def schedule_epochs(self) -> int | None:
        """The epochs of the schedule that a candidate of fewer epochs follows the beginning of, to go on later.

        None trains every candidate from its first epoch on, with a schedule of its own epochs.
        """
        return None

    def ask(self) -> Proposal | None:
        """The next proposal; None while it has to wait for outcomes.

        Raises:
            SearchFinished: There will be no further proposal.
        """
        return self._propose()

    def lookahead(self, waiting: int) -> int:
        """How many proposals in a row would be the same, whatever the outcomes before them are, at least 1.

        So many may be asked for and evaluated together, and the search is that of one candidate after the other.

        Args:
            waiting: Number of proposals without an outcome.
        """
        return 1

    def tell(self, outcome: Outcome) -> None:
        """Take an outcome, in any order; architectures that were never asked for are welcome (warm start).

        Raises:
            UserError: The architecture is not of this space, there are several scores and `multi_objective` is False,
                or another number of them than before. The controller is as it was then.
        """
        self.space.require_valid(outcome.proposal.arch)
        if outcome.scores is not None:
            count = len(outcome.scores)
            if count > 1 and not self.multi_objective:
                raise UserError(
                    f"controller {self.name!r} takes one score, not {count}; use reward weighted_product or scalar, or "
                    f"a controller for several objectives."
                )
            if self.objectives not in (None, count):
                raise UserError(
                    f"the outcome has {count} scores {outcome.scores}, and those before it had {self.objectives}; tell "
                    f"one score for each objective, always the same ones."
                )
            self.objectives = count
        self._observe(outcome)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `ask` depends on, as JSON values."""
        own = {"controller": self.name, "rng": self.rng.bit_generator.state, "scores_each": self.objectives}
        return own | self._state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the controller that gave this state stood.

        Raises:
            UserError: The state is another controller's.
        """
        if state.get("controller") != self.name:
            raise UserError(f"the state belongs to controller {state.get('controller')!r}, not to {self.name!r}.")
        self.rng.bit_generator.state = dict(state["rng"])
        self.objectives = state.get("scores_each")  # absent in runs of earlier versions
        self._load_state(state)

    @abstractmethod
    def _propose(self) -> Proposal | None: ...

    def _observe(self, outcome: Outcome) -> None:  # noqa: B027  # an algorithm without memory has nothing to do
        """Learn from a checked outcome."""

    def _state(self) -> dict[str, Any]:
        return {}

    def _load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore what `_state` gave."""


def stalled(controller: str) -> UserError:
    """The error for a controller that waits although nothing runs: the search would never end.

    Args:
        controller: Name of the controller.
    """
    return UserError(
        f"controller {controller!r} waits for outcomes, and no candidate is running; once every outcome has been told, "
        f"its ask() must give a proposal or raise SearchFinished."
    )


def dominance(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """For scores (n, objectives): an (n, n) array, True at [i, j] where i dominates j; `dominates` for many at once."""
    above, below = scores[:, None], scores[None]
    return np.asarray((above >= below).all(axis=2) & (above > below).any(axis=2))


def front_of(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Those rows of (n, k) scores that no other row dominates, each once and in ascending order; larger is better."""
    remaining = np.unique(scores, axis=0)[::-1]
    front = []
    while len(remaining):  # what dominates a row comes before it in this order, so the first one is of the front
        front.append(remaining[0])
        remaining = remaining[(remaining > remaining[0]).any(axis=1)]
    return np.array(front[::-1]).reshape(-1, scores.shape[1])


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether scores `a` are nowhere worse than `b` and somewhere better."""
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))
