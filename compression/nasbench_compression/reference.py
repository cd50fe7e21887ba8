"""Outputs of a network on real inputs, to be compared with those after a step that must not change them.

Folding batch norm, merging branches, putting another module in a layer's place, casting and restoring all have outputs
that they must keep, but for rounding. How much rounding moves the outputs depends on the network, so it is tried in
the same run: every weight moves by one rounding, up or down by chance, and the outputs move with it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nasbench_compression.copying import copy_network, summary
from nasbench_compression.outputs import difference, memory_of, tensors_of
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import Step, device_of, seeded
from nasbench_compression.surgery import Echo, inference, replace_modules
from nasbench_registry import UserError

OTHER_SEED = 1_618_033_988
"""Under which a network is built again: none was built with it, so that what it drew by chance is not drawn alike."""

_IMAGES = 8
_DRAWS = 3
_MARGIN = 20
"""How much farther than one rounding of each weight outputs may move.

A fold rounds each weight of a convolution once, by half a unit at most, and takes the roundings of the norm away, so it
moves an output half as far as a draw does, in the standard deviation. That it moves it 20 times as far as the farthest
of three draws, both being normal, has a probability of about (0.8 * 0.5 / 20)^3 * 1.6 = 1.3e-5.
"""
_SAME = 8 * torch.finfo(torch.float32).eps
"""How far apart the same operations on the same numbers may end."""


@dataclass(frozen=True)
class Reference:
    """Outputs of a network for some images, and how far rounding moves them.

    Attributes:
        model: Network, which must stay as it is as long as others are compared with it.
        images: Images (n, c, h, w) on the device of the network, at most eight.
        outputs: Output tensors by their place in the output, see `tensors_of`.
    """

    model: nn.Module
    images: Tensor
    outputs: Mapping[str, Tensor]

    @classmethod
    def of(cls, step: str, model: nn.Module, images: Tensor) -> Reference:
        """The reference of a network in evaluation mode.

        Args:
            step: Name of the step that asks, for errors.
            model: Network; it is not changed but for what it keeps or counts itself, so give a copy.
            images: Images (n, c, h, w); the first eight are run.

        Raises:
            UserError: The network does not run on such images, or puts out no tensor.
        """
        images = images[:_IMAGES].to(device_of(model))
        try:
            outputs = run(model, images)
        except Exception as error:  # whatever the user's network raises
            kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in model.parameters()}
            raise UserError(
                f"{step} cannot run this network, with weights of type {' and '.join(sorted(kinds)) or 'none'}, on "
                f"images of shape {tuple(images.shape)} and type "
                f"{str(images.dtype).removeprefix('torch.')} ({summary(error)}); "
                f"give images as its forward takes them, as its only input."
            ) from error
        if not outputs:
            raise UserError(
                f"{step} works with networks that put out a tensor, or several in a tuple, a list or a dict, and this "
                f"one puts out none."
            )
        return cls(model, images, outputs)

    @functools.cached_property
    def repeated(self) -> float:
        """The `difference` of a second run, or what the same operations on the same numbers may differ by."""
        return max(difference(run(self.model, self.images), self.outputs), _SAME)

    @functools.cached_property
    def tolerance(self) -> float:
        """The largest `difference` that rounding explains."""
        draws = [_rounded_once(self.model, self.images, draw) for draw in range(_DRAWS)]
        smallest = max(_eps(tensor) for tensor in [self.images, *self.model.parameters(), *self.outputs.values()])
        return _MARGIN * max(smallest, *(difference(outputs, self.outputs) for outputs in draws))

    def explains(self, off: float, *, exact: bool = False) -> bool:
        """Whether rounding explains a `difference`; if `exact`, the same operations on the same numbers do."""
        return off <= _SAME or off <= self.repeated or (not exact and off <= self.tolerance)

    def off(self, model: nn.Module) -> float:
        """How far the outputs of another network are from these, see `difference`."""
        return difference(run(model, self.images), self.outputs)

    def check(self, model: nn.Module, change: str, *, exact: bool = False) -> None:
        """Refuse a network that gives something else.

        Args:
            model: Network that should give the same outputs.
            change: Change that was made, such as "quantize: folding batch norm".
            exact: Whether it should do the same operations on the same numbers, so that nothing is rounded otherwise.

        Raises:
            UserError: The outputs differ; the message says by how much.
        """
        off = self.off(model)
        if not self.explains(off, exact=exact):
            allowed = self.repeated if exact else self.tolerance
            raise UserError(
                f"{change} changes the outputs of this network by {off:.2g} of their size, where rounding explains "
                f"{allowed:.1g}; a module of it does something that the step does not know, so leave the step out."
            )


def run(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Outputs in evaluation mode, by where they are; one that draws random numbers draws the same ones each time."""
    with seeded(0, device=images.device), inference(model):
        return {name: tensor.detach().clone() for name, tensor in tensors_of(model(images)).items()}


def _rounded_once(model: nn.Module, images: Tensor, draw: int) -> dict[str, Tensor]:
    """Outputs with each weight and each value of the images moved by one rounding."""
    weights = [*model.parameters(), *(value for name, value in model.named_buffers() if "running_" in name)]
    weights = [weight for weight in weights if weight.is_floating_point() and 0 not in weight.stride()]
    originals = [weight.detach().clone() for weight in weights]
    generator = torch.Generator().manual_seed(draw)

    def moved(values: Tensor) -> Tensor:
        if _eps(values) == 0:
            return values  # tokens and the like are not rounded
        signs = 2 * torch.randint(0, 2, values.shape, generator=generator, dtype=torch.int8) - 1
        return values * (1 + _eps(values) * signs.to(values))

    try:
        with torch.no_grad():
            for weight in weights:
                weight.copy_(moved(weight))
        return run(model, moved(images))
    finally:
        with torch.no_grad():
            for weight, values in zip(weights, originals, strict=True):
                weight.copy_(values)


def _eps(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() or tensor.is_complex() else 0.0


def check_independent(step: str, copied: nn.Module, model: nn.Module, images: Tensor) -> None:
    """Refuse a copy that still computes with tensors of the original, by a reference that copying does not follow.

    Args:
        step: Name of the step that made the copy.
        copied: Copy of the network.
        model: Original network.
        images: Images (n, c, h, w) on the device of the network; one is run.

    Raises:
        UserError: The copy uses a tensor of the original, which the message names; or the network, which runs on all
            images together, does not run on one alone.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    owners = {memory: name for name, tensor in named if (memory := memory_of(tensor)) is not None}
    watch = _Storages()
    try:
        with seeded(0, device=images.device), inference(copied), watch:
            copied(images[:1])
    except Exception as error:  # whatever the user's network raises
        raise UserError(
            f"{step} runs this network on batches of any size, and it runs on {len(images)} images together and fails "
            f"on one alone ({summary(error)}); let its forward take the number of images from its input."
        ) from error
    shared = [name for storage, name in owners.items() if storage in watch.seen]
    if shared:
        raise UserError(
            f"{step} works on a copy of the network, and the copy still computes with {shared[0]!r} of the original, "
            f"by a reference that copying does not follow; let modules call each other by their attributes."
        )


class _Storages(TorchFunctionMode):
    """Notes the memory of all tensors that functions of torch take."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int | None] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function."""
        self.seen.update(memory_of(tensor) for tensor in tensors_of([*args, kwargs or {}]).values())
        return func(*args, **(kwargs or {}))


def irreplaceable(
    model: nn.Module, names: Sequence[str], reference: Reference, *, readable: bool = True
) -> dict[str, str]:
    """The layers in whose place the network does not bear another module, each with the reason.

    An `Echo` of each layer takes its place, all at once and, only if that changes something, one after the other.

    Args:
        model: Network; it is the same afterwards.
        names: Names of layers on which nothing hangs, see `why_not_plain`.
        reference: Outputs of this network.
        readable: Whether the module that takes a layer's place has a weight that other code may read.
    """
    reasons_alone: dict[str, str] = {}
    reasons = _echoed(model, names, reference, readable)
    if any(reason not in (_NOT_CALLED, _READ) for reason in reasons.values()):
        reasons_alone = {
            name: reason
            for layer_name in names
            for name, reason in _echoed(model, [layer_name], reference, readable).items()
        }
        reasons = _echoed(model, [name for name in names if name not in reasons_alone], reference, readable)
    return reasons_alone | reasons


def _echoed(model: nn.Module, names: Sequence[str], reference: Reference, readable: bool) -> dict[str, str]:
    """Why these layers, together, cannot be replaced; a layer that is read or not called is named by itself."""
    echoes = {name: Echo(model.get_submodule(name)) for name in names}
    layers = {model.get_submodule(name): echo for name, echo in echoes.items()}
    echoed = replace_modules(model, layers)
    for echo in echoes.values():
        echo.reads = 0  # replacing looks at the weights, too
    try:
        off = reference.off(echoed)
    except Exception as error:  # whatever the user's network makes of another module
        return dict.fromkeys(names, f"the network fails with another module in its place ({summary(error)})")
    finally:
        replace_modules(echoed, {echo: layer for layer, echo in layers.items()})
    if not reference.explains(off, exact=True):
        return dict.fromkeys(names, f"another module in its place changes the outputs by {off:.2g} of their size")
    reasons = {name: _READ for name, echo in echoes.items() if echo.reads and not readable}
    return reasons | {name: _NOT_CALLED for name, echo in echoes.items() if echo.calls == 0}


_NOT_CALLED = "its weight is read, or it is reached by another way than its name, and no image passes it as a module"
_READ = "other code reads its weight while the network runs"


def check_restores(step: Step, model: nn.Module, result: nn.Module, note: dict[str, Any], images: Tensor) -> None:
    """Refuse a result that the step's own note does not lead to again.

    Args:
        step: Step that made the result.
        model: Network that the step was applied to.
        result: Network that the step returned.
        note: Note of the step.
        images: Images (n, c, h, w); outputs for the first eight are compared.

    Raises:
        UserError: The result cannot be restored, or the restored network gives other outputs; the message says by how
            much.
    """
    try:
        with seeded(OTHER_SEED, device=device_of(model)):
            restored = step.restore(model, json.loads(json.dumps(note, allow_nan=False)))
        restored.load_state_dict(result.state_dict())
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"what {step.name} makes of this network cannot be built again from its note, as storing it needs "
            f"({summary(error)}); leave the step out of the recipe."
        ) from error
    claim = f"{step.name}: building its result again from its note"
    Reference.of(step.name, result, images).check(restored, claim, exact=True)


def deployed_copy(step: str, model: nn.Module, images: Tensor) -> tuple[nn.Module, Reference]:
    """A copy of a network with its branches merged (`reparameterize`), and what the network gives.

    Args:
        step: Name of the step that asks, for errors.
        model: Network; it is not changed.
        images: Images (n, c, h, w) of the network's type; the first eight are run.

    Raises:
        UserError: The network does not run, has no copy, or a merged block computes something else.
    """
    copied = copy_network(model)
    reference = Reference.of(step, copied, images)
    check_independent(step, copied, model, reference.images)
    merged = reparameterize(copied)
    if merged is not copied:
        reference.check(merged, f"{step}: merging the branches of blocks that have a reparameterize()")
    return merged, reference
