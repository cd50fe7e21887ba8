"""Score an architecture together with a recipe: from what costs nothing to the artefact that would be deployed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench.costs.compute import compute_by_operations
from nasbench.costs.cost import counts
from nasbench.devices.device import Device
from nasbench.evaluators.candidate import Candidate, Report, checked_model
from nasbench.evaluators.compressed.config import JointConfig
from nasbench.evaluators.compressed.latency import predict_artefact
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.evaluators.costs import LATENCY
from nasbench.evaluators.errors import InfeasibleError
from nasbench.evaluators.evaluator import EarlierCandidate, Evaluator, Progress
from nasbench.evaluators.latency import SECONDS_EACH, LatencyEstimator, anchors_of
from nasbench.evaluators.outcomes import Ending
from nasbench.evaluators.proxies import proxy
from nasbench.evaluators.trained import CPU_SECONDS, Trained
from nasbench.evaluators.trial import History, Trial
from nasbench.models.build import Build, SpaceBuild
from nasbench.models.model import Noted
from nasbench.models.store import load_compiled, load_model, save_model
from nasbench.models.workbench import Workbench
from nasbench.objectives.metrics import Metrics, latency_and_throughput
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import broken_limit, violation
from nasbench.objectives.statistics import TWO_SIGMAS
from nasbench.problems.supervised import Supervised
from nasbench.storage.disk_errors import is_full
from nasbench.storage.files import read_json, write_json
from nasbench_compression import CompiledModel, Recipe, Step
from nasbench_compression.quantization.modules import dequantize
from nasbench_registry import UserError
from nasbench_registry.config import Named
from search_spaces import Architecture, SearchSpace

ENOUGH = 8  # earlier candidates, with which a stage may compare
WORTH_KEEPING_S = 0.3  # a step that took longer is kept for the next recipe that begins like this one
SPENT = "spent.json"  # beside a network after first steps: what they took
SECONDS = (CPU_SECONDS, "recipe_seconds", "recipe_cpu_seconds")
"""Costs of an evaluation beside training_seconds; on a busy machine seconds of the processor say more."""

Networks = Mapping[str, Mapping[str, float]]


@dataclass
class Spent:
    """Seconds on a recipe since the start, and those of first steps that another candidate made for it.

    Attributes:
        wall: Seconds that passed.
        cpu: Seconds of the processor, in all threads of this process.
    """

    wall: float = field(default_factory=lambda: -time.perf_counter())
    cpu: float = field(default_factory=lambda: -time.process_time())

    def reuse(self, file: Path) -> None:
        """Count what first steps took when they were made; nothing where an earlier version did not say so."""
        with contextlib.suppress(OSError):
            stored = read_json(file, "delete its folder", ("wall", "cpu"))
            self.wall, self.cpu = self.wall + stored["wall"], self.cpu + stored["cpu"]

    def now(self) -> dict[str, float]:
        """Both, so far."""
        return {"wall": self.wall + time.perf_counter(), "cpu": self.cpu + time.process_time()}


@dataclass(frozen=True)
class Shared:
    """Files and identity that candidates of a search over recipes share.

    Attributes:
        folder: Folder of networks after first steps.
        identity: Everything that they depend on beside network, steps and seed, as JSON values.
        space: Name and options of the space of networks, from which a model folder builds it again.
        artefacts: Folder in which each artefact is kept under the number of its candidate; None keeps none.
    """

    folder: Path
    identity: Mapping[str, Any]
    space: Named
    artefacts: Path | None = None


class Compressed(Evaluator):
    """Stages from cheap to expensive, each of which may end a candidate.

    1. The latency of the artefact, predicted from those measured before; over a hard limit beyond doubt, it ends here.
    2. A zero-cost proxy, if `joint.proxy` names one: the worst share of networks ends here, unless it is trained
       already.
    3. Training, the first `joint.short_epochs` of which may be the last. Weights are shared by all candidates of one
       architecture, so that ten recipes do not train ten times; and so are networks after the first steps of a recipe,
       by recipes that begin alike.
    4. The recipe, and the artefact that it ends in; one without a step `compile` is what the device's runtime runs.
    5. Measurements of the artefact: validation accuracy, bytes, latency.

    Args:
        space: Search space of architectures, each with a recipe.
        trained: Trains the networks of `space.network` by their accuracy alone, and keeps their weights.
        device: Device that artefacts are deployed on.
        stages: Settings of the early stages.
        shared: Folders and identity that candidates have in common.
        objectives: Objectives whose limits end a candidate.
        estimator: Latency estimator with networks that were measured before the search, beside which artefacts are
            measured while other candidates are trained; None where nothing else runs meanwhile.
        latency_budget_s: Seconds of measuring the latency of each artefact.
    """

    summary = "train, apply a recipe, compile, measure the artefact"

    def __init__(
        self,
        space: JointSpace,
        trained: Trained,
        device: Device,
        *,
        stages: JointConfig,
        shared: Shared,
        objectives: Sequence[Objective],
        estimator: LatencyEstimator | None = None,
        latency_budget_s: float = SECONDS_EACH,
    ) -> None:
        super().__init__(space, trained.problem.task)
        self.joint, self.training, self.device = space, trained, device
        self.early, self.shared, self.objectives = stages, shared, tuple(objectives)
        self.estimator, self.latency_budget_s = estimator, latency_budget_s

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the artefact, and those of the stages."""
        return (*self.training.problem.metrics, *LATENCY, "size_bytes", "macs", "params", *self._stage_metrics)

    @property
    def _quality(self) -> str:
        """The first metric of the problem, such as val_acc_pct."""
        return self.training.problem.quality

    @property
    def _trained(self) -> str:
        """The metric that is the quality of the uncompressed network, such as trained_val_acc_pct."""
        return f"trained_{self._quality}"

    @property
    def _short(self) -> str:
        """The metric that is the quality after `joint.short_epochs`."""
        return f"short_{self._quality}"

    @property
    def _compares(self) -> bool:
        """Whether a stage compares a network with those before it."""
        return self.early.proxy is not None or self.early.short_epochs is not None

    @property
    def _stage_metrics(self) -> tuple[str, ...]:
        """The metrics that the stages add to a candidate."""
        return (self._trained, "proxy_score", self._short, "latency_predicted_ms", *SECONDS)

    def __call__(self, candidate: Candidate) -> Metrics:
        """Metrics of the artefact: those of the problem, latency_ms, throughput_per_s, size_bytes, macs, params.

        Beside them what the stages found: trained_val_acc_pct, that of the uncompressed network, proxy_score,
        short_val_acc_pct, latency_predicted_ms. And what it took: recipe_seconds, from the trained network to the
        measured artefact, with first steps that another candidate left; of the processor recipe_cpu_seconds, and
        training_cpu_seconds where it was trained now. Where weights are shared, scoring the network is part of it.

        Raises:
            InfeasibleError: A stage ended it, or a step does not fit the network; with what was known.
            InvalidNetwork, Diverged, TimedOut: As `Trained`.
        """
        trial, problem = candidate.trial, self.training.problem
        torch.set_num_threads(self.training.limits.threads)
        network, point = self.joint.halves(trial.arch)
        known_metrics: dict[str, float] = {}
        model = checked_model(self.network_space, network, problem.task, trial.seed)
        self._predict(trial, known_metrics)
        networks = self._networks(trial) if self._compares else {}
        if self._trained not in networks.pop(self.network_space.format(network), {}):
            self._look(model, networks, known_metrics)
        recipe = self.joint.recipes.recipe(point)
        spent = Spent()
        known_metrics |= self._train(network, recipe, candidate, networks, known_metrics)
        if not self.training.trains_once:
            known_metrics.pop("training_seconds", None)  # every recipe scores the network again, and pays for it
        else:
            if not known_metrics.get("cached"):
                known_metrics[CPU_SECONDS] = self.training_spent(trial).get(CPU_SECONDS, spent.now()["cpu"])
            spent = Spent()
        self._check({self._quality: known_metrics[self._trained]}, "after training", known_metrics)
        anchors = anchors_of(self.estimator)
        bench = Workbench(problem, trial.seed, self.device, anchors, self.training.limits.device)
        trained = self.training.trained(trial.number, network, trial.seed, trial.epochs)
        last, behind, steps = self.apply(network, recipe, bench, trained, known_metrics, spent)
        artefact = bench.compiled(last)
        counted = counts(dequantize(behind), problem.task)
        known_metrics |= {
            **problem.score(artefact, "val"),
            "size_bytes": float(artefact.bytes),
            "macs": counted.macs,
            "params": counted.params,
        } | _seconds(spent)
        self._check(known_metrics, "artefact", known_metrics)
        latency = self.device.measure(artefact, problem.task, self.latency_budget_s, anchors)
        known_metrics |= latency_and_throughput(latency.median, self.device.batch) | _seconds(spent)
        self._check(known_metrics, "artefact", known_metrics)
        if self.shared.artefacts is not None:
            self._save(self.shared.artefacts / f"{trial.number:05d}", artefact, steps, network)
        return known_metrics

    def apply(
        self,
        network: Architecture,
        recipe: Recipe,
        bench: Workbench,
        trained: nn.Module,
        known_metrics: Metrics,
        spent: Spent,
    ) -> tuple[nn.Module | CompiledModel, nn.Module, list[Noted]]:
        """Apply a recipe, going on from the longest beginning that another candidate left.

        Args:
            network: Architecture of the network.
            recipe: Recipe of the candidate.
            bench: Workbench of the recipe.
            trained: The trained network.
            known_metrics: Metrics so far, which a step that does not fit hands on.
            spent: Seconds spent on this recipe.

        Returns:
            What the last step gave, the network behind it, and the steps with their notes.

        Raises:
            InfeasibleError: A step does not fit the network.
        """
        done, model, steps = 0, trained, list[Noted]()
        for count in range(len(recipe.steps), 0, -1):
            with contextlib.suppress(UserError):
                folder = self._beginning(network, recipe.steps[:count], bench.seed)
                stored = load_model(folder)
                spent.reuse(folder / SPENT)
                done, model, steps = count, stored.model, list(stored.steps)[len(self._built(network)[1]) :]
                break
        context = bench.context(teacher=trained)
        last: nn.Module | CompiledModel = model
        for count, step in enumerate(recipe.steps[done:], start=done + 1):
            began = time.perf_counter()
            try:
                last, note = step.apply(model, context)
            except Exception as error:
                # What is refused, or no runtime takes, is an outcome of the search; any other error is a failure.
                if not isinstance(error, UserError) and (step.name != "compile" or is_full(error)):
                    raise
                words = " ".join(str(error).split()) or type(error).__name__
                known_metrics = {**known_metrics, **_seconds(spent)}
                raise InfeasibleError(
                    f"the recipe does not fit: {step.stage}: {words}", known_metrics, "recipe"
                ) from error
            steps = [*steps, (step, note)]
            if isinstance(last, nn.Module):
                model = last
                if time.perf_counter() - began > WORTH_KEEPING_S:
                    self._leave(network, recipe.steps[:count], model, steps, bench.seed, spent)
        return last, model, steps

    def history(self, candidates: Sequence[EarlierCandidate]) -> History:
        """The metrics of the stages for the candidates so far; nothing where no stage asks."""
        if not (self.early.predict or self._compares):
            return ()
        staged = ("latency_ms", "proxy_score", self._short, self._trained)
        return tuple(
            (
                earlier.architecture,
                tuple((name, earlier.metrics[name]) for name in staged if name in earlier.metrics),
            )
            for earlier in candidates
            if earlier.status in ("done", "infeasible")
        )

    def parts(self, arch: Architecture) -> Mapping[str, Any]:
        """The notation of the network, and the entries of the recipe."""
        network, point = self.joint.split(arch)
        return {"network": self.network_space.format(network), "recipe": self.joint.recipes.entries(point)}

    @property
    def network_space(self) -> SearchSpace:
        """The space of networks."""
        return self.joint.network

    def network_arch(self, arch: Architecture) -> Architecture:
        """The network, as the representative of all that build it."""
        return self.joint.halves(arch)[0]

    def recipe(self, arch: Architecture) -> Recipe:
        """The recipe of the candidate."""
        return self.joint.recipes.recipe(self.joint.halves(arch)[1])

    def artefact(self, number: int, arch: Architecture, seed: int) -> CompiledModel | None:
        """The artefact that the search kept; None if it does not load by itself, as eager PyTorch's."""
        if self.shared.artefacts is None:
            return None
        try:
            return load_compiled(self.shared.artefacts / f"{number:05d}")
        except UserError:
            return None

    def begin(self, progress: Progress) -> None:
        """Do what training needs; see `Evaluator.begin`."""
        self.training.begin(progress)

    def end(self, progress: Progress, folder: Path) -> None:
        """Do what training needs at the end; see `Evaluator.end`."""
        self.training.end(progress, folder)

    def stored_as(self, arch: Architecture, build: Build) -> tuple[Build, list[Noted]]:
        """How the network is built; see `Evaluator.stored_as`."""
        return self.training.stored_as(arch, build)

    def trained(self, number: int, arch: Architecture, seed: int, epochs: int | None) -> nn.Module:
        """The trained network, before its recipe."""
        return self.training.trained(number, self.network_arch(arch), seed, epochs)

    def training_spent(self, trial: Trial) -> dict[str, float]:
        """See `Trained.spent`; of the network of a candidate."""
        return self.training.spent(dataclasses.replace(trial, arch=self.network_arch(trial.arch), history=()))

    # ---- the stages before compression

    def _predict(self, trial: Trial, known_metrics: dict[str, float]) -> None:
        if not self.early.predict:
            return
        guess = predict_artefact(self.joint, trial.arch, self.training.problem.task, trial.history)
        if guess is None:
            return
        mean_ms, std_ms = guess
        known_metrics["latency_predicted_ms"] = mean_ms
        # The logarithm is normal, see `nasbench.latency.predictors.contract.log_normal`.
        variance = math.log1p((std_ms / mean_ms) ** 2)
        least_ms = mean_ms * math.exp(-variance / 2 - TWO_SIGMAS * math.sqrt(variance))
        broken = broken_limit(self.objectives, latency_and_throughput(least_ms, self.device.batch))
        if broken:
            beyond = violation(self.objectives, latency_and_throughput(mean_ms, self.device.batch))
            words = f"predicted beyond doubt from the artefacts before it: {broken}"
            raise InfeasibleError(words, known_metrics, "predicted latency", beyond)

    def _look(self, model: nn.Module, networks: Networks, known_metrics: dict[str, float]) -> None:
        if self.early.proxy is None:
            return
        known_metrics["proxy_score"] = proxy(self.early.proxy, model, self.training.problem)
        self._compare("proxy_score", known_metrics, networks, self.early.proxy_keep, "zero-cost proxy")

    def _compare(
        self, name: str, known_metrics: Mapping[str, float], networks: Networks, keep: float, ending: Ending
    ) -> None:
        """End a candidate whose network is not among the best share of those that came so far."""
        values = [metrics[name] for metrics in networks.values() if name in metrics]
        if len(values) < ENOUGH:
            return
        small = name == self._short and self.training.problem.metrics[self._quality].goal == "min"
        needed = float(np.quantile(values, keep if small else 1 - keep))
        if known_metrics[name] > needed if small else known_metrics[name] < needed:
            raise InfeasibleError(
                f"{name} {known_metrics[name]:.4g} is {'above' if small else 'below'} {needed:.4g}, which the best "
                f"{100 * keep:.0f} % of {len(values)} networks before it reached",
                known_metrics,
                ending,
            )

    def _train(
        self,
        network: Architecture,
        recipe: Recipe,
        candidate: Candidate,
        networks: Networks,
        known_metrics: dict[str, float],
    ) -> dict[str, float]:
        """Train, unless a candidate with this architecture was trained; what the uncompressed network is worth."""
        short = self.early.short_epochs
        cut: InfeasibleError | None = None

        def on_epoch(epoch: int, metrics: Metrics) -> bool:
            nonlocal cut
            if epoch == short and self._quality in metrics:
                known_metrics[self._short] = metrics[self._quality]
                try:
                    self._compare(self._short, known_metrics, networks, self.early.short_keep, "short training")
                except InfeasibleError as error:
                    cut = error
                    return False
            return candidate.report(epoch, metrics)

        # The network alone: its weights are of no recipe.
        network_trial = dataclasses.replace(candidate.trial, arch=network, history=())
        report: Report = on_epoch
        metrics = dict(self.training(Candidate(network_trial, self.network_space, self.task, report)))
        if cut is not None:
            raise cut
        metrics[self._trained] = metrics.pop(self._quality)
        metrics.pop("size_bytes", None)
        tuned = sum(step.options().get("epochs", 0) for step in recipe.steps)
        # An upper bound for the recipe: with the multiply-adds of the uncompressed network.
        problem = self.training.problem
        images = len(problem.data.train) if isinstance(problem, Supervised) else 0
        metrics["training_operations"] = metrics.get("training_operations", 0.0) + (
            compute_by_operations(metrics["macs"], images, tuned).operations
        )
        return metrics

    def _check(self, metrics: Metrics, ending: Ending, known_metrics: Metrics) -> None:
        """End a candidate whose metrics break a limit."""
        broken = broken_limit(self.objectives, metrics)
        if broken:
            where = "of the artefact" if ending == "artefact" else "before compression"
            raise InfeasibleError(f"{where}: {broken}", known_metrics, ending, violation(self.objectives, metrics))

    def _networks(self, trial: Trial) -> dict[str, dict[str, float]]:
        """The metrics of each network that came before, whatever its recipes, by its notation."""
        networks: dict[str, dict[str, float]] = {}
        for text, metrics in trial.history:
            network = self.network_space.format(self.joint.halves(self.joint.parse(text))[0])
            networks.setdefault(network, {}).update(metrics)
        return networks

    # ---- what candidates share

    def _beginning(self, network: Architecture, steps: Sequence[Step], seed: int) -> Path:
        """The folder of a network after these steps."""
        identity = {
            **self.shared.identity,
            "network": list(self.network_space.canonical(network).picks),
            "notation": list(network.picks),
            "steps": Recipe(tuple(steps)).to_json(),
            "seed": seed,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
        return self.shared.folder / "steps" / key

    def _leave(
        self,
        network: Architecture,
        steps: Sequence[Step],
        model: nn.Module,
        noted: Sequence[Noted],
        seed: int,
        spent: Spent,
    ) -> None:
        """Keep a network after first steps; whole or not at all, for several workers may do it at once."""
        folder = self._beginning(network, steps, seed)
        aside = folder.with_name(f"{folder.name}.{os.getpid()}")
        self._save(aside, model, noted, network)
        write_json(aside / SPENT, spent.now())
        with contextlib.suppress(OSError):  # another worker was faster
            os.replace(aside, folder)

    def _built(self, network: Architecture) -> tuple[Build, list[Noted]]:
        """How an uncompressed network is built, and the steps that this takes."""
        return self.stored_as(network, SpaceBuild(self.shared.space.name, self.shared.space.options, network))

    def _save(
        self, folder: Path, model: nn.Module | CompiledModel, steps: Sequence[Noted], network: Architecture
    ) -> None:
        build, before = self._built(network)
        save_model(folder, model, build=build, task=self.training.problem.task, steps=[*before, *steps])


def _seconds(spent: Spent) -> dict[str, float]:
    now = spent.now()
    return {"recipe_seconds": now["wall"], "recipe_cpu_seconds": now["cpu"]}
