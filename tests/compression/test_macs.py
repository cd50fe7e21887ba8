"""Multiply-adds counted for steps are those that reports show."""

import numpy as np
import pytest
import torch

from nasbench.costs.cost import counts
from nasbench_compression.macs import count_macs
from search_spaces import Task, get_space, spaces


@pytest.mark.parametrize("name", ["mobile", "nasbench201", "vit", "resnet", "mobilenet_ofa"])
def test_agrees_with_the_count_of_reports(name) -> None:
    assert name in spaces.names()
    space, task = get_space(name), Task((3, 32, 32), 10)
    for seed in (4, 5):  # cells of nasbench201 that have no convolution without a way to the output
        network = space.build(space.sample(np.random.default_rng(seed)), task)
        found = count_macs(network, torch.zeros(2, *task.input_shape))
        assert found == counts(network, task).macs > 0
