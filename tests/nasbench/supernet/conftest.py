"""Small trained networks to make elastic."""

import copy

import numpy as np
import pytest

import nasbench as nb
from nasbench.models.build import SpaceBuild
from nasbench.models.model import Model
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model


@pytest.fixture(scope="session")
def digits():
    return nb.image_classification("digits", epochs=1, batch_size=128)


@pytest.fixture(scope="session")
def trained(digits):
    """A small residual network that knows the digits, as a model."""
    space = get_space("resnet")
    picks = [0] * len(space.decisions)
    for position, decision in enumerate(space.decisions):
        if decision.name.startswith("depth"):
            picks[position] = 1
    arch = space.architecture(picks)
    network = fresh_model(space, arch, digits.task, 0)
    digits.fit(network, epochs=3, seed=0)
    return Model(network, digits.task, build=SpaceBuild("resnet", {}, arch), problem=digits)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def _elastic(trained, digits):
    return nb.elastic(trained, digits, resolutions=(6,), calibration_inputs=64)


@pytest.fixture
def elastic(_elastic):
    """The networks inside `trained`, not yet trained together."""
    supernet = copy.deepcopy(_elastic)
    supernet.space.supernet = supernet
    return supernet
