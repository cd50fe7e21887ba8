"""Score a candidate by training it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from nasbench.config import Experiment
from nasbench.data import load_data
from nasbench.evaluation.evaluator import InfeasibleError, Report, Trial
from nasbench.hardware import Calibration, Device, cost, work
from nasbench.metrics import Metrics
from nasbench.reward import broken_limit
from nasbench.training import score, train
from search_spaces import Architecture, SearchSpace, Task, get_space


@dataclass(frozen=True)
class Trained:
    """Build, cost, train, validate; keep the weights.

    Costs come first: a candidate over a hard limit is refused before it is trained.

    Attributes:
        experiment: what was asked.
        calibration: measured architectures as JSON, from which latency is predicted; None where latency is measured
            or not needed.
        checkpoints: the folder for the weights, one file a candidate; None keeps none.
    """

    experiment: Experiment
    calibration: Mapping[str, Any] | None = None
    checkpoints: str | None = None

    def __call__(self, trial: Trial, report: Report) -> Metrics:
        """Metrics of the candidate: val_acc_pct, val_loss, train_loss, macs, params, size_bytes, latency_ms.

        Raises:
            InfeasibleError: it breaks a hard limit.
            Diverged: its loss stopped being finite.
        """
        config = self.experiment
        torch.set_num_threads(config.executor.cpus)
        data = load_data(config.data.name, **config.data.options)
        space = get_space(config.space.name, **config.space.options)
        model = fresh_model(space, trial.arch, data.task, trial.seed)
        metrics = self._costs(model, data.task)
        self._check(metrics)
        losses = []

        def on_epoch(epoch: int, loss: float) -> bool:
            losses.append(loss)
            return report(epoch, {"train_loss": loss})

        train(model, data.train, config.training, seed=trial.seed, epochs=trial.epochs, on_epoch=on_epoch)
        validation = score(model, data.val)
        metrics |= {
            "val_acc_pct": validation.accuracy_pct,
            "val_loss": validation.loss,
            "train_loss": losses[-1],
            # two operations a multiply-add; the backward pass costs twice the forward one
            "training_operations": 2 * 3 * metrics["macs"] * len(data.train) * len(losses),
        }
        if self.checkpoints is not None:
            save_weights(model, checkpoint_path(Path(self.checkpoints), trial.number))
        self._check(metrics)
        return metrics

    def _costs(self, model: nn.Module, task: Task) -> dict[str, float]:
        counted = cost(model, task)
        metrics: dict[str, float] = {
            "macs": counted.macs,
            "params": counted.params,
            "size_bytes": counted.size_bytes,
        }
        device = Device.from_config(self.experiment.device)
        if self.calibration is not None:
            predictor = Calibration.from_json(self.calibration).predictor()
            mean, std = predictor.predict(work(model, task)[None])
            metrics |= {"latency_ms": float(mean[0]), "latency_std_ms": float(std[0])}
        elif self.experiment.needs_latency:
            metrics["latency_ms"] = device.latency(model, task).median
        if "latency_ms" in metrics:
            metrics["throughput_per_s"] = 1000 * device.batch / metrics["latency_ms"]
        return metrics

    def _check(self, metrics: Metrics) -> None:
        broken = broken_limit(self.experiment.objectives, metrics)
        if broken:
            raise InfeasibleError(broken)


def fresh_model(space: SearchSpace, arch: Architecture, task: Task, seed: int) -> nn.Module:
    """A new network whose weights only `seed` decides; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(arch, task)


def checkpoint_path(folder: Path, number: int) -> Path:
    """Where the weights of a candidate lie."""
    return folder / f"{number:05d}.safetensors"


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights aside, then rename, so that a file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, aside)
    aside.replace(path)
