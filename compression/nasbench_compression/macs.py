"""The one count of multiply-adds: of reports and limits, and of the targets of pruning and decomposition.

One multiply-add is one MAC. fvcore counts them, and calls them "flops".
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nasbench_compression.attention import no_fast_path
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.surgery import inference

_ATTENTION = "scaled_dot_product_attention"


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds of one image, as fvcore counts them.

    Attributes:
        by_operator: Multiply-adds of each kind of operator.
        uncounted: Operators that are not known to be free and were not counted, with how often they occur.
    """

    by_operator: Mapping[str, int]
    uncounted: dict[str, int]

    @property
    def total(self) -> int:
        """Multiply-adds of convolutions, linear and recurrent layers, matrix products and attention, as in papers."""
        return int(sum(self.by_operator.values()))

    @property
    def attention(self) -> int:
        """Multiply-adds of the two products of attention, which some papers leave out."""
        return int(self.by_operator.get(_ATTENTION, 0))


def multiply_adds(model: nn.Module, *example_inputs: Tensor) -> MultiplyAdds:
    """Count what an output depends on, of the network as it is deployed: with its branches merged.

    Normalization is left out, as it folds into convolutions and published numbers leave it out, and so are pooling
    and interpolation. Operators that fvcore does not know are in `uncounted`: additions, products of two maps and
    most activations, which multiply nothing that the field counts. It holds ReLU, reshapes and the like to be free.

    Args:
        model: Network; it is not changed. See `reparameterize`.
        example_inputs: Inputs (n, ...) each, on the device of the network; the first example of each is run.
    """
    model = reparameterize(model)
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return _compiled_multiply_adds(model, *example_inputs)
    return _traced_multiply_adds(model, *example_inputs)


def count_macs(model: nn.Module, example_inputs: Tensor) -> int:
    """The `total` of `multiply_adds`."""
    return multiply_adds(model, example_inputs).total


def _compiled_multiply_adds(model: nn.Module, *example_inputs: Tensor) -> MultiplyAdds:
    """`multiply_adds` by PyTorch's own counter, for a network with parts in TorchScript, which hide what they run.

    It counts convolutions and products as they run, also those whose result is thrown away.
    """
    counter = FlopCounterMode(display=False)
    with inference(model), no_fast_path(), sdpa_kernel(SDPBackend.MATH), counter:
        model(*(tensor[:1] for tensor in example_inputs))
    counted = counter.get_flop_counts()["Global"]
    return MultiplyAdds({str(operator): flops // 2 for operator, flops in counted.items()}, {})


def _traced_multiply_adds(model: nn.Module, *example_inputs: Tensor) -> MultiplyAdds:
    """`multiply_adds` by fvcore's counts of operators, in one trace of the whole network.

    fvcore's own analysis counts by modules as well, with two hooks on each of them, which takes longer than the trace.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing fvcore warns about torch.jit
        from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    jit: Any = torch.jit  # which does not say that it has what fvcore calls of it
    network, inputs = _Tensors(model), tuple(tensor[:1] for tensor in example_inputs)
    analysis = FlopCountAnalysis(network, inputs).set_op_handle(**_HANDLERS)
    with inference(network), no_fast_path(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, _ = jit._get_trace_graph(network, inputs)
    counts, uncounted = Counter[str](), Counter[str]()
    for node in graph.nodes():
        kind = node.kind() + (f".{node.pyname()}" if node.kind() == "prim::PythonOp" else "")
        if kind in analysis._op_handles:
            count = analysis._op_handles[kind](list(node.inputs()), list(node.outputs()))
            counts += count if isinstance(count, Counter) else Counter({kind.partition("::")[2]: count})
        elif not analysis._should_ignore_node(node):
            uncounted[kind] += 1
    return MultiplyAdds(counts, dict(uncounted))


class _Tensors(nn.Module):
    """The tensors that a network gives, whatever it gives them in: fvcore traces no other outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        return tuple(leaf for leaf in tree_leaves(self.network(*inputs)) if isinstance(leaf, Tensor))


def _free(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Queries (..., t, d), keys (..., s, d) and values (..., s, e): the products are (t, d, s) and (t, s, e)."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    return int(math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1]))


def _convolution_by_name(inputs: list[Any], outputs: list[Any]) -> int:
    """A convolution whose padding is "same" or "valid": each output is a product with one filter."""
    return int(math.prod(outputs[0].type().sizes()) * math.prod(inputs[1].type().sizes()[1:]))


def _batched(inputs: list[Any], outputs: list[Any]) -> int:
    """A product of two stacks of matrices, (b, n, m) and (b, m, p), that is added to another one."""
    return int(math.prod(inputs[1].type().sizes()) * inputs[2].type().sizes()[-1])


def _bilinear(inputs: list[Any], outputs: list[Any]) -> int:
    """Each output is a product of two vectors with a matrix between them."""
    return int(math.prod(outputs[0].type().sizes()) * math.prod(inputs[2].type().sizes()[1:]))


def _recurrent(inputs: list[Any], outputs: list[Any]) -> int:
    """Each weight matrix of each layer and direction, among the lists that the operator takes, at each position."""
    lists = [value.node() for value in inputs if value.node().kind() == "prim::ListConstruct"]
    tensors = [value.type() for node in lists for value in node.inputs() if value.type().kind() == "TensorType"]
    weights = sum(math.prod(kind.sizes()) for kind in tensors if len(kind.sizes()) == 2)
    return int(math.prod(inputs[0].type().sizes()[:-1]) * weights)


# fvcore counts the first group as elementwise work; an operator that has a handler cannot be ignored there otherwise.
_HANDLERS = {
    **dict.fromkeys(("aten::batch_norm", "aten::layer_norm", "aten::group_norm", "aten::instance_norm"), _free),
    **dict.fromkeys(("aten::adaptive_avg_pool2d", "aten::grid_sampler"), _free),
    **dict.fromkeys(("aten::upsample_nearest2d", "aten::upsample_bilinear2d"), _free),
    f"aten::{_ATTENTION}": _attention,
    "aten::_convolution_mode": _convolution_by_name,
    "aten::baddbmm": _batched,
    "aten::bilinear": _bilinear,
    **dict.fromkeys(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"), _recurrent),
}
