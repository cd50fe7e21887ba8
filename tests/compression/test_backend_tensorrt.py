"""TensorRT never ran here: what it is given can be looked at, and run by ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bounds import check_below
from onnx import numpy_helper

from nasbench_compression import CompiledModel, get_backend, get_step
from nasbench_compression.compilation.tensorrt import TensorRt, onnx_for_tensorrt
from nasbench_compression.quantization.modules import QuantizedConv2d, QuantizedLinear
from nasbench_registry import UserError

NO_GPU = not torch.cuda.is_available()


class Run(CompiledModel):
    """The file in ONNX Runtime."""

    def __init__(self, artefact: bytes) -> None:
        self.session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])

    def __call__(self, images):
        return self.session.run(None, {"images": images})[0]

    save = bytes = describe = None


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}


@pytest.mark.parametrize("already", [False, True])
def test_int8_is_signed_around_zero_with_biases_in_float(trained, context, already) -> None:
    model = get_step("quantize").apply(trained, context)[0] if already else trained
    artefact = onnx_for_tensorrt(model, context.example_inputs, context.calibration.numpy())
    file = onnx.load_from_string(artefact)
    held = constants(file)
    pairs = [node for node in file.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 6
    for node in pairs:
        assert held[node.input[2]].dtype == np.int8 and not held[node.input[2]].any()
        assert (held[node.input[1]] > 0).all()
    assert not [name for name, value in held.items() if value.dtype in (np.uint8, np.int32)]
    if already:
        weights = [value for value in held.values() if value.dtype == np.int8 and value.ndim > 1]
        for layer in model.modules():
            if isinstance(layer, QuantizedConv2d | QuantizedLinear):
                levels = layer.weight_int8.numpy()
                forms = [levels, levels.T] if levels.ndim == 2 else [levels]
                assert any(np.array_equal(form, weight) for form in forms for weight in weights)
    changed = abs(context.evaluate(Run(artefact)) - context.evaluate(trained))
    check_below("points that int8 changes", changed, mean=0.13, sd=0.14, n=27, most=1)


def test_float_file_is_as_for_any_runtime(plain, context) -> None:
    images = context.calibration[:5]
    logits = Run(onnx_for_tensorrt(plain, context.example_inputs, None))(images.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(logits, plain(images).numpy(), atol=1e-4)


def test_dynamic_layers_are_refused(plain, context) -> None:
    dynamic, _ = get_step("quantize", method="dynamic").apply(plain, context)
    with pytest.raises(UserError, match="method static"):
        onnx_for_tensorrt(dynamic, context.example_inputs, context.calibration.numpy())


@pytest.mark.only_where(NO_GPU)
def test_it_says_why_it_does_not_run(plain, context) -> None:
    reason = TensorRt.why_unavailable()
    assert reason is not None and ("nasbench-framework[tensorrt]" in reason or "NVIDIA GPU" in reason)
    with pytest.raises(UserError, match="tensorrt"):
        get_backend("tensorrt").compile(plain, context.example_inputs)
