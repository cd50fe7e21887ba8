"""Int8 of transposed convolutions, whose weights have their output channels along another axis, in groups."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from nasbench_compression import get_backend
from nasbench_compression.compilation.tensorrt import onnx_for_tensorrt

SHAPES = {
    "one group": (8, 6, 1),
    "groups": (8, 12, 4),
    "fewer outputs than inputs": (8, 4, 2),
    "depthwise": (8, 8, 8),
    "several outputs a channel": (8, 16, 8),
}


def network(shape) -> nn.Module:
    inputs, outputs, groups = SHAPES[shape]
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1, groups=groups)
    with torch.no_grad():  # channels of very different sizes
        transposed.weight *= torch.linspace(0.1, 2, inputs)[:, None, None, None]
    return nn.Sequential(nn.Conv2d(3, inputs, 3, padding=1), nn.ReLU(), transposed).eval()


def images() -> torch.Tensor:
    return torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def expected(model) -> np.ndarray:
    with torch.no_grad():
        return model(images()).numpy()


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("shape", SHAPES)
def test_backends(name, shape) -> None:
    model = network(shape)
    output = get_backend(name).compile(model, images()[:1], "int8", images())(images().numpy())
    assert np.linalg.norm(output - expected(model)) < 0.1 * np.linalg.norm(expected(model))


@pytest.mark.parametrize("shape", SHAPES)
def test_with_signed_inputs(shape) -> None:
    model = network(shape)
    artefact = onnx_for_tensorrt(model, images()[:1], images().numpy())
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": images().numpy()})
    assert np.linalg.norm(output - expected(model)) < 0.1 * np.linalg.norm(expected(model))
