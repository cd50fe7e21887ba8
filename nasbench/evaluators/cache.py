"""Results of training that several runs share, so that no run trains what another has trained."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nasbench.evaluators.trial import Trial
from nasbench.storage.checkpoints import Checkpoints, save_weights
from nasbench.storage.files import write_json
from search_spaces import SearchSpace

FORMAT = 1


@dataclass(frozen=True)
class Cache:
    """A folder of results, found by everything that decides what training gives.

    These are the space with its options (and its source, if it is a user's), the network, the data with their
    options, the training section, the epochs, the seed, and whether a GPU trains. What a device measures is no part
    of it, for it depends on the machine.

    Attributes:
        folder: shared by the runs; several processes may use it at once.
        identity: of the search, as JSON values: space, data and training with their options, and whether a GPU trains.
    """

    folder: Path
    identity: Mapping[str, Any]

    def find(self, space: SearchSpace, trial: Trial, checkpoints: Checkpoints | None) -> dict[str, Any] | None:
        """The stored metrics of a trial, or None; its weights are copied to `checkpoints` if they are there."""
        place = self._place(space, trial)
        try:
            stored: dict[str, Any] = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        # Another notation of the same network may name its tensors differently.
        if checkpoints is not None and stored["picks"] == list(trial.arch.picks):
            with contextlib.suppress(FileNotFoundError):
                checkpoints.copy_weights(trial, place.with_suffix(".safetensors"))
        metrics: dict[str, Any] = stored["metrics"]
        return metrics

    def store(self, space: SearchSpace, trial: Trial, metrics: dict[str, float], model: nn.Module) -> None:
        """Keep the metrics that training gave, and the weights."""
        place = self._place(space, trial)
        save_weights(model, place.with_suffix(".safetensors"))
        write_json(place.with_suffix(".json"), {"picks": list(trial.arch.picks), "metrics": metrics})

    def _place(self, space: SearchSpace, trial: Trial) -> Path:
        identity = {
            "format": FORMAT,
            **self.identity,
            "source": _source(space),
            "network": list(space.canonical(trial.arch).picks),
            "epochs": trial.epochs or trial.full_epochs,
            "seed": trial.seed,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / key


def _source(space: SearchSpace) -> str | None:
    """A digest of the file that defines a user's space; None for a space of ours."""
    kind = type(space)
    if kind.__module__.partition(".")[0] == SearchSpace.__module__.partition(".")[0]:
        return None
    file = inspect.getsourcefile(sys.modules[kind.__module__])
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
