"""Proof by experiment that a cut removes what it claims to remove."""

from __future__ import annotations

import contextlib
import linecache
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from nasbench_compression.copying import copy_network, summary
from nasbench_compression.outputs import difference, tensors_of
from nasbench_compression.pruning.coupling import OUTPUT, follow
from nasbench_compression.pruning.plan import Cut, Uncut, Undo, apply_cuts, merge, zero_cuts
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import seeded
from nasbench_registry import UserError

_TOLERANCE = 1e-4  # relative to the largest output; a wrong cut is off by far more on random weights
_PRECISE = (torch.float32, torch.float64)


class Probe:
    """A copy of a network with random weights on which cuts are tried before the real one is cut.

    If the producers of some channels yield exactly zero, then removing these channels must not change the output. An
    operation that is not what it was taken for, or a number that stands in the code, can break this. Weights are random
    because a trained or a freshly initialized network may hardly react to some channels.

    Args:
        model: Network; it is copied.
        example_inputs: Images (n, c, h, w), of which only shape and type are used; of whole numbers, such as
            tokens, the first and the last one.
        generator: Random generator on the CPU, for weights and inputs.

    Attributes:
        model: Copy of the network, in evaluation mode on the CPU; in single precision where it has less, and in double
            precision where a rounding of the images would move the outputs of single precision as far as a wrong cut
            does.
        inputs: Two random images, (2, c, h, w).
        coupling: Channels of the network that go together.

    Raises:
        UserError: The network has no copy, or does not run on such images.
    """

    def __init__(self, model: nn.Module, example_inputs: Tensor, generator: torch.Generator) -> None:
        self.model = copy_network(model).cpu().eval()
        _randomize(self.model, generator)
        self.inputs = _inputs_like(example_inputs, generator)
        imprecise = [*self.model.parameters(), *self.model.buffers(), self.inputs]
        if any(tensor.is_floating_point() and tensor.dtype not in _PRECISE for tensor in imprecise):
            self._cast(torch.float32)
        whole = not (self.inputs.is_floating_point() or self.inputs.is_complex())
        if whole or (self.inputs.dtype == torch.float32 and self._is_chaotic(generator)):
            self._cast(torch.float64)  # of whole numbers no rounding tells how far it moves the outputs
            if not self._runs():  # its code asks for single precision
                self._cast(torch.float32)
        self._undo = Undo(self.model)
        self._merged_off: float | None = None
        try:
            self.coupling = follow(self.model, self.inputs)
            self._merged_off = self._merging()
        except Exception as error:  # whatever the user's network raises
            raise UserError(
                f"prune cannot run this network on images of shape {tuple(example_inputs.shape[1:])} and type "
                f"{str(self.inputs.dtype).removeprefix('torch.')} ({summary(error)}); give images as its forward takes "
                f"them, as its only input."
            ) from error
        finally:
            self._undo()

    def _cast(self, dtype: torch.dtype) -> None:
        """Weights, and inputs unless they are whole numbers, in this type."""
        self.model = self.model.to(dtype)
        self.inputs = self.inputs.to(dtype) if self.inputs.is_floating_point() else self.inputs

    def _output(self) -> Any:
        """The same for the same weights, also of a network that draws random numbers."""
        with seeded(0, device=self.inputs.device):
            return self.model(self.inputs)

    def _is_chaotic(self, generator: torch.Generator) -> bool:
        """Whether single precision is not enough to compare outputs, as in deep networks with random weights."""
        undo = Undo(self.model)
        inputs = self.inputs
        noise = torch.randn(inputs.shape, generator=generator) * torch.finfo(torch.float32).eps
        try:
            with torch.no_grad():
                expected = self._output()
                self.inputs = inputs * (1 + noise)
                return difference(self._output(), expected) > _TOLERANCE / 10
        except Exception:  # whatever the user's network raises; it does again, when it is followed
            return False
        finally:
            self.inputs = inputs
            undo()

    def _runs(self) -> bool:
        undo = Undo(self.model)
        try:
            with torch.no_grad():
                self._output()
        except Exception:  # whatever the user's network raises
            return False
        finally:
            undo()
        return True

    @contextlib.contextmanager
    def cut(self, cuts: Sequence[Cut]) -> Iterator[nn.Module]:
        """The network without these channels, as long as the block lasts; `cuts` as `merge` gives them."""
        try:
            apply_cuts(self.model, cuts)
            yield self.model
        finally:
            self._undo()

    def why_wrong(self, cuts: Sequence[Cut]) -> str | None:
        """Why cutting these channels, all at once, would be wrong, in words; None if it is right."""
        cuts = merge(cuts)
        with torch.no_grad():
            try:
                zero_cuts(self.model, cuts)
                expected = self._output()
                self._undo()
                apply_cuts(self.model, cuts)
                cut_output = self._output()
                reason = _difference(cut_output, expected)
                if reason is None and self._merged_off is not None:
                    reason = self._why_unmerged()
                return reason
            except Uncut as error:
                return str(error)
            except Exception as error:  # of the library or of the network: of any kind, and it decides this cut only
                return f"the network fails without some of them, {self._where(error)}"
            finally:
                self._undo()

    def _merging(self) -> float | None:
        """How far merging branches for deployment moves the outputs, by rounding; None where nothing merges."""
        merged = reparameterize(self.model)
        if merged is self.model:
            return None
        with seeded(0, device=self.inputs.device), torch.no_grad():
            return difference(merged(self.inputs), self.model(self.inputs))

    def _why_unmerged(self) -> str | None:
        """Why the network, as it is cut now, would not merge its branches any more; None if it would."""
        try:
            off = self._merging()
        except Exception as error:  # whatever the user's reparameterize() raises
            return f"branches cannot be merged for deployment without some of them ({summary(error)})"
        assert self._merged_off is not None, "the whole network merges"
        if off is None or off <= max(_TOLERANCE, 10 * self._merged_off):
            return None
        return f"without some of them, merging branches for deployment changes the output by {off:.1e} of its size"

    def _where(self, error: Exception) -> str:
        """In which module, and at which line of the user's code, a forward pass failed."""
        names = {module: name for name, module in self.model.named_modules()}
        module, line = "", ""
        for frame, number in traceback.walk_tb(error.__traceback__):
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and names.get(owner):
                module = f"in {names[owner]} ({type(owner).__name__})"
            path = frame.f_code.co_filename
            text = linecache.getline(path, number, frame.f_globals).strip()
            if text and not path.startswith(_OTHERS):
                line = f"at line {number} of {Path(path).name}, `{text}`"
        places = ", ".join(place for place in (module, line) if place)
        return places or f"with {type(error).__name__}"

    def accept(self, plans: Sequence[Sequence[Cut]], accepted: list[Cut]) -> dict[int, str]:
        """Add to `accepted` what can be cut together with it; the others by their index, each with the reason.

        All are tried together; what fails is tried in halves, so that a network without wrong ones costs one trial.
        """
        wrong: dict[int, str] = {}

        def visit(start: int, stop: int) -> None:
            together = [cut for plan in plans[start:stop] for cut in plan]
            reason = self.why_wrong([*accepted, *together]) if together else None
            if reason is None:
                accepted.extend(together)
            elif stop - start == 1:
                wrong[start] = reason
            else:
                middle = (start + stop) // 2
                visit(start, middle)
                visit(middle, stop)

        if plans:
            visit(0, len(plans))
        return wrong


_OTHERS = tuple(str(Path(path).parent) for path in (torch.__file__, str(torch_pruning.__file__), __file__))
"""Folders of code that is not the user's."""


def _difference(cut_output: Any, expected: Any) -> str | None:
    """What is wrong with the output of the cut network, if anything."""
    shapes = [{name: tensor.shape for name, tensor in tensors_of(output).items()} for output in (cut_output, expected)]
    if shapes[0] != shapes[1]:
        return OUTPUT
    off = difference(cut_output, expected)
    if off <= _TOLERANCE:
        return None
    return (
        f"removing channels that are zero changes the output by {off:.1e} of its size: they are rearranged, or "
        f"something is computed of all of them together"
    )


def _inputs_like(example: Tensor, generator: torch.Generator) -> Tensor:
    """Two random inputs; of whole numbers, which may have to be below a limit, two of the example."""
    if example.dtype in (torch.uint8, torch.bool):
        return torch.randint(256, (2, *example.shape[1:]), generator=generator).to(example.dtype)
    if example.is_floating_point() or example.is_complex():
        return torch.randn((2, *example.shape[1:]), generator=generator).to(example.dtype)
    return example.detach().cpu()[[0, -1]]


def _randomize(model: nn.Module, generator: torch.Generator) -> None:
    """Weights under which every channel matters: He et al. 2015 for matrices, around one for scales."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not (parameter.is_floating_point() or parameter.is_complex()):
                continue
            if parameter.ndim > 1 or parameter.is_complex():
                fan_in = max(parameter[:1].numel(), 1)
                parameter.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            elif name.endswith("weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.uniform_(-0.5, 0.5, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1, generator=generator)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
