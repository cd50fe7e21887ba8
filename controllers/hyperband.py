"""Hyperband (Li et al. 2018, arXiv 1603.06560)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from controllers.core import Controller, Outcome, Proposal
from nasbench_registry import UserError, one_of
from search_spaces import Architecture, SearchSpace

Promotion = Literal["continue", "anew"]


@dataclass
class Bracket:
    """One run of successive halving.

    Attributes:
        rungs: (candidates, epochs) of each rung, from the widest to the narrowest.
        fresh: Number of new architectures that the first rung still lacks.
        rung: Index of the rung that is being filled.
        queue: Promoted architectures that still have to be asked for.
        running: Architectures without an outcome yet, and how often.
        results: (score, architecture) of the rung, in the order of the outcomes; failures are left out.
    """

    rungs: list[tuple[int, int]]
    fresh: int
    rung: int = 0
    queue: deque[Architecture] = field(default_factory=deque)
    running: Counter[Architecture] = field(default_factory=Counter)
    results: list[tuple[float, Architecture]] = field(default_factory=list)

    @property
    def wants(self) -> bool:
        """Whether the rung has something to ask for."""
        return bool(self.fresh or self.queue)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to ask for or to wait for."""
        return self.rung == len(self.rungs)

    def take(self, arch: Architecture, score: float | None) -> None:
        """Take an outcome; when it is the last of the rung, promote the best."""
        self.running[arch] -= 1
        if not self.running[arch]:
            del self.running[arch]
        if score is not None:
            self.results.append((score, arch))
        while not (self.finished or self.wants or self.running):
            self.rung += 1
            if not self.finished:
                best = sorted(self.results, key=lambda result: -result[0])[: self.rungs[self.rung][0]]
                self.queue.extend(arch for _, arch in best)
            self.results = []


class Hyperband(Controller):
    """Brackets of successive halving, from many candidates with few epochs to few with all of them.

    Candidates and epochs of the rungs are the paper's: bracket s begins with ceil((s_max + 1) / (s + 1) * eta^s)
    random architectures at max_epochs / eta^s epochs, and 1 / eta of a rung goes on to the next. Brackets go from
    s_max to 0 and then begin again. With min_epochs = max_epochs it is random search.

    With `promotion="continue"` candidates of the lower rungs are trained with the first epochs of the schedule of
    `max_epochs`, and a promoted one goes on from there: its last rung gives what training it at once would have given,
    and no epoch is trained twice. With "anew", as in the paper, every rung begins with new weights and has a schedule
    of its own, whose learning rate falls to zero.

    Deviations from the paper: epochs are whole (rounded down); while the last outcomes of a rung are outstanding, idle
    workers begin the next bracket, as in the code of BOHB's authors; failed candidates are not promoted, even if a rung
    then stays smaller. Outcomes of architectures that were not asked for are ignored.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        min_epochs: Fewest epochs of a rung, at least.
        max_epochs: Epochs of the last rung, the paper's R; an experiment fills in the epochs of its training.
        eta: Reduction factor: one of so many candidates goes on to the next rung, with so many times the epochs.
        promotion: Training of promoted candidates: continue or anew.
    """

    name = "hyperband"
    summary = "many candidates with few epochs, the best go on"
    source = "Li et al. 2018, arXiv 1603.06560"
    multi_fidelity = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        min_epochs: int = 1,
        max_epochs: int = 81,
        eta: int = 3,
        promotion: Promotion = "continue",
    ) -> None:
        super().__init__(space, seed=seed)
        if not 1 <= min_epochs <= max_epochs or eta < 2:
            raise UserError(
                f"min_epochs={min_epochs}, max_epochs={max_epochs}, eta={eta}: the fewest epochs must be from 1 to "
                f"the most, eta 2 or more."
            )
        self.promotion = one_of("promotion", promotion, get_args(Promotion))
        self.min_epochs, self.max_epochs, self.eta = min_epochs, max_epochs, eta
        self.s_max = 0  # the longest bracket has one rung more
        while min_epochs * eta ** (self.s_max + 1) <= max_epochs:
            self.s_max += 1
        self.opened = 0
        self.brackets: list[Bracket] = []  # those under way, the oldest first

    @property
    def schedule_epochs(self) -> int | None:
        """The epochs of the last rung, where promoted candidates go on."""
        return self.max_epochs if self.promotion == "continue" else None

    def rungs(self, s: int) -> list[tuple[int, int]]:
        """(candidates, epochs) of the rungs of bracket `s`; 0 is the one with all epochs from the beginning."""
        first = -(-(self.s_max + 1) * self.eta**s // (s + 1))
        return [(first // self.eta**i, self.max_epochs // self.eta ** (s - i)) for i in range(s + 1)]

    def _propose(self) -> Proposal:
        bracket = next((bracket for bracket in self.brackets if bracket.wants), None)
        if bracket is None:
            rungs = self.rungs(self.s_max - self.opened % (self.s_max + 1))
            bracket = Bracket(rungs, fresh=rungs[0][0])
            self.brackets.append(bracket)
            self.opened += 1
        if bracket.fresh:
            arch = self._new()
            bracket.fresh -= 1
        else:
            arch = bracket.queue.popleft()
        bracket.running[arch] += 1
        return Proposal(arch, bracket.rungs[bracket.rung][1])

    def _new(self) -> Architecture:
        """The next architecture for a first rung."""
        return self.space.sample(self.rng)

    def _observe(self, outcome: Outcome) -> None:
        arch, epochs = outcome.proposal.arch, self._epochs(outcome)
        for bracket in self.brackets:
            if bracket.running[arch] and bracket.rungs[bracket.rung][1] == epochs:
                bracket.take(arch, None if outcome.scores is None else outcome.scores[0])
                if bracket.finished:
                    self.brackets.remove(bracket)
                break

    def _epochs(self, outcome: Outcome) -> int:
        return self.max_epochs if outcome.proposal.epochs is None else outcome.proposal.epochs

    def _state(self) -> dict[str, Any]:
        brackets = [
            {
                "rungs": [list(rung) for rung in bracket.rungs],
                "fresh": bracket.fresh,
                "rung": bracket.rung,
                "queue": [list(arch.picks) for arch in bracket.queue],
                "running": [list(arch.picks) for arch in bracket.running.elements()],
                "results": [[score, list(arch.picks)] for score, arch in bracket.results],
            }
            for bracket in self.brackets
        ]
        return {"opened": self.opened, "brackets": brackets}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.opened = int(state["opened"])
        self.brackets = [
            Bracket(
                [(candidates, epochs) for candidates, epochs in entry["rungs"]],
                entry["fresh"],
                entry["rung"],
                deque(map(self.space.architecture, entry["queue"])),
                Counter(map(self.space.architecture, entry["running"])),
                [(score, self.space.architecture(picks)) for score, picks in entry["results"]],
            )
            for entry in state["brackets"]
        ]
