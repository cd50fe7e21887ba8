"""A table without surprises, and a loop that runs a controller on it."""

from controllers import Outcome
from search_spaces import Decision, SearchSpace

TARGET = (3, 1, 2, 0, 3, 2)


class Hill(SearchSpace):
    """Six decisions of four options. By `height` it is one hill: from everywhere else some neighbour is higher."""

    name = "hill"
    decisions = tuple(Decision(f"d{i}", (0, 1, 2, 3)) for i in range(6))

    def build(self, arch, task):
        raise AssertionError("a controller never builds a network")


def height(arch):
    return 1.0 - sum(abs(a - b) for a, b in zip(arch.picks, TARGET, strict=True)) / 18


def run(controller, steps, score=lambda proposal: (height(proposal.arch),)):
    """The proposals, each answered at once; `score` gives a tuple or None."""
    proposals = []
    for _ in range(steps):
        proposals.append(controller.ask())
        controller.tell(Outcome(proposals[-1], score(proposals[-1])))
    return proposals
