"""One stage after the other: networks first, then the steps of a recipe, each by itself."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from controllers.core import Controller, Outcome, Proposal, SearchFinished, dominates
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace
from search_spaces.product import ProductSpace

Picks = tuple[int, ...]
Scores = tuple[float, ...] | None

HAND_ON = {"front": "whole front handed on", "best": "best network alone"}
"""Words for `keep`, and what they mean."""
MOST = 64  # combinations of one step that are tried


class Sequential(Controller):
    """A search without a joint space: search networks, then prune the best, then quantize, then compile.

    The baseline of a joint search, on the same product of a space of networks and one of recipes. Another controller
    looks at `architectures` networks, with everything in the recipe at its first option, which should be to do nothing.
    Then, for those of them that `keep` says, the best first, the steps are decided one after the other: all options of
    a step are tried with those of earlier steps as they were decided and those of later ones at their first, and the
    best is kept. Then it begins again with further networks. Of several scores, the best is that with the lowest sum of
    ranks. Where nothing keeps within the limits before it is compressed, what is nearest to them goes on.

    Args:
        space: Product of a space of networks and of another space, whose decisions are grouped into steps by the part
            of their names before the first dot. In any other space there is nothing to compress, and the other
            controller is all.
        seed: Random seed of every random choice.
        architectures: Number of networks that are evaluated before the best are compressed.
        keep: Which of these networks are compressed: a number, the best ones; "front", all that no other of them
            dominates; or "best", the one with the highest first score alone.
        controller: Controller that chooses the networks.
        options: Options of that controller.
    """

    name = "sequential"
    summary = "networks first, then each step of the recipe by itself: the baseline of a joint search"
    source = "an ablation of the joint search"
    multi_objective = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        architectures: int = 16,
        keep: int | Literal["front", "best"] = 3,
        controller: str = "nsga2",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(space, seed=seed)
        from controllers.registry import get_controller  # the registry imports this file for its table

        if keep not in HAND_ON and not (isinstance(keep, int) and 1 <= keep <= architectures):
            raise UserError(
                f"architectures={architectures}, keep={keep!r}: keep from 1 to architectures, front, or best."
            )
        self.architectures, self.keep = architectures, keep
        default = {"population": max(2, architectures // 2)} if controller == "nsga2" and options is None else {}
        product = space if isinstance(space, ProductSpace) else None
        self.network = product.network if product else space
        self.recipe = product.factors[1] if product else None
        self.inner = get_controller(controller, self.network, seed=seed, **(options or default))
        self.split = len(self.network.decisions)
        decisions = self.recipe.decisions if self.recipe else ()
        self.plain: Picks = (0,) * len(decisions)
        if self.recipe and not self.recipe.is_valid(Architecture(self.recipe.name, self.plain)):
            raise UserError(
                "controller 'sequential' begins with the first option of each choice of the recipe, and together they "
                "are no recipe; put those first that leave a step out."
            )
        heads = [decision.name.partition(".")[0] for decision in decisions]
        self.steps = [[at for at, head in enumerate(heads) if head == step] for step in dict.fromkeys(heads)]
        self.networks: dict[Picks, Scores] = {}  # with the plain recipe
        self.proposed = 0  # networks of this round
        self.running: set[Picks] = set()  # of the phase
        self.known: dict[Picks, Scores] = {}
        self.beyond: dict[Picks, float] = {}  # of those that break a limit, by how much
        self.chosen: list[Picks] = []  # networks to be compressed, the next one first
        self.compressed: set[Picks] = set()
        self.decided: Picks = self.plain
        self.step = 0
        self.queue: list[Picks] = []
        self.tried: list[Picks] = []  # what the step is decided among

    def _propose(self) -> Proposal | None:
        for _ in range(1000):
            if self.queue:
                picks = self.queue.pop(0)
                if picks in self.known:
                    continue
                self.running.add(picks)
                return Proposal(Architecture(self.space.name, picks))
            if self.chosen:
                if self.running:
                    return None
                self._decide()
                continue
            if self.proposed < self.architectures:
                proposal = self.inner.ask()
                if proposal is None:
                    return None
                self.proposed += 1
                picks = (*proposal.arch.picks, *self.plain)
                self.running.add(picks)
                return Proposal(Architecture(self.space.name, picks))
            if self.running:
                return None
            self._choose()
        raise SearchFinished("sequential met nothing new in 1000 steps")

    def _choose(self) -> None:
        """The best networks that were not compressed yet."""
        fresh = {picks: scores for picks, scores in self.networks.items() if picks not in self.compressed}
        self.proposed = 0
        if not self.steps:
            return
        self.chosen = self._handed_on(fresh)
        self._begin()

    def _handed_on(self, fresh: Mapping[Picks, Scores]) -> list[Picks]:
        """The networks that are compressed, the best first."""
        order = _best(fresh)
        if not order:
            most = self.keep if isinstance(self.keep, int) else 1 if self.keep == "best" else self.architectures // 4
            return self._nearest([(*picks, *self.plain) for picks in fresh])[: max(1, most)]
        if self.keep == "front":
            scores = {picks: network_scores for picks, network_scores in fresh.items() if network_scores}
            return [picks for picks in order if not any(dominates(other, scores[picks]) for other in scores.values())]
        if self.keep == "best":
            return sorted(order, key=lambda picks: -(fresh[picks] or (0.0,))[0])[:1]
        return order[: self.keep]

    def _nearest(self, points: Sequence[Picks]) -> list[Picks]:
        """The networks of those that break a limit, the one that is least beyond it first."""
        missed = sorted((self.beyond[picks], picks) for picks in points if picks in self.beyond)
        return [picks[: self.split] for _, picks in missed]

    def _begin(self) -> None:
        """Take up the next network, with no step decided."""
        self.decided, self.step = self.plain, 0
        if self.chosen:
            self.compressed.add(self.chosen[0])
            self._try()

    def _try(self) -> None:
        """Queue all options of the step."""
        recipe = self.recipe
        assert recipe is not None, "there are steps to be decided"
        sizes = recipe.layout.sizes
        points: dict[Picks, None] = {}
        for options in itertools.islice(itertools.product(*(range(sizes[at]) for at in self.steps[self.step])), MOST):
            picks = list(self.decided)
            for at, pick in zip(self.steps[self.step], options, strict=True):
                picks[at] = pick
            point = Architecture(recipe.name, tuple(picks))
            if recipe.is_valid(point):
                points[recipe.canonical(point).picks] = None
        self.queue = [(*self.chosen[0], *picks) for picks in points]
        self.tried = list(self.queue)

    def _decide(self) -> None:
        """All options of the step are known: keep the best, go on with the next step or network."""
        scored = {picks: self.known[picks] for picks in self.tried if self.known.get(picks)}
        best = _best(scored)
        missed = sorted((self.beyond[picks], picks) for picks in self.tried if picks in self.beyond)
        if best:
            self.decided = best[0][self.split :]
        elif missed:
            self.decided = missed[0][1][self.split :]
        self.step += 1
        if self.step < len(self.steps):
            self._try()
            return
        self.chosen = self.chosen[1:]
        self._begin()

    def _observe(self, outcome: Outcome) -> None:
        picks = outcome.proposal.arch.picks
        self.running.discard(picks)
        self.known[picks] = outcome.scores
        if outcome.violation is not None:
            self.beyond[picks] = outcome.violation
        network, recipe = picks[: self.split], picks[self.split :]
        if recipe == self.plain and network not in self.networks:
            self.networks[network] = outcome.scores
            inner = Proposal(Architecture(self.network.name, network))
            self.inner.tell(Outcome(inner, outcome.scores, outcome.violation))

    def _state(self) -> dict[str, Any]:
        return {
            "inner": self.inner.state_dict(),
            "known": [[list(picks), None if scores is None else list(scores)] for picks, scores in self.known.items()],
            "beyond": [[list(picks), beyond] for picks, beyond in self.beyond.items()],
            "networks": [list(picks) for picks in self.networks],
            "asked": self.proposed,
            "running": sorted(map(list, self.running)),
            "chosen": [list(picks) for picks in self.chosen],
            "compressed": sorted(map(list, self.compressed)),
            "decided": list(self.decided),
            "step": self.step,
            "queue": [list(picks) for picks in self.queue],
            "tried": [list(picks) for picks in self.tried],
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])
        self.known = {tuple(picks): None if scores is None else tuple(scores) for picks, scores in state["known"]}
        self.beyond = {tuple(picks): beyond for picks, beyond in state.get("beyond", ())}
        self.networks = {tuple(picks): self.known[(*picks, *self.plain)] for picks in state["networks"]}
        self.proposed, self.step = state["asked"], state["step"]
        self.running = {tuple(picks) for picks in state["running"]}
        self.compressed = {tuple(picks) for picks in state["compressed"]}
        self.decided = tuple(state["decided"])
        self.chosen, self.queue, self.tried = (
            [tuple(picks) for picks in state[key]] for key in ("chosen", "queue", "tried")
        )


def _best(outcomes: Mapping[Picks, Scores]) -> list[Picks]:
    """The picks of the outcomes that did not fail, the best first."""
    entries = [(picks, scores) for picks, scores in outcomes.items() if scores is not None]
    if not entries:
        return []
    ranks = sum(rankdata([-scores[index] for _, scores in entries]) for index in range(len(entries[0][1])))
    return [entries[index][0] for index in np.argsort(ranks, kind="stable")]
