"""Checks of a network of a search space besides training: counting, export, pruning.

`search_spaces.check_space` takes these as `networks`; it cannot hold them itself, for spaces know no compression.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from nasbench.costs.cost import counts as cost_counts
from nasbench_compression import Context, get_backend, get_step
from nasbench_compression.outputs import logits_of
from nasbench_compression.surgery import inference
from nasbench_registry import UserError
from search_spaces import Task

RUNTIME = "onnxruntime"


def counts(model: nn.Module, task: Task) -> Iterator[str]:
    """Check that its multiply-adds are counted, and are not zero."""
    macs = cost_counts(model, task).macs
    if macs <= 0:
        yield f"it has {macs} multiply-adds; a network of a space has to compute something."


def exports(model: nn.Module, task: Task) -> Iterator[str]:
    """ONNX Runtime, if it is installed, gives the same logits for two images as PyTorch does."""
    backend = get_backend(RUNTIME)
    if backend.why_unavailable():
        return
    images = task.one_input(2, seed=0)
    try:
        backend.compile(model, images)  # which compares the outputs
    except UserError as error:
        yield f"it cannot be exported: {error}"


def prunes(model: nn.Module, task: Task) -> Iterator[str]:
    """Structured pruning removes channels, and what is left still gives logits."""
    images = task.one_input(2, seed=0)
    context = Context(
        example_inputs=images, calibration=images, finetune=_no_training, evaluate=lambda network: 0.0, seed=0
    )
    try:
        pruned, _ = get_step("prune", ratio=0.5).apply(model, context)
    except UserError as error:
        yield f"it cannot be pruned: {error}"
        return
    assert isinstance(pruned, nn.Module), "prune gives a network"
    with inference(pruned):
        logits = pruned(images)
    expected = (2, *task.outputs[0].shape)
    if tuple(logits_of(logits).shape) != expected:
        yield f"pruned, it gives {tuple(logits_of(logits).shape)}, not {expected}."


def _no_training(model: nn.Module, loss: object = None, **options: object) -> None:
    raise AssertionError("pruning without epochs does not train")


NETWORK_CHECKS = (counts, exports, prunes)
