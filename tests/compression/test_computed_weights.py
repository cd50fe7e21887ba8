"""Pruning and sparsity of weights that are computed, in subclasses, or kept where copying does not follow."""

import pytest
import torch
from awkward import IMAGES, Net, context
from test_hooks_and_subclasses import NETWORKS
from torch import nn
from torch.nn.utils import parametrizations, prune as masks, spectral_norm, weight_norm

from nasbench_compression import get_step
from nasbench_registry import UserError


def masked(layer: nn.Module) -> nn.Module:
    return masks.l1_unstructured(layer, "weight", amount=0.5)


COMPUTED = {
    "WeightNorm": weight_norm,
    "SpectralNorm": spectral_norm,
    "L1Unstructured": masked,
    "the parametrization WeightNorm": parametrizations.weight_norm,
    "the parametrization SpectralNorm": parametrizations.spectral_norm,
    "the parametrization Orthogonal": parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("rule", COMPUTED)
def test_layers_with_computed_weights_are_left_whole_by_name(rule) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.ReLU(), COMPUTED[rule](nn.Conv2d(16, 16, 3)), nn.ReLU(), nn.Conv2d(16, 8, 3)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )
    network(IMAGES).sum().backward()  # after a step of training, the weight is no leaf
    pruned, note = get_step("prune", ratio=0.5).apply(network.eval(), context())
    reason = f"its weight is computed from other parameters (by {rule})"
    assert note["left_out"]["2"] == reason and "0" in note["left_out"]
    assert pruned[4].out_channels == pruned[7].in_features == 4 and pruned[0].out_channels == 16
    _, note = get_step("sparsify", sparsity=0.5).apply(network, context())
    assert note["left_alone"] == {"2": reason} and set(note["layers"]) == {"0", "4", "7"}


class Standardized(nn.Conv2d):
    """Weight standardization (Qiao et al. 2019, arXiv:1903.10520): no zero of the weight is one of the convolution."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


class Reads(Net):
    """Looks at its layers while it runs."""

    def forward(self, images):
        images = images.to(self.a.weight.dtype).to(self.b.weight.device)
        maps = self.features(images).mean((2, 3))[:, : self.head.in_features]
        return self.head(maps) / self.head.weight.norm(dim=1)


class Remembers(Net):
    def forward(self, images):
        self.last = self.features(images)
        return self.head(self.last.mean((2, 3)))


def test_weights_that_are_used_otherwise() -> None:
    class Other(Net):
        convolution = Standardized

    torch.manual_seed(0)
    pruned, note = get_step("prune", ratio=0.5).apply(Other().eval(), context())
    assert note["left_out"] == {"a": "the operation mean is taken over them"}  # by the convolution that reads them
    assert pruned.b.out_channels == 8 and pruned.a.out_channels == 12
    _, note = get_step("sparsify", sparsity=0.5).apply(Other().eval(), context())
    assert set(note["layers"]) == {"head"}
    assert "computes another weight from it, in which zeros may not be zero" in note["left_alone"]["a"]


def test_networks_that_read_their_layers_or_remember_maps() -> None:
    for kind in (Reads, Remembers):
        torch.manual_seed(0)
        network = kind()
        network(IMAGES).sum().backward()
        pruned, note = get_step("prune", ratio=0.5).apply(network.eval(), context())
        assert pruned.a.out_channels == 6
        # The sum of squares of a row of the last layer is all of its inputs together.
        assert set(note["left_out"]) == ({"b"} if kind is Reads else set())
        sparse, note = get_step("sparsify", sparsity=0.5, importance="snip").apply(network, context())
        assert note["density"] == pytest.approx(0.5, abs=0.01) and "reason" not in note["measured"]
        assert sparse(IMAGES).isfinite().all()


@pytest.mark.parametrize("kind", NETWORKS)
def test_hooks_and_methods_of_instances_go_with_the_copy(kind) -> None:
    torch.manual_seed(0)
    network = NETWORKS[kind][0]().eval()
    for name, options in (("prune", {"ratio": 0.2}), ("sparsify", {"sparsity": 0.1})):
        try:
            compressed, _ = get_step(name, **options).apply(network, context())
        except UserError as error:
            assert len(str(error)) > 40
            continue
        with torch.no_grad():
            assert compressed.eval()(IMAGES).isfinite().all()
            before = network(IMAGES)
            for parameter in compressed.parameters():
                parameter.zero_()
            assert torch.equal(network(IMAGES), before)  # nothing of the original is in what was made


def test_labels_that_are_no_classes_and_maps_changed_in_place_are_a_sentence() -> None:
    class InPlace(Net):
        def forward(self, images):
            maps = self.a_norm(self.a(images)).sigmoid()
            maps.mul_(2)
            return self.head(self.b(maps).mean((2, 3)))

    wrong = context(labels=torch.full((32,), 7))
    for name, options in (
        ("prune", {"ratio": 0.5, "importance": "obd"}),
        ("sparsify", {"sparsity": 0.5, "importance": "snip"}),
    ):
        with pytest.raises(UserError, match="Target 7 is out of bounds.*choose one that reads weights only"):
            get_step(name, **options).apply(Net().eval(), wrong)
        with pytest.raises(UserError, match="modified by an inplace operation.*choose one that reads weights only"):
            get_step(name, **options).apply(InPlace().eval(), context())
