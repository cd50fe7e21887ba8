"""Results of training that several runs share, so that no run trains what another has trained."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasbench.config import Experiment
from nasbench.evaluation.evaluator import Trial
from nasbench.files import write_json
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
    """

    folder: Path

    def find(
        self, experiment: Experiment, space: SearchSpace, trial: Trial, weights: Path | None
    ) -> dict[str, Any] | None:
        """The stored metrics of a trial, or None; its weights are copied to `weights` if they are there."""
        place = self._place(experiment, space, trial)
        try:
            stored: dict[str, Any] = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        # Another notation of the same network may name its tensors differently.
        if weights is not None and stored["picks"] == list(trial.arch.picks):
            aside = weights.with_name(f".{weights.name}.{os.getpid()}.tmp")
            weights.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(place.with_suffix(".safetensors"), aside)
                aside.replace(weights)
            except FileNotFoundError:
                aside.unlink(missing_ok=True)
        metrics: dict[str, Any] = stored["metrics"]
        return metrics

    def store(
        self,
        experiment: Experiment,
        space: SearchSpace,
        trial: Trial,
        metrics: dict[str, float],
        weights: Path | None,
    ) -> None:
        """Keep the metrics that training gave, and a copy of the weights."""
        place = self._place(experiment, space, trial)
        place.parent.mkdir(parents=True, exist_ok=True)
        if weights is not None and weights.exists():
            aside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
            shutil.copyfile(weights, aside)
            aside.replace(place.with_suffix(".safetensors"))
        write_json(place.with_suffix(".json"), {"picks": list(trial.arch.picks), "metrics": metrics})

    def _place(self, experiment: Experiment, space: SearchSpace, trial: Trial) -> Path:
        training = experiment.training.model_dump(mode="json")
        identity = {
            "format": FORMAT,
            "space": experiment.space.model_dump(mode="json"),
            "source": _source(space),
            "network": list(space.canonical(trial.arch).picks),
            "data": experiment.data.model_dump(mode="json"),
            "training": training | {"epochs": trial.epochs or experiment.training.epochs},
            "seed": trial.seed,
            "gpu": experiment.executor.gpus > 0,
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
