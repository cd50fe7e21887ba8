"""The settings of a run, as far as its record and its report need them; to read them takes no class of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Reward
from nasbench.search.config import ExecutorConfig, OutcomesConfig, SearchConfig
from nasbench.search.disk_record import DiskRecord
from nasbench.search.record import RecordedCandidate
from nasbench.storage.run_folder import RunFolder, damaged_config

_REWARD: TypeAdapter[Reward] = TypeAdapter(Reward)


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run.

    Attributes:
        asked: The whole experiment, with every default written out, as JSON values.
        objectives: Objectives that are optimised.
        reward: Reward that computes scores from metrics.
        budget: Limits that end the search.
        executor: Where candidates are evaluated.
        outcomes: What follows from a failure.
        full_epochs: Epochs of a candidate that was asked for without a number of epochs.
    """

    asked: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    reward: Reward
    budget: SearchConfig
    executor: ExecutorConfig
    outcomes: OutcomesConfig
    full_epochs: int

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> RunSettings:
        """The settings of an experiment in JSON values."""
        return cls(
            asked,
            tuple(Objective.model_validate(objective) for objective in asked["objectives"]),
            _REWARD.validate_python(asked["reward"]),
            SearchConfig.model_validate(asked["search"]),
            ExecutorConfig.model_validate(asked["executor"]),
            OutcomesConfig.model_validate(asked["outcomes"]),
            int(asked["training"]["epochs"]),
        )

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return str(self.asked["name"])

    @property
    def seed(self) -> int:
        """The seed of the experiment."""
        return int(self.asked["seed"])

    @property
    def controller(self) -> str:
        """The name of the controller."""
        return str(self.asked["controller"]["name"])

    @property
    def way(self) -> str:
        """The controller, and of a sequential search what it hands on, in words."""
        if self.controller != "sequential":
            return self.controller
        from controllers.sequential import HAND_ON  # it needs scipy, and what looks at a run should not

        keep = self.asked["controller"].get("keep")
        return f"{self.controller}, {HAND_ON[keep]}" if keep in HAND_ON else self.controller

    @property
    def survivor_count(self) -> int:
        """How many survivors are asked for; the experiment may name their numbers instead."""
        survivors = self.asked["survivors"]
        return survivors if isinstance(survivors, int) else len(survivors)


def read_settings(folder: RunFolder) -> RunSettings:
    """The settings of a run; UserError if its folder holds none, or is damaged."""
    experiment = folder.require().asked()
    try:
        return RunSettings.of(experiment)
    except (KeyError, TypeError, ValueError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise damaged_config(folder.config, why) from None


def read_candidates(folder: RunFolder, settings: RunSettings) -> list[RecordedCandidate]:
    """Every candidate of a run, by number; nothing is written, so a search may go on meanwhile."""
    storage = settings.asked["storage"]
    name = study_name(settings.name, storage, folder)
    record = DiskRecord(folder.journal, None, settings.objectives, name=name, storage=storage, mend=False)
    return list(record.candidates.values())


def study_name(name: str, storage: str | None, folder: RunFolder) -> str:
    """The name of the study of an experiment in its storage, which several runs may share."""
    return name if storage is None else f"{name}-{folder.run_id}"
