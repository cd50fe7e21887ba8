"""Searches over architectures and recipes on a table that was built here: the share that they cover, and when."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from controllers import Controller, Outcome, controllers, get_controller
from controllers.sequential import Sequential
from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.compressed.recipe_space import RecipeSpace
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.evaluators.errors import InfeasibleError
from nasbench.evaluators.replayed import CLOCKS, Replayed, measured_part
from nasbench.objectives.hypervolume import Points, Scale, front, growth, hypervolume
from nasbench.objectives.metrics import Metrics
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Pareto, broken_limit, objective_scores
from nasbench.search.clock import SimulatedClock
from nasbench.search.config import ExecutorConfig, SearchConfig
from nasbench.search.executors.executor import ExecutorOptions
from nasbench.search.executors.simulated import Simulated
from nasbench.search.memory_record import MemoryRecord
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.files import content_key, read_json, write_json
from nasbench.tables.built import BuiltTable, read_table
from nasbench.tables.paper_table import PaperTable
from nasbench.tables.protocols import JointReplay, Regime
from nasbench_registry import UserError, check_options
from nasbench_registry.files import user_path
from search_spaces import get_space

ENDLESS = 10**9
NOT_OF_REGIME = 0.5  # the violation of an artefact that a regime does not count


@dataclass(frozen=True, kw_only=True)
class ReplayMethod:
    """A controller, with its options.

    Attributes:
        controller: Name of the controller.
        options: Options of the controller.
    """

    controller: str
    options: Mapping[str, Any] = field(default_factory=dict)


def replay_method(method: Mapping[str, Any]) -> ReplayMethod:
    """The method of a row; UserError if it is none, or its controller takes one score only."""
    options = {key: value for key, value in method.items() if key != "name"}
    check_options(ReplayMethod, options, what=f"method {method['name']!r}")
    replay = ReplayMethod(**options)
    if not controllers.find(replay.controller).multi_objective:
        raise UserError(f"controller {replay.controller!r} takes one score; name one of several, such as nsga2.")
    return replay


class TwoStages(Sequential):
    """A sequential search whose first stage knows no limits of artefacts: they are not made of its networks yet.

    Attributes:
        plain_scores: Scores of networks with the recipe that changes nothing, by their picks.
    """

    plain_scores: Mapping[tuple[int, ...], tuple[float, ...]] = {}

    def tell(self, outcome: Outcome) -> None:
        """As `Sequential`, with the scores of an uncompressed network whatever limits it breaks."""
        picks = outcome.proposal.arch.picks
        if outcome.scores is None and picks[self.split :] == self.plain and picks in self.plain_scores:
            outcome = replace(outcome, scores=self.plain_scores[picks], violation=None)
        super().tell(outcome)


class OfRegime(Replayed):
    """Rows of a table, of which a regime counts some."""

    def __init__(self, space: JointSpace, *, ground: Ground, seconds: Any) -> None:
        super().__init__(space, table=ground.table, seconds=seconds)
        self.counts = ground.counts

    def __call__(self, candidate: Candidate) -> Metrics:
        """As `Replayed`.

        Raises:
            InfeasibleError: the regime does not count this recipe.
        """
        metrics = super().__call__(candidate)
        if not self.counts[self.row[self.identity(candidate.arch).picks]]:
            raise InfeasibleError("the regime does not count this recipe", metrics, "after evaluation", NOT_OF_REGIME)
        return metrics


@dataclass(frozen=True)
class Ground:
    """The rows of a table, as a regime sees them.

    Attributes:
        table: Table that was built.
        space: Networks and recipes that it holds.
        objectives: Objectives, with the limits of the regime.
        counts: (n,) whether the recipe of a row is one that the regime counts.
        points: (n, k) points from 0, the worst, to 1, the best; NaN where a row breaks a limit or does not count.
        scores: Scores of each row.
        total: Hypervolume of the true front.
        budget_s: Simulated seconds of a search.
    """

    table: BuiltTable
    space: JointSpace
    objectives: tuple[Objective, ...]
    counts: npt.NDArray[np.bool_]
    points: Points
    scores: list[tuple[float, ...]]
    total: float
    budget_s: float


def space_of(table: BuiltTable) -> JointSpace:
    """The networks and recipes that a table holds, by its card."""
    named = table.card["experiment"]["space"]
    options = {key: value for key, value in named.items() if key != "name"}
    if not table.card["recipe"]:
        raise UserError(f"table {table.path} has one recipe, and a joint search chooses among several.")
    network, recipes = measured_part(table, get_space(named["name"], **options), RecipeSpace(table.card["recipe"]))
    assert recipes is not None, "they were given"
    return JointSpace(network, recipes)


@functools.lru_cache(maxsize=16)
def ground(file: str, regime: Regime, objectives: tuple[str, ...], seconds: str, budget_share: float) -> Ground:
    """See `Ground`.

    Raises:
        UserError: there is no such table, it lacks an objective, or no row keeps the limits.
    """
    table = read_table(user_path(file))
    space = space_of(table)
    rows = table.rows
    for name in objectives:
        table.require_metric(name)
    goals = {name: table.card["metrics"][name]["goal"] for name in objectives}
    done = (rows["status"] == "done").to_numpy()
    texts = rows["recipe"].tolist()
    counts = np.array([not regime.recipes or any(word in text for word in regime.recipes) for text in texts])
    limits = {name: float(rows[name][done].quantile(share)) for name, share in regime.limits.items()}
    limited = tuple(Objective(metric=name, goal=goals[name], limit=limits.get(name)) for name in objectives)
    metrics = rows[list(objectives)].to_dict("records")
    feasible = [
        bool(ok and counted and broken_limit(limited, row_metrics) is None)
        for ok, counted, row_metrics in zip(done, counts, metrics, strict=True)
    ]
    if not any(feasible):
        raise UserError(f"no row of {file} keeps the limits {limits} of the regime.")
    scale = Scale.of(
        limited, [row_metrics for row_metrics, is_feasible in zip(metrics, feasible, strict=True) if is_feasible]
    )
    points = np.full((len(rows), len(limited)), np.nan)
    points[feasible] = scale.points(
        [row_metrics for row_metrics, is_feasible in zip(metrics, feasible, strict=True) if is_feasible]
    )
    training, recipe = CLOCKS[seconds]
    spent_s = float(rows.drop_duplicates("network")[training].sum() + rows[recipe].sum())
    return Ground(
        table,
        space,
        limited,
        counts,
        points,
        [objective_scores(limited, row_metrics) for row_metrics in metrics],
        hypervolume(front(points[feasible])),
        budget_share * spent_s,
    )


@dataclass(frozen=True)
class Covered:
    """The share of the true front that a search covers, over time.

    Attributes:
        ended_s: (k,) simulated seconds at which its evaluations ended.
        shares: (k,) share of the hypervolume of the true front, after each evaluation.
        budget_s: Budget of the search in simulated seconds.
    """

    ended_s: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    budget_s: float

    def at(self, part: float) -> float:
        """The share that is covered when this part of the budget is used."""
        before = self.shares[self.ended_s <= part * self.budget_s]
        return float(before[-1]) if len(before) else 0.0

    @property
    def area(self) -> float:
        """The mean share over the seconds of the budget."""
        inside = self.ended_s <= self.budget_s
        edges = np.concatenate([self.ended_s[inside], [self.budget_s]])
        return float((self.shares[inside] * np.diff(edges)).sum() / self.budget_s)

    def until(self, share: float) -> float:
        """The part of the budget until so much is covered; 1 if it never is."""
        reached = self.ended_s[self.shares >= share]
        return float(min(1.0, reached[0] / self.budget_s)) if len(reached) else 1.0


def covered(rows_of_regime: Ground, method: ReplayMethod, seed: int, seconds: str) -> Covered:
    """Search a table once.

    Args:
        rows_of_regime: Table, as a regime sees it.
        method: Controller, with its options.
        seed: Random seed of the search.
        seconds: Clock of the simulation, wall or cpu.
    """
    evaluator = OfRegime(rows_of_regime.space, ground=rows_of_regime, seconds=seconds)
    study = Study(
        _controller(rows_of_regime, method, seed, evaluator),
        rows_of_regime.objectives,
        Pareto(name="pareto"),
        SearchConfig(candidates=ENDLESS, max_hours=rows_of_regime.budget_s / 3600, max_failures=ENDLESS),
        MemoryRecord(rows_of_regime.space, rows_of_regime.objectives),
        clock=SimulatedClock(),
        identity=evaluator.identity,
        seed=seed,
    )
    ended: list[RecordedCandidate] = []
    options = ExecutorOptions(ExecutorConfig(name="inline"), Checkpoints(Path()), Path())
    Simulated(options).run(study, evaluator, ended.append)
    rows = [evaluator.row[evaluator.identity(candidate.arch).picks] for candidate in ended]
    values, last = [], 0.0
    points = rows_of_regime.points[rows] if rows else np.zeros((0, len(rows_of_regime.objectives)))
    feasible = np.atleast_1d(~np.isnan(points).any(axis=1))
    grown = iter(growth(points[feasible]))
    for is_feasible in feasible:
        last = next(grown) / rows_of_regime.total if is_feasible else last
        values.append(last)
    return Covered(np.array([candidate.finished_s for candidate in ended]), np.array(values), rows_of_regime.budget_s)


def _controller(rows_of_regime: Ground, method: ReplayMethod, seed: int, evaluator: Replayed) -> Controller:
    options = dict(method.options)
    kind = controllers.find(method.controller)
    if kind.takes_budget:
        options = {"budget_seconds": rows_of_regime.budget_s, **options}
    if kind is not Sequential:
        return get_controller(method.controller, rows_of_regime.space, seed=seed, **options)
    two_stages = TwoStages(rows_of_regime.space, seed=seed, **options)
    plain = {picks: row for picks, row in evaluator.row.items() if picks[two_stages.split :] == two_stages.plain}
    two_stages.plain_scores = {picks: rows_of_regime.scores[row] for picks, row in plain.items()}
    return two_stages


def measure_replays(
    table: PaperTable, method: Mapping[str, Any], seed: int, keep: Path | None, parts: Points
) -> tuple[dict[str, float], dict[str, Points]]:
    """The value of every column for one seed, and the share that is covered over time, of those that show an area.

    Args:
        table: Table whose protocol is a `JointReplay`.
        method: Method of the row.
        seed: Random seed of the search.
        keep: Folder in which the result of each search is stored, and read again.
        parts: Parts of the budget, ascending, at which shares over time are read.
    """
    protocol, replay = table.protocol, replay_method(method)
    assert isinstance(protocol, JointReplay), "the caller asks"
    covered_by_regime = {name: _searched(protocol, name, replay, method, seed, keep) for name in protocol.regimes}
    values, curves = {}, {}
    for column in table.columns:
        covered_share = covered_by_regime[column.search]
        if column.shows == "area":
            values[column.name] = covered_share.area
            curves[column.name] = np.array([covered_share.at(part) for part in parts.tolist()])
        elif column.shows == "time_to_95":
            values[column.name] = covered_share.until(0.95)
        else:
            values[column.name] = covered_share.at(column.part or 1.0)
    return values, curves


def _searched(
    protocol: JointReplay, regime: str, replay: ReplayMethod, method: Mapping[str, Any], seed: int, keep: Path | None
) -> Covered:
    rows_of_regime = ground(
        protocol.file, protocol.regimes[regime], protocol.objectives, protocol.seconds, protocol.budget_share
    )
    file = None
    if keep is not None:
        request = {
            "protocol": protocol.model_dump(mode="json", exclude={"text"}),
            "rows": hashlib.sha256(rows_of_regime.table.path.read_bytes()).hexdigest(),
            "regime": regime,
            "method": dict(method),
            "seed": seed,
        }
        key = content_key(request)
        file = keep / f"{key}.json"
        if file.exists():
            stored = read_json(file, "delete it, and it is searched again", ("ended_s", "shares"))
            return Covered(np.array(stored["ended_s"]), np.array(stored["shares"]), rows_of_regime.budget_s)
    done = covered(rows_of_regime, replay, seed, protocol.seconds)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        rose = np.flatnonzero(np.diff(done.shares, prepend=0.0) > 0)  # the rest follows
        done = Covered(done.ended_s[rose], done.shares[rose], done.budget_s)
        write_json(file, {**request, "ended_s": done.ended_s.tolist(), "shares": done.shares.tolist()})
    return done
