"""Spaces of edges: the network of an architecture is that part of the mixed one, and derivation follows its rule."""

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.supernet.differentiable.mixed import MixedOperation, Mixture, mixed_network
from search_spaces import Architecture, Decision, EdgeSpace, MixedEdge, NoValidArchitecture, Task, get_space
from search_spaces.darts import CELLS, NODES, OPERATIONS

TASK = Task((3, 8, 8), 4)


class Pair(EdgeSpace):
    name = "pair"
    decisions = (Decision("first", ("skip", "conv", "none")), Decision("second", ("skip", "conv")))

    def assemble(self, task, edge):
        def operation(option):
            return nn.Identity() if option == "skip" else nn.Conv2d(4, 4, 3, padding=1)

        stem = nn.Conv2d(task.input_shape[0], 4, 3, padding=1)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, task.classes))
        return nn.Sequential(stem, edge("first", operation), edge("second", operation), head)


class Picky(Pair):
    def is_valid(self, arch):
        return super().is_valid(arch) and sum(arch.picks) % 2 == 0


class Empty(Pair):
    def is_valid(self, arch):
        return False


SPACES = {
    "pair": Pair(),
    "nasbench201": get_space("nasbench201", channels=4, cells=1),
    "darts": get_space("darts", channels=4, layers=3),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_what_has_an_architectures_operations_is_derived_as_it(space):
    rng = np.random.default_rng(0)
    for arch in (space.sample(rng) for _ in range(50)):
        chosen = space.operations_of(arch)
        certain = {edge.name: np.eye(len(edge.operations))[chosen[edge.name]] for edge in space.edges()}
        assert space.derive(certain) == arch


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_an_architecture_in_the_mixed_network_computes_what_its_own_network_does(space):
    """With the same weights, taken over by place: operations are named alike in both but for their index."""
    rng = np.random.default_rng(1)
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mixture = Mixture()
    mixed = mixed_network(space, TASK, mixture, 0)
    for arch in (space.sample(rng) for _ in range(4)):
        chosen = space.operations_of(arch)
        mixture.fix(chosen)
        alone = space.build(arch, TASK).train()
        parts = {name: part for name, part in mixed.named_modules() if isinstance(part, MixedOperation)}
        weights = {}
        for name, value in mixed.state_dict().items():
            place = next((prefix for prefix in parts if name.startswith(prefix + ".")), None)
            if place is None:
                weights[name] = value
                continue
            index, _, rest = name.removeprefix(place + ".operations.").partition(".")
            if int(index) == chosen[parts[place].name]:
                weights[own_name(space, arch, place, rest)] = value
        missing = alone.load_state_dict(weights, strict=False)
        assert not missing.unexpected_keys
        assert {name.rpartition(".")[2] for name in missing.missing_keys} <= {
            "running_mean",
            "running_var",
            "num_batches_tracked",
            "weight",  # of batch norms, which are one and zero when they are new
            "bias",
        }
        if space.name == "darts" and any("pool" in pair[0] for cell in space.genotype(arch).values() for pair in cell):
            continue  # pooling is normalized in the search, as in the paper
        torch.testing.assert_close(mixed(images), alone(images), rtol=1e-4, atol=1e-4)


def own_name(space, arch, place, rest):
    """What a weight of an operation is called in the network of an architecture."""
    if space.name != "darts":
        return f"{place}.{rest}"
    cell, _, edge = place.partition(".edges.")
    node, source = map(int, edge.split("_"))
    kind = "reduce" if int(cell.removeprefix("cell")) in (1, 2) else "normal"
    pairs = space.genotype(arch)[kind]
    slot = next(i for i, pair in enumerate(pairs) if NODES[i // 2] == node and pair[1] == source)
    return f"{cell}.operations.{slot}.{rest}"


def test_darts_keeps_the_two_strongest_edges_of_each_node_and_never_none():
    space = SPACES["darts"]
    strengths = {edge.name: np.full(8, 0.01) for edge in space.edges()}
    for cell in CELLS:
        for node in NODES:
            for source in range(node):
                row = strengths[f"{cell}.{node}<-{source}"]
                row[0] = 0.9  # "none" is strongest everywhere, and counts nowhere
                row[1 + (node + source) % 7] = 0.1 + 0.01 * source  # later inputs are stronger
    for pairs in space.genotype(space.derive(strengths)).values():
        expected = [(OPERATIONS[(n + s) % 7], s) for n in NODES for s in (n - 2, n - 1)]
        assert pairs == expected


def test_the_best_valid_architecture_is_derived():
    strengths = {"first": np.array([0.5, 0.4, 0.1]), "second": np.array([0.3, 0.7])}
    assert Pair().derive(strengths).picks == (0, 1)
    assert Picky().derive(strengths).picks == (1, 1)  # 0.4 * 0.7 is above 0.5 * 0.3
    with pytest.raises(NoValidArchitecture, match="is valid"):
        Empty().derive(strengths)


def test_edges_are_the_decisions_unless_a_space_says_otherwise():
    assert Pair().edges()[1] == MixedEdge("second", ("skip", "conv"))
    assert len(SPACES["darts"].edges()) == 28
    assert Pair().operations_of(Architecture("pair", (2, 0))) == {"first": 2, "second": 0}
