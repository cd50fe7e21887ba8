"""How much memory the activations of a network need.

On a microcontroller it is the peak of the activations that decides whether a network runs at all (MCUNet, Lin et al.
2020, arXiv 2007.10319).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compression.quantization.modules import dequantize, is_quantized
from compression.reparameterization import reparameterize
from compression.step import device_of
from compression.surgery import inference
from search_spaces import Task


def peak_activation_bytes(model: nn.Module, task: Task) -> int:
    """The largest sum of bytes of live activations at any moment of one inference of one image.

    The network runs once as it is deployed, with its branches merged, in eval mode without gradients. A tensor lives
    from the operator that makes it to the last one that takes it, the image from the beginning and the logits to the
    end; views of a tensor are that tensor, and what is written in place takes no more. Weights and buffers do not
    count. For a chain of three convolutions that is the largest of image + first, first + second, second + third.

    What this cannot see: the workspace inside an operator, such as an unfolded image, and what a runtime makes of
    the graph: it may fuse batch norm and ReLU into a convolution, which here take and make a tensor each, or write an
    activation over its input. A network of the step `quantize` counts as the float32 one that it was.

    Args:
        model: on any device; left as it was.
        task: its input shape.
    """
    deployed = reparameterize(dequantize(model) if is_quantized(model) else model)
    image = torch.zeros(1, *task.input_shape, device=device_of(deployed))
    lifetimes = _Lifetimes([*deployed.parameters(), *deployed.buffers()])
    with inference(deployed), lifetimes:
        lifetimes.see([image])
        logits = deployed(image)
        lifetimes.see(tree_leaves(logits))
    return lifetimes.peak()


def _reference(tensor: torch.Tensor) -> StorageWeakRef:
    """What identifies the memory of a tensor, also when it has been given back."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # torch does not annotate it


class _Lifetimes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Notes between which two operators each piece of memory is needed.

    Python itself holds a tensor for longer, as each enclosing module's call keeps its arguments; so what counts is
    the last operator that takes a tensor, not when its memory is given back.

    Args:
        weights: tensors that are there anyway.
    """

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._weights = {_reference(tensor) for tensor in weights}
        self._lives: dict[StorageWeakRef, tuple[int, int, int]] = {}
        self._now = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note what it takes and makes."""
        result = func(*args, **(kwargs or {}))
        self._now += 1
        self.see(tree_leaves((args, kwargs, result)))
        return result

    def see(self, values: list[Any]) -> None:
        """Note that these are needed now."""
        for tensor in values:
            if not isinstance(tensor, torch.Tensor):
                continue
            reference = _reference(tensor)
            if reference not in self._weights:
                first, _, size = self._lives.get(reference, (self._now, 0, tensor.untyped_storage().nbytes()))
                self._lives[reference] = first, self._now, size

    def peak(self) -> int:
        """The most bytes that are needed at one time."""
        return max(self._totals())

    def _totals(self) -> Iterator[int]:
        for moment in range(self._now + 1):
            yield sum(size for first, last, size in self._lives.values() if first <= moment <= last)
