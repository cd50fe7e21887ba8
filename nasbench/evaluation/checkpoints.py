"""Weights and states of training on disk: safetensors, whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from nasbench.evaluation.evaluator import Trial

LOG = "epochs.log"


@dataclass(frozen=True)
class Checkpoints:
    """The files of the candidates of a run.

    Attributes:
        folder: that holds them.
    """

    folder: Path

    def weights(self, number: int) -> Path:
        """Where the weights of a trained candidate lie."""
        return self.folder / f"{number:05d}.safetensors"

    def training(self, number: int) -> Path:
        """Where the state of a candidate in training lies, from which it goes on after an interruption."""
        return self.folder / f"{number:05d}.training.safetensors"

    def hang(self, number: int) -> Path:
        """Where a worker writes at which line a candidate hangs, before it ends itself."""
        return self.folder / f"{number:05d}.hang.txt"

    def log(self, trial: Trial, epoch: int) -> None:
        """Note that an epoch of training was finished; the log tells what was trained, and whether twice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"candidate": trial.number, "epoch": epoch, "attempt": trial.attempt, "process": os.getpid()})
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def save_training(self, trial: Trial, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Keep the state of a candidate in training, and what is needed to go on with it.

        Args:
            trial: whose training it is.
            tensors: the state.
            about: JSON values; `epoch` is the number of finished epochs.
        """
        kept = {"of": json.dumps(_identity(trial)), "epoch": str(about["epoch"]), "about": json.dumps(about)}
        _save(tensors, self.training(trial.number), kept)

    def load_training(self, trial: Trial) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The state and what was kept with it; None if there is none of this very trial that can be read."""
        try:
            with safe_open(self.training(trial.number), framework="pt") as file:
                kept = file.metadata() or {}
                if kept.get("of") != json.dumps(_identity(trial)):
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}, json.loads(kept["about"])  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def save_weights(self, number: int, model: nn.Module) -> None:
        """Keep the weights of a trained candidate; the state of its training is not needed any more."""
        save_weights(model, self.weights(number))
        self.training(number).unlink(missing_ok=True)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights of a network aside, then rename, so that the file is whole or not there."""
    _save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def _save(tensors: Mapping[str, torch.Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(dict(tensors), aside, about)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _identity(trial: Trial) -> list[Any]:
    """What makes two trainings the same; a retry with smaller parts of a batch goes on with the state."""
    return [list(trial.arch.picks), trial.epochs, trial.seed]
