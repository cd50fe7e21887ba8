"""A network as an ONNX file in memory, for any number of images."""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

INPUT, OUTPUT = "images", "logits"
_TOLERANCE = 1e-3  # of the largest logit; other kernels differ by 1e-6, a wrong graph by far more


def export_onnx(model: nn.Module, example_inputs: Tensor) -> bytes:
    """The ONNX file of a float network, input "images" (n, c, h, w), output "logits" (n, classes).

    The file is compared with the network on one image and on three.

    Args:
        model: left as it was.
        example_inputs: (n, c, h, w) float32; the file accepts any n.

    Raises:
        RuntimeError: no exporter gives a file that computes what the network computes.
    """
    network = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    inputs = example_inputs[:1].detach().cpu().float()
    # The TorchScript exporter takes 0.06 s for 12 convolutions, the newer one 1.4 s, and a search exports dozens; it
    # also keeps global average pooling as one operator, which int8 kernels know. But it freezes what Python computes
    # from a shape, it leaves shape arithmetic of chunks and views in the graph (which made a channel shuffle a third
    # slower), and torch will drop it. So the newer one takes over wherever the quick one is not as good.
    quick, problem = _attempt(_torchscript, network, inputs)
    if quick is not None and _shape_operators(quick) <= 1:  # a single one is the usual view(n, -1)
        return quick
    thorough, other_problem = _attempt(_dynamo, network, inputs)
    artefact = thorough or quick
    if artefact is None:
        raise RuntimeError(
            f"{type(model).__name__} cannot be exported to ONNX; torchscript: {problem}; dynamo: {other_problem}"
        )
    return artefact


def _attempt(
    exporter: Callable[[nn.Module, Tensor, Path], bytes], network: nn.Module, inputs: Tensor
) -> tuple[bytes | None, str | None]:
    """A right file, or what is wrong."""
    with quiet(logging.ERROR), tempfile.TemporaryDirectory() as folder:
        try:
            artefact = exporter(network, inputs, Path(folder))
            problem = _difference(artefact, network, inputs)
        except Exception as error:  # exporters raise whatever their many parts raise; there is another one
            return None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return (artefact, None) if problem is None else (None, problem)


def _shape_operators(artefact: bytes) -> int:
    import onnx

    return sum(node.op_type == "Shape" for node in onnx.load_from_string(artefact).graph.node)


def _torchscript(network: nn.Module, inputs: Tensor, folder: Path) -> bytes:
    file = folder / "model.onnx"
    torch.onnx.export(
        network,
        (inputs,),
        file,
        dynamo=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
    )
    return file.read_bytes()


def _dynamo(network: nn.Module, inputs: Tensor, folder: Path) -> bytes:
    file = folder / "model.onnx"
    batch = torch.cat([inputs, inputs])  # a batch of one would be taken for a constant
    program = torch.onnx.export(
        network,
        (batch,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    assert program is not None
    program.save(file)
    return file.read_bytes()


def _difference(artefact: bytes, network: nn.Module, inputs: Tensor) -> str | None:
    """What is wrong with the file on one image and on three, if anything."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(artefact, options, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        noise = np.random.default_rng(count).standard_normal((count, *inputs.shape[1:]), dtype=np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(noise)).numpy()
        found = session.run(None, {INPUT: noise})[0]
        if found.shape != expected.shape:
            return f"{count} images give shape {found.shape}, not {expected.shape}"
        error = float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-12)
        if not error <= _TOLERANCE:
            return f"{count} images give logits that are off by {error:.1e} of their size"
    return None


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
