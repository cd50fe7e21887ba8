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
from nasbench.data import ImageData, load_data
from nasbench.devices.beside import measure_beside
from nasbench.devices.registry import get_device
from nasbench.evaluators.compressed.latency import predict_artefact
from nasbench.evaluators.compressed.space import JointSpace, experiment_space
from nasbench.evaluators.costs import latency_and_throughput
from nasbench.evaluators.evaluator import InfeasibleError, Report, Trial
from nasbench.evaluators.latency import Setting, anchors
from nasbench.evaluators.outcomes import Ending
from nasbench.evaluators.proxies import proxy
from nasbench.evaluators.trained import Trained, checked_model, training_alone
from nasbench.experiment.experiment import Experiment
from nasbench.latency.predictors.validation import TWO_SIGMAS
from nasbench.models import load_model, save_model
from nasbench.objectives.metrics import Metrics
from nasbench.objectives.reward import broken_limit, violation
from nasbench.storage.checkpoints import Checkpoints
from nasbench.survivors import NO_GATE, Stage, Workbench, run_recipe
from nasbench_compression import CompiledModel, Recipe, Step
from nasbench_compression.quantization.modules import dequantize
from nasbench_registry import UserError
from search_spaces import Architecture
from search_spaces.fresh_model import fresh_model

ENOUGH = 8  # earlier candidates, with which a stage may compare
WORTH_KEEPING_S = 1.0  # a step that took longer is kept for the next recipe that begins like this one


Networks = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Joint:
    """Stages from cheap to expensive, each of which may end a candidate.

    1. The latency of the artefact, predicted from those measured before; over a hard limit beyond doubt, it ends here.
    2. A zero-cost proxy, if `joint.proxy` names one: the worst share of networks ends here, unless it is trained
       already.
    3. Training, the first `joint.short_epochs` of which may be the last. Weights are shared by all candidates of one
       architecture, so that ten recipes do not train ten times; and so are networks after the first steps of a recipe,
       by recipes that begin alike.
    4. The recipe, and the artefact that it ends in; one without a step `compile` is what the device's runtime runs.
    5. Measurements of the artefact: validation accuracy, bytes, latency.

    Attributes:
        experiment: what was asked.
        calibration: measurements of networks before the search as JSON, beside which artefacts are measured while
            other candidates are trained; None where nothing else runs meanwhile.
        checkpoints: the folder for weights and states of training.
        shared: the folder for what candidates have in common: trained networks and those after first steps.
        artefacts: the folder in which each artefact is kept under the number of its candidate; None keeps none.
        data: the images; None loads them.
    """

    experiment: Experiment
    calibration: Mapping[str, Any] | None
    checkpoints: str
    shared: str
    artefacts: str | None = None
    data: ImageData | None = field(default=None, compare=False, repr=False)

    def __call__(self, trial: Trial, report: Report) -> Metrics:
        """Metrics of the artefact: val_acc_pct, latency_ms, throughput_per_s, size_bytes, macs, params.

        Beside them what the stages found: trained_val_acc_pct, that of the uncompressed network, proxy_score,
        short_val_acc_pct, latency_predicted_ms, and recipe_seconds.

        Raises:
            InfeasibleError: a stage ended it, or a step does not fit the network; with what was known.
            InvalidNetwork, Diverged, TimedOut: as `Trained`.
        """
        config = self.experiment
        torch.set_num_threads(config.executor.threads)
        data = self.data or load_data(config.data.name, **config.data.options)
        space = experiment_space(config)
        assert isinstance(space, JointSpace), "an experiment with choices in its recipe"
        network, point = space.halves(trial.arch)
        known: dict[str, float] = {}
        model = checked_model(space.network, network, data.task, trial.seed)
        self._predict(space, trial, data, known)
        compares = config.joint.proxy is not None or config.joint.short_epochs is not None
        networks = _networks(space, trial) if compares else {}
        if "trained_val_acc_pct" not in networks.pop(space.network.format(network), {}):
            self._look(model, networks, data, known)
        known |= self._train(space, network, trial, networks, data, report, known)
        self._check({"val_acc_pct": known["trained_val_acc_pct"]}, "after training", known)
        began = time.perf_counter()
        bench = Workbench(data, config.training, trial.seed, get_device(config.device))
        trained = self._weights(space, network, trial, data)
        stages = self.stages(space, network, space.recipes.recipe(point), bench, trained)
        broken = next((stage for stage in stages if stage.model is None), None)
        if broken is not None:
            raise InfeasibleError(f"the recipe does not fit: {broken.name}: {broken.reason}", known, "recipe")
        last = stages[-1]
        assert last.model is not None, "no stage is broken"
        artefact = bench.deploy(last.model)
        counted = counts(dequantize(last.network), data.task)
        known |= {
            "val_acc_pct": bench.validate(artefact),
            "size_bytes": float(artefact.bytes),
            "macs": counted.macs,
            "params": counted.params,
            "recipe_seconds": time.perf_counter() - began,
        }
        self._check(known, "artefact", known)
        known |= latency_and_throughput(self._measure(artefact, data), config.device.batch)
        self._check(known, "artefact", known)
        self._keep(space, network, stages, artefact, trial, data)
        return known

    def stages(
        self, space: JointSpace, network: Architecture, recipe: Recipe, bench: Workbench, trained: nn.Module
    ) -> list[Stage]:
        """The stages of a recipe, going on from the longest beginning that another candidate left.

        Args:
            space: of the search.
            network: the architecture.
            recipe: of the candidate.
            bench: for it.
            trained: the trained network.
        """
        done, model, before = 0, trained, []
        for count in range(len(recipe.steps), 0, -1):
            folder = self._beginning(space, network, recipe.steps[:count], bench.seed)
            with contextlib.suppress(UserError):
                stored = load_model(folder)
                done, model, before = count, stored.model, list(stored.steps)
                break
        stages = run_recipe(model, Recipe(recipe.steps[done:]), bench, NO_GATE, before=before, teacher=trained)
        for count, stage in enumerate(stages[1:], start=done + 1):
            worth = stage.seconds > WORTH_KEEPING_S
            if worth and isinstance(stage.model, nn.Module):
                self._leave(space, network, recipe.steps[:count], stage, bench)
        return stages

    # ---- the stages before compression

    def _predict(self, space: JointSpace, trial: Trial, data: ImageData, known: dict[str, float]) -> None:
        guess = predict_artefact(space, trial.arch, data.task, trial.earlier)
        if guess is None:
            return
        mean_ms, std_ms = guess
        known["latency_predicted_ms"] = mean_ms
        # The logarithm is normal, see `nasbench.latency.predictors.contract.log_normal`.
        variance = math.log1p((std_ms / mean_ms) ** 2)
        least_ms = mean_ms * math.exp(-variance / 2 - TWO_SIGMAS * math.sqrt(variance))
        limits, batch = self.experiment.objectives, self.experiment.device.batch
        broken = broken_limit(limits, latency_and_throughput(least_ms, batch))
        if broken:
            beyond = violation(limits, latency_and_throughput(mean_ms, batch))
            words = f"predicted beyond doubt from the artefacts before it: {broken}"
            raise InfeasibleError(words, known, "predicted latency", beyond)

    def _look(self, model: nn.Module, networks: Networks, data: ImageData, known: dict[str, float]) -> None:
        asked = self.experiment.joint.proxy
        if asked is None:
            return
        known["proxy_score"] = proxy(asked, model, data.train.images)
        self._compare("proxy_score", known, networks, self.experiment.joint.proxy_keep, "zero-cost proxy")

    def _compare(self, name: str, known: Mapping[str, float], networks: Networks, keep: float, ending: Ending) -> None:
        """End a candidate whose network is not among the best share of those that came so far."""
        others = [metrics[name] for metrics in networks.values() if name in metrics]
        if len(others) < ENOUGH:
            return
        needed = float(np.quantile(others, 1 - keep))
        if known[name] < needed:
            raise InfeasibleError(
                f"{name} {known[name]:.4g} is below {needed:.4g}, which the best {100 * keep:.0f} % of "
                f"{len(others)} networks before it reached",
                known,
                ending,
            )

    def _train(
        self,
        space: JointSpace,
        network: Architecture,
        trial: Trial,
        networks: Networks,
        data: ImageData,
        report: Report,
        known: dict[str, float],
    ) -> dict[str, float]:
        """Train, unless a candidate with this architecture was trained; what the uncompressed network is worth."""
        config, short = self.experiment, self.experiment.joint.short_epochs
        cut: InfeasibleError | None = None

        def on_epoch(epoch: int, metrics: Metrics) -> bool:
            nonlocal cut
            if epoch == short and "val_acc_pct" in metrics:
                known["short_val_acc_pct"] = metrics["val_acc_pct"]
                try:
                    self._compare("short_val_acc_pct", known, networks, config.joint.short_keep, "short training")
                except InfeasibleError as error:
                    cut = error
                    return False
            return report(epoch, metrics)

        plain = training_alone(config).model_copy(
            update={
                "cache": config.cache or str(Path(self.shared) / "trained"),
                "training": config.training
                if short is None
                else config.training.model_copy(update={"validate_every": short}),
            }
        )
        found = dict(Trained(plain, None, self.checkpoints, data)(_own(trial, network), on_epoch))
        if cut is not None:
            raise cut
        found["trained_val_acc_pct"] = found.pop("val_acc_pct")
        found.pop("size_bytes", None)
        tuned = sum(step.options().get("epochs", 0) for step in space.recipes.recipe(space.halves(trial.arch)[1]).steps)
        # An upper bound for the recipe: with the multiply-adds of the uncompressed network.
        found["training_operations"] = found.get("training_operations", 0.0) + (
            compute_by_operations(found["macs"], len(data.train), tuned).operations
        )
        return found

    def _check(self, metrics: Metrics, ending: Ending, known: Metrics) -> None:
        """End a candidate whose metrics break a limit."""
        broken = broken_limit(self.experiment.objectives, metrics)
        if broken:
            where = "of the artefact" if ending == "artefact" else "before compression"
            beyond = violation(self.experiment.objectives, metrics)
            raise InfeasibleError(f"{where}: {broken}", known, ending, beyond)

    # ---- what candidates share

    def _weights(self, space: JointSpace, network: Architecture, trial: Trial, data: ImageData) -> nn.Module:
        model = fresh_model(space.network, network, data.task, trial.seed)
        weights = Checkpoints.at(self.checkpoints).load_weights(_own(trial, network))
        if weights is None:
            raise UserError(
                f"the weights of candidate {trial.number} are neither in {self.checkpoints} nor readable in the cache "
                f"{self.experiment.cache or Path(self.shared) / 'trained'}; check the rights of these folders, or set "
                f"another cache."
            )
        model.load_state_dict(weights)
        return model.eval()

    def _beginning(self, space: JointSpace, network: Architecture, steps: Sequence[Step], seed: int) -> Path:
        """The folder of a network after these steps."""
        identity = {
            "network": list(space.network.canonical(network).picks),
            "notation": list(network.picks),
            "steps": Recipe(tuple(steps)).to_json(),
            "space": self.experiment.space.model_dump(mode="json"),
            "data": self.experiment.data.model_dump(mode="json"),
            "training": self.experiment.training.model_dump(mode="json"),
            "device": self.experiment.device.model_dump(mode="json"),
            "seed": seed,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
        return Path(self.shared) / "steps" / key

    def _leave(
        self, space: JointSpace, network: Architecture, steps: Sequence[Step], stage: Stage, bench: Workbench
    ) -> None:
        """Keep a network after first steps; whole or not at all, for several workers may do it at once."""
        folder = self._beginning(space, network, steps, bench.seed)
        aside = folder.with_name(f"{folder.name}.{os.getpid()}")
        assert isinstance(stage.model, nn.Module), "a compiled model is no beginning"
        self._save(aside, stage.model, stage.steps, network, bench.data)
        with contextlib.suppress(OSError):  # another worker was faster
            os.replace(aside, folder)

    def _keep(
        self,
        space: JointSpace,
        network: Architecture,
        stages: Sequence[Stage],
        artefact: CompiledModel,
        trial: Trial,
        data: ImageData,
    ) -> None:
        if self.artefacts is not None:
            self._save(Path(self.artefacts) / f"{trial.number:05d}", artefact, stages[-1].steps, network, data)

    def _save(
        self,
        folder: Path,
        model: nn.Module | CompiledModel,
        steps: Sequence[tuple[Step, dict[str, Any]]],
        network: Architecture,
        data: ImageData,
    ) -> None:
        save_model(
            folder,
            model,
            space=self.experiment.space.name,
            space_options=self.experiment.space.options,
            arch=network,
            task=data.task,
            steps=steps,
        )

    def _measure(self, artefact: CompiledModel, data: ImageData) -> float:
        """Median milliseconds of the artefact, as it would be while nothing else runs."""
        device = get_device(self.experiment.device)
        if self.calibration is None:
            return device.measure(artefact, data.task).median
        setting = Setting.of(self.experiment, data.task, self.calibration)
        return measure_beside(device, artefact, data.task, anchors(setting))


def _networks(space: JointSpace, trial: Trial) -> dict[str, dict[str, float]]:
    """What is known of each network that came before, whatever its recipes, by its notation."""
    found: dict[str, dict[str, float]] = {}
    for text, metrics in trial.earlier:
        network = space.network.format(space.halves(space.parse(text))[0])
        found.setdefault(network, {}).update(metrics)
    return found


def _own(trial: Trial, network: Architecture) -> Trial:
    """The trial of the network alone: its weights are of no recipe."""
    return dataclasses.replace(trial, arch=network, learned=(), earlier=())
