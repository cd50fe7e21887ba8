"""Zero-cost proxies against their definitions."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.evaluators.proxies import PROXIES, naswot, proxy, synflow
from nasbench_registry import UserError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def test_naswot_is_the_determinant_of_agreeing_patterns():
    model, images = network(), torch.randn(4, 1, 2, 2)
    on = (model[1](images.flatten(1)) > 0).numpy()
    kernel = np.array([[(a == b).sum() for b in on] for a in on], dtype=float)
    assert naswot(model, images) == pytest.approx(np.linalg.slogdet(kernel + 1e-6 * np.eye(4))[1])
    twins = images[:1].repeat(4, 1, 1, 1)
    assert naswot(model, twins) < naswot(model, images), "images that cannot be told apart"
    assert naswot(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), images) == 0.0


def test_synflow_of_a_chain_is_its_flow_once_a_layer():
    """With a bias of zero, the sum of w dR/dw over each layer is R itself."""
    model = network()
    for layer in (model[1], model[3]):
        nn.init.zeros_(layer.bias)
    flow = (model[3].weight.abs() @ model[1].weight.abs() @ torch.ones(4)).sum().item()
    assert synflow(model, torch.randn(2, 1, 2, 2)) == pytest.approx(np.log(2 * flow), rel=1e-5)


@pytest.mark.parametrize("name", sorted(PROXIES))
def test_a_proxy_leaves_the_network_as_it_was(name):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).train()
    before = copy.deepcopy(model.state_dict())
    images = torch.randn(8, 1, 8, 8)
    assert proxy(name, model, images) == proxy(name, model, images)
    assert model.training and all(each.grad is None for each in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_an_unknown_proxy_is_refused():
    with pytest.raises(UserError, match="naswot"):
        proxy("naswt", network(), torch.randn(1, 1, 2, 2))
