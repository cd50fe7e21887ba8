"""The study: the only owner of the controller and of the record."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
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
from nasbench.search.disk_record import DiskRecord, Event
from nasbench.search.memory_record import MemoryRecord
from nasbench.search.record import RecordedCandidate, comparable
from nasbench.search.standing import STANDING, write_standing
from nasbench.search.tally import Tally
from nasbench.storage.files import read_json, write_json
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

MAX_REPEATS = 1000  # proposals in a row that were all known already: the controller has seen what it can reach
MAX_INFEASIBLE = 200  # candidates in a row over a hard limit: nothing, or next to nothing, meets it
STATE_EVERY = 10  # times what the last one took pass between two states of the controller, and
STATE_EVERY_S = 1.0  # at least so much

REMEDY = "delete it: the controller is then told again what came of all candidates in the record"

log = logging.getLogger(__name__)

Block = deque[tuple[int, Proposal]]
"""Proposals that were asked for together, with their candidates; the controller gets their outcomes in this order."""


class _Differs(Exception):
    """A controller proposes something else than what is recorded."""


class Study:
    """Hands out candidates and takes their results; goes on where a killed process stood.

    Before a candidate is handed out, it is in the record; a result is in the record before the controller gets it.
    So a finished candidate is never lost or evaluated twice, and one that was running when the process died is handed
    out again, under its number. The controller's state is written now and then; its proposals and outcomes since are
    repeated from the record, which brings it to where it stood.

    An architecture that was evaluated before, in another notation or not, is answered from the record. A failed
    attempt is followed by another one as far as the policy of its kind allows.

    Args:
        controller: Controller that proposes candidates; no one else may ask it.
        objectives: Objectives that are optimised, with their limits.
        reward: Reward that computes the controller's scores from a candidate's metrics.
        budget: Limits that end the search.
        record: Record of all candidates, which knows the space.
        outcomes: Policies for each kind of failure.
        full_epochs: Epochs of a candidate for which the controller asks no other number.
        seed: Random seed of the search; the seeds of candidates follow from it.
        state: File that keeps the controller's state; None keeps none, and such a study does not resume.
        workers: Number of candidates that run at a time, for `utilization`.
        clock: Clock of the search; None is the wall clock.
        identity: Function that maps architectures whose evaluations are equal to one of them; None is
            `SearchSpace.canonical`.
        history: Function that collects what the evaluator needs of earlier candidates, see `Evaluator.history`.
        start_with: Architectures to evaluate before the controller is asked.
        stop_at: Values by metric; a done candidate that is this good ends the search.
        quality: Metric that candidates are compared by while they are trained; None is the first objective.
    """

    def __init__(
        self,
        controller: Controller,
        objectives: Sequence[Objective],
        reward: Reward,
        budget: SearchConfig,
        record: DiskRecord | MemoryRecord,
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
        self._state_due = 0.0
        self._history = history
        self._identity = identity or self.space.canonical
        self._start_with = list(dict.fromkeys(self._identity(arch) for arch in start_with))
        self._started_with = 0  # so many of these were proposed
        self._running: dict[int, Proposal] = {}
        self._evaluating: set[int] = set()  # those of `_running` that an executor has now
        self._blocks: dict[int, Block] = {}  # of running candidates that were asked for together with others
        self._twins: dict[int, list[Proposal]] = {}  # further proposals of what a running candidate is, too
        self._pending: deque[int] = deque()  # were running when the process died, or will be tried again
        self._alone: set[int] = set()  # of these, those that ended a process together with others
        self._small = max(self.space.layout.sizes, default=0) <= 256  # then picks are bytes, which take less memory
        self._numbers: dict[tuple[bytes | tuple[int, ...], int], int] = {}
        self._next = 0  # number of the next new candidate
        self._waits = False  # the controller waits for an outcome
        self._infeasible_in_a_row = 0
        self._stopped_for: str | None = None
        self._controller = controller
        self._tally = Tally(self.objectives, full_epochs, self.record.candidates.values())
        self._resume()
        for candidate in self.record.candidates.values() if self.stop_at else ():
            self._look_at_goal(candidate)
        self._earlier_s = self._tally.finished_s
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
    def front_size(self) -> int:
        """How many these are."""
        return self._tally.front_size

    @property
    def front_changes(self) -> int:
        """How often the front got another member."""
        return self._tally.changes

    @property
    def elapsed_s(self) -> float:
        """Seconds of search so far; pauses between resumes are left out."""
        return self._earlier_s + self.clock.now() - self._started

    @property
    def utilization(self) -> float | None:
        """The share of the workers' time that was training so far; None before the first outcome."""
        return self._tally.utilization(self.workers)

    def hear_of_work(self, hear: Callable[[str], None]) -> None:
        """Pass on the lines of a controller for the user while it works long until its next proposal."""
        self._controller.on_work = hear

    def seed_of(self, arch: Architecture) -> int:
        """The seed of an architecture's weights and training: the same in whatever order candidates come."""
        return network_seed(self.seed, self.space, arch)

    # ---- what an executor calls

    def next_trial(self) -> Trial | None:
        """The next candidate to evaluate; None while the controller waits for running ones.

        Raises:
            SearchFinished: There will be no further candidate; `stop_reason` says why.
        """
        return next(iter(self.next_trials(1)), None)

    def next_trials(self, count: int) -> list[Trial]:
        """Up to so many candidates to evaluate; none while the controller waits for running ones.

        They are several only as far as the controller would propose the same whatever came of those before them, and it
        gets their outcomes in their order: one after the other they would be no others.

        Raises:
            SearchFinished: There will be no further candidate; `stop_reason` says why.
        """
        if self._pending and self._stopped_for is None:
            return self._give_again(count)
        reason = self._why_stop()
        room = self.budget.candidates - self.finished - len(self._running)
        if reason is None and (room <= 0 or self._waits):
            return []
        block: Block | None = Block() if count > 1 else None
        trials: list[Trial] = []
        asks = repeats = row = ahead = 0  # since the last candidate that was new; in a row; since the block began
        while reason is None and len(trials) < min(count, room):
            if not block:
                ahead, row = self._lookahead() if block is not None else 1, 0
            elif row >= ahead:
                break
            if repeats >= MAX_REPEATS + len(self._start_with) - self._started_with:
                reason = (
                    f"controller {self.controller_name} found {self.finished:,} of {self.budget.candidates:,} "
                    f"candidates, and its last {MAX_REPEATS:,} proposals were all known already"
                )
                break
            try:
                proposal = self._ask()
            except SearchFinished:
                reason = f"controller {self.controller_name} has nothing more to propose"
                if self._controller.ends_by_itself:
                    reason = "complete"
                break
            asks, row = asks + 1, row + 1
            if proposal is None:
                self._waits = True
                break
            number = self._place(proposal, block)
            if number is None:
                repeats += 1
                continue
            trials.append(self._create(number, asks, block=bool(trials)))
            asks = repeats = 0
        if reason is None and asks:
            self.record.waited(asks, block=bool(trials))
            if self._waits and not self._running:
                raise stalled(self.controller_name)
        if trials:
            return [self._give(trial) for trial in trials]
        if reason is None:
            return []
        self.stop_reason = reason
        if self._evaluating:
            return []
        self._save(at_once=True)
        self.record.flush()
        raise SearchFinished(reason)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Take what a running candidate is worth after an epoch, by the metric `quality`."""
        if number in self._running:
            self.record.report(number, epoch, value)

    def stop(self, reason: str) -> None:
        """Hand out nothing more, now; what is running may finish, and the search ends with this reason."""
        self._stopped_for = self._stopped_for or reason

    def give_back(self, numbers: Sequence[int]) -> None:
        """Take candidates back whose process ended with several of them: each is handed out again, alone."""
        for number in numbers:
            if number in self._evaluating:
                self._evaluating.discard(number)
                self._pending.append(number)
                self._alone.add(number)

    def finish(self, number: int, evaluated: Evaluated) -> RecordedCandidate | None:
        """Take the result of a candidate.

        None if it is not running, for then its result is known already, and if it will be tried again.
        """
        if number not in self._running:
            return None
        self._evaluating.discard(number)
        needed = self._needed | set(self.stop_at) if evaluated.status == "done" else self._needed
        missing = needed - set(evaluated.metrics)
        if evaluated.status in SCORED and missing:
            error = f"the evaluator gives no {', '.join(sorted(missing))}"
            evaluated = replace(evaluated, status="failed", metrics={}, error=error, curve={})
        if evaluated.status == "done":
            evaluated = self._limited(evaluated)
        if self._tries_again(number, evaluated):
            self.record.attempt(number, evaluated)
            self._pending.append(number)
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
        for metric, threshold in self.stop_at.items():
            value = candidate.metrics.get(metric)
            larger = (goals.get(metric) or goal_of(metric) or "max") == "max"
            if value is None or (value < threshold if larger else value > threshold):
                return
        reached = ", ".join(f"{metric} {candidate.metrics[metric]:.4g}" for metric in self.stop_at)
        self.stop(f"candidate {candidate.id} reached stop_at: {reached}")

    def _tries_again(self, number: int, evaluated: Evaluated) -> bool:
        policy = getattr(self.outcomes, evaluated.status, None)
        earlier: int = sum(attempt["status"] == evaluated.status for attempt in self.record.candidates[number].attempts)
        return earlier < int(getattr(policy, "retries", 0))

    def _scores(self, evaluated: Evaluated) -> tuple[float, ...] | None:
        scored = evaluated.status == "done" or (evaluated.status == "stopped" and self.outcomes.stopped.tell == "score")
        return scores(self.objectives, self.reward, evaluated.metrics) if scored else None

    def _counted_failures(self) -> int:
        """The number of outcomes that the experiment counts towards search.max_failures."""
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

    def _ask(self) -> Proposal | None:
        """The next proposal: those to begin with, then those of the controller."""
        if self._started_with < len(self._start_with):
            self._started_with += 1
            return Proposal(self._start_with[self._started_with - 1])
        return self._controller.ask()

    def _lookahead(self) -> int:
        """How many proposals in a row lose nothing by not knowing what came of the others."""
        remaining = len(self._start_with) - self._started_with
        if remaining:
            return remaining
        unreported = sum(map(len, {id(block): block for block in self._blocks.values()}.values()))
        alone = sum(number not in self._blocks for number in self._running)
        return max(1, self._controller.lookahead(unreported + alone + sum(map(len, self._twins.values()))))

    def _place(self, proposal: Proposal, block: Block | None) -> int | None:
        """The number of a new candidate; None for a known one, whose outcome the controller gets as soon as possible.

        Args:
            proposal: Proposal of the controller.
            block: Proposals that were asked for together with it and have no outcome yet; None if there are no others.
        """
        key = self._key(proposal)
        earlier = None if self.budget.repeats == "evaluated" else self._numbers.get(key)
        if earlier is None or earlier >= self._next:  # in a replay, what is known by now was not known then
            number, self._next = self._next, self._next + 1
            self._running[number] = proposal
            self._numbers[key] = number
            if block is not None:
                block.append((number, proposal))
                self._blocks[number] = block
            return number
        if earlier in self._running and (block is None or self._blocks.get(earlier) is not block):
            self._twins.setdefault(earlier, []).append(proposal)
        elif block:
            block.append((earlier, proposal))
        else:
            self._hear(proposal, earlier)
        return None

    def _key(self, proposal: Proposal) -> tuple[bytes | tuple[int, ...], int]:
        """Equal for proposals whose evaluation would be the same."""
        picks = self._identity(proposal.arch).picks
        return bytes(picks) if self._small else picks, proposal.epochs or self.full_epochs

    def _proposal(self, saved: Sequence[Any]) -> Proposal:
        picks, epochs = saved
        return Proposal(self.space.architecture(picks), epochs)

    def _give(self, trial: Trial) -> Trial:
        self._evaluating.add(trial.number)
        return trial if self._history is None else replace(trial, history=self._history(self.candidates))

    def _give_again(self, count: int) -> list[Trial]:
        """Candidates that were handed out before; one that failed, or ended a process with others, comes alone."""
        trials: list[Trial] = []
        while self._pending and len(trials) < count:
            number = self._pending[0]
            alone = number in self._alone or bool(self.record.candidates[number].attempts)
            if alone and trials:
                break
            self._pending.popleft()
            self._alone.discard(number)
            trials.append(self._give(self._trial(number)))
            if alone:
                break
        return trials

    def _create(self, number: int, asks: int = 1, *, block: bool = False) -> Trial:
        trial = self._trial(number)
        self.record.create(trial, asks, block=block)
        self._tally.begin()
        self._save()
        return trial

    def _trial(self, number: int) -> Trial:
        proposal = self._running[number]
        candidate = self.record.candidates.get(number)
        attempts = candidate.attempts if candidate is not None else []
        too_large = sum(attempt["status"] == "out_of_memory" for attempt in attempts)
        return Trial(
            number,
            proposal.arch,
            proposal.epochs,
            self.seed_of(proposal.arch),
            full_epochs=self.full_epochs,
            attempt=len(attempts),
            accumulate=2**too_large,
        )

    def _tell(self, number: int) -> None:
        """Give the controller the outcome of a candidate, unless others of its block come first."""
        proposal, block = self._running.pop(number), self._blocks.pop(number, None)
        if block is None:
            self._hear(proposal, number)
        while block and block[0][0] not in self._running:
            ended, proposal = block.popleft()
            self._hear(proposal, ended)
        for twin in self._twins.pop(number, ()):
            self._hear(twin, number)

    def _hear(self, proposal: Proposal, number: int) -> None:
        self._waits = False
        self._controller.tell(self._outcome(proposal, number))

    def _outcome(self, proposal: Proposal, number: int) -> Outcome:
        candidate = self.record.candidates[number]
        shared_s = 0.0 if candidate.cached else candidate.training_seconds
        return Outcome(proposal, candidate.scores, candidate.violation, candidate.seconds, shared_s)

    def _save(self, *, at_once: bool = False) -> None:
        """Write the state of the controller, if it is time: not so often that it would be what a search waits for."""
        if self._state is None or isinstance(self.record, MemoryRecord):
            return
        began = time.monotonic()
        if began < self._state_due and not at_once:
            return
        self.record.commit()  # a state is never ahead of the record
        write_json(self._state, self._snapshot(self.record), indent=None)
        running = [number for number in self._running if self.record.candidates[number].status == "running"]
        write_standing(self._state.with_name(STANDING), self._tally, running, self.record)
        took = time.monotonic() - began
        self._state_due = began + took + max(STATE_EVERY_S, STATE_EVERY * took)

    def _snapshot(self, record: DiskRecord) -> Mapping[str, Any]:
        blocks = {id(block): block for block in self._blocks.values()}.values()
        return {
            "state": self._controller.state_dict(),
            "running": {number: _to_json(proposal) for number, proposal in self._running.items()},
            "twins": {number: [_to_json(proposal) for proposal in twins] for number, twins in self._twins.items()},
            "blocks": [[[number, _to_json(proposal)] for number, proposal in block] for block in blocks],
            "known": self._next,  # candidates that this state is aware of: those numbered below
            "started_with": self._started_with,
            "waits": self._waits,
            "record": record.identity,
            "lines": record.lines,
        }

    def _resume(self) -> None:
        """Go on from what is on disk; the record may be ahead of the controller's state, which may even be lost."""
        record, state = self.record, self._state
        for candidate in record.candidates.values():
            self._numbers[self._key(Proposal(candidate.arch, candidate.epochs))] = candidate.id
        if isinstance(record, MemoryRecord):
            self._next = len(record.candidates)
            return
        saved: Mapping[str, Any] = {"state": self._controller.state_dict()}  # of one without proposals and outcomes
        lines = 0
        if state is not None and state.exists():
            saved = read_json(state, REMEDY, ("state", "running", "twins", "known"))
            lines = saved.get("lines", -1) if saved.get("record") == record.identity else -1
            self._take_state(saved)
        try:
            self._replay(record, lines)
        except _Differs as difference:
            if str(difference):
                log.warning(
                    "controller %s %s; it is told what came of all candidates since its last state instead",
                    self.controller_name,
                    difference,
                )
            self._take_state(saved)
            self._tell_since_state(record)
        self._next = len(record.candidates)
        self._pending.extend(sorted(self._running))
        remaining = [
            arch for arch in self._start_with[self._started_with :] if self._key(Proposal(arch)) not in self._numbers
        ]
        self._start_with = [*self._start_with[: self._started_with], *remaining]

    def _replay(self, record: DiskRecord, lines: int) -> None:
        """Repeat the proposals and outcomes after so many lines of the record with the controller.

        Raises:
            _Differs: It proposes something else, or the lines are not known.
        """
        if not 0 <= lines <= record.lines:
            raise _Differs
        events = list(record.events(lines))
        grouped, goes_on = [False] * len(events), False  # whether a further one of the same block follows
        for position in reversed(range(len(events))):
            if events[position].asks is not None:
                grouped[position], goes_on = goes_on, events[position].block
        block = self._blocks.get(self._next - 1)  # a state may have been written in the middle of a block
        for event, is_followed in zip(events, grouped, strict=True):
            if event.asks is None:
                assert event.number is not None, "an outcome is that of a candidate"
                self._tell(event.number)
                continue
            if not event.asks:
                raise _Differs  # the record was taken over, and does not know of proposals
            if not event.block:
                block = Block() if is_followed else None
            for remaining in reversed(range(event.asks)):
                self._ask_again(record, event, block, last=not remaining)

    def _ask_again(self, record: DiskRecord, event: Event, block: Block | None, *, last: bool) -> None:
        message = "does not propose again what it proposed before"
        try:
            proposal = self._ask()
        except SearchFinished:
            raise _Differs(message) from None
        number = None if proposal is None else self._place(proposal, block)
        if number != (event.number if last else None) or (proposal is None and not last):
            raise _Differs(message)
        if proposal is None:
            self._waits = True
        elif number is not None and record.candidates[number].arch != proposal.arch:
            raise _Differs(message)

    def _tell_since_state(self, record: DiskRecord) -> None:
        """Take up the candidates that a state of the controller is not aware of, without having asked for them."""
        lost = [
            number for number in range(self._next) if number not in record.candidates and number not in self._running
        ]
        if lost:
            raise UserError(
                f"{self._state} knows {self._next} candidates, and the record lacks {len(lost)} of them, the first of "
                f"them number {lost[0]}; restore the record, or delete that file to go on without them."
            )
        for candidate in record.candidates.values():
            if candidate.id >= self._next:
                self._running[candidate.id] = Proposal(candidate.arch, candidate.epochs)
        for number in sorted(self._running):
            if number not in record.candidates:  # an earlier version died between its two writes
                self._create(number)
                self._numbers[self._key(self._running[number])] = number
            elif record.candidates[number].status != "running":
                self._tell(number)

    def _take_state(self, saved: Mapping[str, Any]) -> None:
        """Take up a state that was written, or that a controller begins with."""
        try:
            self._controller.load_state_dict(saved["state"])
            self._running = {int(n): self._proposal(entry) for n, entry in saved.get("running", {}).items()}
            self._twins = {
                int(n): [self._proposal(entry) for entry in entries] for n, entries in saved.get("twins", {}).items()
            }
            self._blocks = {}
            for entries in saved.get("blocks", ()):
                block = Block((int(number), self._proposal(entry)) for number, entry in entries)
                self._blocks |= {number: block for number, _ in block if number in self._running}
            self._next = int(saved.get("known", 0))
            self._started_with = int(saved.get("started_with", 0))
            self._waits = bool(saved.get("waits", False))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise UserError(
                f"{self._state} holds no state of controller {self.controller_name!r} ({why}); {REMEDY}."
            ) from None


def network_seed(seed: int, space: SearchSpace, arch: Architecture) -> int:
    """The seed of an architecture's weights and training in an experiment with this seed."""
    return int(np.random.SeedSequence([seed, *space.network_key(arch)]).generate_state(1)[0])


def _to_json(proposal: Proposal) -> list[Any]:
    return [list(proposal.arch.picks), proposal.epochs]
