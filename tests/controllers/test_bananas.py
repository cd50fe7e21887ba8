"""BANANAS: the ensemble against networks of torch, and what it proposes."""

import numpy as np
import torch
from torch import nn

from controllers import Outcome, get_controller
from controllers.bananas import LAYERS, MARGIN, WIDTH, _layer, _outputs, distances, trained_ensemble
from search_spaces import get_space


def test_distances_by_hand():
    assert distances(np.array([3.0, 1.0, 2.0])).tolist() == [MARGIN, 1 + MARGIN, 0.5 + MARGIN]
    assert distances(np.array([2.0, 2.0])).tolist() == [MARGIN, MARGIN]


def test_networks_that_are_computed_at_once_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    layers = [_layer(3, before, after, generator) for before, after in ((4, WIDTH), (WIDTH, WIDTH), (WIDTH, 1))]
    inputs = torch.randn(3, 7, 4, generator=generator)
    outputs = _outputs(layers, inputs)
    for member in range(3):
        modules = []
        for weight, bias in layers:
            linear = nn.Linear(weight.shape[1], weight.shape[2])
            assert weight[member].abs().max() <= 1 / weight.shape[1] ** 0.5
            linear.load_state_dict({"weight": weight[member].T, "bias": bias[member, 0]})
            modules += [linear, nn.ReLU()]
        torch.testing.assert_close(outputs[member], nn.Sequential(*modules[:-1])(inputs[member])[:, 0])
    assert LAYERS == 10 and WIDTH == 20, "as in the paper"


def test_an_ensemble_learns_and_its_networks_differ():
    rng = np.random.default_rng(0)
    inputs = rng.integers(2, size=(80, 12)).astype(float)
    values = 0.5 + inputs @ rng.uniform(size=12)
    known, new = slice(0, 60), slice(60, 80)
    state = torch.random.get_rng_state()
    predictions = trained_ensemble(inputs[known], values[known], inputs[new], members=5, epochs=150, seed=0)
    assert predictions.shape == (5, 20) and (predictions.std(axis=0) > 0).all()
    assert np.corrcoef(predictions.mean(axis=0), values[new])[0, 1] > 0.8
    again = trained_ensemble(inputs[known], values[known], inputs[new], members=5, epochs=150, seed=0)
    assert (again == predictions).all() and torch.equal(torch.random.get_rng_state(), state)


def test_proposals_after_the_first_ones_are_new_mutations_of_the_best():
    space = get_space("nasbench201")
    controller = get_controller("bananas", space, seed=0, initial=6, batch=3, parents=1, epochs=5)
    archs = []
    for number in range(12):
        proposal = controller.ask()
        archs.append(space.canonical(proposal.arch))
        controller.tell(Outcome(proposal, (10.0,) if number == 2 else (float(-number),)))
    assert len(set(archs)) == 12
    best = archs[2].picks
    mutations = {space.canonical(space.mutate(archs[2], np.random.default_rng(seed))).picks for seed in range(2000)}
    assert all(arch.picks in mutations and arch.picks != best for arch in archs[6:])
