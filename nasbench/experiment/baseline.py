"""The same search at random, with which the controller is compared."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from nasbench.experiment.experiment import SUPERNET, Experiment
from nasbench.experiment.stored import start_run
from nasbench.latency.calibration import Calibration
from nasbench.search.callbacks import Callback
from nasbench.storage.run_folder import RunFolder, baseline_folders

if TYPE_CHECKING:
    from nasbench.experiment.build import Prepared


def run_baseline(prepared: Prepared, folder: RunFolder, calibration: Calibration | None, callback: Callback) -> None:
    """Search as `baseline` says, in folders inside the run folder; goes on if it was killed, or with more candidates.

    The searches have the budget of the section `search`, but for the candidates that `baseline` asks for. They share no
    weights with the run, for both pay for what they train, and no seed with it or with each other: the first proposals
    of many controllers are those of a random search with their seed.

    Args:
        prepared: Parts of the run.
        folder: Folder of the run; the caller holds its lock.
        calibration: Measurements before the search; None where there are none.
        callback: Callback that hears how the searches go.
    """
    from nasbench.experiment.run import search_run

    experiment = prepared.experiment
    baseline = experiment.baseline
    if baseline is None:
        return
    for number, inner in enumerate(baseline_folders(folder, baseline.seeds), start=1):
        random_experiment = Experiment.model_validate(
            experiment.model_dump()
            | {
                "seed": experiment.seed + number,
                "controller": {"name": baseline.name},
                "search": experiment.search.model_dump()
                | {"candidates": baseline.candidates or experiment.search.candidates},
                "baseline": None,
                "survivors": 0,
                "start_with": (),
                "stop_at": {},
                "callbacks": (),
                "evaluator": _same_weights(experiment, folder, prepared.brought.supernet is not None),
            }
        )
        start_run(inner, random_experiment, folder.code_folder(), f"the baseline of {folder.name}", may_change=True)
        random_parts = dataclasses.replace(
            prepared,
            experiment=random_experiment,
            brought=dataclasses.replace(prepared.brought, controller=None, callbacks=()),
        )
        with inner.locked():
            evaluator = random_parts.evaluator(inner, calibration)
            search_run(random_parts, inner, random_parts.study(inner, evaluator), evaluator, callback)


def _same_weights(experiment: Experiment, folder: RunFolder, brought: bool) -> Any:
    """The evaluator of the run; where it trained shared weights, a baseline takes those."""
    named = experiment.evaluator
    if (
        named is None
        or named.name != SUPERNET
        or brought
        or named.options.get("folder")
        or experiment.space.options.get("folder")
    ):
        return named
    return {"name": SUPERNET, **named.options, "folder": str(folder.supernet.absolute())}
