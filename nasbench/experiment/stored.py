"""Runs on disk, as experiments: begun, changed, read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasbench.devices.device import processor_name
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.loading import override, parse_experiment
from nasbench.storage.run_folder import RunFolder, damaged_config, environment
from nasbench_registry import UserError

CHANGEABLE = (
    "executor",
    "ray",
    "search",
    "outcomes",
    "checkpoints",
    "cache",
    "tensorboard",
    "survivors",
    "callbacks",
    "baseline",
)
"""Sections of an experiment that a resumed run may change."""


def stored_experiment(folder: RunFolder) -> Experiment:
    """The experiment that runs in a folder; UserError if there is none, or it cannot be read."""
    sections = folder.require().asked()
    try:
        return parse_experiment(sections)
    except UserError as error:
        raise damaged_config(folder.config, str(error).rstrip(".")) from None


def start_run(
    folder: RunFolder, experiment: Experiment, code_folder: Path, command: str, *, may_change: bool = False
) -> None:
    """Make the folder of a run, or check that it is the one that runs there.

    Args:
        folder: Folder of the run.
        experiment: Experiment of the run.
        code_folder: Folder of a user's own code.
        command: Command by which it is made again.
        may_change: Whether a run that is there takes over what a resumed run may change.

    Raises:
        UserError: another experiment runs there; the message shows the difference.
    """
    if may_change and folder.exists:
        before = stored_experiment(folder)
        if all(
            key in CHANGEABLE or getattr(before, key) == getattr(experiment, key) for key in type(before).model_fields
        ):
            folder.change(experiment.model_dump(mode="json"))
    facts = environment(experiment.seed, code_folder, command, processor_name())
    folder.start(experiment.model_dump(mode="json"), facts)


def change_run(folder: RunFolder, overrides: Sequence[str]) -> None:
    """Set ``key=value`` texts in the experiment of a run: where and how long it runs, not what is searched.

    Raises:
        UserError: a key or value is not allowed, or is of a section that decides the results.
    """
    before = stored_experiment(folder)
    after = override(folder.asked(), overrides)
    for key in type(before).model_fields:
        if key not in CHANGEABLE and getattr(before, key) != getattr(after, key):
            raise UserError(
                f"{key} of {folder.name} cannot be changed any more, for results depend on it; a resumed run may "
                f"change {', '.join(CHANGEABLE)}."
            )
    folder.change(after.model_dump(mode="json"))
