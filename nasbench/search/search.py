"""The search alone: every candidate of a study, with all that follows from an outcome."""

from __future__ import annotations

from pathlib import Path

from nasbench.evaluators.evaluator import Evaluator
from nasbench.search.callbacks import Callback, hears_of_fronts
from nasbench.search.disk import Disk
from nasbench.search.executors.executor import Executor
from nasbench.search.interrupt import stoppable
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study


def search(
    study: Study,
    evaluator: Evaluator,
    executor: Executor,
    callback: Callback,
    *,
    disk: Disk | None = None,
    tensorboard: Path | None = None,
    handle_signals: bool = True,
) -> None:
    """Evaluate the candidates of a study until it is finished.

    Args:
        study: Study that hands out the candidates; the caller holds its run folder.
        evaluator: Evaluator that scores a candidate.
        executor: Executor that runs several candidates at a time.
        callback: Callback that receives the events of the search.
        disk: Limit on the disk space of the weights; None keeps all.
        tensorboard: Folder for scalars; None writes none.
        handle_signals: Whether Ctrl-C lets the running candidates finish first.

    Raises:
        KeyboardInterrupt: The user ended it; it can be resumed.
    """
    scalars = None
    if tensorboard is not None:
        from nasbench.search.tensorboard import Scalars

        scalars = Scalars(study, tensorboard)
    changes, listed = study.front_changes, hears_of_fronts(callback)

    def on_result(candidate: RecordedCandidate) -> None:
        nonlocal changes
        if disk is not None:
            disk.tidy(candidate.id)
        if scalars is not None:
            scalars.candidate(candidate)
        callback.candidate_done(candidate, study)
        if study.front_changes != changes:
            changes = study.front_changes
            if listed:
                callback.front_changed(study.front, study)

    study.on_retry = lambda number, evaluated: callback.retry(number, evaluated.status, evaluated.error)
    study.hear_of_work(lambda text: callback.advance(study.finished, text))
    callback.phase("search", study.budget.candidates)
    callback.advance(study.finished)
    try:
        with stoppable(study, callback.stopping, handle_signals=handle_signals):
            executor.run(study, evaluator, on_result)
    except KeyboardInterrupt:
        study.record.flush()
        raise
    finally:
        if scalars is not None:
            scalars.close()
