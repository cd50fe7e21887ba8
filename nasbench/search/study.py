"""The study: the only owner of the controller and of the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from controllers import Controller, Outcome, Proposal, SearchFinished, stalled
from nasbench.evaluators.outcomes import FAILURES, SCORED
from nasbench.evaluators.trial import Evaluated, History, Trial
from nasbench.objectives.metrics import goal_of
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Reward, broken_limit, needed_metrics, scores, violation
from nasbench.search.clock import SimulatedClock, WallClock
from nasbench.search.config import OutcomesConfig, SearchConfig
from nasbench.search.memory_record import MemoryRecord
from nasbench.search.record import Record, RecordedCandidate, comparable, search_seconds, utilization
from nasbench.search.tally import Tally
from nasbench.storage.files import read_json, write_json
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

MAX_REPEATS = 1000  # proposals in a row that were all known already: the controller has seen what it can reach
MAX_INFEASIBLE = 200  # candidates in a row over a hard limit: nothing, or next to nothing, meets it


class Study:
    """Hands out candidates and takes their results; goes on where a killed process stood.

    Before a candidate is handed out, the controller's state and the candidate are on disk; a result is in the journal
    before the controller hears of it. So a finished candidate is never lost or evaluated twice, and one that was
    running when the process died is handed out again, under its number.

    An architecture that was evaluated before, in another notation or not, is answered from the record. A failed
    attempt is followed by another one as far as the policy of its kind allows.

    Args:
        controller: proposes candidates; no one else may ask it.
        objectives: what is optimised, and which limits hold.
        reward: makes the controller's scores of a candidate's metrics.
        budget: when the search ends.
        record: of all candidates, which knows the space.
        outcomes: what follows from a kind of failure.
        full_epochs: of a candidate for which the controller asks no other number.
        seed: of the search; the seeds of candidates follow from it.
        state: the file that keeps the controller's state; None keeps none, and such a study does not resume.
        workers: candidates that run at a time, for `utilization`.
        clock: that the search goes by; None is the wall's.
        identity: the same for architectures whose evaluations give the same; None is `SearchSpace.canonical`.
        history: gives what the evaluator wants to know of earlier candidates, see `Evaluator.history`.
        start_with: architectures to evaluate before the controller is asked.
        stop_at: ends the search as soon as a done candidate is this good, by metric.
        quality: the metric that candidates are compared by while they are trained; None is the first objective.
    """

    def __init__(
        self,
        controller: Controller,
        objectives: Sequence[Objective],
        reward: Reward,
        budget: SearchConfig,
        record: Record | MemoryRecord,
        *,
        outcomes: OutcomesConfig | None = None,
        full_epochs: int = 1,
        seed: int = 0,
        state: Path | None = None,
        workers: int = 1,
        clock: WallClock | SimulatedClock | None = None,
        identity: Callable[[Architecture], Architecture] | None = None,
        history: Callable[[Sequence[RecordedCandidate]], History] | None = None,
        start_with: Sequence[Architecture] = (),
        stop_at: Mapping[str, float] | None = None,
        quality: str | None = None,
    ) -> None:
        self.objectives, self.reward, self.budget, self.record = tuple(objectives), reward, budget, record
        self.space: SearchSpace = record.space
        self._needed = needed_metrics(self.objectives, reward)
        self.outcomes = outcomes or OutcomesConfig()
        self.full_epochs, self.seed, self.workers = full_epochs, seed, workers
        self.quality = quality or self.objectives[0].metric
        self.stop_at = dict(stop_at or {})
        self.stop_reason: str | None = None
        self.on_retry: Callable[[int, Evaluated], None] = lambda number, evaluated: None
        """Called when a failed attempt will be followed by another one."""
        self.clock = clock or WallClock()
        self._state = state
        self._history = history
        self._identity = identity or self.space.canonical
        self._start_with = [self._identity(arch) for arch in start_with]
        self._running: dict[int, Proposal] = {}
        self._out: set[int] = set()  # those of `_running` that an executor has now
        self._twins: dict[int, list[Proposal]] = {}  # further proposals of what a running candidate is, too
        self._again: list[int] = []  # were running when the process died, or will be tried again
        self._known: dict[tuple[Architecture, int], int] = {}
        self._infeasible_in_a_row = 0
        self._stopped_for: str | None = None
        self._controller = controller
        self._tally = Tally(self.objectives, full_epochs, self.record.candidates.values())
        self._resume()
        known = {arch for arch, _ in self._known}
        self._start_with = [arch for arch in dict.fromkeys(self._start_with) if arch not in known]
        for candidate in self.candidates:
            self._look_at_goal(candidate)
        self._earlier_s = search_seconds(self.candidates)
        self._started = self.clock.now()

    # ---- what the run looks like

    @property
    def candidates(self) -> list[RecordedCandidate]:
        """Every candidate, by number."""
        return list(self.record.candidates.values())

    def count(self, status: str) -> int:
        """How many candidates have this status: running, or one of `OUTCOMES`."""
        return self._counts[status]

    @property
    def controller_name(self) -> str:
        """The name of the controller."""
        return self._controller.name

    @property
    def finished(self) -> int:
        """How many candidates count towards search.candidates: those that are done or were stopped early."""
        return sum(self._counts[status] for status in SCORED)

    @property
    def failures(self) -> dict[str, int]:
        """How many candidates failed, by kind; kinds that did not occur are left out."""
        return {kind: self._counts[kind] for kind in FAILURES if self._counts[kind]}

    @property
    def _counts(self) -> Counter[str]:
        return self._tally.counts

    @property
    def comparable(self) -> list[RecordedCandidate]:
        """The done candidates that were trained for the most epochs: all of them, unless the controller asks for less.

        What was trained for less stands neither on the front nor among the survivors.
        """
        return comparable(self.candidates, self.full_epochs)

    @property
    def best(self) -> RecordedCandidate | None:
        """The comparable candidate with the largest first score."""
        return self._tally.best

    @property
    def front(self) -> list[int]:
        """The numbers of the candidates that no other dominates in the objectives."""
        return self._tally.front

    @property
    def elapsed_s(self) -> float:
        """Seconds of search so far; pauses between resumes are left out."""
        return self._earlier_s + self.clock.now() - self._started

    @property
    def utilization(self) -> float | None:
        """What share of the workers' time was training so far; None before the first outcome."""
        return utilization(self.record.candidates.values(), self.workers)

    def hear_of_work(self, hear: Callable[[str], None]) -> None:
        """Have the lines told that a controller has for the user while it works long until its next proposal."""
        self._controller.on_work = hear

    def seed_of(self, arch: Architecture) -> int:
        """The seed of an architecture's weights and training: the same in whatever order candidates come."""
        return network_seed(self.seed, self.space, arch)

    # ---- what an executor calls

    def next_trial(self) -> Trial | None:
        """The next candidate to evaluate; None while the controller waits for running ones.

        Raises:
            SearchFinished: there will be no further candidate; `stop_reason` says why.
        """
        if self._again and self._stopped_for is None:
            return self._give(self._again.pop(0))
        reason = self._why_stop()
        if reason is None and self.finished + len(self._running) >= self.budget.candidates:
            return None
        for _ in range(MAX_REPEATS + len(self._start_with)):
            if reason is not None:
                break
            try:
                proposal = Proposal(self._start_with.pop(0)) if self._start_with else self._controller.ask()
            except SearchFinished:
                reason = f"controller {self.controller_name} has nothing more to propose"
                if self._controller.ends_by_itself:
                    reason = "complete"
                break
            if proposal is None:
                self._save()
                if not self._running:
                    raise stalled(self.controller_name)
                return None
            trial = self._hand_out(proposal)
            if trial is not None:
                return trial
        else:
            reason = (
                f"controller {self.controller_name} found {self.finished:,} of {self.budget.candidates:,} candidates, "
                f"and its last {MAX_REPEATS:,} proposals were all known already"
            )
        self.stop_reason = reason
        if self._out:
            return None
        self._save()
        raise SearchFinished(reason)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Take what a running candidate is worth after an epoch, by the metric `quality`."""
        if number in self._running:
            self.record.report(number, epoch, value)

    def stop(self, reason: str) -> None:
        """Hand out nothing more, now; what is running may finish, and the search ends with this reason."""
        self._stopped_for = self._stopped_for or reason

    def finish(self, number: int, evaluated: Evaluated) -> RecordedCandidate | None:
        """Take the result of a candidate.

        None if it is not running, for then its result is known already, and if it will be tried again.
        """
        if number not in self._running:
            return None
        self._out.discard(number)
        missing = self._needed - set(evaluated.metrics)
        if evaluated.status in SCORED and missing:
            error = f"the evaluator gives no {', '.join(sorted(missing))}"
            evaluated = Evaluated("failed", {}, error, evaluated.seconds, evaluated.training_seconds)
        if evaluated.status == "done":
            evaluated = self._limited(evaluated)
        if self._tries_again(number, evaluated):
            self.record.attempt(number, evaluated)
            self._again.append(number)
            self.on_retry(number, evaluated)
            return None
        candidate = self.record.finish(number, evaluated, self._scores(evaluated), self.elapsed_s)
        self._tally.end(candidate)
        self._look_at_goal(candidate)
        if evaluated.status != "infeasible":
            self._infeasible_in_a_row = 0
        elif not evaluated.cached:  # another recipe for a network that is known to break a limit says nothing new
            self._infeasible_in_a_row += 1
        self._tell(number)
        self._save()
        return candidate

    # ---- inside

    def _limited(self, evaluated: Evaluated) -> Evaluated:
        """The outcome of a done candidate; it is infeasible if it breaks a limit that its evaluator did not look at."""
        broken = broken_limit(self.objectives, evaluated.metrics)
        if broken is None:
            return evaluated
        beyond = violation(self.objectives, evaluated.metrics)
        return replace(evaluated, status="infeasible", error=broken, ending="after evaluation", violation=beyond)

    def _look_at_goal(self, candidate: RecordedCandidate) -> None:
        """End the search if a done candidate is as good as `stop_at` asks."""
        if not self.stop_at or candidate.status != "done":
            return
        goals = {objective.metric: objective.goal for objective in self.objectives}
        for metric, wanted in self.stop_at.items():
            value = candidate.metrics.get(metric)
            larger = (goals.get(metric) or goal_of(metric) or "max") == "max"
            if value is None or (value < wanted if larger else value > wanted):
                return
        reached = ", ".join(f"{metric} {candidate.metrics[metric]:.4g}" for metric in self.stop_at)
        self.stop(f"candidate {candidate.id} reached stop_at: {reached}")

    def _tries_again(self, number: int, evaluated: Evaluated) -> bool:
        policy = getattr(self.outcomes, evaluated.status, None)
        earlier: int = sum(each["status"] == evaluated.status for each in self.record.candidates[number].attempts)
        return earlier < int(getattr(policy, "retries", 0))

    def _scores(self, evaluated: Evaluated) -> tuple[float, ...] | None:
        told = evaluated.status == "done" or (evaluated.status == "stopped" and self.outcomes.stopped.tell == "score")
        return scores(self.objectives, self.reward, evaluated.metrics) if told else None

    def _counted_failures(self) -> int:
        """Those outcomes that the experiment counts towards search.max_failures."""
        outcomes = self.outcomes
        counts = self._counts
        return sum(counts[kind] for kind in (*FAILURES, "infeasible") if getattr(outcomes, kind).counts)

    def _why_stop(self) -> str | None:
        search = self.budget
        if self.stop_reason is not None:
            return self.stop_reason
        if self.finished >= search.candidates:
            return "complete"
        if self._stopped_for is not None:
            return self._stopped_for
        failed = self._counted_failures()
        if failed > search.max_failures:
            return f"{failed} candidates failed, more than search.max_failures={search.max_failures}"
        if search.max_hours is not None and self.elapsed_s >= 3600 * search.max_hours:
            return f"search.max_hours={search.max_hours} is over"
        if self._infeasible_in_a_row >= MAX_INFEASIBLE:
            return f"{MAX_INFEASIBLE} candidates in a row broke a hard limit; loosen the limits of the objectives"
        return None

    def _hand_out(self, proposal: Proposal) -> Trial | None:
        """A trial for a new architecture; None for a known one, whose outcome the controller is told at once."""
        key = self._key(proposal)
        known = None if self.budget.repeats == "evaluated" else self._known.get(key)
        if known is not None and known in self._running:
            self._twins.setdefault(known, []).append(proposal)
            return None
        if known is not None:
            self._controller.tell(self._outcome(proposal, known))
            return None
        number = len(self.record.candidates)
        self._running[number] = proposal
        self._known[key] = number
        self._save()
        self._create(number)
        return self._give(number)

    def _key(self, proposal: Proposal) -> tuple[Architecture, int]:
        """Equal for proposals whose evaluation would be the same."""
        return self._identity(proposal.arch), proposal.epochs or self.full_epochs

    def _proposal(self, saved: Sequence[Any]) -> Proposal:
        picks, epochs = saved
        return Proposal(self.space.architecture(picks), epochs)

    def _give(self, number: int) -> Trial:
        self._out.add(number)
        return self._trial(number, history=() if self._history is None else self._history(self.candidates))

    def _create(self, number: int) -> None:
        self.record.create(self._trial(number))
        self._tally.begin()

    def _trial(self, number: int, history: History = ()) -> Trial:
        proposal = self._running[number]
        known = self.record.candidates.get(number)
        attempts = known.attempts if known is not None else []
        too_large = sum(each["status"] == "out_of_memory" for each in attempts)
        return Trial(
            number,
            proposal.arch,
            proposal.epochs,
            self.seed_of(proposal.arch),
            full_epochs=self.full_epochs,
            attempt=len(attempts),
            accumulate=2**too_large,
            history=history,
        )

    def _tell(self, number: int) -> None:
        for proposal in (self._running.pop(number), *self._twins.pop(number, ())):
            self._controller.tell(self._outcome(proposal, number))

    def _outcome(self, proposal: Proposal, number: int) -> Outcome:
        candidate = self.record.candidates[number]
        return Outcome(proposal, candidate.scores, candidate.violation, candidate.seconds)

    def _save(self) -> None:
        if self._state is None:
            return
        state: Mapping[str, Any] = {
            "state": self._controller.state_dict(),
            "running": {number: _to_json(proposal) for number, proposal in self._running.items()},
            "twins": {number: [_to_json(each) for each in twins] for number, twins in self._twins.items()},
            "known": len(self._known),  # candidates that this state is aware of: those numbered below
        }
        write_json(self._state, state)

    def _resume(self) -> None:
        """Go on from what is on disk; the record may be ahead of the controller's state, which may even be lost."""
        for candidate in self.candidates:
            self._known[self._key(Proposal(candidate.arch, candidate.epochs))] = candidate.id
        known = 0
        if self._state is not None and self._state.exists():
            known, running = self._load(self._state)
            lost = [number for number in range(known) if number not in (*self.record.candidates, *running)]
            if lost:
                raise UserError(
                    f"{self._state} knows {known} candidates, and the record lacks {len(lost)} of them, the first of "
                    f"them number {lost[0]}; restore the record, or delete that file to go on without them."
                )
            for number in sorted(running):
                self._take_up(number, running[number])
        for candidate in self.candidates:
            if candidate.id >= known:
                self._take_up(candidate.id, Proposal(candidate.arch, candidate.epochs))

    def _load(self, state: Path) -> tuple[int, dict[int, Proposal]]:
        """Give the controller its state; how many candidates it is aware of, and those that were running."""
        remedy = "delete it: the controller is then told again what came of all candidates in the record"
        saved = read_json(state, remedy, ("state", "running", "twins", "known"))
        try:
            self._controller.load_state_dict(saved["state"])
            self._twins = {int(n): [self._proposal(each) for each in twins] for n, twins in saved["twins"].items()}
            return int(saved["known"]), {int(n): self._proposal(each) for n, each in saved["running"].items()}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise UserError(
                f"{state} holds no state of controller {self.controller_name!r} ({why}); {remedy}."
            ) from None

    def _take_up(self, number: int, proposal: Proposal) -> None:
        """Hand out a candidate again that was running, or tell the controller what came of it."""
        self._running[number] = proposal
        if number not in self.record.candidates:  # the process died between the two writes
            self._create(number)
            self._known[self._key(proposal)] = number
        if self.record.candidates[number].status == "running":
            self._again.append(number)
        else:
            self._tell(number)


def network_seed(seed: int, space: SearchSpace, arch: Architecture) -> int:
    """The seed of an architecture's weights and training in an experiment with this seed."""
    return int(np.random.SeedSequence([seed, *space.network_key(arch)]).generate_state(1)[0])


def _to_json(proposal: Proposal) -> list[Any]:
    return [list(proposal.arch.picks), proposal.epochs]
