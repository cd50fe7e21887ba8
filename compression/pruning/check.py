"""Proof by experiment that a cut removes what it claims to remove."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compression.pruning.plan import Cut, Undo, apply_cuts, plan_cuts, trace, zero_cuts

OUTPUT = "its output is the output of the network"
_TOLERANCE = 1e-4  # relative to the largest logit; a wrong cut is off by far more on random weights


class Probe:
    """A copy of a network with random weights on which each cut is tried before the real one is cut.

    If the producers of some channels yield exactly zero, then removing these channels must not change the output.
    Reshapes, splits, concatenations and shuffles of channels can break this: the dependency graph then removes the
    wrong channels. Weights are random because a trained or a freshly initialized network may hardly react to some
    channels; each following cut is tried on the network as the cuts before have left it.

    Args:
        model: the network; copied.
        example_inputs: (n, c, h, w), of which only the shape is used.
        generator: a CPU generator for weights and inputs.
    """

    def __init__(self, model: nn.Module, example_inputs: Tensor, generator: torch.Generator) -> None:
        self.model = copy.deepcopy(model).cpu().eval()
        _randomize(self.model, generator)
        shape = (2, *example_inputs.shape[1:])
        self.inputs = torch.randn(shape, generator=generator)
        self._graph = trace(self.model, self.inputs)

    def try_cut(self, layer: str, channels: Sequence[int], *, keep: bool = True) -> tuple[Cut, ...] | str:
        """The cuts for these output channels of `layer`, or, in words, why they would be wrong.

        Args:
            layer: name of a convolution or linear layer.
            channels: its output channels that are to go.
            keep: try the next cut on the network as this one leaves it.
        """
        undo = None
        with torch.no_grad():
            try:
                cuts = plan_cuts(self._graph, layer, channels)
                undo = Undo(self.model, cuts)
                zero_cuts(self.model, cuts)
                expected = self.model(self.inputs)
                undo()
                apply_cuts(self.model, cuts)
                found = self.model(self.inputs)
            except Exception as error:  # of the library or of the network: of any kind, and it decides this cut only
                if undo is not None:
                    undo()
                message = " ".join(str(error).split())[:200]
                return f"the network fails without these channels: {type(error).__name__}: {message}"
        reason = _difference(found, expected)
        if reason is None and keep:
            self._graph = trace(self.model, self.inputs)
        else:
            undo()
        return reason or cuts


def _difference(found: Tensor, expected: Tensor) -> str | None:
    """What is wrong with the output of the cut network, if anything."""
    if found.shape != expected.shape:
        return OUTPUT
    difference = (found - expected).abs().max().item() / max(expected.abs().max().item(), 1e-12)
    if difference <= _TOLERANCE:
        return None
    return (
        f"removing channels that are zero changes the output by {difference:.1e} of its size, so on their way they "
        f"are rearranged or normalized in groups"
    )


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
