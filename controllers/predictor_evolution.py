"""Predictor-guided evolution (NPENAS, Wei et al. 2020, arXiv 2003.12857; BRP-NAS, Dudziak et al. 2020, 2007.08668)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from controllers.candidates import Features, OneScoreController
from controllers.core import Proposal
from controllers.predictor import Array, RandomFeatureEnsemble
from controllers.ranks import normal_scores
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace


class PredictorEvolution(OneScoreController):
    """Breed many children of the best, and evaluate the one that a predictor likes most.

    Every proposal takes a new generation: `children` mutations and crossovers of the `parents` best architectures,
    without those that are known. An ensemble, trained on the ranks of all outcomes, ranks them; the child with the
    highest mean of the members plus `optimism` times their standard deviation is proposed. A failed candidate ranks
    below all that did not fail, and is no parent.

    Deviations from the papers: the predictor is an ensemble of random-feature networks on `space.encode`, trained in
    closed form in milliseconds, not a graph network; one child is proposed at a time, so that nobody waits for a
    generation, and the predictor learns from each outcome; NPENAS has no crossover; BRP-NAS has a predictor of pairs
    and ranks samples of the whole space.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        initial: Number of architectures drawn uniformly before the first generation.
        parents: Number of the best architectures that have children.
        children: Number of candidates of a proposal.
        optimism: Weight of the disagreement between the members, 0 or more.
        examples: Largest number of outcomes that the predictor learns from: the best half of so many, and the newest.
        features: Function that gives (n, k) further numbers of n architectures, such as zero-cost proxies; the same for
            the same architecture. The predictor sees its columns standardized, beside `space.encode`. In Python only.
    """

    name = "predictor_evolution"
    summary = "evolution whose children a predictor screens"
    source = "Wei et al. 2020, arXiv 2003.12857; Dudziak et al. 2020, arXiv 2007.08668"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        initial: int = 10,
        parents: int = 10,
        children: int = 100,
        optimism: float = 0.5,
        examples: int = 500,
        features: Features | None = None,
    ) -> None:
        super().__init__(space, seed=seed, features=features)
        if min(initial, parents, children) < 1 or optimism < 0 or examples < 2:
            raise UserError(
                f"initial={initial}, parents={parents} and children={children} must be 1 or more, optimism={optimism} "
                f"0 or more, and examples={examples} 2 or more."
            )
        self.initial, self.parents, self.children = initial, parents, children
        self.optimism, self.examples = optimism, examples
        self.predictor_seed = int(self.rng.integers(2**31))

    def _propose(self) -> Proposal:
        arch = self._screen() if len(self.outcomes) + len(self.running) >= self.initial else self._draw()
        self.running.append(arch)
        self._remember(arch)
        return Proposal(arch)

    def _remember(self, arch: Architecture) -> None:
        if arch not in self.known:
            self.known[arch] = self._encode([arch])[0]

    def _screen(self) -> Architecture:
        scores = np.array([score for _, score in self.outcomes])
        ranked = np.argsort(-scores, kind="stable")
        parents = [self.outcomes[index][0] for index in ranked[: self.parents].tolist() if scores[index] > -math.inf]
        children = self._children(parents)
        if not children:
            return self._draw()
        best = ranked[: self.examples // 2]
        chosen = np.union1d(best, np.arange(max(0, len(scores) - (self.examples - len(best))), len(scores)))
        examples = np.stack([self.known[self.outcomes[index][0]] for index in chosen.tolist()])
        middle, width = self._scale(examples)
        self._predictor.fit((examples - middle) / width, normal_scores(scores[chosen]))
        predictions = self._predictor.predict((self._encode(children) - middle) / width)
        return children[int(np.argmax(predictions.mean(axis=0) + self.optimism * predictions.std(axis=0)))]

    def _encode(self, archs: Sequence[Architecture]) -> Array:
        encoded = self.space.encode(archs)
        return encoded if self.features is None else np.hstack([encoded, self.features(archs)])

    def _scale(self, examples: Array) -> tuple[Array, Array]:
        """What is subtracted from columns, and what they are divided by: nothing and one for those of the space."""
        own = len(examples[0]) if self.features is None else self.space.encode([self.outcomes[0][0]]).shape[1]
        middle, width = np.zeros(examples.shape[1]), np.ones(examples.shape[1])
        middle[own:] = examples[:, own:].mean(axis=0)
        spread = examples[:, own:].std(axis=0)
        width[own:] = np.where(spread > 0, spread, 1.0)
        return middle, width

    def _children(self, parents: list[Architecture]) -> list[Architecture]:
        """New architectures, each once: half of them mutations, half mutated crossovers of two parents."""
        children: dict[Architecture, None] = {}
        for count in range(self.children if parents else 0):
            child = parents[int(self.rng.integers(len(parents)))]
            if count % 2:
                child = self.space.crossover(child, parents[int(self.rng.integers(len(parents)))], self.rng)
            child = self.space.canonical(self.space.mutate(child, self.rng))
            if child not in self.known:
                children[child] = None
        return list(children)

    @cached_property
    def _predictor(self) -> RandomFeatureEnsemble:
        return RandomFeatureEnsemble(len(self.known[self.outcomes[0][0]]), np.random.default_rng(self.predictor_seed))

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"predictor_seed": self.predictor_seed}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        super()._load_state(state)
        self.predictor_seed = int(state["predictor_seed"])
        self.__dict__.pop("_predictor", None)
