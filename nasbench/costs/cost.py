"""What a network costs on paper: multiply-adds, operations, parameters, bytes, memory.

One multiply-add is one MAC and two FLOPs. fvcore calls MACs "flops"; the names here say what is counted.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from nasbench.costs.memory import attention_in_parts, traffic
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import count_bytes, device_of
from nasbench_compression.surgery import inference
from search_spaces import Task

FLOPS_PER_MAC = 2
_ATTENTION = "scaled_dot_product_attention"


@dataclass(frozen=True)
class Counts:
    """What is counted of one image, of the network as it is deployed: with its branches merged, see `reparameterize`.

    Attributes:
        macs: multiply-adds of convolutions, linear layers, matrix products and attention, as papers count them.
        attention_macs: those of `macs` in the two products of attention, which some papers leave out.
        params: parameters.
        size_bytes: bytes of parameters and buffers.
        uncounted: operators that are not known to be free and were not counted, with how often they occur.
    """

    macs: int
    attention_macs: int
    params: int
    size_bytes: int
    uncounted: dict[str, int]

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add is two of them, a multiplication and an addition."""
        return FLOPS_PER_MAC * self.macs


@dataclass(frozen=True)
class Cost(Counts):
    """What is counted, and what a run of the network shows.

    Attributes:
        peak_activation_bytes: the most bytes of activations that live at a time, see `peak_activation_bytes`.
        bytes_moved: what operators read and write if they run one by one, see `traffic`.
    """

    peak_activation_bytes: int
    bytes_moved: int

    @property
    def flops_per_byte(self) -> float:
        """Arithmetic intensity, the x axis of a roofline (Williams et al. 2009); 0 where nothing is moved."""
        return self.flops / self.bytes_moved if self.bytes_moved else 0.0

    def to_json(self) -> dict[str, Any]:
        """Every number by name, those that follow from others included."""
        return asdict(self) | {"flops": self.flops, "flops_per_byte": self.flops_per_byte}


def cost(model: nn.Module, task: Task) -> Cost:
    """Everything that is known of a network without training or timing it; the network is left as it was.

    It is what `counts` gives, and bytes and memory of a network that runs once on an empty image.
    """
    deployed = reparameterize(model)
    moved = traffic(deployed, task)
    return Cost(
        **vars(counts(deployed, task)),
        peak_activation_bytes=moved.peak_activation_bytes,
        bytes_moved=moved.bytes_moved,
    )


def counts(model: nn.Module, task: Task) -> Counts:
    """Multiply-adds and parameters, counted with fvcore; the network is left as it was.

    Normalization is left out, as it folds into convolutions and published numbers leave it out, and so are pooling
    and interpolation. Operators that fvcore does not know are in `uncounted`: additions, products of two maps and
    most activations, which multiply nothing that the field counts. It holds ReLU, reshapes and the like to be free.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing fvcore warns about torch.jit
        from fvcore.nn import FlopCountAnalysis
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    deployed = reparameterize(model)
    image = tuple(tensor.to(device_of(deployed)) for tensor in task.example())
    with inference(deployed), attention_in_parts(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(deployed, image)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.set_op_handle(**_HANDLERS)
        by_operator, uncounted = analysis.by_operator(), dict(analysis.unsupported_ops())
    return Counts(
        macs=int(sum(by_operator.values())),
        attention_macs=int(by_operator[_ATTENTION]),
        params=sum(parameter.numel() for parameter in deployed.parameters()),
        size_bytes=count_bytes(deployed),
        uncounted=uncounted,
    )


def stored_bytes(model: nn.Module) -> int:
    """Bytes of the tensors of the network as it is deployed."""
    return count_bytes(reparameterize(model))


def _free(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Queries (..., t, d), keys (..., s, d) and values (..., s, e): the products are (t, d, s) and (t, s, e)."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    return int(math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1]))


def _convolution_by_name(inputs: list[Any], outputs: list[Any]) -> int:
    """A convolution whose padding is "same" or "valid": each output is a product with one filter."""
    return int(math.prod(outputs[0].type().sizes()) * math.prod(inputs[1].type().sizes()[1:]))


# fvcore counts the first group as elementwise work; an operator that has a handler cannot be ignored there otherwise.
_HANDLERS = {
    **dict.fromkeys(("aten::batch_norm", "aten::layer_norm", "aten::group_norm", "aten::instance_norm"), _free),
    **dict.fromkeys(("aten::adaptive_avg_pool2d", "aten::grid_sampler"), _free),
    **dict.fromkeys(("aten::upsample_nearest2d", "aten::upsample_bilinear2d"), _free),
    f"aten::{_ATTENTION}": _attention,
    "aten::_convolution_mode": _convolution_by_name,
}
