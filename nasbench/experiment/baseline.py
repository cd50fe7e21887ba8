"""The same search once more at random, to know what the controller was worth."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from nasbench.experiment.experiment import Experiment
from nasbench.experiment.stored import start_run
from nasbench.latency.calibration import Calibration
from nasbench.search.callbacks import Callback
from nasbench.storage.run_folder import RunFolder, baseline_folder

if TYPE_CHECKING:
    from nasbench.experiment.build import Prepared


def run_baseline(prepared: Prepared, folder: RunFolder, calibration: Calibration | None, callback: Callback) -> None:
    """Search with the controller that `baseline` names, in a folder inside the run folder; goes on if it was killed.

    It has the same budget, the section `search`, and shares no weights with the run: both pay for what they train.

    Args:
        prepared: the parts of the run.
        folder: of the run; held by the caller.
        calibration: the measurements before the search; None where there are none.
        callback: hears how it goes.
    """
    from nasbench.experiment.run import search_run

    asked = Experiment.model_validate(
        prepared.experiment.model_dump()
        | {
            "controller": {"name": prepared.experiment.baseline},
            "baseline": None,
            "survivors": 0,
            "start_with": (),
            "stop_at": {},
            "callbacks": (),
        }
    )
    inner = baseline_folder(folder)
    start_run(inner, asked, folder.code_folder(), f"the baseline of {folder.name}")
    alike = dataclasses.replace(
        prepared, experiment=asked, brought=dataclasses.replace(prepared.brought, controller=None, callbacks=())
    )
    with inner.locked():
        evaluator = alike.evaluator(inner, calibration)
        search_run(alike, inner, alike.study(inner, evaluator), evaluator, callback)
