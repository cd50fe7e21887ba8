"""A differentiable search as a controller: it trains when it is asked, and proposes what the method derives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controllers import Controller, Proposal, SearchFinished
from nasbench.supernet.differentiable.search import DifferentiableSearch
from search_spaces import SearchSpace


class Differentiable(Controller):
    """Proposals are derived after equal shares of the epochs, the last one after the last epoch; none is learned from.

    Args:
        space: Search space.
        seed: Seed of the contract; the search has its own.
        name: Name of the method.
        start: Function that makes the search, or takes up the one that was interrupted; called when the first proposal
            is asked for.
        proposals: Number of proposals; no more than the epochs of the search.
    """

    multi_objective = True
    ends_by_itself = True

    def __init__(
        self, space: SearchSpace, *, seed: int, name: str, start: Callable[[], DifferentiableSearch], proposals: int
    ) -> None:
        super().__init__(space, seed=seed)
        self.name = name  # type: ignore[misc]  # one class for all methods
        self._start = start
        self._proposals = proposals
        self._proposed = 0
        self._search: DifferentiableSearch | None = None

    def _propose(self) -> Proposal:
        search = self._search = self._search or self._start()
        count = min(self._proposals, search.epochs)
        if self._proposed >= count:
            raise SearchFinished
        epoch = round((self._proposed + 1) * search.epochs / count)
        while search.epoch < epoch:
            done = search.run_epoch()
            quality = f"{search.problem.quality} {done.val_quality:.4g} with shared weights"
            self.on_work(f"{self.name}: epoch {done.epoch} of {search.epochs}, {quality}")
        self._proposed += 1
        return Proposal(self.space.architecture(search.history[epoch - 1].picks))

    def _state(self) -> dict[str, Any]:
        return {"proposed": self._proposed}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self._proposed = int(state["proposed"])
