"""The work of a network in one inference, as a few numbers that explain its latency on any device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasbench.costs.operators import Operator, operator_of
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import device_of
from nasbench_compression.surgery import inference
from search_spaces import Task

WORK = (
    "operators",
    "dense_convolutions",
    "dense_macs",
    "depthwise_convolutions",
    "depthwise_macs",
    "groups",
    "grouped_macs",
    "attentions",
    "normalizations",
    "copies",
    "activations",
    "elements",
    "params",
)

_PRODUCTS = {"addmm": 1, "mm": 0, "bmm": 0, "baddbmm": 1}  # position of the first factor among the arguments
_COPIES = ("cat", "stack", "clone", "copy_")
# What runtimes fold into a convolution or never execute, besides views.
_FREE = ("native_batch_norm", "relu", "relu_", "hardtanh", "hardtanh_", "empty", "zeros", "_unsafe_view")
_SMOOTH = ("gelu", "silu", "silu_", "hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "sigmoid", "tanh")


def work(model: nn.Module, task: Task) -> npt.NDArray[np.float64]:
    """The numbers named in `WORK` for one image, an array (len(WORK),); each module keeps its mode.

    They are those of the network as it is deployed, with its branches merged, see `reparameterize`, and are read from
    the operators that run, however the network is written. `operators` are those that runtimes execute: batch norm and
    ReLU fold into convolutions, views cost nothing. Dense multiply-adds are those of convolutions without groups, of
    linear layers, matrix products and attention; a convolution with one input channel a group is depthwise; of the
    grouped ones in between, runtimes compute group after group, so that `groups` counts. `normalizations` are those
    that need the values of this image, such as layer norm, `activations` the values that go through a smooth function,
    `elements` the values that operators write.
    """
    return work_and_operators(model, task)[0]


def work_and_operators(model: nn.Module, task: Task) -> tuple[npt.NDArray[np.float64], Counter[Operator]]:
    """`work`, and how often each convolution and linear layer runs, from the same single run of the network."""
    deployed = reparameterize(model)
    watch = _Operators()
    with inference(deployed), watch:
        deployed(*(tensor.to(device_of(deployed)) for tensor in task.example()))
    watch.totals["params"] = sum(parameter.numel() for parameter in deployed.parameters())
    return np.array([watch.totals[name] for name in WORK]), watch.operators


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Adds up what each operator does, and counts those that can be measured alone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.totals = dict.fromkeys(WORK, 0.0)
        self.operators: Counter[Operator] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple | list) else out
        if isinstance(first, torch.Tensor) and not func.is_view:
            self._add(func.overloadpacket.__name__, args, first)
        return out

    def _add(self, name: str, args: Any, out: torch.Tensor) -> None:
        if name.startswith("_native_batch_norm") or name in _FREE:
            return
        totals = self.totals
        totals["operators"] += 1
        totals["elements"] += out.numel()
        operator = operator_of(name, args, out)
        if operator is not None:
            self.operators[operator] += 1
        if name == "convolution":
            weight, groups = args[1], args[8]
            macs = out.numel() * weight[0].numel()
            if groups == 1:
                totals["dense_convolutions"] += 1
                totals["dense_macs"] += macs
            elif weight.shape[1] == 1:
                totals["depthwise_convolutions"] += 1
                totals["depthwise_macs"] += macs
            else:
                totals["groups"] += groups
                totals["grouped_macs"] += macs
        elif name in _PRODUCTS:
            totals["dense_macs"] += out.numel() * args[_PRODUCTS[name]].shape[-1]
        elif "scaled_dot_product" in name:
            q, k, v = args[:3]
            totals["attentions"] += 1
            totals["dense_macs"] += q[..., 0].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        elif "norm" in name:
            totals["normalizations"] += 1
        elif name in _COPIES:
            totals["copies"] += 1
        elif name in _SMOOTH:
            totals["activations"] += out.numel()
