"""The product of spaces: an architecture together with other choices, such as those of a compression recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nasbench_registry import UserError
from search_spaces.core import Architecture, DecisionSpace, SearchSpace, Task
from search_spaces.diagram import Graph
from search_spaces.language import inside

if TYPE_CHECKING:
    from torch import nn

SEPARATOR = " & "


class ProductSpace(SearchSpace):
    """All combinations of an architecture of the first space and a point of each of the others.

    Its notation is that of its factors, joined by `` & ``. `build` builds the network of the first factor; `split`
    gives the points of all.

    Args:
        network: Space of networks.
        others: Spaces to multiply it by; they need not build anything.
    """

    summary = "all combinations of the points of several spaces"

    def __init__(self, network: SearchSpace, *others: DecisionSpace) -> None:
        if not others:
            raise UserError(f"a product needs at least two spaces, not only {network.name!r}.")
        self.network = network
        self.factors: tuple[DecisionSpace, ...] = (network, *others)
        names = [space.name for space in self.factors]
        if len(set(names)) != len(names):
            raise UserError(f"the factors of a product need different names, not {', '.join(names)}.")
        self.name = "*".join(names)
        self.decisions = tuple(
            decision for space in self.factors for decision in inside(space.name.replace(".", "_"), space)
        )

    def split(self, arch: Architecture) -> tuple[Architecture, ...]:
        """The point of each factor, in their order."""
        self.require_valid(arch)
        return tuple(Architecture(part.space.name, arch.picks[part.start : part.stop]) for part in self.layout.parts)

    def join(self, archs: Sequence[Architecture]) -> Architecture:
        """The architecture whose `split` these are."""
        joined = Architecture(self.name, tuple(pick for arch in archs for pick in arch.picks))
        own = all(arch.space == space.name for space, arch in zip(self.factors, archs, strict=True))
        if not own or not self.is_valid(joined):
            for space, arch in zip(self.factors, archs, strict=True):  # the sentence of the factor says more
                space.require_valid(arch)
            self.require_valid(joined)
        return joined

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """The network of the first factor."""
        return self.network.build(self.split(arch)[0], task)

    def network_key(self, arch: Architecture) -> tuple[int, ...]:
        """The key of the first factor: the others do not change the network that `build` gives."""
        return self.network.network_key(self.split(arch)[0])

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The diagram of the first factor."""
        return self.network.diagram(self.split(arch)[0], task)

    def format(self, arch: Architecture) -> str:
        """The notations of the factors, joined by `` & ``."""
        return SEPARATOR.join(space.format(part) for space, part in zip(self.factors, self.split(arch), strict=True))

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        return self.join(_parse(self.factors, text.strip()))


def _parse(factors: Sequence[DecisionSpace], text: str) -> list[Architecture]:
    """Reads as much for the first factor as it takes, for the notation of a factor may hold the separator itself."""
    if len(factors) == 1:
        return [factors[0].parse(text)]
    pieces = text.split(SEPARATOR)
    if len(pieces) < len(factors):
        names = ", ".join(space.name for space in factors)
        raise UserError(
            f"{text!r} has {len(pieces)} part(s) where {names} need {len(factors)}, joined by {SEPARATOR!r}."
        )
    problem: UserError | None = None
    for split_at in range(1, len(pieces) - len(factors) + 2):
        try:
            first = factors[0].parse(SEPARATOR.join(pieces[:split_at]))
            return [first, *_parse(factors[1:], SEPARATOR.join(pieces[split_at:]))]
        except UserError as error:
            problem = problem or error
    assert problem is not None, "the loop runs at least once"
    raise problem
