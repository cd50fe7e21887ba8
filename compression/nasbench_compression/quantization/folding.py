"""Folding batch norm into the convolution before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from nasbench_compression.copying import copy_network, summary
from nasbench_compression.outputs import tensors_of
from nasbench_compression.reference import Reference
from nasbench_compression.surgery import inference, keep_attributes, replace_modules, why_not_plain

Pair = tuple[str, str]
"""Names of a convolution and of the batch norm that follows it."""

_ABOUT = frozenset(
    {
        *("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "is_cuda", "is_sparse"),
        *("is_quantized", "is_nested", "is_mkldnn", "is_meta", "grad_fn", "grad", "_version", "names"),
        *(
            "size",
            "dim",
            "numel",
            "nelement",
            "stride",
            "is_contiguous",
            "is_floating_point",
            "is_complex",
            "get_device",
        ),
        *("element_size", "ndimension", "__len__", "type", "is_inference", "storage_offset"),
    }
)
"""Attributes and methods of a tensor that do not read its values."""


class _Uses(TorchFunctionMode):
    """Counts how many operations take the values of each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}
        self.alive: list[Any] = []  # an id is only unique as long as its tensor lives

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count the tensors that go in."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "__get__":  # of a property
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name not in _ABOUT:
            self.alive.append((args, kwargs, result))
            for tensor in tensors_of([*args, kwargs or {}]).values():
                self.counts[id(tensor)] = self.counts.get(id(tensor), 0) + 1
        return result

    def of(self, tensor: Tensor | None) -> int:
        """Number of operations that took a tensor."""
        return self.counts.get(id(tensor), 0)


def find_pairs(model: nn.Module, inputs: Tensor) -> list[Pair]:
    """Names of each convolution and the batch norm that alone consumes its output.

    Found by running the network, so that it does not matter how its forward is written. Left out are layers that run
    more than once, that are no plain layers (see `why_not_plain`) or whose weights something else reads; maps that are
    changed in place, kept by a module or put out; and batch norms without running statistics.

    Args:
        model: Any network; it is not changed.
        inputs: Images, (n, c, h, w).
    """
    outputs: dict[int, list[tuple[nn.Conv2d, Tensor, int]]] = {}
    followers: list[tuple[int, int, nn.BatchNorm2d]] = []
    calls: dict[nn.Module, int] = {}
    handles: list[RemovableHandle] = []
    uses = _Uses()

    def after_convolution(module: nn.Module, args: Any, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        outputs.setdefault(id(output), []).append((module, output, output._version))  # type: ignore[arg-type]  # only those get the hook

    def before_norm(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        norm_input = args[0] if args else kwargs["input"]
        followers.append((id(norm_input), norm_input._version, module))  # type: ignore[arg-type]  # only those get the hook

    for module in model.modules():
        if why_not_plain(module, (nn.Conv2d,)) is None:
            handles.append(module.register_forward_hook(after_convolution))
        elif why_not_plain(module, (nn.BatchNorm2d,)) is None and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(before_norm, with_kwargs=True))
    try:
        with inference(model), uses:
            final = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    retained = {id(tensor) for tensor in tensors_of(final).values()}
    retained |= {key for module in model.modules() for value in vars(module).values() for key in _ids(value)}
    names = {module: name for name, module in model.named_modules()}
    pairs = []
    for key, version, norm in followers:
        if len(outputs.get(key, [])) != 1 or uses.counts.get(key) != 1 or key in retained:
            continue
        convolution, _, before = outputs[key][0]
        tensors = [*convolution._parameters.values(), *norm._parameters.values(), norm.running_mean, norm.running_var]
        once = calls[norm] == calls[convolution] == 1 and all(value is None or uses.of(value) == 1 for value in tensors)
        if once and version == before:
            pairs.append((names[convolution], names[norm]))
    return pairs


def _ids(value: Any, depth: int = 3) -> set[int]:
    """Ids of the tensors in a value that a module keeps."""
    if isinstance(value, Tensor):
        return {id(value)}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return {key for part in parts for key in _ids(part, depth - 1)} if depth else set()


def fold(model: nn.Module, pairs: list[Pair]) -> nn.Module:
    """Fold these pairs, in place: the convolution gets weight and bias, an identity takes the norm's place."""
    identities: dict[nn.Module, nn.Module] = {}
    for convolution_name, norm_name in pairs:
        convolution, norm = model.get_submodule(convolution_name), model.get_submodule(norm_name)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            wide = torch.promote_types(convolution.weight.dtype, torch.float32)
            scale = torch.rsqrt(norm.running_var.to(wide) + norm.eps)
            if norm.weight is not None:
                scale = scale * norm.weight
            bias = -norm.running_mean.to(wide)
            if convolution.bias is not None:
                bias = bias + convolution.bias
            bias = bias * scale
            if norm.bias is not None:
                bias = bias + norm.bias
            learned = convolution.weight.requires_grad
            folded = convolution.weight * scale.view(-1, 1, 1, 1)
        kind = convolution.weight.dtype
        convolution.weight = nn.Parameter(folded.to(kind), requires_grad=learned)
        convolution.bias = nn.Parameter(bias.to(kind), requires_grad=learned)
        identity = nn.Identity()
        keep_attributes(norm, identity)
        identities[norm] = identity.train(norm.training)
    return replace_modules(model, identities)


def fold_checked(model: nn.Module, reference: Reference) -> tuple[nn.Module, list[Pair], dict[str, str]]:
    """A copy with the pairs folded that `find_pairs` finds and that change nothing.

    Args:
        model: Network; it is not changed.
        reference: Outputs of the network.

    Returns:
        The copy, the pairs, and norms that stay because folding them changes the outputs, with the reason.
    """
    pairs = find_pairs(model, reference.images[:1])
    folded = fold(copy_network(model), pairs)
    if _how_wrong(folded, reference) is None:
        return folded, pairs, {}
    harmless: list[Pair] = []
    left_unfolded: dict[str, str] = {}
    for pair in pairs:
        reason = _how_wrong(fold(copy_network(model), [*harmless, pair]), reference)
        if reason is None:
            harmless.append(pair)
        else:
            left_unfolded[pair[1]] = f"{reason} with it folded into {pair[0]}"
    return fold(copy_network(model), harmless), harmless, left_unfolded


def _how_wrong(folded: nn.Module, reference: Reference) -> str | None:
    """What is wrong with a folded network; None if nothing is."""
    try:
        distance = reference.off(folded)
    except Exception as error:  # whatever the user's network raises
        return f"the network fails ({summary(error)})"
    return None if reference.explains(distance) else f"the outputs are off by {distance:.2g} of their size"
