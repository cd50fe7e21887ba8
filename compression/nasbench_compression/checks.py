"""One wording for options that are out of range, and for networks and images that no step can work with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nasbench_registry import UserError


def check_number(
    option: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    integer: bool = False,
    optional: bool = False,
) -> None:
    """Refuse a value that is no finite number within the bounds.

    Args:
        option: Name of the option as the user knows it, such as "prune ratio".
        value: Value that the user wrote.
        at_least: Smallest allowed value.
        above: Number that the value must be larger than.
        at_most: Largest allowed value.
        below: Number that the value must be smaller than.
        integer: Whether only whole numbers are allowed, as `int`.
        optional: Whether None is allowed too.

    Raises:
        UserError: The value is something else.
    """
    if value is None and optional:
        return
    kinds = (int,) if integer else (int, float)
    allowed_value = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if allowed_value:
        allowed_value = (
            (at_least is None or value >= at_least)
            and (above is None or value > above)
            and (at_most is None or value <= at_most)
            and (below is None or value < below)
        )
    if allowed_value:
        return
    bounds = [
        f"{word} {bound}"
        for word, bound in (("at least", at_least), ("above", above), ("at most", at_most), ("below", below))
        if bound is not None
    ]
    noun = "a whole number" if integer else "a number"
    allowed = " and ".join([f"{noun} {bounds[0]}", *bounds[1:]]) if bounds else noun
    leave_out = ", or leave it out" if optional else ""
    raise UserError(f"{option} is {value!r}; give {allowed}{leave_out}.")


def check_network(step: str, model: nn.Module, images: Mapping[str, Tensor]) -> None:
    """Refuse a network or images from which nothing can be computed.

    Args:
        step: Name of the step that works with them, for errors.
        model: Network whose parameters and statistics must exist and be finite; a mask in a buffer may have infinite
            values.
        images: Images (n, c, h, w), by name, such as "calibration".

    Raises:
        UserError: Says where the values are, and how many.
    """
    for path, module in model.named_modules():
        if any(is_lazy(parameter) for parameter in module._parameters.values()):
            raise UserError(
                f"{step} needs weights, and {path or 'the network'} is a {type(module).__name__} that no image has "
                f"passed yet, so that its weights have no shape; run the network once beforehand."
            )
    broken = []
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise UserError(f"{step} needs weights, and {name} is on the device 'meta', without values; load them.")
        count = _count_broken(tensor, infinite=isinstance(tensor, nn.Parameter) or "running_" in name)
        if count:
            broken.append(f"{name} has {count} of its {tensor.numel()} values")
    if broken:
        more = f", and {len(broken) - 3} more tensors have some" if len(broken) > 3 else ""
        raise UserError(
            f"{step} needs finite weights, and NaN or infinite are: {'; '.join(broken[:3])}{more}; "
            f"train the network again, or load weights that are sound."
        )
    for option, batch in images.items():
        counts = (~batch.flatten(1).isfinite()).sum(1)
        rows = counts.nonzero().flatten().tolist()
        if rows:
            raise UserError(
                f"{step} needs finite images, and {option} has {int(counts.sum())} values that are NaN or infinite, in "
                f"{len(rows)} of {len(batch)} images, the first of which is number {rows[0]}; leave those images out."
            )


def _count_broken(tensor: Tensor, *, infinite: bool) -> int:
    """How many values are NaN or, if they count, infinite."""
    if tensor.layout is not torch.strided or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    values = tensor.detach()
    return int((~values.isfinite() if infinite else values.isnan()).sum())
