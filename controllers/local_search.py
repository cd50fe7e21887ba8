"""Local search (White et al. 2020, arXiv 2005.02960)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controllers.core import Controller, Outcome, Proposal, SearchFinished
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace
from search_spaces.core import MAX_TRIES

Picks = tuple[int, ...]


class LocalSearch(Controller):
    """Evaluate the neighbours of the current architecture, move to the best; start anew in a local optimum.

    Nothing is proposed twice: what is known is compared from memory. When there is nothing new to start from, the
    search is finished.

    Deviations from the paper: a known neighbour may be moved to (the authors' code looks at new ones only); a failed
    neighbour is never moved to; architectures that come with an outcome unasked join the starting points. With
    several workers the neighbours are evaluated at the same time, and idle workers wait for the last of them.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        initial: Number of random architectures of a start, the best of which is climbed from; the paper describes 1,
            the authors' code draws 10.
        first_improvement: Whether to move to the first neighbour that is better, without waiting for the others.
    """

    name = "local_search"
    summary = "climb to the best neighbour, start anew in a local optimum"
    source = "White et al. 2020, arXiv 2005.02960"

    def __init__(self, space: SearchSpace, *, seed: int, initial: int = 1, first_improvement: bool = False) -> None:
        super().__init__(space, seed=seed)
        if initial < 1:
            raise UserError(f"initial={initial} must be 1 or more.")
        self.initial, self.first_improvement = initial, first_improvement
        self.scores: dict[Picks, float | None] = {}  # None: failed
        self.running: set[Picks] = set()
        self.current: Picks | None = None  # None: at a start
        self.round: list[Picks] = []  # what is compared: a start, or the neighbours of the current one
        self.queue: list[Picks] = []  # members of the round that still have to be asked for

    def lookahead(self, waiting: int) -> int:
        """The rest of a round, unless the first improvement ends it."""
        if self.first_improvement:
            return 1
        return max(1, len({picks for picks in self.queue if picks not in self.scores and picks not in self.running}))

    def _propose(self) -> Proposal | None:
        while True:
            while self.queue:
                picks = self.queue.pop()
                if picks not in self.scores and picks not in self.running:
                    self.running.add(picks)
                    return Proposal(Architecture(self.space.name, picks))
            if any(picks in self.running for picks in self.round):
                return None
            best = max(self.round, key=self._score, default=None)
            if best is not None and self._improves(best):
                self._climb(best)
            else:
                self._start()

    def _observe(self, outcome: Outcome) -> None:
        picks = self._relevant(outcome.proposal.arch)
        self.scores[picks] = None if outcome.scores is None else outcome.scores[0]
        if picks in self.running:
            self.running.remove(picks)
        elif self.current is None:
            self.round.append(picks)
        if self.first_improvement and self.current is not None and picks in self.round and self._improves(picks):
            self._climb(picks)

    def _score(self, picks: Picks) -> float:
        score = self.scores.get(picks)
        return -float("inf") if score is None else score

    def _improves(self, picks: Picks) -> bool:
        return self._score(picks) > (-float("inf") if self.current is None else self._score(self.current))

    def _climb(self, picks: Picks) -> None:
        self.current = picks
        self.round = [self._relevant(arch) for arch in self.space.neighbors(Architecture(self.space.name, picks))]
        self.queue = [self.round[i] for i in self.rng.permutation(len(self.round)).tolist()]

    def _start(self) -> None:
        self.current, self.round = None, []
        for _ in range(MAX_TRIES):
            picks = self._relevant(self.space.sample(self.rng))
            if picks not in self.scores and picks not in self.running and picks not in self.round:
                self.round.append(picks)
            if len(self.round) == self.initial:
                break
        if not self.round:
            raise SearchFinished(f"local_search met nothing new in {MAX_TRIES} draws from {self.space.name!r}.")
        self.queue = list(self.round)

    def _relevant(self, arch: Architecture) -> Picks:
        """The picks, 0 where a decision does not matter: one network, one notation."""
        if not self.space.layout.conditional:
            return arch.picks
        flags = self.space.layout.active(arch.picks)
        return tuple(pick if flag else 0 for pick, flag in zip(arch.picks, flags, strict=True))

    def _state(self) -> dict[str, Any]:
        return {
            "scores": [[list(picks), score] for picks, score in self.scores.items()],
            "running": sorted(map(list, self.running)),
            "current": None if self.current is None else list(self.current),
            "round": [list(picks) for picks in self.round],
            "queue": [list(picks) for picks in self.queue],
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.scores = {tuple(picks): score for picks, score in state["scores"]}
        self.running = {tuple(picks) for picks in state["running"]}
        self.current = None if state["current"] is None else tuple(state["current"])
        self.round = [tuple(picks) for picks in state["round"]]
        self.queue = [tuple(picks) for picks in state["queue"]]
