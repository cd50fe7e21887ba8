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
    deployed = reparameterize(model)
    counter = FlopCounterMode(display=False)
    learned = [parameter for parameter in deployed.parameters() if parameter.requires_grad]
    try:
        for parameter in learned:  # the counter of torch fails where a module is given a view of one
            parameter.requires_grad_(False)
        with inference(deployed), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings(), counter:
            warnings.simplefilter("ignore")
            deployed(example_inputs[:1])
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops()) // 2
