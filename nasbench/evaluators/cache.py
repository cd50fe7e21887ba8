"""Results of training that several runs share, so that no run trains what another has trained."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from nasbench.evaluators.trial import Trial
from nasbench.storage.checkpoints import Checkpoints, save_weights
from nasbench.storage.files import write_json

FORMAT = 2


@dataclass(frozen=True)
class Cache:
    """A folder of results, found by everything that decides what training gives.

    These are the space with its options and all code of a user's that it reaches, the architecture, the images and
    labels themselves, the training section, the epochs, the seed, whether a GPU trains, and the versions of torch and
    of this project. What a device measures is no part of it, for it depends on the machine.

    Attributes:
        folder: Folder that the runs share; several processes and users may use it at once.
        identity: Identity of the search, as JSON values: all of these but architecture, epochs and seed.
    """

    folder: Path
    identity: Mapping[str, Any]

    def find(self, trial: Trial, checkpoints: Checkpoints | None) -> dict[str, Any] | None:
        """The stored metrics of a trial, or None.

        Args:
            trial: The candidate.
            checkpoints: Where its weights are copied to; metrics whose weights are missing, damaged or not to be read
                are as good as none then.
        """
        place = self._place(trial)
        try:
            metrics: dict[str, Any] = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
            if checkpoints is not None:
                checkpoints.copy_weights(trial, place.with_suffix(".safetensors"))
        except (OSError, ValueError, SafetensorError):
            return None
        return metrics

    def numbers(self, trial: Trial, names: Collection[str]) -> dict[str, float]:
        """Those of these metrics of a trial that are stored."""
        try:
            stored = json.loads(self._place(trial).with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {name: stored[name] for name in names if name in stored}

    def store(self, trial: Trial, metrics: Mapping[str, float], model: nn.Module) -> None:
        """Keep the metrics that training gave, and the weights; a warning if the folder does not let us."""
        place = self._place(trial)
        try:
            save_weights(model, place.with_suffix(".safetensors"))
            write_json(place.with_suffix(".json"), metrics)
        except OSError as error:  # what was trained is as good without the cache
            warnings.warn(f"the cache keeps nothing, for {place} cannot be written: {error}", stacklevel=2)

    def _place(self, trial: Trial) -> Path:
        identity = {
            "format": FORMAT,
            **self.identity,
            "architecture": list(trial.arch.picks),
            "epochs": trial.epochs or trial.full_epochs,
            "seed": trial.seed,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / key
