"""Ray Tune's schedulers, which stop candidates before their last epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nasbench.objectives.reward import needed_metrics, scores
from nasbench.search.config import Asha, MedianStopping, SchedulerConfig
from nasbench.search.study import Study

TIME, SCORE = "epoch", "score"


def get_scheduler(config: SchedulerConfig | None, epochs: int) -> Any:
    """The scheduler that an experiment names; it compares the first score by epochs. None stops nothing.

    Args:
        config: Scheduler section of the experiment.
        epochs: Epochs of a candidate that is trained to its end.
    """
    from ray.tune import schedulers

    about: dict[str, Any] = {"time_attr": TIME, "metric": SCORE, "mode": "max"}
    if config is None:
        return schedulers.FIFOScheduler()  # type: ignore[no-untyped-call]  # Ray does not annotate it
    if isinstance(config, Asha):
        return schedulers.AsyncHyperBandScheduler(
            **about,
            max_t=epochs,
            grace_period=min(config.grace_epochs, epochs),
            reduction_factor=config.reduction_factor,
            brackets=config.brackets,
        )
    if isinstance(config, MedianStopping):
        # Without a slice of time it never pauses a candidate to let others catch up.
        return schedulers.MedianStoppingRule(
            **about,
            grace_period=config.grace_epochs,
            min_samples_required=config.min_candidates,
            min_time_slice=10**9,
        )
    # This variant fills a bracket before it halves it, whatever the number of workers; it needs no BOHB.
    # The winners of a bracket are trained to their end, also where the epochs are no power of the factor.
    return schedulers.HyperBandForBOHB(
        **about, max_t=epochs, reduction_factor=config.reduction_factor, stop_last_trials=False
    )


@dataclass(frozen=True, eq=False)
class PastTrial:
    """A finished candidate, in the part of Ray Tune's trial that schedulers look at."""

    trial_id: str
    status: str = "TERMINATED"


def remember(scheduler: Any, config: SchedulerConfig | None, study: Study) -> None:
    """Give a new scheduler the curves of candidates that finished in an earlier process.

    Hyperband begins anew instead, for its brackets hold candidates that are paused. So do rules whose first score is
    not made of the metric of the curve, for it holds nothing else.
    """
    needed = needed_metrics(study.objectives, study.reward)
    if not isinstance(config, Asha | MedianStopping) or study.quality not in needed:
        return
    for candidate in study.candidates:
        if candidate.status not in ("done", "stopped"):
            continue
        past = PastTrial(f"past-{candidate.id}")
        scheduler.on_trial_add(None, past)
        result: dict[str, Any] = {}
        for epoch, value in sorted(candidate.curve.items(), key=lambda item: int(item[0])):
            reached = candidate.metrics | {study.quality: value}
            result = {TIME: int(epoch), SCORE: scores(study.objectives, study.reward, reached)[0]}
            scheduler.on_trial_result(None, past, result)
        if result:
            scheduler.on_trial_complete(None, past, result)
