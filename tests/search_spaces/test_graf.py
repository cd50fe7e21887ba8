"""Graph features of cells, by hand and for the cell spaces."""

import numpy as np
import pytest

from search_spaces import get_space
from search_spaces.graf import graf_features
from search_spaces.paths import BROKEN, SKIP, PathGraphs


def test_the_cell_of_the_docstring():
    edges = np.full((1, 3, 3), BROKEN)
    edges[0, 0, 1], edges[0, 1, 2], edges[0, 0, 2] = 0, SKIP, SKIP
    features = graf_features(PathGraphs(edges, (0,), (2,), operations=1, longest=2)).reshape(3, 5)
    skip, conv, both = features.tolist()
    assert conv == [1, 3, 1, 1, 0], (
        "one edge, no path (as long as there are nodes), one on a path, out of 0, none into 2"
    )
    assert skip == [2, 1, 1, 1, 2]
    assert both == [3, 1, 2, 2, 2]


def test_an_operation_that_leads_nowhere_is_on_no_path():
    edges = np.full((1, 3, 3), BROKEN)
    edges[0, 0, 1] = 0
    features = graf_features(PathGraphs(edges, (0,), (2,), operations=1, longest=2)).reshape(3, 5)
    assert features[1].tolist() == [1, 3, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "columns"), [("nasbench201", 75), ("nasbench101", 75), ("darts", 1270), ("resnet", 0)]
)
def test_spaces_with_cells_have_them(name, columns):
    space = get_space(name)
    archs = [space.sample(np.random.default_rng(seed)) for seed in range(5)]
    features = space.graf_features(archs)
    assert features.shape == (5, columns) and np.isfinite(features).all()
    if columns:
        assert len(np.unique(features, axis=0)) == 5
        assert np.array_equal(features[2:3], space.graf_features(archs[2:3])), "by cell, whatever the others are"


def test_all_convolutions():
    space = get_space("nasbench201")
    (features,) = space.graf_features([space.architecture([3] * 6)])
    by_set = features.reshape(15, 5)
    assert by_set[2].tolist() == [6, 1, 3, 3, 3], (
        "the 3x3 convolutions alone: sets of size one are skip, 1x1, 3x3, pool"
    )
    assert by_set[-1].tolist() == [6, 1, 3, 3, 3]
    assert by_set[0].tolist() == [0, 4, 0, 0, 0]
