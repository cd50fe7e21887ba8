"""What early stopping gains: searches of the same wall time with and without a scheduler, for several seeds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos import epochs_log
from nasbench.experiment.build import prepare
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.loading import parse_experiment
from nasbench.experiment.run import run_search
from nasbench.experiment.stored import start_run
from nasbench.objectives.statistics import Spread
from nasbench.search.executors.cluster import connected
from nasbench.search.record import comparable, search_seconds, utilization
from nasbench.search.settings import read_candidates, read_settings
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError, one_of

NONE = "none"
SCHEDULERS = (NONE, "asha", "median_stopping", "hyperband")
ENDLESS = 1_000_000  # candidates and failures: the time alone ends a search


@dataclass(frozen=True)
class Searched:
    """One search.

    Attributes:
        scheduler: Name of the scheduler, or none.
        seed: Random seed of the experiment.
        run: Folder of the run.
        best_val_acc_pct: Best validation accuracy of the candidates that were trained to their last epoch; None if
            there is none.
        done: Number of candidates that were trained to their last epoch.
        stopped: Number of candidates that the scheduler stopped before.
        failed: Number of candidates with any other outcome.
        epochs: Number of epochs of training that were finished, for all candidates.
        wall_s: Seconds of search until the last candidate was finished; those that run when the time is over may end.
        utilization_pct: Seconds of training / (workers x wall seconds), in percent.
    """

    scheduler: str
    seed: int
    run: str
    best_val_acc_pct: float | None
    done: int
    stopped: int
    failed: int
    epochs: int
    wall_s: float
    utilization_pct: float

    @property
    def candidates(self) -> int:
        """Number of candidates that were seen: done or stopped."""
        return self.done + self.stopped


@dataclass(frozen=True)
class SchedulerGain:
    """Measurements of the benchmark.

    Attributes:
        minutes: Minutes after which no search hands out a candidate.
        schedulers: Names of the schedulers, in the order in which they were named.
        seeds: Random seeds of the searches with each scheduler.
        searches: Searches of every seed and scheduler.
    """

    minutes: float
    schedulers: tuple[str, ...]
    seeds: tuple[int, ...]
    searches: tuple[Searched, ...]

    def of(self, scheduler: str) -> list[Searched]:
        """The searches with one scheduler, by seed."""
        return sorted(
            (search for search in self.searches if search.scheduler == scheduler), key=lambda search: search.seed
        )

    def spread(self, scheduler: str, name: str) -> Spread | None:
        """An attribute of `Searched` over the seeds."""
        return Spread.of([getattr(search, name) for search in self.of(scheduler)])

    def gain(self, scheduler: str) -> Spread | None:
        """Best accuracy with the scheduler minus that without one, seed by seed, where both found something.

        None for the searches without one, and where there are none to compare with.
        """
        if scheduler == NONE or NONE not in self.schedulers:
            return None
        pairs = zip(self.of(scheduler), self.of(NONE), strict=True)
        return Spread.of(
            [
                None
                if with_scheduler.best_val_acc_pct is None or without.best_val_acc_pct is None
                else with_scheduler.best_val_acc_pct - without.best_val_acc_pct
                for with_scheduler, without in pairs
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Every search, and means, standard deviations and paired differences."""
        names = ("best_val_acc_pct", "candidates", "done", "stopped", "epochs", "wall_s", "utilization_pct")
        rows = {}
        for scheduler in self.schedulers:
            gain = self.gain(scheduler)
            spreads = {name: self.spread(scheduler, name) for name in names}
            rows[scheduler] = {name: None if spread is None else asdict(spread) for name, spread in spreads.items()} | {
                "gain_pct": None if gain is None else asdict(gain) | {"standard_error": gain.standard_error}
            }
        return {
            "minutes": self.minutes,
            "seeds": list(self.seeds),
            "schedulers": rows,
            "searches": [asdict(search) for search in self.searches],
        }


def scheduler_gain(
    experiment: Experiment,
    folder: Path,
    *,
    schedulers: Sequence[str],
    seeds: int,
    minutes: float,
    code_folder: Path,
    on_event: Callable[[str], None] = lambda text: None,
) -> SchedulerGain:
    """Search once for every seed and scheduler, or go on with what is missing in the folder.

    All schedulers have their turn with a seed before the next seed comes, beginning with another one each time.

    Args:
        experiment: Experiment that is searched; its own scheduler only gives options to the one of the same name.
        folder: Folder that receives a run folder ``SCHEDULER-SEED`` for each search.
        schedulers: Names in `SCHEDULERS`.
        seeds: Number of seeds, from that of the experiment on.
        minutes: Minutes of each search, after which running candidates are only finished.
        code_folder: Folder of a user's own modules.
        on_event: Function that is called with a sentence for each event.

    Raises:
        UserError: A name is unknown or there twice, a folder holds the run of another experiment, or the executor is
            not ray.
    """
    for name in schedulers:
        one_of("scheduler", name, SCHEDULERS)
    if len(set(schedulers)) != len(schedulers) or not schedulers:
        raise UserError(f"schedulers {', '.join(schedulers) or '(none)'}: give each name once, and at least one.")
    if experiment.executor.name != "ray":
        raise UserError(f"executor {experiment.executor.name} has no schedulers; set executor.name: ray.")
    numbers = range(experiment.seed, experiment.seed + seeds)
    experiments = {(name, seed): timed(experiment, name, seed, minutes) for seed in numbers for name in schedulers}
    searches: list[Searched] = []
    on_event(f"{len(experiments)} searches of {minutes:g} minutes, in {folder}")
    # Ray starts once: that takes seconds, on a busy machine many more, which each search would count as its time.
    with contextlib.ExitStack() as stack:
        for index, seed in enumerate(numbers):
            turn = index % len(schedulers)
            for name in (*schedulers[turn:], *schedulers[:turn]):
                run = RunFolder(folder / f"{name}-{seed}")
                start_run(run, experiments[name, seed], code_folder, "python -m benchmarks.schedulers")
                earlier_run = run.summary.exists()
                if not earlier_run:
                    stack.enter_context(
                        connected(experiments[name, seed].executor, experiments[name, seed].ray, code_folder)
                    )
                    with run.locked():
                        run_search(prepare(experiments[name, seed]), run)
                searches.append(read(run, name, seed))
                on_event(_line(searches[-1], earlier_run))
    return SchedulerGain(minutes, tuple(schedulers), tuple(numbers), tuple(searches))


def timed(experiment: Experiment, scheduler: str, seed: int, minutes: float) -> Experiment:
    """An experiment that searches for some minutes and does nothing with what it finds.

    Raises:
        UserError: The experiment cannot have the scheduler.
    """
    scheduler_config = experiment.scheduler
    options = (
        scheduler_config.model_dump()
        if scheduler_config is not None and scheduler_config.name == scheduler
        else {"name": scheduler}
    )
    return parse_experiment(
        experiment.model_dump(mode="json")
        | {
            "seed": seed,
            "scheduler": None if scheduler == NONE else options,
            "search": experiment.search.model_dump()
            | {"candidates": ENDLESS, "max_failures": ENDLESS, "max_hours": minutes / 60},
            "survivors": 0,
            "recipe": [],
        }
    )


def read(run: RunFolder, scheduler: str, seed: int) -> Searched:
    """The results of a search that ended."""
    settings = read_settings(run)
    candidates = read_candidates(run, settings)
    accuracies = [candidate.metrics["val_acc_pct"] for candidate in comparable(candidates, settings.full_epochs)]
    done, stopped = (sum(candidate.status == status for candidate in candidates) for status in ("done", "stopped"))
    return Searched(
        scheduler=scheduler,
        seed=seed,
        run=str(run.path),
        best_val_acc_pct=max(accuracies, default=None),
        done=done,
        stopped=stopped,
        failed=len(candidates) - done - stopped,
        epochs=len(epochs_log(run.path)),
        wall_s=search_seconds(candidates),
        utilization_pct=100 * (utilization(candidates, settings.executor.workers) or 0.0),
    )


def _line(search: Searched, earlier_run: bool) -> str:
    best = (
        "nothing was trained to its end" if search.best_val_acc_pct is None else f"best {search.best_val_acc_pct:.2f} %"
    )
    return (
        f"seed {search.seed}, {search.scheduler}: {best}, {search.candidates} candidates "
        f"({search.stopped} stopped early), {search.epochs} epochs, "
        f"{search.wall_s / 60:.1f} min{', from an earlier run' if earlier_run else ''}"
    )
