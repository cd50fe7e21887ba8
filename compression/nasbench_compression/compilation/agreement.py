"""Whether an artefact computes what its network computes: the one comparison of all backends.

How far two right programs for one network may be apart hangs on the network, so it is measured on the network itself,
which is computed again with a disturbance of the size of the precision. In float32, float16 and bfloat16 every
weight and every result of an operator is moved by up to one unit in the last place, at random; what comes of it grows
with depth and cancellation just as rounding errors do. In int8 every weight (by output channel) and every result is
rounded to 256 levels between its extremes. An artefact may be off by a multiple of what the disturbance did:

- 64 in float32, where sums are rounded, too, and every runtime adds in an order of its own: the error of a sum of 4,096
  products in random order is about sqrt(4096) = 64 units in the last place (Higham, Accuracy and Stability of Numerical
  Algorithms, 2002, section 4.2). Winograd's convolutions and approximated exponentials stay within it; an activation
  that is another function does not.
- 8 in float16 and bfloat16: sums are float32, but weights and results are rounded, some twice, and the largest
  error over all images counts, here over a few.
- 8 in int8: ranges may be twice as wide where they are read from more images, twice as wide again where they must lie
  symmetric around zero; and what is cut off where they come from a histogram, as torchao takes them, counts as much
  as what is rounded. An artefact that is off by as much as its outputs are large is refused in any case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasbench_compression.compilation.signature import Array, Signature, native_type
from nasbench_compression.outputs import tensors_of
from nasbench_compression.quantization.modules import dequantize, per_channel, weight_levels
from nasbench_compression.surgery import inference
from nasbench_registry import UserError, WorkFailed

IMAGES = 8  # that are compared when a network is compiled
BATCH = 256  # images at a time where many are compared
_FLOATS = {"fp32": (2.0**-23, 64.0), "fp16": (2.0**-10, 8.0), "bf16": (2.0**-7, 8.0)}
"""One unit in the last place of a number from 1 to 2, and the multiple, for each precision."""
_LEVELS, _LEVELS_MULTIPLE = 255, 8.0  # of int8, and of what is no float
_DRAWS = 2  # of the disturbance; the larger effect counts
_OTHER_WHOLE = 0.01  # share of whole numbers, such as those of argmax, that may differ, for ties are broken at will


@dataclass(frozen=True)
class Agreement:
    """How an artefact compares with its network.

    Attributes:
        images: Number of images that were compared.
        difference: Difference of the output that comes closest to its limit. In int8, the root of the summed squares of
            the differences in units of that of the output; else the largest difference in units of the largest value;
            of whole numbers and truth values, the share that differs.
        allowed: Largest `difference` that is allowed.
        output: Name of that output; empty where there is only one.
        max_diff: Largest absolute difference of all outputs.
        largest: Largest absolute value that the network gives.
        same_class_pct: Share of images whose largest logit is the same, in percent; None where the first output is no
            matrix.
    """

    images: int
    difference: float
    allowed: float
    output: str
    max_diff: float
    largest: float
    same_class_pct: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Examined:
    """What is known about a network before it is compiled.

    Attributes:
        signature: Inputs that it takes and outputs that it gives.
        writes: Whether it writes into its input.
        inputs: Inputs (n, ...) on which the artefact is compared.
        limits: Largest `Agreement.difference` that each output may have; None where the network gives no numbers for
            random inputs, and there are no others.
    """

    signature: Signature
    writes: bool
    inputs: Tensor
    limits: Mapping[str, float] | None


def examine(network: nn.Module, example: Tensor, calibration: Tensor | None, precision: str) -> Examined:
    """Run a network on real inputs, or on random ones where there are none, before it is compiled.

    Args:
        network: Network; it is not changed.
        example: Inputs (n, ...) that the artefact is made for.
        calibration: Real inputs (m, ...); None where there are none.
        precision: Precision of the artefact.

    Raises:
        UserError: The network does not run on the example, gives no tensor, other outputs each time, or NaN.
    """
    network = _reference_network(network, precision)
    inputs, are_real = _comparison_inputs(example, calibration)
    try:
        outputs, writes = _first_run(network, inputs)
        single_outputs = _run(network, inputs[:1])
    except Exception:  # whatever a network raises that takes no other number of inputs
        inputs = _cycled(inputs, len(example))
        try:
            outputs, writes = _first_run(network, inputs)
        except Exception as error:
            shape = tuple(example.shape)
            raise UserError(
                f"the network does not run on the example inputs, one tensor of shape {shape} and type "
                f"{example.dtype}: {type(error).__name__}: {_line(error)}; give a network that takes such a tensor "
                f"alone, or an example of what it takes."
            ) from error
        single_outputs = None
    if not outputs:
        raise UserError(
            "the network gives no tensor; give one whose output is a tensor, or several in a tuple or dict."
        )
    limits = None
    if are_real or all(bool(output.isfinite().all()) for output in outputs.values()):
        _check_finite(network, outputs)
        limits = _limits(network, inputs, outputs, precision)
    axes = tuple(
        _axis(output, None if single_outputs is None else single_outputs.get(name)) for name, output in outputs.items()
    )
    whole = single_outputs is None
    if limits is not None:
        redrawn = _run(network, inputs, seed=1)
        if any(not _difference(redrawn[name], output, precision) <= limits[name] for name, output in outputs.items()):
            raise UserError(
                "the network gives other outputs for the same images each time, so no artefact can agree with it; "
                "make it draw no random numbers in evaluation mode."
            )
        whole = single_outputs is None or not _is_part(single_outputs, outputs, axes, limits, precision)
    fixed = len(inputs) if single_outputs is None else None
    signature = Signature(example.ndim, _numpy_type(example), tuple(outputs), axes, whole=whole, fixed=fixed)
    return Examined(signature, writes, inputs, limits)


@dataclass(frozen=True)
class Limits:
    """How far the outputs of an artefact may be from those of its network, and how it is compared.

    Attributes:
        artefact: Artefact in words, such as "the artefact of backend 'tvm'".
        precision: Precision of the artefact.
        by_output: Largest `Agreement.difference` that each output may have, see `Examined`.
        whole: Number of inputs that the artefact must be given at a time; None is any number.
    """

    artefact: str
    precision: str
    by_output: Mapping[str, float]
    whole: int | None = None

    def check(self, call: Callable[[Array], Any], network: nn.Module, inputs: Tensor) -> Agreement:
        """Compare an artefact with its network.

        Args:
            call: Artefact, a `CompiledModel`.
            network: Network from which the artefact was made.
            inputs: Real inputs (n, ...).

        Raises:
            WorkFailed: The artefact computes something else; the message says by how much.
        """
        network = _reference_network(network, self.precision)
        tallies = {name: _Tally(self.precision) for name in self.by_output}
        same_class: list[Tensor] = []
        if self.whole is None:
            # The first one alone, so that the artefact is seen with batches of different sizes.
            pieces = [inputs[:1], *(piece for piece in torch.split(inputs[1:], BATCH) if len(piece))]
        else:
            pieces = list(torch.split(_cycled(inputs, -(-len(inputs) // self.whole) * self.whole), self.whole))
        for piece in pieces:
            expected = _run(network, piece)
            outputs = _by_name(call(_as_array(piece)), expected, self.artefact)
            for name, output in expected.items():
                tallies[name].add(outputs[name], output)
            name, logits = next(iter(expected.items()))
            if logits.ndim == 2 and logits.is_floating_point() and logits.shape[1] > 1:
                same_class.append(outputs[name].argmax(1) == logits.argmax(1))
        name = max(tallies, key=lambda name: tallies[name].difference / self.by_output[name])
        agreement = Agreement(
            images=sum(map(len, pieces)),
            difference=tallies[name].difference,
            allowed=self.by_output[name],
            output=name,
            max_diff=max(tally.max_diff for tally in tallies.values()),
            largest=max(tally.largest for tally in tallies.values()),
            same_class_pct=100 * float(torch.cat(same_class).double().mean()) if same_class else None,
        )
        if not agreement.difference <= agreement.allowed:
            raise WorkFailed(_verdict(self.artefact, agreement, self.precision))
        return agreement


def _verdict(artefact: str, agreement: Agreement, precision: str) -> str:
    output = f"output {agreement.output!r}" if agreement.output else "output"
    return (
        f"{artefact} does not compute what the network computes: on {agreement.images} image(s) its {output} is off by "
        f"{agreement.difference:.2g} of its size, where {precision} explains {agreement.allowed:.2g} in this network "
        f"(the largest difference is {agreement.max_diff:.3g}, the largest value {agreement.largest:.3g}); take "
        f"another backend or precision."
    )


class _Tally:
    """Sums over pieces of the outputs of an artefact and of its network, for one output."""

    def __init__(self, precision: str) -> None:
        self._by_squares = precision not in _FLOATS
        self._whole_numbers = False
        self._count = self._unequal = 0
        self._squares = self._squares_apart = 0.0
        self.max_diff = self.largest = 0.0

    def add(self, output: Tensor, expected: Tensor) -> None:
        """Add two tensors of one shape to the sums."""
        self._whole_numbers = not (expected.is_floating_point() or expected.is_complex())
        wide = torch.complex128 if expected.is_complex() else torch.float64
        ours, theirs = output.to(wide), expected.to(wide)
        same = (ours == theirs) | (ours.isnan() & theirs.isnan())
        apart = torch.where(same, 0.0, (ours - theirs).abs()).nan_to_num(nan=float("inf"))
        size = torch.where(theirs.isfinite(), theirs.abs(), 0.0)
        self._count += same.numel()
        self._unequal += int((~same).sum())
        if same.numel():
            self.max_diff = max(self.max_diff, float(apart.max()))
            self.largest = max(self.largest, float(size.max()))
        self._squares += float(size.square().sum())
        self._squares_apart += float(apart.square().sum())

    @property
    def difference(self) -> float:
        """See `Agreement.difference`."""
        if self._whole_numbers:
            return self._unequal / max(1, self._count)
        apart, size = (
            (self._squares_apart**0.5, self._squares**0.5) if self._by_squares else (self.max_diff, self.largest)
        )
        return apart / size if size > 0 else apart


def _difference(output: Tensor, expected: Tensor, precision: str) -> float:
    if output.shape != expected.shape:
        return float("inf")
    tally = _Tally(precision)
    tally.add(output, expected)
    return tally.difference


def _limits(network: nn.Module, inputs: Tensor, outputs: Mapping[str, Tensor], precision: str) -> dict[str, float]:
    """Largest difference that is allowed for each output: a multiple of the effect of a disturbance."""
    native_precision = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(native_type(network))
    if precision in _FLOATS and native_precision is not None and _FLOATS[native_precision][0] > _FLOATS[precision][0]:
        precision = native_precision  # the network itself is no more exact
    unit, multiple = _FLOATS.get(precision, (1 / _LEVELS, _LEVELS_MULTIPLE))
    effect = dict.fromkeys(outputs, unit)
    for seed in range(_DRAWS if precision in _FLOATS else 1):
        disturbed = _run_disturbed(network, inputs, _Disturbance(precision, seed))
        for name, output in outputs.items():
            effect[name] = max(effect[name], _difference(disturbed[name], output, precision))
    return {
        name: effect[name] + _OTHER_WHOLE
        if not (output.is_floating_point() or output.is_complex())
        else min(1.0, multiple * effect[name])
        for name, output in outputs.items()
    }


class _Disturbance(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Inside it, every result of an operator is as inexact as in a precision.

    Args:
        precision: Key of `_FLOATS`, or anything else for int8.
        seed: Random seed of the disturbance.
    """

    def __init__(self, precision: str, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self._unit = _FLOATS[precision][0] if precision in _FLOATS else None
        self._random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, and disturb what is no view of something else."""
        result = func(*args, **(kwargs or {}))
        aliases = [value.alias_info for value in func._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases):
            for value in tree_leaves(result):
                if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
                    value.copy_(self.moved(value))
        return result

    def moved(self, value: Tensor) -> Tensor:
        """A result, disturbed."""
        if self._unit is not None:
            draw = torch.rand(value.shape, generator=self._random).to(value)
            return value * (1 + self._unit * (2 * draw - 1))
        finite = torch.where(value.isfinite(), value, 0)
        step = (finite.amax().clamp(min=0) - finite.amin().clamp(max=0)) / _LEVELS
        return torch.where(value.isfinite(), (finite / step).round() * step, value) if step > 0 else value

    def moved_weight(self, weight: Tensor) -> Tensor:
        """A weight, disturbed; in int8 by output channel, and biases not at all."""
        if self._unit is not None:
            return self.moved(weight)
        if weight.ndim < 2 or not bool(weight.isfinite().all()):
            return weight
        levels, scale = weight_levels(weight)
        return levels * per_channel(scale, weight.ndim)


def _run(network: nn.Module, inputs: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """The outputs of a network by name, on the CPU; the inputs are left as they were."""
    return _called(network, network, _as_taken(network, inputs), seed)


def _called(network: nn.Module, call: Callable[[Tensor], Any], batch: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Outputs of a call of a network in evaluation mode; the call may write into its inputs."""
    with inference(network), torch.random.fork_rng(devices=[batch.device] if batch.is_cuda else []):
        torch.manual_seed(seed)
        return {name: output.detach().cpu().clone() for name, output in tensors_of(call(batch)).items()}


def _run_disturbed(network: nn.Module, inputs: Tensor, disturbance: _Disturbance) -> dict[str, Tensor]:
    """The outputs with weights and results moved."""
    weights = {name: weight for name, weight in network.named_parameters() if weight.is_floating_point()}
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        weights = {}  # they cannot be replaced for a call
    with torch.no_grad():
        moved = {name: disturbance.moved_weight(weight) for name, weight in weights.items()}

    def call(batch: Tensor) -> Any:
        with disturbance:
            return functional_call(network, moved, (batch,)) if moved else network(batch)

    return _called(network, call, _as_taken(network, inputs))


def _first_run(network: nn.Module, inputs: Tensor) -> tuple[dict[str, Tensor], bool]:
    """The outputs, and whether the network wrote into its input."""
    batch = _as_taken(network, inputs)
    before = batch.clone()
    outputs = _called(network, network, batch)
    return outputs, not torch.equal(batch.nan_to_num(), before.nan_to_num())


def _as_taken(network: nn.Module, inputs: Tensor) -> Tensor:
    """A copy of the inputs in the type and on the device of the network."""
    device = next((tensor.device for tensor in (*network.parameters(), *network.buffers())), inputs.device)
    dtype = native_type(network) if inputs.is_floating_point() else inputs.dtype
    return inputs.to(device, dtype, copy=True)


def _reference_network(network: nn.Module, precision: str) -> nn.Module:
    """The network that an artefact is compared with: in a float precision, a quantized one has its inputs in float."""
    return dequantize(network) if precision in _FLOATS else network


def _comparison_inputs(example: Tensor, calibration: Tensor | None) -> tuple[Tensor, bool]:
    """Inputs to compare on, from two up, and whether they are real ones."""
    if calibration is not None and len(calibration) > 0:
        return _cycled(calibration[:IMAGES], max(2, min(IMAGES, len(calibration)))), True
    example_inputs = example[:IMAGES]
    is_real = bool(
        (example_inputs != example_inputs.flatten()[0]).any()
    )  # an example of zeros only says what shape inputs have
    if not example_inputs.is_floating_point():
        return torch.cat([example_inputs, example_inputs.flip(-1)]), is_real
    noise = torch.randn(
        max(2, IMAGES - len(example_inputs)), *example_inputs.shape[1:], generator=torch.Generator().manual_seed(0)
    )
    return torch.cat([example_inputs, noise]), is_real


def _cycled(inputs: Tensor, count: int) -> Tensor:
    """So many inputs: the first ones, or all and then the first ones again."""
    return inputs[torch.arange(count) % len(inputs)]


def _check_finite(network: nn.Module, outputs: Mapping[str, Tensor]) -> None:
    """Raise UserError where a network gives NaN, or nothing finite, and say which of its weights are to blame."""
    for name, output in outputs.items():
        if not output.numel() or (not bool(output.isnan().any()) and bool(output.isfinite().any())):
            continue
        infinite_count = int((~output.isfinite()).sum())
        weights = {
            path: int((~weight.isfinite()).sum())
            for path, weight in network.state_dict().items()
            if isinstance(weight, Tensor) and weight.is_floating_point()
        }
        blamed = [f"{path} has {count}" for path, count in weights.items() if count]
        raise UserError(
            f"{infinite_count} of {output.numel()} values that the network gives{f' as {name!r}' if name else ''} are "
            f"not finite, so no artefact can be compared with it; "
            + (f"of its weights, {', '.join(blamed[:3])} that are not." if blamed else "look at its inputs.")
        )


def _axis(output: Tensor, single_output: Tensor | None) -> int | None:
    """Along which the images of a batch lie, given the output for one of them; None if along none or several."""
    if single_output is None or single_output.ndim != output.ndim:
        return None
    axes = [
        axis
        for axis, (batch_size, single_size) in enumerate(zip(output.shape, single_output.shape, strict=True))
        if batch_size != single_size
    ]
    return axes[0] if len(axes) == 1 else None


def _is_part(
    single_outputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    axes: tuple[int | None, ...],
    limits: Mapping[str, float],
    precision: str,
) -> bool:
    """Whether an image has by itself the outputs that it has in a batch."""
    if single_outputs.keys() != outputs.keys():
        return False
    for (name, output), axis in zip(outputs.items(), axes, strict=True):
        part = output if axis is None else output.narrow(axis, 0, single_outputs[name].shape[axis])
        if not _difference(single_outputs[name], part, precision) <= limits[name]:
            return False
    return True


def _by_name(outputs: Any, expected: Mapping[str, Tensor], artefact: str) -> dict[str, Tensor]:
    """Outputs of an artefact, by the names of the network's outputs."""
    if isinstance(outputs, Mapping):
        named = {str(name): torch.from_numpy(np.asarray(output)) for name, output in outputs.items()}
    else:
        output_tuple = outputs if isinstance(outputs, tuple) else (outputs,)
        named = {
            name: torch.from_numpy(np.asarray(output)) for name, output in zip(expected, output_tuple, strict=False)
        }
        if len(output_tuple) > len(expected):
            named |= {f"output {number}": torch.empty(0) for number in range(len(expected), len(output_tuple))}
    shapes = {name: tuple(output.shape) for name, output in named.items()}
    expected_shapes = {name: tuple(output.shape) for name, output in expected.items()}
    if shapes != expected_shapes:
        raise WorkFailed(
            f"{artefact} gives outputs of other shapes than the network, {_shapes(shapes)} in the place of "
            f"{_shapes(expected_shapes)}; take another backend."
        )
    return named


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}".strip() for name, shape in shapes.items()) or "none"


def _as_array(inputs: Tensor) -> Array:
    return inputs.float().numpy() if inputs.is_floating_point() else inputs.numpy()


def _numpy_type(inputs: Tensor) -> str:
    return "float32" if inputs.is_floating_point() else str(inputs.dtype).removeprefix("torch.")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or "no message"
