"""A device for tests that computes on the processor, and refuses to compute with what lies elsewhere, as a GPU does."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "meta"
"""What its tensors say they are on: the one other device whose gradients a torch without a GPU computes."""
aten = torch.ops.aten
MIXES = (aten.copy_, aten.index, aten.index_put, aten.index_put_)
"""What CUDA does with tensors of the processor, too: copies, and rows that are picked by indices."""


class OnDevice(torch.Tensor):
    """A tensor on the device."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=NAME,
        )

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner_tensors, context, outer_size, outer_stride):
        return OnDevice(inner_tensors["inner"])

    def __repr__(self):
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class FromPython(TorchFunctionMode):
    """Numbers of Python, which torch brings to a device without asking the mode below."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is torch.Tensor.__getitem__ and isinstance(args[1], list):
            return func(args[0], torch.tensor(args[1]))
        return func(*args, **kwargs)


class EmulatedGpu(TorchDispatchMode):
    """Inside the block there is the device; `operations` counts what it computed."""

    def __init__(self):
        super().__init__()
        self.operations, self._from_python = 0, FromPython()

    def __enter__(self):
        self._from_python.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._from_python.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(isinstance(leaf, OnDevice) for leaf in tree_leaves((args, kwargs))):
            self.operations += 1
        return run(func, args, kwargs or {})


def run(func, args, kwargs):
    """An operation on the processor; its outputs are where its inputs are, or where it says."""
    tensors = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    here = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.ndim > 0]
    device = kwargs.get("device")
    assert not any(tensor.is_meta for tensor in here), f"{func} was given a tensor that was made without the mode"
    if there and here and func.overloadpacket not in MIXES:
        raise RuntimeError(
            f"{func} was given tensors on two devices, of shapes {[tuple(tensor.shape) for tensor in here]}"
        )
    on = isinstance(args[0], OnDevice) if func.overloadpacket in MIXES else bool(there)
    if device is not None:
        on, kwargs = torch.device(device).type == NAME, {**kwargs, "device": "cpu"}
    outputs = func(
        *tree_map_only(OnDevice, lambda tensor: tensor.inner, args),
        **tree_map_only(OnDevice, lambda tensor: tensor.inner, kwargs),
    )
    if not on:
        return outputs
    same = {id(tensor.inner): tensor for tensor in there}
    return tree_map_only(
        torch.Tensor, lambda tensor: same[id(tensor)] if id(tensor) in same else OnDevice(tensor), outputs
    )
