"""What an untrained network says of itself: zero-cost proxies, larger is better."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nasbench_compression.surgery import inference
from nasbench_registry import one_of

IMAGES = 32  # that a proxy looks at


def naswot(model: nn.Module, images: Tensor) -> float:
    """The logarithm of the determinant of the kernel of activation patterns.

    Mellor et al., Neural Architecture Search without Training, ICML 2021, arXiv:2006.04647, eq. 2: the kernel of two
    images is the number of rectified units that are on for both, or off for both. Deviation: a unit is on where the
    output of a ReLU, or of another activation, is above zero.

    Args:
        model: any network; each module keeps its mode.
        images: (n, c, h, w).
    """
    count = len(images)
    kernel = torch.zeros(count, count, dtype=torch.float64)

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        on = (output.detach().reshape(count, -1) > 0).float()
        kernel.add_((on @ on.T + (1 - on) @ (1 - on).T).double())

    activations = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU)
    hooks = [each.register_forward_hook(watch) for each in model.modules() if isinstance(each, activations)]
    try:
        with inference(model):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not hooks:
        return 0.0
    return float(torch.linalg.slogdet(kernel + 1e-6 * torch.eye(count, dtype=torch.float64)).logabsdet)


def synflow(model: nn.Module, images: Tensor) -> float:
    """The logarithm of the sum of |w dR/dw|, where R is what the network with weights |w| gives for an image of ones.

    Tanaka et al., Pruning neural networks without any data, NeurIPS 2020, arXiv:2006.05467, eq. 3, summed as in
    Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134. Only the shape of the images
    is read.

    Args:
        model: any network; left as it was.
        images: (n, c, h, w).
    """
    network = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.abs_()
    with torch.enable_grad():
        network.requires_grad_(True)
        output = network(torch.ones(1, *images.shape[1:], dtype=torch.float64)).sum()
        parameters = [each for each in network.parameters()]
        found = torch.autograd.grad(output, parameters, allow_unused=True)
    total = sum(
        float((each.detach() * gradient).abs().sum())
        for each, gradient in zip(parameters, found, strict=True)
        if gradient is not None
    )
    return float(torch.log(torch.tensor(max(total, 1e-300), dtype=torch.float64)))


PROXIES: dict[str, Callable[[nn.Module, Tensor], float]] = {"naswot": naswot, "synflow": synflow}


def proxy(name: str, model: nn.Module, images: Tensor) -> float:
    """The score of a network by a proxy; UserError if there is no such proxy."""
    one_of("proxy", name, PROXIES)
    return PROXIES[name](model, images[:IMAGES])
