"""Rules for ranks: energy, VBMF, and limits on the multiply-adds, parameters and latency of a whole network."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from nasbench_compression import Context, get_step
from nasbench_compression.decomposition.decomposable import find_decomposable
from nasbench_compression.decomposition.decompose import METHODS
from nasbench_compression.decomposition.method import decompose_layer
from nasbench_compression.decomposition.vbmf import _threshold, vbmf
from nasbench_compression.macs import count_macs
from nasbench_compression.step import count_parameters
from nasbench_registry import UserError
from search_spaces import Task, get_space


def noisy(rows: int, columns: int, rank: int, noise: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    return low + noise * rng.standard_normal((rows, columns))


@pytest.mark.parametrize(
    ("rows", "columns", "rank", "noise"),
    [(64, 144, 5, 1.0), (200, 60, 12, 0.5), (100, 100, 20, 0.3), (32, 288, 1, 2.0)],
)
def test_vbmf_finds_rank_and_noise(rows, columns, rank, noise) -> None:
    """Signals are far above the noise; there the free energy has its minimum in closed form.

    With rank H, a component that is kept adds a log x + constant, so that the variance is the sum of the squares that
    are left, over L M - H (L + M). It is an estimate of the true one, within five per cent but for a bias of H^2.
    """
    for seed in range(3):
        matrix = noisy(rows, columns, rank, noise, seed)
        estimate = vbmf(matrix)
        assert estimate.rank == rank
        left = (np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum()
        size = rows * columns - rank * (rows + columns)
        assert estimate.noise_variance == pytest.approx(left / size, rel=0.01)
        assert estimate.noise_variance == pytest.approx(noise**2 * (1 + rank**2 / size), rel=0.05)
        turned = vbmf(1e-3 * matrix.T)
        assert turned.rank == rank
        assert turned.noise_variance == pytest.approx(1e-6 * estimate.noise_variance, rel=1e-4)


def test_vbmf_finds_nothing_in_noise_and_everything_without() -> None:
    for seed in range(5):
        assert vbmf(noisy(50, 80, 0, 1.0, seed)).rank == 0
    assert vbmf(noisy(50, 80, 7, 0.0, 0)).rank == 7
    assert vbmf(np.zeros((5, 9))).rank == 0
    assert vbmf(np.ones((1, 9))).rank == 1


def test_vbmf_threshold_is_that_of_the_papers() -> None:
    """For a square matrix t = 2.5129; it is never below what noise alone reaches, (1 + sqrt(a))^2."""
    assert _threshold(1.0) == pytest.approx((1 + 2.5129) * (1 + 1 / 2.5129), abs=1e-4)
    for share in (0.01, 0.1, 0.5, 0.9):
        assert _threshold(share) > (1 + share**0.5) ** 2


def planted(noise: float) -> nn.Sequential:
    """A convolution of Tucker ranks (4, 3) and a linear layer of rank 2, and noise of this size beside them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.Flatten(), nn.Linear(24 * 16, 40))
    core = torch.randn(4, 3, 3, 3)
    with torch.no_grad():
        model[0].weight.copy_(torch.einsum("abhw,oa,ib->oihw", core, torch.randn(24, 4), torch.randn(16, 3)))
        model[2].weight.copy_(torch.randn(40, 2) @ torch.randn(2, 24 * 16))
        for layer in (model[0], model[2]):
            layer.weight.add_(noise * layer.weight.std() * torch.randn_like(layer.weight))
    return model.eval()


@pytest.fixture
def planted_context(context) -> Context:
    images = torch.randn(4, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(context, example_inputs=images, calibration=images, labels=None)


@pytest.mark.parametrize(
    ("method", "ranks"),
    [("tucker", {"0": [4, 3], "2": 2}), ("svd", {"0": 9, "2": 2}), ("tt", {"0": [3, 9, 4], "2": 2})],
)
def test_vbmf_rule_finds_the_ranks_that_were_planted(planted_context, method, ranks) -> None:
    _, note = get_step("decompose", method=method, rank_rule="vbmf").apply(planted(0.1), planted_context)
    assert {name: entry["rank"] for name, entry in note["layers"].items()} == ranks


def test_vbmf_leaves_noise_alone(planted_context) -> None:
    with pytest.raises(UserError, match="nothing but noise"):
        get_step("decompose", method="svd", rank_rule="vbmf").apply(planted(100.0), planted_context)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("energy", [0.5, 0.7])
def test_energy_is_kept_by_the_smallest_ranks(context, method, energy) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.Flatten(), nn.Linear(192, 10))
    _, note = get_step("decompose", method=method, energy=energy).apply(model, context)
    candidates, _ = find_decomposable(model, METHODS[method], (), context.example_inputs, context.seed)
    layers = {candidate.name: candidate for candidate in candidates}
    assert "2" in note["layers"]
    for name, entry in note["layers"].items():
        assert 1 - entry["relative_error"] ** 2 >= energy
        if isinstance(entry["rank"], int) and entry["rank"] > 1:
            less = (entry["rank"] - 1,)
            _, error = decompose_layer(METHODS[method], layers[name].layer, less, layers[name].seed)
            assert 1 - error**2 < energy


NETWORKS = {
    "resnet": ({"blocks": ["basic"], "depths": [1], "widths": [[8], [8], [16]]}, 0.5),
    "vit": ({"embeddings": [24], "depths": [2], "heads": [2], "head_width": 8}, 0.5),
    "mobile": ({"layers": 3}, 0.8),
}


def build(space: str) -> tuple[nn.Module, torch.Tensor]:
    options, _ = NETWORKS[space]
    search_space, task = get_space(space, **options), Task((3, 16, 16), 10)
    torch.manual_seed(0)
    network = search_space.build(search_space.sample(np.random.default_rng(4)), task).eval()
    return network, torch.randn(2, *task.input_shape)


def bench(context: Context, images: torch.Tensor, latency_ms=None) -> Context:
    return dataclasses.replace(context, example_inputs=images, calibration=images, labels=None, latency_ms=latency_ms)


@pytest.mark.parametrize(
    ("space", "method"),
    # CP replaces no more than the stem of the other two.
    [("resnet", "cp"), *((space, method) for space in NETWORKS for method in ("tucker", "tt", "svd"))],
)
def test_methods_meet_the_same_limits(context, space, method) -> None:
    network, images = build(space)
    ratio = NETWORKS[space][1]
    small, note = get_step("decompose", method=method, macs_ratio=ratio).apply(network, bench(context, images))
    before, after = note["macs"]
    assert (before, after) == (count_macs(network, images), count_macs(small, images))
    assert 0.9 * ratio * before < after <= ratio * before

    whole = count_parameters(network)
    small, note = get_step("decompose", method=method, max_params=int(0.7 * whole)).apply(
        network, bench(context, images)
    )
    assert note["params"] == [whole, count_parameters(small)]
    assert 0.63 * whole < count_parameters(small) <= 0.7 * whole
    with torch.no_grad():
        assert small(images).shape == (2, 10)


def test_a_share_of_the_multiply_adds_is_a_number_of_them(plain, context) -> None:
    _, note = get_step("decompose", method="tucker", macs_ratio=0.4).apply(plain, context)
    limit = int(0.4 * note["macs"][0])
    assert get_step("decompose", method="tucker", max_macs=limit).apply(plain, context)[1] == note


def test_the_smallest_layers_of_a_limit_are_left_alone(plain, context) -> None:
    """The classifier has 240 of the 262,000 multiply-adds, but with the hidden layer a tenth of the weights."""
    _, note = get_step("decompose", method="svd", macs_ratio=0.3).apply(plain, context)
    assert "the smallest layers have less than a hundredth" in note["left_alone"]["classifier"]
    _, note = get_step("decompose", method="svd", max_params=8000).apply(plain, context)
    assert {"classifier", "features.0"} & set(note["left_alone"]) and "hidden" in note["layers"]


def test_a_limit_out_of_reach_is_refused_and_one_that_holds_changes_nothing(plain, context) -> None:
    with pytest.raises(UserError, match="macs_ratio is 0.01, a limit of .* from .* to no less than"):
        get_step("decompose", macs_ratio=0.01).apply(plain, context)
    same, note = get_step("decompose", max_params=10**6, epochs=3).apply(plain, context)
    assert note["params"][0] == note["params"][1] and not note["layers"]
    assert "within the limit" in note["left_alone"]["features.0"]
    with torch.no_grad():
        assert torch.equal(same(context.calibration), plain(context.calibration))


class PricedLayers:
    """A latency without noise: so much for each multiply-add, and so much for each layer that is called."""

    def __init__(self, images: torch.Tensor, per_layer_ms: float) -> None:
        self.images, self.per_layer_ms, self.calls = images, per_layer_ms, 0

    def __call__(self, model: nn.Module) -> float:
        self.calls += 1
        layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules())
        return count_macs(model, self.images) / 1e6 + self.per_layer_ms * layers


class Uneven(nn.Sequential):
    """One convolution that is most of the work, and six that are little beside the price of a layer."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 48, 3, padding=1),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.Conv2d(48, 4, 3, stride=4),
            *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 10),
        )


@pytest.mark.parametrize(("method", "limit"), [("tucker", 0.7), ("svd", 0.7), ("tt", 0.7), ("svd", 0.42)])
def test_latency_limit_replaces_only_what_makes_the_network_faster(context, method, limit) -> None:
    torch.manual_seed(0)
    model, images = Uneven().eval(), torch.randn(2, 3, 16, 16)
    price = PricedLayers(images, per_layer_ms=0.1)
    before = price(model)
    price.calls = 0
    small, note = get_step("decompose", method=method, max_latency_ms=limit * before).apply(
        model, bench(context, images, price)
    )
    assert note["measured"] == {"latency_ms": [before, price(small)], "measurements": price.calls - 1}
    assert price(small) <= limit * before
    assert price.calls < 45
    assert "1" in note["layers"]
    for name, entry in note["layers"].items():
        alone = get_step("decompose").restore(model, {"method": method, "layers": {name: entry}})
        assert price(alone) < before
    assert note["left_alone"]["3"] == note["left_alone"]["6"] == "the network gets no faster by it and its like"
    assert price(small) > (limit - 0.15) * before  # no more than the limit asks for


def test_latency_limit_out_of_reach_holding_or_not_measurable(context) -> None:
    model, images = Uneven().eval(), torch.randn(2, 3, 16, 16)
    price = PricedLayers(images, per_layer_ms=0.1)
    with pytest.raises(UserError, match="brings this network from .* ms to no less than"):
        get_step("decompose", max_latency_ms=0.1).apply(model, bench(context, images, price))
    _, note = get_step("decompose", max_latency_ms=100).apply(model, bench(context, images, price))
    assert not note["layers"] and note["measured"]["measurements"] == 1
    with pytest.raises(UserError, match="give latency_ms"):
        get_step("decompose", max_latency_ms=1).apply(model, bench(context, images))
