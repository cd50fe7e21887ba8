"""What is said before a search whose space may be too small, or that maximises a cost."""

import pytest

from nasbench.experiment.doubts import doubts
from search_spaces import get_space

TWO = {"name": "mobile", "widths": [8], "layers": 1, "blocks": ["convolution"], "width_factors": [1.0]}
CELLS = {"name": "nasbench201"}  # 6,466 networks
LARGE = {"name": "mobile"}


@pytest.fixture
def doubts_of(small):
    def ask(space, candidates, controller="regularized_evolution", **changes):
        experiment = small(space=space, search={"candidates": candidates}, controller=controller, **changes)
        return list(doubts(experiment, get_space(experiment.space.name, **experiment.space.options)))

    return ask


@pytest.mark.parametrize("controller", ["random", "regularized_evolution", "nsga2"])
def test_fewer_networks_than_candidates(doubts_of, controller):
    (sentence,) = doubts_of(TWO, 6, controller)
    assert "has 2 different networks, and search.candidates asks for 6: the search ends when all are known" in sentence


def test_so_few_networks_that_a_controller_that_converges_may_end_early(doubts_of):
    (sentence,) = doubts_of(CELLS, 2000)
    assert (
        "has 6,466 different networks" in sentence and "'regularized_evolution' may end the search earlier" in sentence
    )
    assert not doubts_of(CELLS, 2000, "random") and not doubts_of(CELLS, 100) and not doubts_of(LARGE, 2000)


def test_costs_that_are_maximised(doubts_of):
    (sentence,) = doubts_of(LARGE, 20, objectives={"params": "max"}, reward={"name": "scalar"})
    assert "goes for large networks" in sentence


def test_the_command_says_so_before_and_the_report_afterwards(nasbench, write):
    experiment = write(space=TWO, search={"candidates": 6}, controller="random")
    code, out, err = nasbench("search", experiment, "--run", "run", "--json")
    assert code == 0 and err.index("has 2 different networks") < err.index("run folder: run")
    assert "controller random found 2 of 6 candidates, and its last 1,000 proposals were all known already" in out
