"""What the engine costs: the same candidates by our executor, by Ray Tune alone and by a loop, in turn, in one run."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.ways import WAYS, Pass, Work
from nasbench.evaluators.trial import Trial
from nasbench.experiment.build import Prepared, prepare
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.loading import parse_experiment
from nasbench.objectives.statistics import Spread
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError

MEANS = ("candidates_per_hour", "utilization_pct", "training_s", "between_ms", "startup_s", "wall_s", "tail_s")


@dataclass(frozen=True)
class EngineSpeed:
    """Measurements of the benchmark.

    Attributes:
        candidates: Number of candidates of each pass.
        workers: Number of workers of the engine and of Ray Tune; the loop has one.
        rounds: Rounds, each with one pass of every way, in the order in which they ran.
    """

    candidates: int
    workers: int
    rounds: tuple[tuple[Pass, ...], ...]

    def passes(self, way: str) -> list[Pass]:
        """The passes of one way, by round."""
        return [evaluated for passes in self.rounds for evaluated in passes if evaluated.way == way]

    def spread(self, way: str, name: str) -> Spread | None:
        """A property of `Pass` over the rounds."""
        return Spread.of([getattr(way_pass, name) for way_pass in self.passes(way)])

    @property
    def overhead_pct(self) -> list[float]:
        """Additional wall time of the engine over Ray Tune alone in each round, in percent of the latter."""
        return [100 * (ours.wall_s - theirs.wall_s) / theirs.wall_s for ours, theirs in self._pairs()]

    @property
    def overhead_ms_per_candidate(self) -> list[float]:
        """Additional wall time of the engine in each round, in milliseconds for each candidate."""
        return [1000 * (ours.wall_s - theirs.wall_s) / self.candidates for ours, theirs in self._pairs()]

    def _pairs(self) -> list[tuple[Pass, Pass]]:
        return list(zip(self.passes("engine"), self.passes("ray_tune"), strict=True))

    @property
    def different(self) -> list[int]:
        """Numbers of candidates whose validation loss was not the same, to the bit, in all passes."""
        losses: dict[int, set[float]] = {}
        for evaluation in (
            evaluation for passes in self.rounds for way_pass in passes for evaluation in way_pass.evaluations
        ):
            losses.setdefault(evaluation.number, set()).add(evaluation.val_loss)
        return sorted(number for number, values in losses.items() if len(values) > 1)

    def to_json(self) -> dict[str, Any]:
        """The raw moments of every pass, means and standard deviations over the rounds, and the overhead."""
        means = {way: {name: _json(self.spread(way, name)) for name in MEANS} for way in WAYS}
        overhead = {
            "pct": self.overhead_pct,
            "pct_spread": _json(Spread.of(self.overhead_pct)),
            "ms_per_candidate": self.overhead_ms_per_candidate,
            "ms_per_candidate_spread": _json(Spread.of(self.overhead_ms_per_candidate)),
        }
        return {
            "candidates": self.candidates,
            "workers": self.workers,
            "ways": means,
            "overhead": overhead,
            "different": self.different,
            "rounds": [[way_pass.to_json() for way_pass in passes] for passes in self.rounds],
        }


def engine_speed(
    experiment: Experiment,
    folder: Path,
    *,
    candidates: int,
    workers: int,
    rounds: int,
    code_folder: Path,
    on_event: Callable[[str], None] = lambda text: None,
) -> EngineSpeed:
    """Evaluate the same candidates in every way, once in each round; every other round runs in the opposite order.

    Args:
        experiment: Experiment that is trained; `comparison` says what is taken from it.
        folder: Folder that receives a folder for each pass.
        candidates: Number of candidates of each pass.
        workers: Number of workers of the engine and of Ray Tune.
        rounds: Number of rounds.
        code_folder: Folder of a user's own modules.
        on_event: Function that is called with a sentence for each event.

    Raises:
        UserError: The experiment cannot be compared, or a candidate is not trained to its end.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; give a new folder with --run.")
    prepared = prepare(comparison(experiment, candidates, workers))
    work = Work(prepared, plan(prepared), code_folder)
    measured: list[tuple[Pass, ...]] = []
    for number in range(rounds):
        passes: list[Pass] = []
        for way in list(WAYS) if number % 2 == 0 else reversed(WAYS):
            way_pass = WAYS[way](work, folder / f"{number}-{way}")
            _check(work, way_pass)
            passes.append(way_pass)
            on_event(
                f"round {number + 1} of {rounds}, {way}: {way_pass.wall_s:.1f} s, "
                f"{way_pass.utilization_pct:.1f} % of them training, after {way_pass.startup_s:.1f} s to start"
            )
        measured.append(tuple(passes))
    return EngineSpeed(candidates, workers, tuple(measured))


def comparison(experiment: Experiment, candidates: int, workers: int) -> Experiment:
    """An experiment with the data, the space, the training and the record of another one, which fixes its candidates.

    Its controller is random, for other ones propose by what they were told, in whatever order results arrive. Without
    scheduler and cache every candidate is trained to its end; Ray is that of this machine.

    Raises:
        UserError: The experiment needs latency, which would be measured first.
    """
    if experiment.needs_latency:
        raise UserError(
            f"experiment {experiment.name!r} needs latency, which has no part in what is compared; leave it out: "
            f"-o 'objectives=[{{metric: val_acc_pct, goal: max}}]' -o 'reward={{name: scalar}}'."
        )
    return parse_experiment(
        experiment.model_dump(mode="json")
        | {
            "controller": {"name": "random"},
            "search": {"candidates": candidates, "max_failures": 0},
            "executor": experiment.executor.model_dump() | {"name": "ray", "workers": workers},
            "ray": {},
            "scheduler": None,
            "cache": None,
            "survivors": 0,
            "recipe": [],
        }
    )


def plan(prepared: Prepared) -> Sequence[Trial]:
    """The trials that a study of an experiment of `comparison` hands out, in their order.

    Args:
        prepared: Parts of the experiment.

    Raises:
        UserError: The space holds fewer.
    """
    experiment = prepared.experiment
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="nasbench-plan-") as temporary_folder:
        folder = RunFolder(Path(temporary_folder))
        without_storage = dataclasses.replace(prepared, experiment=experiment.model_copy(update={"storage": None}))
        study = without_storage.study(folder, without_storage.evaluator(folder, None))
        while len(trials) < experiment.search.candidates:
            trial = study.next_trial()
            if trial is None:
                raise UserError(
                    f"space {experiment.space.name!r} gives {len(trials)} candidates, fewer than "
                    f"{experiment.search.candidates}: {study.stop_reason}; lower --candidates."
                )
            trials.append(trial)
    return trials


def _check(work: Work, way_pass: Pass) -> None:
    """Every way evaluated what was planned; anything else is a fault of this benchmark."""
    planned = [(trial.number, work.prepared.space.format(trial.arch), trial.seed) for trial in work.trials]
    evaluated = [(evaluation.number, evaluation.architecture, evaluation.seed) for evaluation in way_pass.evaluations]
    if evaluated != planned:
        raise RuntimeError(f"{way_pass.way} did not evaluate what was planned")


def _json(spread: Spread | None) -> dict[str, Any] | None:
    return None if spread is None else asdict(spread)
