"""A candidate as an evaluator sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasbench.evaluators.errors import InvalidNetwork
from nasbench.evaluators.trial import Trial
from nasbench.objectives.metrics import Metrics
from nasbench_compression.outputs import tensors_of
from search_spaces import Architecture, SearchSpace, Task
from search_spaces.fresh_model import fresh_model

Report = Callable[[int, Metrics], bool]
"""report(epoch, metrics) -> whether to go on."""


@dataclass(frozen=True)
class Candidate:
    """One architecture to evaluate, with all that its evaluation needs.

    Attributes:
        trial: Number, seed, fidelity and attempt of the candidate, and what is known of candidates before it.
        space: Search space that the architecture belongs to.
        task: Task of the network: its inputs and outputs; None where the space builds without one.
        report: Function ``report(epoch, metrics)``; it returns False when a scheduler stops the candidate.
    """

    trial: Trial
    space: SearchSpace
    task: Task | None
    report: Report

    @property
    def arch(self) -> Architecture:
        """The architecture."""
        return self.trial.arch

    @property
    def choices(self) -> Mapping[str, Any]:
        """The chosen option of each decision that matters."""
        return self.space.choices(self.trial.arch)

    @property
    def architecture(self) -> str:
        """The architecture in the notation of its space."""
        return self.space.format(self.trial.arch)

    @property
    def epochs(self) -> int:
        """How many epochs it may be trained for at most."""
        return self.trial.epochs or self.trial.full_epochs

    @property
    def seed(self) -> int:
        """The random seed of its weights and of every random choice of its evaluation."""
        return self.trial.seed

    @property
    def number(self) -> int:
        """The number of the candidate in its search, from 0."""
        return self.trial.number

    def network(self) -> nn.Module:
        """A new network of the architecture, in training mode, with weights that depend on the seed alone.

        Where there is a task, it is run once on zeros.

        Raises:
            InvalidNetwork: It cannot be built or run, or does not give what the task says.
        """
        return checked_model(self.space, self.trial.arch, self.task, self.trial.seed)


def checked_model(space: SearchSpace, arch: Architecture, task: Task | None, seed: int) -> nn.Module:
    """`fresh_model`, run once on zeros where there is a task.

    Raises:
        InvalidNetwork: It cannot be built or run, or does not give what the task says.
    """
    shapes: list[tuple[int, ...]] = []
    try:
        model = fresh_model(space, arch, task, seed)
        if task is not None:
            with torch.no_grad():
                outputs = tensors_of(model.eval()(*task.example()))
                shapes = [tuple(tensor.shape) for tensor in outputs.values()]
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "can't allocate memory" in str(error):
            raise
        words = " ".join(str(error).split()) or "no message"
        raise InvalidNetwork(f"the network cannot be built: {type(error).__name__}: {words}") from error
    expected = [] if task is None else [(1, *spec.shape) for spec in task.outputs]
    if shapes[: len(expected)] != expected:  # what it gives beyond that is for training only
        raise InvalidNetwork(f"the network gives shape {_shown(shapes)} for one example, not {_shown(expected)}")
    return model.train()


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes)) or "nothing"
