"""The contract of what scores candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import nn

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.trial import History
from nasbench.objectives.metrics import Metrics
from nasbench_compression import CompiledModel, Recipe
from search_spaces import Architecture, SearchSpace, Task

if TYPE_CHECKING:
    from nasbench.models.build import Build
    from nasbench.models.model import Noted

BLOCK = 256  # candidates of a cheap evaluator that are evaluated together, at most


class EarlierCandidate(Protocol):
    """A candidate before the present one, as far as an evaluator may know it."""

    arch: Architecture
    architecture: str
    status: str
    metrics: dict[str, float]


class Progress(Protocol):
    """Shows how far a long work is."""

    def phase(self, name: str, total: int) -> None:
        """A new part of the work begins, of so many pieces."""

    def advance(self, done: int, text: str = "") -> None:
        """So many pieces of the part are done."""


class Evaluator(ABC):
    """Scores the candidates of a space; it travels to the workers by value.

    What a user writes is a function of a candidate that returns metrics (`FunctionEvaluator`), or a class derived from
    this one.

    Args:
        space: Search space that candidates belong to.
        task: Inputs and outputs of their networks; None where the space builds without a task.
    """

    summary: ClassVar[str] = ""
    looks_up: ClassVar[bool] = False
    """Whether it only looks results up, so that nothing is loaded, trained or measured for it."""
    searches_recipes: ClassVar[bool] = False
    """Whether candidates may be architectures together with recipes, where it does not train them."""

    @classmethod
    def for_options(cls, options: Mapping[str, Any]) -> type[Evaluator]:
        """The class that takes these options: this one, unless a name stands for several."""
        return cls

    def __init__(self, space: SearchSpace, task: Task | None = None) -> None:
        self.space, self.task = space, task

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that it can give; the first one is the quality. Empty if that is not known."""
        return ()

    @abstractmethod
    def __call__(self, candidate: Candidate) -> Metrics:
        """The metrics of a candidate; an exception if it failed.

        Three entries describe the evaluation instead of the candidate and are kept apart: `training_seconds`, the
        seconds spent in training; `cached`, not zero if nothing was trained because the result was known; and
        `simulated_seconds`, what it would have taken where the result was looked up.

        Raises:
            InfeasibleError: It breaks a hard limit.
            InvalidNetwork: It cannot be built, or does not fit the task.
        """

    def evaluate_many(self, candidates: Sequence[Candidate]) -> Sequence[Metrics | Exception]:
        """The metrics of several candidates, in their order; an exception in the place of one that failed.

        Override it where several are cheaper together: one batch of a predictor, one pass of a supernet. If it raises,
        each of them is evaluated alone.
        """
        raise NotImplementedError(f"{type(self).__name__} evaluates one candidate at a time.")

    @property
    def at_once(self) -> int:
        """How many candidates are evaluated together, at most.

        With more than 1 they are handed out in blocks that take about a tenth of a second, and under Ray by a pool of
        processes, which costs a candidate a millisecond where Ray Tune takes fifty; no scheduler can stop them.
        """
        return 1 if type(self).evaluate_many is Evaluator.evaluate_many else BLOCK

    @property
    def simulated(self) -> bool:
        """Whether results are looked up, so that the search goes by a simulated clock."""
        return False

    def identity(self, arch: Architecture) -> Architecture:
        """The same for architectures whose evaluations give the same."""
        return self.space.canonical(arch)

    def history(self, candidates: Sequence[EarlierCandidate]) -> History:
        """The part of the candidates so far that the next one gets, as `candidate.trial.history`."""
        return ()

    def parts(self, arch: Architecture) -> Mapping[str, Any]:
        """The network and the recipe of an architecture by themselves, for people: see `record.Parts`."""
        return {"network": self.space.format(arch), "recipe": None}

    def begin(self, progress: Progress) -> None:  # noqa: B027  # most have nothing to do here
        """The work before the first candidate, once, in the process of the search; goes on if it was killed.

        Args:
            progress: Shows how the work goes.
        """

    def end(self, progress: Progress, folder: Path) -> None:  # noqa: B027  # nor here
        """The work for the report of a search, when its last candidate is done; goes on if it was killed.

        Args:
            progress: Shows how the work goes.
            folder: Folder of the run.
        """

    # ---- what follows a search; only of evaluators whose candidates are networks that can be deployed

    @property
    def network_space(self) -> SearchSpace:
        """The space of the architectures of networks alone."""
        return self.space

    def network_arch(self, arch: Architecture) -> Architecture:
        """The architecture of the network alone, in `network_space`."""
        return arch

    def stored_as(self, arch: Architecture, build: Build) -> tuple[Build, list[Noted]]:
        """How the network of a survivor is built when it is loaded again, and steps that were applied to it.

        Args:
            arch: Architecture of the network alone.
            build: How the search space builds the network.
        """
        return build, []

    def recipe(self, arch: Architecture) -> Recipe | None:
        """The recipe that belongs to a candidate; None where all survivors go through the same one."""
        return None

    def artefact(self, number: int, arch: Architecture, seed: int) -> CompiledModel | None:
        """A candidate as its device runs it, to measure it when the search is over; None if there is no such thing.

        Args:
            number: Number of the candidate.
            arch: Architecture of the candidate.
            seed: Random seed of its weights.
        """
        return None

    def trained(self, number: int, arch: Architecture, seed: int, epochs: int | None) -> nn.Module:
        """The trained network of a candidate, from its checkpoint or trained again to the same weights.

        Args:
            number: Number of the candidate.
            arch: Architecture of the candidate.
            seed: Random seed of its weights.
            epochs: Epochs that it was trained for; None is the full budget.

        Raises:
            NotImplementedError: This evaluator trains no networks.
        """
        raise NotImplementedError(f"{type(self).__name__} trains no networks, so it has none to give.")


def attempt(evaluator: Evaluator, candidate: Candidate) -> Metrics | Exception:
    """The metrics of one candidate among several, or what its evaluation raised."""
    try:
        return evaluator(candidate)
    except Exception as error:  # the others go on; who called `evaluate_many` deals with it
        return error
