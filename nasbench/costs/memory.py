"""How much memory the activations of a network need, and how many bytes its operators move.

On a microcontroller it is the peak of the activations that decides whether a network runs at all (MCUNet, Lin et al.
2020, arXiv 2007.10319). Where arithmetic is cheap, it is the bytes that decide the latency (Roofline, Williams et al.
2009).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasbench_compression.attention import no_fast_path
from nasbench_compression.copying import summary
from nasbench_compression.quantization.modules import dequantize
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import device_of
from nasbench_compression.surgery import inference
from nasbench_registry import UserError
from search_spaces import Task

# They only reserve memory, or pass on what they are given, although torch does not call the last one a view.
_MOVE_NOTHING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")


@dataclass(frozen=True)
class Traffic:
    """Bytes of one inference of one image.

    Attributes:
        peak_activation_bytes: Largest number of bytes of activations that live at a time, see `peak_activation_bytes`.
        bytes_moved: Bytes that operators read and write, see `traffic`.
    """

    peak_activation_bytes: int
    bytes_moved: int


def traffic(model: nn.Module, task: Task) -> Traffic:
    """Run a network once on an empty image, as it is deployed, and watch the tensors that its operators take and make.

    `bytes_moved` adds up, over every operator of PyTorch that runs, the bytes of each tensor that it is given (images,
    activations, weights, running averages; one that is given twice counts once) and of each that it makes. Views move
    nothing; a value that is broadcast by a stride of zero is one value; an operator that works in place reads and
    writes. It is the least that running the operators one by one takes through memory: caches and fusion make it less,
    a workspace inside an operator, or one that reads its input several times, more.

    Args:
        model: Network on any device; it is not changed.
        task: Task with the shape of the input.

    Raises:
        UserError: The network does not run on such an image.
    """
    deployed = reparameterize(dequantize(model))
    inputs = tuple(tensor.to(device_of(deployed)) for tensor in task.example())
    watch = _Tensors([*deployed.parameters(), *deployed.buffers()])
    with in_words(deployed, *inputs), inference(deployed), no_fast_path(), watch:
        watch.see(list(inputs))
        logits = deployed(*inputs)
        watch.see(tree_leaves(logits))
    return Traffic(watch.peak_bytes(), watch.moved)


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
        model: Network on any device; it is not changed.
        task: Task with the shape of the input.
    """
    return traffic(model, task).peak_activation_bytes


@contextlib.contextmanager
def in_words(model: nn.Module, *inputs: torch.Tensor) -> Iterator[None]:
    """Inside the block, say of a network that does not run on one example in one sentence that it does not.

    Args:
        model: Network that runs in the block.
        inputs: Inputs of the network, (1, ...), such as an image (1, c, h, w).

    Raises:
        UserError: Something fails in the block, and the network alone does so, too.
    """
    try:
        yield
    except Exception:  # of whatever watches the network, too; then it is no fault of the network
        try:
            with inference(model):
                model(*inputs)
        except MemoryError:
            raise
        except Exception as error:  # whatever the user's network raises
            raise UserError(
                f"the cost of this network cannot be counted, for it does not run on one image of shape "
                f"{' and '.join(str(tuple(tensor.shape[1:])) for tensor in inputs)} ({summary(error)}); let its "
                f"forward take a batch of images and nothing else."
            ) from error
        raise


def _reference(tensor: torch.Tensor) -> StorageWeakRef:
    """A reference that identifies the memory of a tensor, also when it has been given back."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # torch does not annotate it


def _touched(tensor: torch.Tensor) -> int:
    """Bytes of the values that a tensor shows; those that a stride of zero repeats are there once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, stride in sizes if stride or not size) * tensor.element_size()


def _moved(values: Any) -> int:
    """Bytes of all different tensors among these."""
    tensors = (value for value in tree_leaves(values) if isinstance(value, torch.Tensor))
    return sum(_touched(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values())


class _Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """Notes what each operator moves, and between which two operators each piece of memory is needed.

    Python itself holds a tensor for longer, as each enclosing module's call keeps its arguments; so what counts is
    the last operator that takes a tensor, not when its memory is given back.

    Args:
        weights: Tensors that are there anyway.
    """

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.moved = 0
        self._weights = {_reference(tensor) for tensor in weights}
        self._lives: dict[StorageWeakRef, tuple[int, int, int]] = {}
        self._now = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note what it takes and makes."""
        result = func(*args, **(kwargs or {}))
        self._now += 1
        self.see(tree_leaves((args, kwargs, result)))
        if not func.is_view and func.overloadpacket.__name__ not in _MOVE_NOTHING:
            self.moved += _moved((args, kwargs)) + _moved(result)
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

    def peak_bytes(self) -> int:
        """The most bytes that are needed at one time."""
        changes = [0] * (self._now + 2)
        for first, last, size in self._lives.values():
            changes[first] += size
            changes[last + 1] -= size
        return max(accumulate(changes))
