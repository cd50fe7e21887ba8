"""BANANAS: an ensemble of neural networks over the paths of a cell (White et al. 2021, arXiv 1910.11858)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from controllers.candidates import Features, OneScoreController
from controllers.core import Proposal
from controllers.gaussian_process import Array
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

LAYERS, WIDTH, RATE, BATCH = 10, 20, 0.01, 32
MARGIN = 0.01  # share of the range of the scores that the best one seen falls short of the bound by


class Bananas(OneScoreController):
    """Mutate the best, and evaluate what an ensemble of neural networks promises, by independent Thompson sampling.

    After `initial` random architectures, an ensemble is trained on all outcomes. `candidates` mutations of the
    `parents` best are ranked by one draw each from a normal distribution with the mean and the deviation of the
    ensemble, and the `batch` best of them are proposed one after the other before the next ensemble is trained.

    - Features: whether a path of operations leads from the input of a cell to its output, where the space has cells;
      elsewhere the decisions as one-hot columns.
    - Ensemble: `members` networks of 10 layers of 20 units, trained by Adam at 0.01 for `epochs` epochs.
    - Loss: the mean of abs(predicted - true) / true, where both are how far a score lies below a bound.

    Deviations from the paper: the bound of the loss, which it takes from what is known of the task, lies one hundredth
    of the range of the scores above the best one; nothing is proposed again; a failed candidate is as bad as the worst
    of the others.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        initial: Number of architectures drawn uniformly before the first ensemble.
        batch: Number of proposals of an ensemble.
        candidates: Number of mutations that are ranked.
        parents: Number of the best architectures that are mutated.
        members: Number of networks of the ensemble.
        epochs: Number of epochs that each network is trained for.
        features: Further features of architectures, in Python only; see `CandidateController`.
    """

    name = "bananas"
    summary = "Thompson sampling with an ensemble of neural networks over paths"
    source = "White et al. 2021, arXiv 1910.11858"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        initial: int = 10,
        batch: int = 10,
        candidates: int = 100,
        parents: int = 10,
        members: int = 5,
        epochs: int = 150,
        features: Features | None = None,
    ) -> None:
        super().__init__(space, seed=seed, features=features)
        if min(initial, batch, candidates, parents, epochs) < 1 or members < 2:
            raise UserError(
                f"initial={initial}, batch={batch}, candidates={candidates}, parents={parents} and epochs={epochs} "
                f"must be 1 or more, and members={members} 2 or more."
            )
        self.initial, self.batch, self.candidates, self.parents = initial, batch, candidates, parents
        self.members, self.epochs = members, epochs
        self.queue: list[Architecture] = []  # what the last ensemble promised and is not proposed yet

    def _propose(self) -> Proposal:
        if not self.queue and len(self.outcomes) + len(self.running) >= self.initial:
            self.queue = self._promising()
        arch = self.queue.pop(0) if self.queue else self._draw()
        self.running.append(arch)
        self._remember(arch)
        return Proposal(arch)

    def _promising(self) -> list[Architecture]:
        """The candidates of the next `batch` proposals, the best first; none without two scores or new mutations."""
        done = sorted((outcome for outcome in self.outcomes if outcome[1] > -math.inf), key=lambda outcome: -outcome[1])
        parents = [arch for arch, _ in done[: self.parents]]
        children = [
            child for child in dict.fromkeys(self._mutations(parents, self.candidates)) if child not in self.known
        ]
        if len(done) < 2 or not children:
            return []
        worst = done[-1][1]
        scores = np.array([max(score, worst) for _, score in self.outcomes])
        predictions = trained_ensemble(
            self._inputs([arch for arch, _ in self.outcomes]),
            distances(scores),
            self._inputs(children),
            members=self.members,
            epochs=self.epochs,
            seed=int(self.rng.integers(2**31)),
        )
        drawn = self.rng.normal(predictions.mean(axis=0), predictions.std(axis=0))
        return [children[place] for place in np.argsort(drawn, kind="stable")[: self.batch].tolist()]

    def _inputs(self, archs: Sequence[Architecture]) -> Array:
        """(n, k) the columns of the ensemble."""
        paths = self.space.graph_features(archs)
        own = (paths > 0).astype(np.float64) if paths.shape[1] else self.space.one_hot(archs)
        return own if self.features is None else np.hstack([own, self._feature_groups(archs)[-1]])

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"queue": [list(arch.picks) for arch in self.queue]}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        super()._load_state(state)
        self.queue = [self.space.architecture(picks) for picks in state["queue"]]


def distances(scores: Array) -> Array:
    """How far scores lie below a bound, as shares of their range: above 0, where the best one has `MARGIN`."""
    spread = float(scores.max() - scores.min())
    below: Array = (scores.max() - scores) / (spread if spread > 0 else 1.0) + MARGIN
    return below


def trained_ensemble(known: Array, targets: Array, candidates: Array, *, members: int, epochs: int, seed: int) -> Array:
    """Predictions of neural networks that were trained on what is known, all of them at once.

    Args:
        known: (n, k) inputs.
        targets: (n,) values above 0.
        candidates: (m, k) inputs whose values are predicted.
        members: Number of networks, each with weights and batches of its own.
        epochs: Number of epochs of each.
        seed: Random seed of first weights and batches.

    Returns:
        (members, m) predictions.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.tensor(known, dtype=torch.float32)
    values = torch.tensor(targets, dtype=torch.float32)
    sizes = [inputs.shape[1], *[WIDTH] * LAYERS, 1]
    layers = [_layer(members, before, after, generator) for before, after in itertools.pairwise(sizes)]
    optimizer = torch.optim.Adam([tensor for layer in layers for tensor in layer], lr=RATE)
    with torch.enable_grad():
        for _ in range(epochs):
            orders = torch.stack([torch.randperm(len(inputs), generator=generator) for _ in range(members)])
            for rows in torch.split(orders, BATCH, dim=1):
                loss = ((_outputs(layers, inputs[rows]) - values[rows]) / values[rows]).abs().mean(1).sum()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    with torch.no_grad():
        asked = torch.tensor(candidates, dtype=torch.float32).expand(members, -1, -1)
        predictions: Array = _outputs(layers, asked).double().numpy()
    return predictions


def _layer(members: int, before: int, after: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights (members, before, after) and biases (members, 1, after) of a layer, as torch begins with them."""
    bound = 1 / math.sqrt(before)
    shapes = (members, before, after), (members, 1, after)
    weight, bias = ((2 * torch.rand(shape, generator=generator) - 1) * bound for shape in shapes)
    return weight.requires_grad_(True), bias.requires_grad_(True)


def _outputs(layers: Sequence[tuple[Tensor, Tensor]], inputs: Tensor) -> Tensor:
    """(members, n) outputs of all networks, of inputs (members, n, k)."""
    values = inputs
    for weight, bias in layers[:-1]:
        values = torch.relu(torch.baddbmm(bias, values, weight))
    weight, bias = layers[-1]
    return torch.baddbmm(bias, values, weight)[:, :, 0]
