"""The same search once more at random, to know what the controller was worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nasbench.evaluators import Evaluator
from nasbench.experiment.experiment import Experiment
from nasbench.search.study import Study
from nasbench.storage.run_folder import RunFolder, baseline_folder
from nasbench_registry.config import Named
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from nasbench.experiment.engine import Watcher


def run_baseline(
    experiment: Experiment,
    folder: RunFolder,
    space: SearchSpace,
    evaluator: Callable[[Experiment, RunFolder], Evaluator],
    search: Callable[[Study, Evaluator, Watcher], None],
    watcher: Watcher,
) -> None:
    """Search with the controller that `baseline` names, in a folder inside the run folder; goes on if it was killed.

    It has the same budget, the section `search`, and shares no weights with the run: both pay for what they train.

    Args:
        experiment: of the run.
        folder: of the run; held by the caller.
        space: what is searched.
        evaluator: makes one for an experiment and a folder.
        search: runs a study to its end.
        watcher: hears how it goes.
    """
    assert experiment.baseline is not None, "the experiment asks for one"
    asked = experiment.model_copy(
        update={"controller": Named(name=experiment.baseline), "baseline": None, "survivors": 0}
    )
    inner = baseline_folder(folder)
    inner.start(asked, folder.code_folder(), f"the baseline of {folder.name}")
    with inner.locked():
        search(Study(inner, asked, space), evaluator(asked, inner), watcher)
