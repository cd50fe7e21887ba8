"""Statistics of batch norm that are taken anew, or kept."""

import copy
from dataclasses import replace

import pytest
import torch
from awkward import IMAGES, Net, context, outputs

from nasbench_compression import get_step
from nasbench_compression.batch_norm import estimate_statistics, refresh_statistics


def norms_of(network):
    return [network.a_norm, network.b_norm]


def judge(better):
    """A context that says how well a network does: by whether its statistics are those that it had."""
    network = Net().eval()
    kept = network.a_norm.running_mean.clone()
    return network, context(
        evaluate=lambda model: 90.0 if torch.equal(model.a_norm.running_mean, kept) != better else 10.0
    )


def test_they_become_those_of_the_images() -> None:
    network = Net().eval()
    buffers = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms_of(network)]
    estimate_statistics(network, norms_of(network), IMAGES)
    with torch.no_grad():
        maps = network.a(IMAGES)
    torch.testing.assert_close(network.a_norm.running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.a_norm.running_var, maps.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert [(norm.momentum, norm.num_batches_tracked) for norm in norms_of(network)] == buffers
    assert not any(module.training for module in network.modules())
    # Now what the network gives is what it gives in training mode.
    expected = copy.deepcopy(network).train()(IMAGES).detach()
    torch.testing.assert_close(outputs(network), expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


class Summed(torch.nn.Module):
    """Two inputs, whose sum is normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, first, second):
        return self.norm(first + second)


def test_they_are_those_of_several_inputs() -> None:
    network, inputs = Summed().eval(), (torch.randn(100, 4), 3 * torch.randn(100, 4) + 5)
    estimate_statistics(network, [network.norm], inputs)
    torch.testing.assert_close(network.norm.running_mean, (inputs[0] + inputs[1]).mean(0))
    torch.testing.assert_close(network.norm.running_var, (inputs[0] + inputs[1]).var(0))


@pytest.mark.parametrize("better", [True, False])
def test_they_are_kept_only_if_the_network_validates_better(better) -> None:
    network, judged = judge(better)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    note = refresh_statistics(network, judged)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    expected = {f"{norm}.running_{name}" for norm in ("a_norm", "b_norm") for name in ("mean", "var")}
    assert changed == (expected if better else set())
    assert note == {"refreshed": better, "val_acc_pct": [10.0, 90.0] if better else [90.0, 10.0], "images": 32}


def test_one_image_is_too_few_where_a_map_is_one_place() -> None:
    network = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 5)
    ).eval()
    before = copy.deepcopy(network.state_dict())
    note = refresh_statistics(network, context(IMAGES[:1], torch.zeros(1, dtype=torch.long)))
    assert not note["refreshed"] and "Expected more than 1 value per channel" in note["reason"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert refresh_statistics(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)), context()) is None


def test_what_is_made_sparse_has_the_statistics_of_its_own_maps() -> None:
    """Averages of a training that ended before the last weights went are of weights that are gone."""
    network, judged = judge(better=True)
    sparse, note = get_step("sparsify", sparsity=0.9).apply(network, judged)
    assert note["batch_norm"]["refreshed"]
    with torch.no_grad():
        maps = sparse.a(IMAGES)
    torch.testing.assert_close(sparse.a_norm.running_var, maps.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    kept, note = get_step("sparsify", sparsity=0.9).apply(network, replace(judged, evaluate=lambda network: 50.0))
    assert not note["batch_norm"]["refreshed"]
    assert torch.equal(kept.a_norm.running_var, network.a_norm.running_var)
