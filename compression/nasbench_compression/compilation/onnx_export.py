"""A network as an ONNX file in memory, for any number of images where the network takes any."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.agreement import Examined, Limits, examine
from nasbench_compression.compilation.descriptors import descriptors_closed
from nasbench_compression.compilation.signature import Array, as_written, signature_of
from nasbench_compression.copying import copy_network
from nasbench_registry import WorkFailed

INPUT = "images"


def export_onnx(model: nn.Module, example_inputs: Tensor) -> bytes:
    """The ONNX file of a float network, input "images", outputs as `Signature.labels` names them, usually "logits".

    The file is compared with the network, on one image and on several.

    Args:
        model: Plain network, or a `Deployed`; it is not changed.
        example_inputs: Inputs (n, ...); the file accepts any n, unless the network takes this one only.

    Raises:
        WorkFailed: No exporter gives a file that computes what the network computes.
    """
    network = copy_network(model).cpu().eval().requires_grad_(False)
    examined = examine(network, example_inputs, None, "fp32")
    # The TorchScript exporter takes 0.06 s for 12 convolutions, the newer one 1.4 s, and a search exports dozens; it
    # also keeps global average pooling as one operator, which int8 kernels know. But it freezes what Python computes
    # from a shape, it leaves shape arithmetic of chunks and views in the graph (which made a channel shuffle a third
    # slower), and torch will drop it. So the newer one takes over wherever the quick one is not as good.
    quick, problem = _attempt(_torchscript, network, example_inputs, examined)
    if quick is not None and _shape_operators(quick) <= 1:  # a single one is the usual view(n, -1)
        return quick
    thorough, other_problem = _attempt(_dynamo, network, example_inputs, examined)
    artefact = thorough or quick
    if artefact is None:
        kind = type(as_written(model)).__name__
        raise WorkFailed(f"{kind} cannot be exported to ONNX; torchscript: {problem}; dynamo: {other_problem}")
    return artefact


def _attempt(
    exporter: Callable[[nn.Module, Tensor, Path], bytes],
    network: nn.Module,
    inputs: Tensor,
    examined: Examined,
) -> tuple[bytes | None, str | None]:
    """A right file, or what is wrong."""
    with quiet(logging.ERROR), descriptors_closed(), tempfile.TemporaryDirectory() as folder:
        try:
            artefact = exporter(network, inputs, Path(folder))
            _compare(artefact, network, examined)
        except Exception as error:  # exporters raise whatever their many parts raise; there is another one
            kind = "" if isinstance(error, WorkFailed) else f"{type(error).__name__}: "
            return None, f"{kind}{' '.join(str(error).split())[:300]}"
    return artefact, None


def _shape_operators(artefact: bytes) -> int:
    import onnx

    return sum(node.op_type == "Shape" for node in onnx.load_from_string(artefact).graph.node)


def _torchscript(network: nn.Module, inputs: Tensor, folder: Path) -> bytes:
    file, signature = folder / "model.onnx", signature_of(network)
    axes = {name: {axis: "n"} for name, axis in zip(signature.labels, signature.axes, strict=True) if axis is not None}
    torch.onnx.export(
        network,
        (inputs if signature.fixed else inputs[:1],),
        file,
        dynamo=False,
        input_names=[INPUT],
        output_names=list(signature.labels),
        dynamic_axes=None if signature.fixed else {INPUT: {0: "n"}, **axes},
    )
    return file.read_bytes()


def _dynamo(network: nn.Module, inputs: Tensor, folder: Path) -> bytes:
    file, signature = folder / "model.onnx", signature_of(network)
    program = torch.onnx.export(
        network,
        # A batch of one would be taken for a constant.
        (inputs if signature.fixed else torch.cat([inputs[:1], inputs[:1]]),),
        dynamo=True,
        input_names=[INPUT],
        output_names=list(signature.labels),
        dynamic_shapes=None if signature.fixed else ({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    assert program is not None
    program.save(file)
    return file.read_bytes()


def _compare(artefact: bytes, network: nn.Module, examined: Examined) -> None:
    """Raise WorkFailed if the file computes something else, or works for another number of images only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(artefact, options, providers=["CPUExecutionProvider"])

    def call(images: Array) -> Any:
        outputs = session.run(None, {INPUT: images})
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    if examined.limits is not None:
        limits = Limits("the file", "fp32", examined.limits, examined.signature.fixed)
        limits.check(call, network, examined.inputs)


@contextlib.contextmanager
def quiet(level: int) -> Iterator[None]:
    """No warnings and no log lines up to `level`; exporters report their own deprecations on every call."""
    before = logging.root.manager.disable
    logging.disable(max(before, level))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
