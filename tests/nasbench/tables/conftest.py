"""A table that needs no data, and the real one."""

import numpy as np
import pytest

from nasbench.tables import Column, Table, load_table
from search_spaces import Decision, SearchSpace


class Grid(SearchSpace):
    """Two decisions, so that everything can be worked out by hand."""

    name = "grid"
    decisions = (Decision("a", (0, 1, 2)), Decision("b", (0, 1)))

    def build(self, arch, task):
        raise AssertionError("a table needs no network")


@pytest.fixture
def grid():
    return Grid()


@pytest.fixture
def small(grid):
    """Rows in an order of their own: (2, 1), (2, 0), (1, 1), ...; the score of a row is 10 * a + b."""
    picks = np.array([[a, b] for a in (2, 1, 0) for b in (1, 0)])
    scores = (10 * picks[:, 0] + picks[:, 1]).astype(float)
    return Table(
        "small",
        grid,
        picks,
        accuracy_pct={Column("images", "val", 12): scores, Column("images", "test", 200): scores + 50},
        train_s_per_epoch={"images": np.arange(1.0, 7.0)},
        params=np.arange(6),
        source="made up",
    )


@pytest.fixture
def table(data_file):
    """NAS-Bench-201, from the data folder."""
    data_file("nasbench201/nasbench201.csv.gz")
    return load_table("nasbench201")
