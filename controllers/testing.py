"""Is a controller of one's own sound? The checks that ours pass, for any class derived from `Controller`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from controllers.core import Controller, Outcome, Proposal, SearchFinished
from nasbench_registry import UserError
from search_spaces import Architecture, Decision, SearchSpace, Task

STEPS = 60


class Corners(SearchSpace):
    """Six decisions of four options, of which two corners are invalid; nothing is built."""

    name = "corners"
    decisions = tuple(Decision(f"d{number}", (0, 1, 2, 3)) for number in range(6))

    def build(self, arch: Architecture, task: Task) -> Any:
        """Nothing: a controller never builds a network."""
        raise UserError("a controller asked for a network; it only ever sees architectures and scores.")

    def is_valid(self, arch: Architecture) -> bool:
        """All but the two corners."""
        return super().is_valid(arch) and sum(arch.picks) not in (0, 18)


def check_controller(
    kind: type[Controller],
    options: Mapping[str, Any] | None = None,
    *,
    space: SearchSpace | None = None,
    steps: int = STEPS,
) -> list[str]:
    """The faults of a controller, in a sentence each; an empty list if it keeps the contract.

    Proposals are valid and made of Python's integers; the same seed gives the same proposals and the global random
    generators stay as they were; as many as `lookahead` says may be asked for in a row; outcomes come in any order,
    fail, or are of architectures it never asked for; a new object goes on from its state as JSON; the state of another
    controller is refused; several scores work or are refused.

    Args:
        kind: Class of the controller.
        options: Options of the class, such as a small population, so that it learns within `steps`.
        space: Search space; None is a small one.
        steps: Number of proposals of each check.
    """
    where = space or Corners()

    def make(seed: int = 0) -> Controller:
        return kind(where, seed=seed, **(options or {}))

    problems = []
    for check in CHECKS:
        try:
            problems += list(check(make, steps))
        except SearchFinished:
            problems.append(f"{check.__name__}: it raised SearchFinished within {steps} proposals.")
        except Exception as error:  # whatever a user's class raises is a finding
            words = " ".join(str(error).split()) or "no message"
            problems.append(f"{check.__name__}: it raised {type(error).__name__}: {words}")
    return problems


Make = Callable[..., Controller]


def _value(arch: Architecture) -> float:
    """A smooth function of the picks, so that good architectures lie near each other."""
    return -sum(abs(pick - index % 3) for index, pick in enumerate(arch.picks)) / 10


def _run(
    controller: Controller, steps: int, fails: Callable[[Architecture], bool] = lambda arch: False
) -> list[Proposal]:
    proposals = []
    for _ in range(steps):
        proposal = controller.ask()
        if proposal is None:
            raise UserError("ask() returns None although no proposal is outstanding: a search would wait for ever.")
        proposals.append(proposal)
        controller.tell(Outcome(proposal, None if fails(proposal.arch) else (_value(proposal.arch),)))
    return proposals


def proposals_are_valid(make: Make, steps: int) -> Iterator[str]:
    """Proposals are of the space, and made of Python's integers."""
    controller = make()
    for proposal in _run(controller, steps):
        if not controller.space.is_valid(proposal.arch):
            yield f"it proposes {proposal.arch.picks}, which is not valid in space {controller.space.name!r}."
            return
        if not all(type(pick) is int for pick in proposal.arch.picks):
            yield f"the picks {proposal.arch.picks} are not Python's integers; write int(pick), for they become JSON."
            return


def lookahead_holds(make: Make, steps: int) -> Iterator[str]:
    """As many proposals as `lookahead` says in a row are those that come one after the other."""
    ahead, alone = make(), make()
    proposed = 0
    while proposed < steps:
        count = ahead.lookahead(0)
        if count < 1:
            yield f"lookahead(0) is {count}, and at least one proposal can always be asked for."
            return
        row = [ahead.ask() for _ in range(min(count, steps - proposed))]
        one_by_one = _run(alone, len(row))
        if row != one_by_one:
            yield (
                f"lookahead(0) was {count} after {proposed} outcomes, and of so many proposals in a row one is another "
                f"one than if the outcomes before it are told; let it return fewer."
            )
            return
        for proposal in one_by_one:
            ahead.tell(Outcome(proposal, (_value(proposal.arch),)))
        proposed += len(row)


def same_seed_same_proposals(make: Make, steps: int) -> Iterator[str]:
    """The same seed gives the same proposals, and the global generators are left alone."""
    before = torch.get_rng_state(), str(np.random.get_state())
    first, second, other = (_run(make(seed), steps) for seed in (0, 0, 1))
    if first != second:
        yield "the same seed gives other proposals; draw every random number from self.rng."
    if first == other:
        yield "another seed gives the same proposals; draw every random number from self.rng."
    if not torch.equal(before[0], torch.get_rng_state()) or before[1] != str(np.random.get_state()):
        yield "it uses the global generator of torch or NumPy; draw every random number from self.rng."


def outcomes_in_any_order(make: Make, steps: int) -> Iterator[str]:
    """Several proposals are outstanding at a time, and their outcomes come in any order."""
    controller, rng = make(), np.random.default_rng(0)
    running: list[Proposal] = []
    for _ in range(steps):
        while len(running) < 5 and (proposal := controller.ask()) is not None:
            running.append(proposal)
        if not running:
            yield "it waits for outcomes although none are outstanding."
            return
        proposal = running.pop(int(rng.integers(len(running))))
        controller.tell(Outcome(proposal, (_value(proposal.arch),)))


def failures(make: Make, steps: int) -> Iterator[str]:
    """All candidates fail, or some."""
    _run(make(), steps, fails=lambda arch: True)
    _run(make(), steps, fails=lambda arch: arch.picks[0] == 0)
    yield from ()


def foreign_architectures(make: Make, steps: int) -> Iterator[str]:
    """Outcomes come of architectures that the controller never asked for, as in a warm start."""
    controller, rng = make(), np.random.default_rng(5)
    for _ in range(10):
        arch = controller.space.sample(rng)
        controller.tell(Outcome(Proposal(arch), (_value(arch),)))
    _run(controller, steps // 2)
    yield from ()


def resume_through_json(make: Make, steps: int) -> Iterator[str]:
    """A new object with the state makes the same further proposals."""
    controller = make()
    _run(controller, steps // 2 + 1)
    outstanding = [proposal for proposal in (controller.ask() for _ in range(3)) if proposal is not None]
    state = json.loads(json.dumps(controller.state_dict()))
    twin = make(999)
    twin.load_state_dict(state)
    for replica in (controller, twin):
        for proposal in outstanding:
            replica.tell(Outcome(proposal, (_value(proposal.arch),)))
    if _run(controller, steps // 3) != _run(twin, steps // 3):
        yield "a new object with its state goes on otherwise; state_dict() leaves out something that ask() depends on."
    try:
        make().load_state_dict({**state, "controller": "somebody_else"})
    except UserError:
        return
    yield "it loads the state of another controller; call super().load_state_dict."


def several_scores(make: Make, steps: int) -> Iterator[str]:
    """Two scores at a time are taken, if the controller says so; otherwise they are refused."""
    controller = make()
    proposal = controller.ask()
    if proposal is None:
        yield "its first ask() returns None."
        return
    if not controller.multi_objective:
        try:
            controller.tell(Outcome(proposal, (1.0, 2.0)))
        except UserError:
            return
        yield "it says multi_objective = False and takes two scores; do not override tell()."
        return
    for _ in range(steps):
        controller.tell(Outcome(proposal, (_value(proposal.arch), -float(sum(proposal.arch.picks)))))
        following = controller.ask()
        if following is None:
            yield "with two scores it waits although no proposal is outstanding."
            return
        proposal = following


CHECKS = (
    proposals_are_valid,
    lookahead_holds,
    same_seed_same_proposals,
    outcomes_in_any_order,
    failures,
    foreign_architectures,
    resume_through_json,
    several_scores,
)
