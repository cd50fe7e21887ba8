"""Score a candidate by training it."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from nasbench.costs.compute import compute_by_operations
from nasbench.devices.table import NotInTable
from nasbench.evaluators.cache import Cache
from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.costs import ENERGY, LATENCY, ON_PAPER, CandidateCosts
from nasbench.evaluators.errors import InfeasibleError
from nasbench.evaluators.evaluator import EarlierCandidate, Evaluator, Progress
from nasbench.evaluators.latency import REFIT, Learned
from nasbench.evaluators.outcomes import Ending
from nasbench.evaluators.trial import History, Trial
from nasbench.objectives.metrics import Metrics
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import broken_limit, violation
from nasbench.problems.problem import Problem
from nasbench.problems.supervised import Supervised
from nasbench.storage.checkpoints import Checkpoints
from nasbench.training.errors import TimedOut
from nasbench_compression import CompiledModel
from search_spaces import Architecture, SearchSpace
from search_spaces.fresh_model import fresh_model

CPU_SECONDS = "training_cpu_seconds"
SPENT = ("training_seconds", CPU_SECONDS)


@dataclass(frozen=True)
class TrainingLimits:
    """Limits of the training of one candidate, and when it is validated and stored.

    Attributes:
        threads: Number of threads of the processor.
        gpus: Share of a GPU; 0 trains on the processor.
        minutes: Minutes after which a candidate is timed out; None is no limit.
        validate_every: Epochs between two validations; None validates at the end only.
        checkpoint_every: Epochs between two checkpoints; None keeps none until it is done.
    """

    threads: int = 1
    gpus: float = 0.0
    minutes: float | None = None
    validate_every: int | None = None
    checkpoint_every: int | None = 1

    @property
    def device(self) -> str:
        """Where candidates are trained."""
        return "cuda" if self.gpus > 0 else "cpu"

    @property
    def device_here(self) -> str:
        """Where this process trains a network after the search; it may have no GPU where the workers have some."""
        return self.device if torch.cuda.is_available() else "cpu"


class Trained(Evaluator):
    """Build, cost, train, validate; keep the weights.

    Costs come first: a candidate over a hard limit is refused before it is trained. What the shared cache knows is
    not trained. A candidate whose training was interrupted goes on after its last checkpoint, to the same weights as
    if nothing had happened.

    Args:
        space: Search space that candidates belong to.
        problem: Problem of the search. Processes on one machine share one copy of its data under Ray.
        costs: Costs that are read of the device; None counts nothing.
        objectives: Objectives whose limits end a candidate.
        checkpoints: Folder of weights and states of training; None keeps none.
        cache: Cache of results that several runs share; None shares nothing.
        limits: Limits of one candidate.
        schedule_epochs: Candidates of fewer epochs are trained with the first ones of a schedule of so many, and one of
            more epochs goes on where another of the same network ended; None trains each with a schedule of its own. A
            problem with a `fit` of its own trains each anew all the same.
    """

    summary = "train the network, validate it"
    trains_once: ClassVar[bool] = True
    """Whether other recipes for a network need not take the seconds of its training again."""

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        costs: CandidateCosts,
        *,
        objectives: Sequence[Objective] = (),
        checkpoints: str | None = None,
        cache: Cache | None = None,
        limits: TrainingLimits | None = None,
        schedule_epochs: int | None = None,
    ) -> None:
        super().__init__(space, problem.task)
        self.problem, self.costs, self.objectives = problem, costs, tuple(objectives)
        self.checkpoints = None if checkpoints is None else Checkpoints(Path(checkpoints))
        self.cache = cache
        self.limits = limits or TrainingLimits()
        self.schedule_epochs = schedule_epochs

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the problem, such as val_acc_pct and val_loss, those of training, and the costs."""
        counted = ("train_acc_pct",) if "val_acc_pct" in self.problem.metrics else ()
        return (*self.problem.metrics, "train_loss", *counted, "epochs", *ON_PAPER, *LATENCY, *ENERGY)

    def __call__(self, candidate: Candidate) -> Metrics:
        """Metrics of the candidate: those of the problem, train_loss, epochs, macs, params, size_bytes, latency_ms.

        Raises:
            InvalidNetwork: It cannot be built, or does not fit the task.
            InfeasibleError: It breaks a hard limit.
            Diverged: Its loss stopped being finite, or it does no better than guessing.
            TimedOut: It takes longer than search.candidate_minutes.
        """
        started = time.monotonic()
        trial = candidate.trial
        torch.set_num_threads(self.limits.threads)
        model = candidate.network()
        metrics = self.costs(self.space, trial.arch, model, self.problem.task, _learned(trial.history))
        self._check(metrics, "before training")
        cached_metrics = None if self.cache is None else self.cache.find(trial, self.checkpoints)
        if cached_metrics is not None:
            metrics |= {name: value for name, value in cached_metrics.items() if name not in SPENT} | {"cached": 1.0}
        else:
            minutes = self.limits.minutes
            deadline = None if minutes is None else started + 60 * minutes
            trained = self._train(model, candidate, metrics, deadline)
            if self.checkpoints is not None:
                self.checkpoints.save_weights(trial, model)
            if self.cache is not None and trained["epochs"] == candidate.epochs:
                self.cache.store(trial, trained, model)
            metrics |= {name: value for name, value in trained.items() if name != CPU_SECONDS}
        self._check(metrics, "after training")
        return metrics

    def spent(self, trial: Trial) -> dict[str, float]:
        """The seconds of a training in the cache, wall clock and processor, all sittings together; empty if unknown."""
        return {} if self.cache is None else self.cache.numbers(trial, SPENT)

    def history(self, candidates: Sequence[EarlierCandidate]) -> History:
        """The latencies of candidates that were measured because the predictor was not sure, a few at a time."""
        measured = [
            (earlier.architecture, (("latency_ms", earlier.metrics["latency_ms"]),))
            for earlier in candidates
            if "latency_predicted_ms" in earlier.metrics
        ]
        return tuple(measured[: len(measured) // REFIT * REFIT])

    def artefact(self, number: int, arch: Architecture, seed: int) -> CompiledModel | None:
        """The network with its first weights, compiled: latency does not depend on them."""
        model = fresh_model(self.space, arch, self.task, seed).eval()
        try:
            return self.costs.device.candidate(self.space, arch, model, self.problem.task)
        except NotInTable:
            return None

    def trained(self, number: int, arch: Architecture, seed: int, epochs: int | None) -> nn.Module:
        """The network with its weights; trained again, to the same ones, if its checkpoint was given up or lost."""
        model = fresh_model(self.space, arch, self.task, seed)
        trial = Trial(number, arch, epochs, seed)
        weights = None if self.checkpoints is None else self.checkpoints.load_weights(trial)
        if weights is None:
            self._fit_again(model, trial)
            if self.checkpoints is not None:
                self.checkpoints.save_weights(trial, model)
        else:
            model.load_state_dict(weights)
        return model.eval()

    def end(self, progress: Progress, folder: Path) -> None:
        """Give up what promoted candidates would have gone on from; one that comes later is trained to the same."""
        if self.checkpoints is not None:
            self.checkpoints.remove_rungs()

    def _fit_again(self, model: nn.Module, trial: Trial) -> None:
        """Train a network to the weights that its candidate had."""
        problem, device = self.problem, self.limits.device_here
        if self.schedule_epochs is None or trial.epochs is None or not isinstance(problem, Supervised):
            problem.fit(model, seed=trial.seed, epochs=trial.epochs, device=device)
            return
        training = problem.begin(
            model, seed=trial.seed, epochs=self.schedule_epochs, device=device, accumulate=1, deadline=None
        )
        while training.epoch < trial.epochs:
            training.run_epoch()
        training.finish()

    def _train(
        self, model: nn.Module, candidate: Candidate, metrics: dict[str, float], deadline: float | None
    ) -> dict[str, float]:
        """Train, from the last checkpoint on if there is one; what training gave."""
        trial, report, place, device = candidate.trial, candidate.report, self.checkpoints, self.limits.device
        problem = self.problem
        if not isinstance(problem, Supervised):
            return self._fit(model, candidate, metrics, deadline)
        images, epochs = len(problem.data.train), trial.epochs or problem.training.epochs
        schedule_epochs = self.schedule_epochs or epochs
        begin = functools.partial(
            problem.begin,
            seed=trial.seed,
            epochs=schedule_epochs,
            device=device,
            accumulate=trial.accumulate,
            deadline=deadline,
        )
        past: list[dict[str, float]] = []  # what was reported after each epoch
        before_s, before_cpu_s, before_epochs = 0.0, 0.0, 0  # of this candidate, and of those that it goes on from
        saved = None if place is None else place.load_training(trial)
        if saved is None and place is not None and self.schedule_epochs is not None:
            saved = place.load_rung(trial)
        fresh = copy.deepcopy(model.state_dict()) if saved is not None else {}
        training = begin(model)
        if saved is not None:
            tensors, about = saved
            try:
                training.load_state_dict(tensors)
                past, before_s, before_epochs = about["past"], about["seconds"], about.get("before", 0)
                before_cpu_s = about.get("cpu_seconds", 0.0)
                if training.epoch > epochs:
                    raise ValueError(f"the state is of epoch {training.epoch}, and the candidate has {epochs}")
            except (KeyError, ValueError, RuntimeError):  # of another version, or damaged: from the beginning, then
                model.load_state_dict(fresh)
                training, past, before_s, before_cpu_s, before_epochs = begin(model), [], 0.0, 0.0, 0
        going = True
        for epoch, reported in enumerate(past, start=1):  # a scheduler that lost its memory hears them again
            going = going and report(epoch, metrics | reported)
        every = self.limits.validate_every
        began, began_cpu = time.perf_counter(), time.process_time()

        def seconds() -> float:
            return before_s + time.perf_counter() - began

        def cpu_seconds() -> float:
            return before_cpu_s + time.process_time() - began_cpu

        while going and training.epoch < epochs:
            epoch_done = training.run_epoch()
            epoch = epoch_done.number
            reported = {"epochs": float(epoch), "train_loss": epoch_done.loss}
            reported |= self._spent(metrics, epoch - before_epochs, images)
            if epoch_done.accuracy_pct is not None:
                reported["train_acc_pct"] = epoch_done.accuracy_pct
            last = epoch == epochs
            if every is not None and epoch % every == 0 and not last:
                reported |= self.problem.score(model, "val")
            past.append(reported)
            if place is not None:
                place.log(trial, epoch)
                checkpoint_every = self.limits.checkpoint_every
                if checkpoint_every is not None and epoch % checkpoint_every == 0 and not last:
                    about = {"epoch": epoch, "past": past, "seconds": seconds(), "before": before_epochs}
                    about["cpu_seconds"] = cpu_seconds()
                    place.save_training(trial, training.state_dict(), about)
            going = last or report(epoch, metrics | reported | {"training_seconds": seconds()})
        if place is not None and self.schedule_epochs is not None and going:
            if epochs < schedule_epochs:
                place.save_rung(trial, training.state_dict(), {"past": past, "seconds": 0.0, "before": epochs})
            else:
                place.remove_rungs(trial)
        training.finish()
        result = past[-1] | dict(self.problem.score_on(device, model))
        result |= self._spent(metrics, training.epoch - before_epochs, images)
        result["training_seconds"] = seconds()
        if going:
            report(len(past), metrics | result)
        return result | {CPU_SECONDS: cpu_seconds()}

    def _fit(
        self, model: nn.Module, candidate: Candidate, metrics: dict[str, float], deadline: float | None
    ) -> dict[str, float]:
        """Train by the `fit` of a problem of the user's own, from the first epoch on; what training gave."""
        problem, trial, place, every = self.problem, candidate.trial, self.checkpoints, self.limits.validate_every
        epochs = trial.epochs or problem.training.epochs
        reported: dict[str, float] = {}
        began, began_cpu = time.perf_counter(), time.process_time()

        def on_epoch(epoch: int, epoch_metrics: Metrics) -> bool:
            nonlocal reported
            seconds = time.perf_counter() - began
            if deadline is not None and time.monotonic() > deadline:
                raise TimedOut(f"time was up after epoch {epoch} of {epochs} after {seconds:.0f} s of training")
            reported = {**epoch_metrics, "epochs": float(epoch)}
            if epoch >= epochs:
                return True
            if every is not None and epoch % every == 0:
                reported |= problem.score(model, "val")
            if place is not None:
                place.log(trial, epoch)
            return candidate.report(epoch, metrics | reported | {"training_seconds": seconds})

        problem.fit(model, epochs=trial.epochs, seed=trial.seed, device=self.limits.device, report=on_epoch)
        result = {"epochs": float(epochs), **reported, **problem.score_on(self.limits.device, model)}
        result["training_seconds"] = time.perf_counter() - began
        candidate.report(int(result["epochs"]), metrics | result)
        return result | {CPU_SECONDS: time.process_time() - began_cpu}

    @staticmethod
    def _spent(metrics: Metrics, epochs: int, images: int) -> dict[str, float]:
        return {"training_operations": compute_by_operations(metrics["macs"], images, epochs).operations}

    def _check(self, metrics: Metrics, when: Ending) -> None:
        broken = broken_limit(self.objectives, metrics)
        if broken:
            raise InfeasibleError(broken, metrics, when, violation(self.objectives, metrics))


def _learned(history: History) -> Learned:
    return tuple((text, dict(metrics)["latency_ms"]) for text, metrics in history)
