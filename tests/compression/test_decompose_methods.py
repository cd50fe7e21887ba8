"""What the methods of decomposition compute: exact chains, tensorly's errors, stable factors, cost as counted."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from tensorly.cp_tensor import cp_to_tensor
from tensorly.decomposition import parafac, partial_tucker, tensor_train
from tensorly.tucker_tensor import tucker_to_tensor
from torch import nn

from nasbench_compression.decomposition.cp import cp_factors
from nasbench_compression.decomposition.decompose import METHODS
from nasbench_compression.decomposition.error_preserving import correct, sensitivity
from nasbench_compression.decomposition.links import Call, count_macs, count_weights
from nasbench_compression.decomposition.method import decompose_layer, weight_of
from nasbench_compression.macs import count_macs as count_network

CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": (5, 3), "stride": (1, 2), "padding": (2, 0), "dilation": (1, 2)},
    {"kernel_size": (1, 3), "stride": (2, 1), "padding": (1, 1)},
    {"kernel_size": (4, 3), "padding": "same"},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 1, "stride": 2, "padding": 1},
]
LAYERS = [*CONVOLUTIONS, {}, {"bias": False}]  # the last two are linear
PAIRS = [
    (method, options)
    for method in METHODS
    for options in LAYERS
    if method != "cp" or options.get("kernel_size", 1) != 1
]
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


def make(options) -> tuple[nn.Conv2d | nn.Linear, torch.Tensor]:
    """A layer with random weights, and inputs."""
    torch.manual_seed(0)
    if "kernel_size" not in options:
        return nn.Linear(6, 8, **options), torch.randn(3, 5, 6)
    return nn.Conv2d(6, 8, **options), torch.randn(3, 6, 11, 9)


@pytest.mark.parametrize(("name", "options"), PAIRS, ids=str)
def test_full_ranks_give_the_same_output(name, options) -> None:
    method = METHODS[name]
    layer, inputs = make(options)
    chain, error = decompose_layer(method, layer, method.full_ranks(layer))
    assert error < 2e-6
    with torch.no_grad():
        torch.testing.assert_close(chain(inputs), layer(inputs), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "options"), PAIRS, ids=str)
def test_a_chain_computes_the_product_of_its_factors_and_costs_what_is_counted(name, options) -> None:
    """For any ranks, also at the border, where padding counts."""
    method = METHODS[name]
    layer, inputs = make(options)
    ranks = method.at_step(layer, max(1, method.steps(layer) // 3))
    chain, error = decompose_layer(method, layer, ranks)
    _, product = method.factors(layer, ranks, 0)
    same = copy.deepcopy(layer)
    with torch.no_grad():
        same.weight.copy_(torch.from_numpy(product.reshape(layer.weight.shape)))
        outputs = chain(inputs)
        torch.testing.assert_close(outputs, same(inputs), atol=1e-5, rtol=1e-4)
    weight = weight_of(layer)
    assert error == pytest.approx(np.linalg.norm(weight - weight_of(same)) / np.linalg.norm(weight), abs=1e-6)
    assert 0.01 < error < 1

    call = Call(5, 1, 5, 1) if isinstance(layer, nn.Linear) else Call(*inputs.shape[-2:], *outputs.shape[-2:])
    links = method.links(layer, ranks)
    assert count_weights(layer, links) == sum(small.weight.numel() for small in chain)
    assert count_macs(layer, links, [call]) == count_network(chain, inputs)


@pytest.mark.parametrize(("name", "options"), PAIRS, ids=str)
def test_ranks_rise_with_the_steps_up_to_the_full_ones(name, options) -> None:
    method = METHODS[name]
    layer, _ = make(options)
    ladder = [method.at_step(layer, step) for step in range(1, method.steps(layer) + 1)]
    assert all(method.clip(layer, ranks) == ranks for ranks in ladder)
    assert all(a <= b for low, high in pairwise(ladder) for a, b in zip(low, high, strict=True))
    assert ladder[-1] == method.full_ranks(layer)


def convolution(*shape: int, seed: int = 0) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(shape[1], shape[0], shape[2:])


@pytest.mark.parametrize("ranks", [(1, 1), (4, 3), (9, 2), (12, 5), (7, 6)])
def test_tucker_leaves_the_error_of_tensorly(ranks) -> None:
    layer = convolution(12, 6, 3, 5)
    _, error = decompose_layer(METHODS["tucker"], layer, ranks)
    weight = weight_of(layer)
    (core, factors), _ = partial_tucker(weight, ranks, modes=[0, 1], random_state=0)
    rebuilt = tucker_to_tensor((core, [*factors, np.eye(3), np.eye(5)]))
    assert error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), rel=1e-6)


@pytest.mark.parametrize("ranks", [(1, 1, 1), (3, 8, 4), (6, 10, 12), (6, 12, 7)])
def test_tensor_train_leaves_the_error_of_tensorly(ranks) -> None:
    layer = convolution(12, 6, 3, 5)
    _, error = decompose_layer(METHODS["tt"], layer, ranks)
    weight = weight_of(layer).transpose(1, 2, 3, 0)
    rebuilt = tensor_train(weight, [1, *ranks, 1]).to_tensor()
    assert error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), rel=1e-6)


@pytest.mark.parametrize("layer", [nn.Linear(20, 30), nn.Conv2d(20, 30, 1), nn.Conv2d(7, 9, 3)], ids=str)
def test_svd_leaves_out_the_smallest_singular_values(layer) -> None:
    _, error = decompose_layer(METHODS["svd"], layer, (5,))
    weight = weight_of(layer)
    if weight.shape[-1] == 3:
        weight = np.concatenate([weight[..., row, :].transpose(1, 0, 2).reshape(7, -1) for row in range(3)])
    values = np.linalg.svd(weight.reshape(len(weight), -1), compute_uv=False)
    assert error == pytest.approx(np.sqrt((values[5:] ** 2).sum() / (values**2).sum()), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Trying to compute SVD")
@pytest.mark.parametrize("rank", [1, 4, 12])
def test_cp_leaves_no_more_error_than_tensorly(rank) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
    factors, error = cp_factors(weight, rank, seed=0)
    rebuilt = np.einsum("or,ir,hr,wr->oihw", *factors)
    assert error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), rel=1e-9)
    for init in ("svd", "random"):
        _, errors = parafac(weight, rank, n_iter_max=100, init=init, random_state=0, return_errors=True)
        assert error <= float(errors[-1]) * 1.02


def test_cp_error_is_the_one_tensorly_reports_for_the_same_factors() -> None:
    weight = np.random.default_rng(1).standard_normal((5, 4, 3, 3))
    factors, error = cp_factors(weight, 6, seed=3)
    rebuilt = cp_to_tensor((np.ones(6), factors))
    _, errors = parafac(weight, 6, n_iter_max=1, init=(np.ones(6), factors), return_errors=True)
    assert error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), rel=1e-9)
    assert float(errors[0]) == pytest.approx(error, rel=0.01)


def test_cp_spreads_scale_evenly() -> None:
    factors, _ = cp_factors(np.random.default_rng(0).standard_normal((8, 6, 3, 3)) * 1e4, 4, seed=0)
    norms = np.stack([np.linalg.norm(factor, axis=0) for factor in factors])
    np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), rtol=1e-9)


def test_more_components_leave_less_error() -> None:
    weight = np.random.default_rng(2).standard_normal((8, 8, 3, 3))
    errors = [cp_factors(weight, rank, seed=0)[1] for rank in (1, 4, 16, 48)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5 > errors[-1]


def test_a_weight_of_that_cp_rank_is_reproduced() -> None:
    rng = np.random.default_rng(0)
    weight = np.einsum("or,ir,hr,wr->oihw", *(rng.standard_normal((size, 2)) for size in (8, 6, 5, 3)))
    assert cp_factors(weight, 3, seed=0)[1] < 1e-3


def test_cp_of_a_weight_of_zeros_and_of_one_with_a_single_number() -> None:
    factors, error = cp_factors(np.zeros((4, 3, 3, 3)), 2, seed=0)
    assert error == 0 and all(np.isfinite(factor).all() for factor in factors)
    sparse = np.zeros((4, 3, 3, 3))
    sparse[1, 2, 0, 0] = 5.0
    factors, error = cp_factors(sparse, 2, seed=0)
    np.testing.assert_allclose(np.einsum("or,ir,hr,wr->oihw", *factors), sparse, atol=1e-2)
    assert error < 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_a_weight_of_zeros_stays_one(name) -> None:
    layer = convolution(4, 3, 3, 3)
    with torch.no_grad():
        layer.weight.zero_()
    chain, error = decompose_layer(METHODS[name], layer, METHODS[name].at_step(layer, 2))
    images = torch.randn(2, 3, 5, 5)
    assert error == 0 and torch.equal(chain(images), layer(images))


def test_sensitivity_is_the_change_that_noise_makes() -> None:
    """Monte Carlo: the mean of 4,000 squared changes, whose standard error is below one percent."""
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((size, 3)) for size in (6, 5, 3, 2)]
    whole = cp_to_tensor((None, factors))
    deviation = 1e-4
    changes = [
        np.linalg.norm(cp_to_tensor((None, [f + deviation * rng.standard_normal(f.shape) for f in factors])) - whole)
        ** 2
        for _ in range(4000)
    ]
    assert np.std(changes) / np.sqrt(len(changes)) < 0.01 * np.mean(changes)
    assert sensitivity(factors) * deviation**2 == pytest.approx(np.mean(changes), rel=0.04)


def test_components_that_cancel_each_other_are_corrected_at_the_same_error() -> None:
    """a*a*b + a*b*a + b*a*a has rank three, but is the limit of tensors of rank two with ever larger components."""
    a, b = np.eye(4)[:2]
    weight = sum(np.einsum("i,j,k->ijk", *triple) for triple in ([a, a, b], [a, b, a], [b, a, a]))
    large = 40.0
    sides = np.stack([a + b / large, a], axis=1)
    factors = [sides * np.array([large, -large]), sides, sides]
    error = np.linalg.norm(weight - cp_to_tensor((None, factors))) / np.linalg.norm(weight)
    assert error < 0.05
    bound = error * 1.001
    corrected = correct(weight, factors, bound, sweeps=50)
    assert np.linalg.norm(weight - cp_to_tensor((None, corrected))) <= bound * np.linalg.norm(weight) * 1.001
    assert sensitivity(corrected) < 0.5 * sensitivity(factors)

    looser = correct(weight, factors, 0.2, sweeps=50)
    assert np.linalg.norm(weight - cp_to_tensor((None, looser))) <= 0.2 * np.linalg.norm(weight) * 1.001
    assert sensitivity(looser) < 0.5 * sensitivity(corrected)


@pytest.mark.parametrize("left", [0.0, 1e-30, 1e-80])
def test_a_component_that_vanished_does_not_divide_by_zero(left):
    """Rank three for a weight of rank two: what is left of the third component stays, and the others are corrected."""
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((size, 3)) for size in (6, 5, 3, 3)]
    for factor in factors:
        factor[:, 1] *= left
    weight = cp_to_tensor((None, factors))
    corrected = correct(weight, factors, 1e-6, sweeps=20)
    assert np.linalg.norm(weight - cp_to_tensor((None, corrected))) <= 1e-5 * np.linalg.norm(weight)
    assert sensitivity(corrected) <= sensitivity(factors)
