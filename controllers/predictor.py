"""A cheap predictor of scores: an ensemble of small networks of which only the last layer is trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class RandomFeatureEnsemble:
    """Linear regressions on random ReLU features (extreme learning machines, Huang, Zhu & Siew 2006).

    A member multiplies the inputs, and a one, by a random matrix, sets what is negative to zero, and fits a ridge
    regression to the result in closed form. Each sees every example as often as a Poisson variable of mean one says
    (the online bootstrap of Oza & Russell 2001), so that members disagree where examples are few.

    Args:
        inputs: Number of columns.
        rng: Random generator of the matrices and of the bootstrap.
        members: Number of members.
        hidden: Random features of a member.
        ridge: Penalty on the squared weights.
    """

    def __init__(
        self, inputs: int, rng: np.random.Generator, *, members: int = 8, hidden: int = 96, ridge: float = 0.3
    ) -> None:
        self.matrices: Array = rng.standard_normal((members, inputs + 1, hidden)) * np.sqrt(2 / hidden)
        self.bootstrap = int(rng.integers(2**31))
        self.ridge = ridge
        self.weights: npt.NDArray[np.floating] = np.zeros((members, hidden + 1))

    def fit(self, examples: Array, targets: Array) -> None:
        """Train all members anew on examples (n, inputs) and their targets (n,)."""
        hidden = self._hidden(examples)
        members, _, width = hidden.shape
        counts = np.random.default_rng(self.bootstrap).poisson(1.0, (len(targets), members)).T
        weighted = (hidden * counts[:, :, None]).transpose(0, 2, 1)
        normal = weighted @ hidden + self.ridge * np.eye(width)
        self.weights = np.linalg.solve(normal, (weighted @ targets)[:, :, None])[:, :, 0]

    def predict(self, examples: Array) -> Array:
        """(members, n) predictions of each member for examples (n, inputs)."""
        predictions: Array = (self._hidden(examples) @ self.weights[:, :, None])[:, :, 0]
        return predictions

    def _hidden(self, examples: Array) -> Array:
        """(members, n, hidden + 1) features; the last is one."""
        ones = np.ones((len(examples), 1))
        features = np.maximum(np.hstack([examples, ones]) @ self.matrices, 0)
        return np.concatenate([features, np.broadcast_to(ones, (len(features), *ones.shape))], axis=2)
