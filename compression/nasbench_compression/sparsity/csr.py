"""Layers that multiply a matrix stored as compressed sparse rows, to be measured beside the dense ones.

A weight (outputs, inputs, h, w) is a matrix (outputs, inputs * h * w); a convolution multiplies it with the patches of
its input as columns (im2col), which have to be copied first. For a 3x3 kernel, 16 -> 32 channels, on 8x8:

    (n, 16, 8, 8) -> patches (144, n * 64) -> CSR (32, 144) times patches -> (32, n * 64) -> (n, 32, 8, 8)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.copying import copy_network, summary
from nasbench_compression.sparsity.weights import Weight
from nasbench_compression.surgery import StandIn, inference, replace_module, why_not_plain
from nasbench_compression.timing import compare_two, cuda_seconds, wall_seconds

_BUDGET_S = 0.06  # of a layer; the network gets four times that
_BUDGET_OF_LAYERS_S = 2.0


def to_csr(weight: Tensor, groups: int = 1) -> Tensor:
    """The weight as a sparse matrix with 32-bit indices.

    Args:
        weight: Weight, (outputs, inputs of a group, ...).
        groups: Number of groups of a convolution; a group's rows have entries only where its inputs are.

    Returns:
        (outputs, inputs * ...) in layout `torch.sparse_csr`.
    """
    rows = weight.detach().flatten(1)
    if groups > 1:
        outputs, group_inputs = rows.shape
        blocks = rows.new_zeros(groups, outputs // groups, groups, group_inputs)
        for group, block in enumerate(rows.view(groups, -1, group_inputs)):
            blocks[group, :, group] = block
        rows = blocks.view(outputs, groups * group_inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layout is in beta state
        matrix = rows.to_sparse_csr()
        return torch.sparse_csr_tensor(
            matrix.crow_indices().int(), matrix.col_indices().int(), matrix.values(), matrix.shape
        )


def stored_bytes(matrix: Tensor) -> int:
    """Bytes of the values and indices of a CSR matrix."""
    parts = (matrix.crow_indices(), matrix.col_indices(), matrix.values())
    return sum(part.numel() * part.element_size() for part in parts)


class _Sparse(StandIn):
    """A layer with a sparse matrix; what else is read of the layer stays as it was.

    Args:
        layer: Layer whose weights are copied.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, groups: int = 1) -> None:
        super().__init__(layer)
        self.matrix = to_csr(layer.weight, groups)
        self._dense = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()

    @property
    def weight(self) -> Tensor:
        """The dense weight, as it was."""
        return self._dense


class CsrLinear(_Sparse):
    """A linear layer with a sparse matrix; (..., in_features) to (..., out_features).

    Args:
        layer: Layer whose weights are copied.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs as of `torch.nn.Linear`."""
        outputs = torch.mm(self.matrix, inputs.reshape(-1, inputs.shape[-1]).t()).t()
        if self.bias is not None:
            outputs = outputs + self.bias
        return outputs.reshape(*inputs.shape[:-1], -1)


class CsrConv2d(_Sparse):
    """A convolution with a sparse matrix; (n, in_channels, h, w) to (n, out_channels, h', w').

    Args:
        layer: Convolution whose weights are copied, with a padding of zeros.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer, layer.groups)
        self.kernel, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        self.before, self.after = _padding(layer)
        self.pointwise = layer.kernel_size == layer.stride == (1, 1) and self.before == self.after == (0, 0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs as of `torch.nn.Conv2d`."""
        (top, left), (bottom, right) = self.before, self.after
        padding: tuple[int, int] = self.before
        if self.before != self.after:
            inputs, padding = functional.pad(inputs, (left, right, top, bottom)), (0, 0)
        sizes = [
            (size + 2 * pad - step * (kernel - 1) - 1) // stride + 1
            for size, pad, step, kernel, stride in zip(
                inputs.shape[2:], padding, self.dilation, self.kernel, self.stride, strict=True
            )
        ]
        if self.pointwise:
            patches = inputs.flatten(2)
        else:
            patches = functional.unfold(inputs, self.kernel, self.dilation, padding, self.stride)
        count = len(inputs)
        columns = patches[0] if count == 1 else patches.transpose(0, 1).flatten(1)
        outputs = torch.mm(self.matrix, columns)
        if self.bias is not None:
            outputs = outputs + self.bias[:, None]
        if count == 1:
            return outputs.view(1, -1, *sizes)
        return outputs.view(len(outputs), count, *sizes).transpose(0, 1)


def with_csr_layers(model: nn.Module, weights: Mapping[str, Weight]) -> tuple[nn.Module, dict[str, nn.Module]]:
    """A network that computes the same with sparse matrices, as far as its layers are plain ones.

    Args:
        model: Network; it is not changed, and layers that are not replaced are shared with it.
        weights: Weights of the layers to be replaced.

    Returns:
        The network, and the new layers by the names that `weights` has for them.
    """
    csr_layers: dict[str, nn.Module] = {}
    sparse_network = copy_network(model)
    places = {module: name for name, module in model.named_modules()}
    for name, weight in weights.items():
        layer = sparse_network.get_submodule(places[weight.module])
        if why_not_plain(layer) is not None:
            continue
        if isinstance(layer, nn.Linear):
            csr_layers[name] = CsrLinear(layer)
        elif isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
            csr_layers[name] = CsrConv2d(layer)
        else:
            continue
        sparse_network = replace_module(sparse_network, layer, csr_layers[name].train(layer.training))
    return sparse_network, csr_layers


def compare_kernels(model: nn.Module, weights: Mapping[str, Weight], inputs: Tensor) -> dict[str, Any]:
    """Time the layers, and the whole network, with dense and with sparse matrices, in turn.

    Args:
        model: Network with the sparse weights; it is not changed.
        weights: Weights that are sparse.
        inputs: Images (n, c, h, w) on the device of the network.

    Returns:
        JSON: `kernel`, `threads`, `batch`; `network` and, for each layer in `layers`, `dense_ms`, `csr_ms` and
        `speedup` = dense / csr, which are medians, and the 95 % interval of the speed-up, `speedup_low` and
        `speedup_high`, as `ratio_of` gives it. The sparse kernel is slower where it is below 1. Only a `reason` in
        place of times, where this build of PyTorch has no such kernel.
    """
    sparse, layers = with_csr_layers(model, weights)
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, Any], None]:
        def keep(module: nn.Module, args: Any) -> None:
            if args and isinstance(args[0], Tensor):
                seen.setdefault(name, args[0].detach())

        return keep

    handles = [weights[name].module.register_forward_pre_hook(watch(name)) for name in layers]
    note: dict[str, Any] = {"kernel": "csr", "threads": torch.get_num_threads(), "batch": len(inputs)}
    try:
        with inference(model), inference(sparse):
            model(inputs)
            for handle in handles:
                handle.remove()
            ran = {name: (weights[name].module, layers[name], inputs) for name, inputs in seen.items()}
            layer_budget_s = min(_BUDGET_S, _BUDGET_OF_LAYERS_S / max(len(ran), 1))
            timed = {name: _compare(*pair, layer_budget_s) for name, pair in ran.items()}
            return note | {"network": _compare(model, sparse, inputs, 4 * _BUDGET_S), "layers": timed}
    except Exception as error:  # MKL is missing, say, or the user's network does not bear other layers
        return note | {"reason": summary(error)[:300]}
    finally:
        for handle in handles:
            handle.remove()


def _compare(dense: nn.Module, sparse: nn.Module, inputs: Tensor, budget_s: float) -> dict[str, float]:
    """Medians, and their ratio with its interval."""
    timer = cuda_seconds if inputs.is_cuda else wall_seconds
    speedup, dense_s, csr_s = compare_two(lambda: dense(inputs), lambda: sparse(inputs), budget_s=budget_s, timer=timer)
    return {
        "dense_ms": 1000 * dense_s,
        "csr_ms": 1000 * csr_s,
        "speedup": speedup.ratio,
        "speedup_low": speedup.low,
        "speedup_high": speedup.high,
    }


def _padding(layer: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and after, each (rows, columns)."""
    if isinstance(layer.padding, tuple):
        return (layer.padding[0], layer.padding[1]), (layer.padding[0], layer.padding[1])
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    total = [step * (kernel - 1) for step, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
    before = (total[0] // 2, total[1] // 2)
    return before, (total[0] - before[0], total[1] - before[1])
