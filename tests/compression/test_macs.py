"""Multiply-adds counted for steps are those that reports show."""

import numpy as np
import pytest
import torch
from torch import nn

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


class Token(nn.Module):
    """Gives a layer a view of a parameter, as vision transformers do with the token of the class."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.token = nn.Parameter(torch.zeros(1, 8))
        self.layer = nn.Linear(8, 10)

    def forward(self, images):
        return self.layer(self.token.expand(len(images), -1)) + self.layer(self.token[:1])


def test_views_of_parameters_are_counted_and_what_is_trained_stays_so() -> None:
    model = Token()
    model.layer.bias.requires_grad_(False)
    assert count_macs(model, torch.zeros(2, 3, 4, 4)) == 2 * 80
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False]
