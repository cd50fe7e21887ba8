"""The study: the only owner of the controller and of the record."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from controllers import Controller, Outcome, Proposal, SearchFinished, controllers, get_controller, stalled
from nasbench.evaluators import FAILURES, SCORED, Evaluated, Trial
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.evaluators.evaluator import Earlier
from nasbench.experiment.experiment import Experiment
from nasbench.objectives.reward import pareto_front, scores
from nasbench.search.record import Candidate, Record, comparable, search_seconds, utilization
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import RunFolder
from search_spaces import Architecture, SearchSpace

MAX_REPEATS = 1000  # proposals in a row that were all known already: the controller has seen what it can reach
REFIT = 5  # the latency predictor learns from so many measured candidates at a time
STAGED = ("latency_ms", "proxy_score", "short_val_acc_pct", "trained_val_acc_pct")  # what stages of a joint search read
MAX_INFEASIBLE = 200  # candidates in a row over a hard limit: nothing, or next to nothing, meets it


class Study:
    """Hands out candidates and takes their results; goes on where a killed process stood.

    Before a candidate is handed out, the controller's state and the candidate are on disk; a result is in the journal
    before the controller hears of it. So a finished candidate is never lost or evaluated twice, and one that was
    running when the process died is handed out again, under its number.

    An architecture that was evaluated before, in another notation or not, is answered from the record. A failed
    attempt is followed by another one as far as the policy of its kind allows.

    Args:
        folder: of the run; locked by the caller.
        experiment: what was asked.
        space: what is searched.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, space: SearchSpace) -> None:
        self.folder, self.experiment, self.space = folder, experiment, space
        self.record = Record(folder, experiment, space)
        self.stop_reason: str | None = None
        self.on_retry: Callable[[int, Evaluated], None] = lambda number, evaluated: None
        """Called when a failed attempt will be followed by another one."""
        self._running: dict[int, Proposal] = {}
        self._out: set[int] = set()  # those of `_running` that an executor has now
        self._twins: dict[int, list[Proposal]] = {}  # further proposals of what a running candidate is, too
        self._again: list[int] = []  # were running when the process died, or will be tried again
        self._known: dict[tuple[Architecture, int], int] = {}
        self._infeasible_in_a_row = 0
        self._stopped_for: str | None = None
        self._controller = make_controller(experiment, space)
        self._resume()
        self._earlier_s = search_seconds(self.candidates)
        self._started = time.monotonic()

    # ---- what the run looks like

    @property
    def candidates(self) -> list[Candidate]:
        """Every candidate, by number."""
        return [self.record.candidates[number] for number in sorted(self.record.candidates)]

    def count(self, status: str) -> int:
        """How many candidates have this status: running, or one of `OUTCOMES`."""
        return self._counts[status]

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
        return Counter(candidate.status for candidate in self.record.candidates.values())

    @property
    def comparable(self) -> list[Candidate]:
        """The done candidates that were trained for the most epochs: all of them, unless the controller asks for less.

        What was trained for less stands neither on the front nor among the survivors.
        """
        return comparable(self.candidates, self.experiment.training.epochs)

    @property
    def best(self) -> Candidate | None:
        """The comparable candidate with the largest first score."""
        return max(self.comparable, key=lambda candidate: candidate.scores or (), default=None)

    @property
    def front(self) -> list[int]:
        """The numbers of the candidates that no other dominates in the objectives."""
        return pareto_front(self.experiment.objectives, {c.id: c.metrics for c in self.comparable})

    @property
    def elapsed_s(self) -> float:
        """Seconds of search so far; pauses between resumes are left out."""
        return self._earlier_s + time.monotonic() - self._started

    @property
    def utilization(self) -> float | None:
        """What share of the workers' time was training so far; None before the first outcome."""
        return utilization(self.record.candidates.values(), self.experiment.executor.workers)

    def seed_of(self, arch: Architecture) -> int:
        """The seed of an architecture's weights and training: the same in whatever order candidates come."""
        return network_seed(self.experiment.seed, self.space, arch)

    # ---- what an executor calls

    def next_trial(self) -> Trial | None:
        """The next candidate to evaluate; None while the controller waits for running ones.

        Raises:
            SearchFinished: there will be no further candidate; `stop_reason` says why.
        """
        if self._again and self._stopped_for is None:
            return self._give(self._again.pop(0))
        reason = self._why_stop()
        if reason is None and self.finished + len(self._running) >= self.experiment.search.candidates:
            return None
        for _ in range(MAX_REPEATS):
            if reason is not None:
                break
            try:
                proposal = self._controller.ask()
            except SearchFinished:
                reason = f"controller {self.experiment.controller.name} has nothing more to propose"
                break
            if proposal is None:
                self._save()
                if not self._running:
                    raise stalled(self.experiment.controller.name)
                return None
            trial = self._hand_out(proposal)
            if trial is not None:
                return trial
        else:
            reason = f"the last {MAX_REPEATS} proposals were all known already"
        self.stop_reason = reason
        if self._out:
            return None
        self._save()
        raise SearchFinished(reason)

    def report(self, number: int, epoch: int, accuracy_pct: float) -> None:
        """Take the validation accuracy that a running candidate has after an epoch."""
        if number in self._running:
            self.record.report(number, epoch, accuracy_pct)

    def stop(self, reason: str) -> None:
        """Hand out nothing more, now; what is running may finish, and the search ends with this reason."""
        self._stopped_for = self._stopped_for or reason

    def finish(self, number: int, evaluated: Evaluated) -> Candidate | None:
        """Take the result of a candidate.

        None if it is not running, for then its result is known already, and if it will be tried again.
        """
        if number not in self._running:
            return None
        self._out.discard(number)
        missing = self.experiment.needed_metrics - set(evaluated.metrics)
        if evaluated.status in SCORED and missing:
            error = f"the evaluator gives no {', '.join(sorted(missing))}"
            evaluated = Evaluated("failed", {}, error, evaluated.seconds, evaluated.training_seconds)
        if self._tries_again(number, evaluated):
            self.record.attempt(number, evaluated)
            self._again.append(number)
            self.on_retry(number, evaluated)
            return None
        candidate = self.record.finish(number, evaluated, self._scores(evaluated), self.elapsed_s)
        if evaluated.status != "infeasible":
            self._infeasible_in_a_row = 0
        elif not evaluated.cached:  # another recipe for a network that is known to break a limit says nothing new
            self._infeasible_in_a_row += 1
        self._tell(number)
        self._save()
        return candidate

    # ---- inside

    def _tries_again(self, number: int, evaluated: Evaluated) -> bool:
        policy = getattr(self.experiment.outcomes, evaluated.status, None)
        earlier: int = sum(each["status"] == evaluated.status for each in self.record.candidates[number].attempts)
        return earlier < int(getattr(policy, "retries", 0))

    def _scores(self, evaluated: Evaluated) -> tuple[float, ...] | None:
        told = evaluated.status == "done" or (
            evaluated.status == "stopped" and self.experiment.outcomes.stopped.tell == "score"
        )
        return scores(self.experiment, evaluated.metrics) if told else None

    def _counted_failures(self) -> int:
        """Those outcomes that the experiment counts towards search.max_failures."""
        outcomes = self.experiment.outcomes
        counts = self._counts
        return sum(counts[kind] for kind in (*FAILURES, "infeasible") if getattr(outcomes, kind).counts)

    def _why_stop(self) -> str | None:
        search = self.experiment.search
        if self.stop_reason is not None:
            return self.stop_reason
        if self.finished >= search.candidates:
            return "complete"
        if self._stopped_for is not None:
            return self._stopped_for
        failed = self._counted_failures()
        if failed > search.max_failures:
            return f"{failed} candidates failed, more than search.max_failures={search.max_failures}"
        if search.max_hours is not None and self.elapsed_s > 3600 * search.max_hours:
            return f"search.max_hours={search.max_hours} is over"
        if self._infeasible_in_a_row >= MAX_INFEASIBLE:
            return f"{MAX_INFEASIBLE} candidates in a row broke a hard limit; loosen the limits of the objectives"
        return None

    def _hand_out(self, proposal: Proposal) -> Trial | None:
        """A trial for a new architecture; None for a known one, whose outcome the controller is told at once."""
        key = self._key(proposal)
        known = self._known.get(key)
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
        self.record.create(self._trial(number))
        return self._give(number)

    def _key(self, proposal: Proposal) -> tuple[Architecture, int]:
        """Equal for proposals whose evaluation would be the same."""
        return self.space.canonical(proposal.arch), proposal.epochs or self.experiment.training.epochs

    def _proposal(self, saved: Sequence[Any]) -> Proposal:
        picks, epochs = saved
        return Proposal(self.space.architecture(picks), epochs)

    def _give(self, number: int) -> Trial:
        self._out.add(number)
        trial = self._trial(number)
        if isinstance(self.space, JointSpace):
            return dataclasses.replace(trial, earlier=self._earlier())
        return dataclasses.replace(trial, learned=self._learned())

    def _earlier(self) -> Earlier:
        """What the stages of a joint search found of the candidates so far."""
        return tuple(
            (self.space.format(each.arch), tuple((name, each.metrics[name]) for name in STAGED if name in each.metrics))
            for each in self.candidates
            if each.status in ("done", "infeasible")
        )

    def _learned(self) -> tuple[tuple[str, float], ...]:
        """What was measured of candidates because the latency predictor was not sure, a few at a time."""
        found = [
            (self.space.format(each.arch), each.metrics["latency_ms"])
            for each in self.candidates
            if "latency_predicted_ms" in each.metrics
        ]
        return tuple(found[: len(found) // REFIT * REFIT])

    def _trial(self, number: int) -> Trial:
        proposal = self._running[number]
        known = self.record.candidates.get(number)
        attempts = known.attempts if known is not None else []
        too_large = sum(each["status"] == "out_of_memory" for each in attempts)
        return Trial(
            number, proposal.arch, proposal.epochs, self.seed_of(proposal.arch), len(attempts), accumulate=2**too_large
        )

    def _tell(self, number: int) -> None:
        for proposal in (self._running.pop(number), *self._twins.pop(number, ())):
            self._controller.tell(self._outcome(proposal, number))

    def _outcome(self, proposal: Proposal, number: int) -> Outcome:
        candidate = self.record.candidates[number]
        return Outcome(proposal, candidate.scores, candidate.violation)

    def _save(self) -> None:
        state: Mapping[str, Any] = {
            "state": self._controller.state_dict(),
            "running": {number: _to_json(proposal) for number, proposal in self._running.items()},
            "twins": {number: [_to_json(each) for each in twins] for number, twins in self._twins.items()},
            "known": len(self._known),  # candidates that this state is aware of: those numbered below
        }
        write_json(self.folder.controller, state)

    def _resume(self) -> None:
        """Go on from what is on disk; the record may be ahead of the controller's state, which may even be lost."""
        for candidate in self.candidates:
            self._known[self._key(Proposal(candidate.arch, candidate.epochs))] = candidate.id
        known = 0
        if self.folder.controller.exists():
            saved = json.loads(self.folder.controller.read_text(encoding="utf-8"))
            known = saved.get("known", len(self.record.candidates))  # absent in runs of earlier versions
            self._controller.load_state_dict(saved["state"])
            self._twins = {int(n): [self._proposal(each) for each in twins] for n, twins in saved["twins"].items()}
            for text, saved_proposal in sorted(saved["running"].items(), key=lambda item: int(item[0])):
                self._take_up(int(text), self._proposal(saved_proposal))
        for candidate in self.candidates:
            if candidate.id >= known:
                self._take_up(candidate.id, Proposal(candidate.arch, candidate.epochs))

    def _take_up(self, number: int, proposal: Proposal) -> None:
        """Hand out a candidate again that was running, or tell the controller what came of it."""
        self._running[number] = proposal
        if number not in self.record.candidates:  # the process died between the two writes
            self.record.create(self._trial(number))
            self._known[self._key(proposal)] = number
        if self.record.candidates[number].status == "running":
            self._again.append(number)
        else:
            self._tell(number)


def network_seed(seed: int, space: SearchSpace, arch: Architecture) -> int:
    """The seed of an architecture's weights and training in an experiment with this seed."""
    return int(np.random.SeedSequence([seed, *space.network_key(arch)]).generate_state(1)[0])


def make_controller(experiment: Experiment, space: SearchSpace) -> Controller:
    """The controller that an experiment names; one of several fidelities goes up to the epochs of the training.

    Raises:
        UserError: the name or an option is unknown, or an option has a bad value.
    """
    name, options = experiment.controller.name, experiment.controller.options
    if controllers.find(name).multi_fidelity:
        options = {"max_epochs": experiment.training.epochs, **options}
    return get_controller(name, space, seed=experiment.seed, **options)


def _to_json(proposal: Proposal) -> list[Any]:
    return [list(proposal.arch.picks), proposal.epochs]
