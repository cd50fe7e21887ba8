"""Proof by experiment that a cut removes what it claims to remove."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from nasbench_compression.pruning.plan import Cut, Undo, apply_cuts, merge, trace, zero_cuts

OUTPUT = "its output is the output of the network"
_TOLERANCE = 1e-4  # relative to the largest logit; a wrong cut is off by far more on random weights


class Probe:
    """A copy of a network with random weights on which cuts are tried before the real one is cut.

    If the producers of some channels yield exactly zero, then removing these channels must not change the output.
    Reshapes, splits, concatenations and shuffles of channels can break this: the dependency graph then removes the
    wrong channels. Weights are random because a trained or a freshly initialized network may hardly react to some
    channels.

    Args:
        model: the network; copied.
        example_inputs: (n, c, h, w), of which only the shape is used.
        generator: a CPU generator for weights and inputs.

    Attributes:
        model: the copy, in evaluation mode on the CPU.
        inputs: (2, c, h, w) random images.
        graph: torch-pruning's dependency graph of it.
    """

    def __init__(self, model: nn.Module, example_inputs: Tensor, generator: torch.Generator) -> None:
        self.model = copy.deepcopy(model).cpu().eval()
        _randomize(self.model, generator)
        self.inputs = torch.randn((2, *example_inputs.shape[1:]), generator=generator)
        self.graph = trace(self.model, self.inputs)

    @contextlib.contextmanager
    def cut(self, cuts: Sequence[Cut]) -> Iterator[nn.Module]:
        """The network without these channels, as long as the block lasts; `cuts` as `merge` gives them."""
        undo = Undo(self.model, cuts)
        try:
            apply_cuts(self.model, cuts)
            yield self.model
        finally:
            undo()

    def why_wrong(self, cuts: Sequence[Cut]) -> str | None:
        """Why cutting these channels, all at once, would be wrong, in words; None if it is right."""
        cuts = merge(cuts)
        undo = None
        with torch.no_grad():
            try:
                undo = Undo(self.model, cuts)
                zero_cuts(self.model, cuts)
                expected = self.model(self.inputs)
                undo()
                apply_cuts(self.model, cuts)
                found = self.model(self.inputs)
            except Exception as error:  # of the library or of the network: of any kind, and it decides this cut only
                message = " ".join(str(error).split())[:200]
                return f"the network fails without these channels: {type(error).__name__}: {message}"
            finally:
                if undo is not None:
                    undo()
        return _difference(found, expected)

    def accept(self, plans: Sequence[Sequence[Cut]], accepted: list[Cut]) -> dict[int, str]:
        """Add to `accepted` what can be cut together with it; the others by their index, each with the reason.

        The last plan is tried alone, for it often holds the layer that gives the output, and the others together; what
        fails is tried in halves, so that a network without wrong ones costs two trials.
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

        last = max(len(plans) - 1, 0)
        visit(last, len(plans))
        visit(0, last)
        return wrong


def _difference(found: Tensor, expected: Tensor) -> str | None:
    """What is wrong with the output of the cut network, if anything."""
    if found.shape != expected.shape:
        return OUTPUT
    difference = (found - expected).abs().max().item() / max(expected.abs().max().item(), 1e-12)
    if difference <= _TOLERANCE:
        return None
    return f"removing channels that are zero changes the output by {difference:.1e} of its size: they are rearranged"


def _randomize(model: nn.Module, generator: torch.Generator) -> None:
    """Weights under which every channel matters: He et al. 2015 for matrices, around one for scales."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
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
