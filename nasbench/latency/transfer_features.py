"""The features of a transfer predictor: decisions of architectures, counts of options, and products.

An architecture of three decisions with the options a and b has

    decisions  1=a 1=b  2=a 2=b  3=a 3=b      one column each, 0 or 1
    counts     a b                            how often each is chosen, in whatever place
    products   of the few combinations of these columns in which devices differ most

Columns are centred and scaled by what was measured, and each group is turned into its principal components, so that
columns that always add up to the same number cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from search_spaces import Architecture, SearchSpace

Floats = npt.NDArray[np.float64]

DIRECTIONS = 4  # whose products are features
COMPONENTS = 256  # at most, of a group
SMALLEST_DEVIATION = 0.1  # a column that hardly ever changes is not blown up by more than its inverse


class Features:
    """(n, p) features of architectures, in groups.

    Args:
        space: Search space of the architectures.
        archs: Architectures that are measured, at least one.
    """

    def __init__(self, space: SearchSpace, archs: Sequence[Architecture]) -> None:
        self.space = space
        projections, middles, groups = [], [], []
        for number, columns in enumerate(self._columns(archs)):
            middle, projection = _components(columns)
            middles.append(middle @ projection)
            projections.append(projection)
            groups += [number] * projection.shape[1]
        self._projections, self._middles = projections, middles
        self.groups: npt.NDArray[np.int64] = np.array(groups, dtype=np.int64)
        self._directions: Floats | None = None
        self._product_middle = self._product_unit = np.zeros(0)

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """(n, p) features, products last."""
        linear = np.hstack(
            [
                columns @ projection - middle
                for columns, projection, middle in zip(
                    self._columns(archs), self._projections, self._middles, strict=True
                )
            ]
        )
        if self._directions is None:
            return linear
        products = (_products(linear @ self._directions) - self._product_middle) / self._product_unit
        return np.hstack([linear, products])

    def add_products(self, linear: Floats, importance: Floats) -> None:
        """Make a last group of features: products of the directions that matter most.

        Args:
            linear: (n, q) features without products of the measured architectures.
            importance: (q, q) second moments of the weights that devices give to them.
        """
        values, vectors = np.linalg.eigh(importance)
        root = vectors * np.sqrt(np.maximum(values, 0))
        _, strength, directions = np.linalg.svd(linear @ root, full_matrices=False)
        significant = strength > 1e-6 * max(strength.max(initial=0.0), 1e-12)
        chosen = (
            root @ directions[significant][:DIRECTIONS].T * (np.sqrt(len(linear)) / strength[significant][:DIRECTIONS])
        )
        products = _products(linear @ chosen)
        self._directions, self._product_middle = chosen, products.mean(axis=0)
        self._product_unit = np.full(products.shape[1], np.sqrt(max(1, products.shape[1])))
        self.groups = np.append(self.groups, np.full(products.shape[1], self.groups.max(initial=-1) + 1))

    def _columns(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        return self.space.one_hot(archs), self.space.option_counts(archs)


def _components(columns: Floats) -> tuple[Floats, Floats]:
    """Middle (d,) and projection (d, q) to the principal components, whose variances add up to about one."""
    middle, deviation = columns.mean(axis=0), columns.std(axis=0)
    changes = deviation > 1e-9
    unit = np.where(changes, np.maximum(deviation, SMALLEST_DEVIATION) * np.sqrt(max(1, changes.sum())), np.inf)
    _, strength, directions = np.linalg.svd((columns - middle) / unit, full_matrices=False)
    principal = directions[strength > 1e-9 * max(strength.max(initial=0.0), 1e-12)][:COMPONENTS]
    return middle, (principal / unit).T


def _products(columns: Floats) -> Floats:
    """(n, pairs) products of every two columns, and of each with itself, with one weight in a random quadratic form."""
    pairs = combinations_with_replacement(range(columns.shape[1]), 2)
    products = [columns[:, a] * columns[:, b] * (1.0 if a == b else np.sqrt(2)) for a, b in pairs]
    return np.stack(products, axis=1) if products else np.zeros((len(columns), 0))
