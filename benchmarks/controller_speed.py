"""Time of controllers: microseconds for one ask and one tell, by the number of outcomes that they know.

Beside ours stand samplers of Optuna on the same decisions, in a study in memory, in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
import torch

from benchmarks.time_limit import TimeUp, time_limit
from controllers import Outcome, Proposal, SearchFinished, get_controller, stalled
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "optuna TPESampler": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "optuna NSGAIISampler": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
}
ROUNDS = 200


@dataclass(frozen=True)
class Timing:
    """Time of one controller with a number of outcomes.

    Attributes:
        controller: Name of the controller.
        told: Number of outcomes that it knew when the timing began.
        asked: Number of those outcomes that it had proposed itself; it was told the others to save time.
        us_per_ask_tell: Mean microseconds of processor time for one ask and one tell, which other programs on the
            machine do not lengthen; None if it was stopped.
        rounds: Number of rounds that were timed.
        stopped: Reason why there is no time; empty if there is one.
    """

    controller: str
    told: int
    asked: int
    us_per_ask_tell: float | None
    rounds: int
    stopped: str = ""


class Player(Protocol):
    """A controller or sampler that is timed."""

    def round(self) -> None:
        """One ask and one tell. Raises SearchFinished if there is nothing more to ask for."""

    def tell(self, arch: Architecture) -> None:
        """One tell of an architecture that was not asked for."""


class Scores:
    """Scores of every architecture: numbers for each option, added up. Smooth, so that models have work to do.

    Args:
        space: Space of the architectures.
        count: Number of scores.
        seed: Random seed of the numbers.
    """

    def __init__(self, space: SearchSpace, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.count = count
        self.weights = [
            [rng.normal(size=len(decision.options)).tolist() for decision in space.decisions] for _ in range(count)
        ]

    def __call__(self, picks: Sequence[int]) -> tuple[float, ...]:
        """The scores of an architecture; larger is better."""
        return tuple(
            float(sum(options[pick] for options, pick in zip(weights, picks, strict=True))) for weights in self.weights
        )


class Ours:
    """A controller of this project, by name."""

    def __init__(self, name: str, space: SearchSpace, scores: Scores, seed: int) -> None:
        self.controller, self.scores = get_controller(name, space, seed=seed), scores

    def round(self) -> None:
        """Ask for a proposal, and tell its score."""
        proposal = self.controller.ask()
        if proposal is None:
            raise stalled(self.controller.name)
        self.controller.tell(Outcome(proposal, self.scores(proposal.arch.picks)))

    def tell(self, arch: Architecture) -> None:
        """Tell the score of an architecture."""
        self.controller.tell(Outcome(Proposal(arch), self.scores(arch.picks)))


class Optunas:
    """A sampler of Optuna; each decision is a categorical parameter."""

    def __init__(self, sampler: optuna.samplers.BaseSampler, space: SearchSpace, scores: Scores) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(sampler=sampler, directions=["maximize"] * scores.count)
        self.scores = scores
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            decision.name: optuna.distributions.CategoricalDistribution(range(len(decision.options)))
            for decision in space.decisions
        }

    def round(self) -> None:
        """Ask for a proposal, and tell its score."""
        trial = self.study.ask(self.distributions)
        self.study.tell(trial, self.scores([trial.params[name] for name in self.distributions]))

    def tell(self, arch: Architecture) -> None:
        """Add a finished trial."""
        params: dict[str, Any] = dict(zip(self.distributions, arch.picks, strict=True))
        values = self.scores(arch.picks)
        self.study.add_trial(optuna.trial.create_trial(params=params, distributions=self.distributions, values=values))


def controller_speed(
    names: Sequence[str],
    space: SearchSpace,
    *,
    told: Sequence[int] = (100, 1_000, 10_000),
    objectives: int = 1,
    samplers: Sequence[str] = tuple(SAMPLERS),
    cap_s: float = 15.0,
    seed: int = 0,
    on_cell: Callable[[str, int], None] | None = None,
) -> list[Timing]:
    """Time controllers, one after the other, on one thread.

    A controller comes to its number of outcomes by asking and telling; if that takes more than a third of the cap, the
    rest are told to it without having been proposed. Then up to `ROUNDS` rounds are timed, up to a third of the cap.

    Args:
        names: Names of our controllers, with their default options.
        space: Space that is searched.
        told: Numbers of outcomes that they know.
        objectives: Number of scores of an outcome.
        samplers: Names of samplers of Optuna in `SAMPLERS`.
        cap_s: Most seconds for a timing; one that takes longer is stopped, and so are the later ones of that
            controller.
        seed: Random seed of everything.
        on_cell: Function that is called before each timing with (controller, outcomes).

    Raises:
        UserError: A name is unknown, or its controller takes one score and there are several.
    """
    torch.set_num_threads(1)
    scores = Scores(space, objectives, seed)
    makers: dict[str, Callable[[], Player]] = {}
    for name in names:
        controller = get_controller(name, space, seed=seed)
        if objectives > 1 and not controller.multi_objective:
            raise UserError(f"controller {name!r} takes one score; name one of several, such as nsga2.")
        makers[name] = lambda name=name: Ours(name, space, scores, seed)  # type: ignore[misc]  # mypy: no type for it
    for name in samplers:
        makers[name] = lambda name=name: Optunas(SAMPLERS[name](seed), space, scores)  # type: ignore[misc]
    timings = []
    for name, make in makers.items():
        player, rng = make(), np.random.default_rng(seed)
        outcomes, proposed, stopped = 0, 0, ""
        for count in sorted(told):
            if on_cell is not None:
                on_cell(name, count)
            if stopped:
                timings.append(Timing(name, count, proposed, None, 0, stopped))
                continue
            seconds: list[float] = []
            try:
                with time_limit(cap_s):
                    end = time.perf_counter() + cap_s / 3
                    while outcomes < count and time.perf_counter() < end:
                        player.round()
                        outcomes, proposed = outcomes + 1, proposed + 1
                    while outcomes < count:
                        player.tell(space.sample(rng))
                        outcomes += 1
                    begun = (outcomes, proposed)
                    end = time.perf_counter() + cap_s / 3
                    while len(seconds) < ROUNDS and (time.perf_counter() < end or not seconds):
                        started = time.process_time()
                        player.round()
                        seconds.append(time.process_time() - started)
                        outcomes, proposed = outcomes + 1, proposed + 1
            except TimeUp:
                stopped = f"stopped after {cap_s:g} s with {outcomes:,} outcomes"
                timings.append(Timing(name, count, proposed, None, 0, stopped))
            except SearchFinished:
                stopped = f"it had nothing more to propose after {outcomes:,} outcomes"
                timings.append(Timing(name, count, proposed, None, 0, stopped))
            else:
                timings.append(Timing(name, begun[0], begun[1], 1e6 * float(np.mean(seconds)), len(seconds)))
    return timings
