"""CP: what the factors are, what the layers compute, and which layers are left alone."""

import copy

import numpy as np
import pytest
import torch
from tensorly.cp_tensor import cp_to_tensor
from tensorly.decomposition import parafac
from torch import nn

from compression import get_step
from compression.decomposition.cp import cp_factors, cp_layers, decompose_convolution
from nasbench_registry import UserError

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": (5, 3), "stride": (1, 2), "padding": (2, 0), "dilation": (1, 2)},
    {"kernel_size": (1, 3), "stride": (2, 1), "padding": (1, 1)},
    {"kernel_size": (4, 3), "padding": "same"},
    {"kernel_size": 3, "padding": "valid"},
]


def low_rank_convolution(rank: int, **geometry) -> nn.Conv2d:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, **geometry)
    factors = [torch.randn(size, rank) for size in layer.weight.shape]
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("or,ir,hr,wr->oihw", *factors))
    return layer


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_weight_of_that_rank_is_reproduced(geometry) -> None:
    layer = low_rank_convolution(2, **geometry)
    small, error = decompose_convolution(layer, 3, seed=0)
    assert error < 1e-3
    images = torch.randn(3, 6, 11, 9)
    with torch.no_grad():
        expected = layer(images)
        torch.testing.assert_close(small(images), expected, rtol=0, atol=5e-3 * expected.abs().max().item())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_layers_compute_the_convolution_with_the_product_of_their_weights(geometry) -> None:
    """Exact for any weights, low rank or not: also at the border, where padding counts."""
    torch.manual_seed(1)
    layer = nn.Conv2d(6, 8, **geometry)
    layers = cp_layers(layer, 5)
    first, *middle, last = (m.weight.detach() for m in layers)
    kernel = torch.ones(5, *layer.kernel_size)
    for weight in middle:
        kernel = kernel * weight[:, 0]
    product = torch.einsum("or,rhw,ri->oihw", last[:, :, 0, 0], kernel, first[:, :, 0, 0])
    same = copy.deepcopy(layer)
    with torch.no_grad():
        same.weight.copy_(product)
        if layer.bias is not None:
            same.bias.copy_(layers[-1].bias)
        images = torch.randn(3, 6, 11, 9)
        torch.testing.assert_close(layers(images), same(images), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Trying to compute SVD")
@pytest.mark.parametrize("rank", [1, 4, 12])
def test_error_is_the_norm_of_the_difference_and_no_worse_than_tensorly(rank) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
    factors, error = cp_factors(weight, rank, seed=0)
    rebuilt = np.einsum("or,ir,hr,wr->oihw", *factors)
    assert error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), rel=1e-9)
    _, errors = parafac(weight, rank, n_iter_max=100, random_state=0, return_errors=True)
    assert error <= float(errors[-1]) * 1.02


def test_error_is_the_one_tensorly_reports_for_the_same_factors() -> None:
    weight = np.random.default_rng(1).standard_normal((5, 4, 3, 3))
    factors, error = cp_factors(weight, 6, seed=3)
    rebuilt = cp_to_tensor((np.ones(6), factors))
    _, errors = parafac(weight, 6, n_iter_max=1, init=(np.ones(6), factors), return_errors=True)
    assert error == pytest.approx(np.linalg.norm(weight - rebuilt) / np.linalg.norm(weight), rel=1e-9)
    assert float(errors[0]) == pytest.approx(error, rel=0.01)


def test_scale_is_spread_evenly() -> None:
    factors, _ = cp_factors(np.random.default_rng(0).standard_normal((8, 6, 3, 3)) * 1e4, 4, seed=0)
    norms = np.stack([np.linalg.norm(factor, axis=0) for factor in factors])
    np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), rtol=1e-9)


def test_more_components_leave_less_error() -> None:
    weight = np.random.default_rng(2).standard_normal((8, 8, 3, 3))
    errors = [cp_factors(weight, rank, seed=0)[1] for rank in (1, 4, 16, 48)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5 > errors[-1]


def test_a_weight_of_zeros_and_one_of_a_single_number() -> None:
    factors, error = cp_factors(np.zeros((4, 3, 3, 3)), 2, seed=0)
    assert error == 0 and all(np.isfinite(factor).all() for factor in factors)
    sparse = np.zeros((4, 3, 3, 3))
    sparse[1, 2, 0, 0] = 5.0
    factors, error = cp_factors(sparse, 2, seed=0)
    np.testing.assert_allclose(np.einsum("or,ir,hr,wr->oihw", *factors), sparse, atol=1e-3)
    assert error < 1e-3


def test_note_is_true(plain, context) -> None:
    small, note = get_step("decompose", ratio=0.5).apply(plain, context)
    assert note["params"] == [sum(p.numel() for p in m.parameters()) for m in (plain, small)]
    assert set(note["layers"]) == {"features.0", "features.3", "features.6"}
    for name, made in note["layers"].items():
        old, new = plain.get_submodule(name), small.get_submodule(name)
        first, rows, columns, last = (m.weight.detach().double() for m in new)
        product = torch.einsum(
            "or,rh,rw,ri->oihw", last[:, :, 0, 0], rows[:, 0, :, 0], columns[:, 0, 0], first[:, :, 0, 0]
        )
        weight = old.weight.detach().double()
        assert made["relative_error"] == pytest.approx(((weight - product).norm() / weight.norm()).item(), abs=1e-5)
        assert made["rank"] == len(first)
        assert sum(m.weight.numel() for m in new) <= 0.5 * old.weight.numel()


def test_what_does_not_pay_is_left_alone(_trained, context) -> None:
    _, note = get_step("decompose").apply(_trained("residual"), context)
    assert set(note["layers"]) == {"stem.0"}
    assert note["left_alone"]["grouped.0"] == "it has 4 groups"
    assert note["left_alone"]["blocks.0.expand.0"] == "its kernel is 1x1"
    with pytest.raises(UserError, match="100 components have"):
        get_step("decompose", rank=100).apply(_trained("residual"), context)


def test_other_padding_and_subclasses_are_left_alone(context) -> None:
    class Special(nn.Conv2d):
        pass

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        Special(16, 16, 3),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    _, note = get_step("decompose").apply(model, context)
    assert set(note["layers"]) == {"0"} and set(note["left_alone"]) == {"1", "2"}


def test_finetuning_recovers_accuracy(plain, context) -> None:
    raw, _ = get_step("decompose", ratio=0.5).apply(plain, context)
    tuned, _ = get_step("decompose", ratio=0.5, epochs=2).apply(plain, context)
    assert context.evaluate(tuned) > context.evaluate(raw)
    assert context.evaluate(tuned) > context.evaluate(plain) - 3
