"""The options of NAS-Bench-201: which edge a mutation changes, and whether equal cells are one network."""

from collections import Counter

import numpy as np
import pytest

from nasbench_registry import UserError
from search_spaces import check_space, get_space

EDGES = {"edge": [1 / 6] * 6, "node": [1 / 3, 1 / 6, 1 / 6, 1 / 9, 1 / 9, 1 / 9]}


@pytest.mark.parametrize("mutation", EDGES)
def test_edges_and_operations_have_their_probabilities(mutation):
    space, rng, draws = get_space("nasbench201", mutation=mutation), np.random.default_rng(0), 18_000
    parent = space.architecture([0, 1, 2, 3, 4, 0])
    edges, operations = Counter(), Counter()
    for _ in range(draws):
        child = space.mutate(parent, rng)
        (edge,) = [at for at in range(6) if child.picks[at] != parent.picks[at]]
        edges[edge] += 1
        operations[edge, child.picks[edge]] += 1
    for edge, share in enumerate(EDGES[mutation]):
        # five standard deviations of a binomial count
        assert abs(edges[edge] - draws * share) < 5 * np.sqrt(draws * share * (1 - share))
        others = [operations[edge, pick] for pick in range(5) if pick != parent.picks[edge]]
        assert min(others) > 0
        assert max(abs(count - edges[edge] / 4) for count in others) < 5 * np.sqrt(edges[edge] * 3 / 16)


def test_the_option_keeps_the_contract_and_refuses_other_words():
    assert check_space(get_space("nasbench201", mutation="node", cells=1, channels=4)) == []
    with pytest.raises(UserError, match="Did you mean 'node'"):
        get_space("nasbench201", mutation="nodes")


def test_cells_that_compute_the_same_can_be_different_networks():
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    merged, written = get_space("nasbench201"), get_space("nasbench201", merge_equal=False)
    arch = merged.parse(cell)
    assert merged.canonical(arch) != arch and written.canonical(arch) == arch
    assert check_space(get_space("nasbench201", merge_equal=False, cells=1, channels=4)) == []
    with pytest.raises(UserError, match="merge_equal='no'.*true or false"):
        get_space("nasbench201", merge_equal="no")
