"""Multiply-adds of a network, as targets of pruning and decomposition need them."""

from __future__ import annotations

import warnings

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.surgery import inference


def count_macs(model: nn.Module, example_inputs: Tensor) -> int:
    """Multiply-adds of convolutions, linear layers and attention for one image, read or not read by what follows.

    Args:
        model: left as it was; branches that merge for deployment are counted merged.
        example_inputs: (n, c, h, w); one image of it is run.
    """
    return int(_counted(reparameterize(model), example_inputs).get_total_flops()) // 2


def macs_by_module(model: nn.Module, example_inputs: Tensor) -> dict[str, int]:
    """What `count_macs` counts in each module and all of its parts, by name; branches as they are, not merged."""
    counts = _counted(model, example_inputs).get_flop_counts()
    prefix = f"{type(model).__name__}."
    return {name.removeprefix(prefix): sum(by_operation.values()) // 2 for name, by_operation in counts.items()}


def _counted(model: nn.Module, example_inputs: Tensor) -> FlopCounterMode:
    """The counter of torch, after one image has passed."""
    counter = FlopCounterMode(display=False)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learned:  # the counter fails where a module is given a view of one
            parameter.requires_grad_(False)
        with inference(model), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings(), counter:
            warnings.simplefilter("ignore")
            model(example_inputs[:1])
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
    return counter
