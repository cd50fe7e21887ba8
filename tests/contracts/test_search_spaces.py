"""The contract that every search space keeps; a new one in SPACES is tested by being there."""

import inspect

import numpy as np
import pytest
import torch

from nasbench.deploy.network_checks import NETWORK_CHECKS
from nasbench_registry import UserError
from search_spaces import SPACES, Architecture, Task, check_space, get_space

SMALL = {
    "darts": {"channels": 4, "layers": 3},
    "fbnet": {"width": 0.25, "head": 64},
    "micro": {"widths": (8, 12), "stages": 2},
    "mobilenet_ofa": {"width": 0.25},
    "nasbench101": {"channels": 8, "modules": 1},
    "nasbench201": {"channels": 8, "cells": 1},
    "resnet": {"depths": (1, 2, 3), "widths": ((8, 12), (8, 16), (16, 24))},
    "vit": {"embeddings": (16, 24), "depths": (1, 2, 3), "heads": (1, 2), "mlp_ratios": (2, 3.5), "head_width": 8},
}
every = pytest.mark.parametrize("name", SPACES)


@every
@pytest.mark.parametrize("task", [Task((1, 8, 8), 10), Task((3, 33, 47), 5)], ids=["digits", "odd"])
def test_check_space_finds_nothing(name, task):
    assert check_space(get_space(name, **SMALL.get(name, {})), task=task, networks=NETWORK_CHECKS) == []


@every
def test_neighbors_are_all_architectures_one_decision_away(name):
    space = get_space(name)
    arch = space.sample(np.random.default_rng(0))
    neighbors, matters = list(space.neighbors(arch)), space.choices(arch)
    changed = {
        Architecture(name, (*arch.picks[:at], pick, *arch.picks[at + 1 :]))
        for at, decision in enumerate(space.decisions)
        for pick in range(len(decision.options))
        if decision.name in matters and pick != arch.picks[at]
    }
    assert set(neighbors) == {candidate for candidate in changed if space.is_valid(candidate)}
    assert len(neighbors) == len(set(neighbors)) > 0


@every
def test_mutation_reaches_every_neighbor(name):
    space, rng = get_space(name), np.random.default_rng(0)
    arch = space.sample(rng)
    assert {space.mutate(arch, rng) for _ in range(5000)} == set(space.neighbors(arch))


@every
def test_networks_depend_on_the_torch_seed_only(name):
    space = get_space(name, **SMALL.get(name, {}))
    arch, task, images = space.sample(np.random.default_rng(0)), Task((1, 8, 8), 10), torch.randn(2, 1, 8, 8)
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(space.build(arch, task).eval()(images))
    assert torch.equal(*outputs)


@every
def test_it_keeps_its_options_in_attributes_by_which_it_is_made_again(name):
    space = get_space(name, **SMALL.get(name, {}))
    options = [option for option in inspect.signature(type(space)).parameters if option != "network"]  # of DARTS: sizes
    again = get_space(name, **{option: getattr(space, option) for option in options})
    assert again.decisions == space.decisions


@every
def test_wrong_architectures_are_refused_in_one_sentence(name):
    space = get_space(name)
    with pytest.raises(UserError, match="are not an architecture"):
        space.architecture([99] * len(space.decisions))
    with pytest.raises(UserError, match="belongs to space 'other'"):
        space.build(Architecture("other", (0,)), Task((1, 8, 8), 10))
    with pytest.raises(UserError):
        space.parse("nonsense")


def test_unknown_space_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'mobile'"):
        get_space("mobil")
    with pytest.raises(UserError, match="Did you mean 'layers'"):
        get_space("mobile", layer=3)
