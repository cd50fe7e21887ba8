"""Searches over architectures and recipes on a table that was built here: what they cover, and when."""

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
        controller: its name.
        options: of it.
    """

    controller: str
    options: Mapping[str, Any] = field(default_factory=dict)


def replay_method(method: Mapping[str, Any]) -> ReplayMethod:
    """The method of a row; UserError if it is none, or its controller takes one score only."""
    options = {key: value for key, value in method.items() if key != "name"}
    check_options(ReplayMethod, options, what=f"method {method['name']!r}")
    made = ReplayMethod(**options)
    if not controllers.find(made.controller).multi_objective:
        raise UserError(f"controller {made.controller!r} takes one score; name one of several, such as nsga2.")
    return made


class TwoStages(Sequential):
    """A sequential search whose first stage knows no limits of artefacts: they are not made of its networks yet.

    Attributes:
        plain_scores: of networks with the recipe that changes nothing, by their picks.
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
        found = super().__call__(candidate)
        if not self.counts[self.row[self.identity(candidate.arch).picks]]:
            raise InfeasibleError("the regime does not count this recipe", found, "after evaluation", NOT_OF_REGIME)
        return found


@dataclass(frozen=True)
class Ground:
    """The rows of a table, as a regime sees them.

    Attributes:
        table: that was built.
        space: the networks and recipes that it holds.
        objectives: with the limits of the regime.
        counts: (n,) whether its recipe is one that the regime counts.
        points: (n, k) from 0, the worst, to 1, the best; NaN where a row breaks a limit or does not count.
        scores: of each row.
        total: hypervolume of the true front.
        budget_s: simulated seconds of a search.
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
    """The networks and recipes that a table holds, as its card tells them."""
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
    asked = tuple(Objective(metric=name, goal=goals[name], limit=limits.get(name)) for name in objectives)
    metrics = rows[list(objectives)].to_dict("records")
    keeps = [
        bool(ok and own and broken_limit(asked, each) is None)
        for ok, own, each in zip(done, counts, metrics, strict=True)
    ]
    if not any(keeps):
        raise UserError(f"no row of {file} keeps the limits {limits} of the regime.")
    scale = Scale.of(asked, [each for each, own in zip(metrics, keeps, strict=True) if own])
    points = np.full((len(rows), len(asked)), np.nan)
    points[keeps] = scale.points([each for each, own in zip(metrics, keeps, strict=True) if own])
    training, recipe = CLOCKS[seconds]
    spent_s = float(rows.drop_duplicates("network")[training].sum() + rows[recipe].sum())
    return Ground(
        table,
        space,
        asked,
        counts,
        points,
        [objective_scores(asked, each) for each in metrics],
        hypervolume(front(points[keeps])),
        budget_share * spent_s,
    )


@dataclass(frozen=True)
class Covered:
    """What a search covers of the true front, and when.

    Attributes:
        ended_s: (k,) simulated seconds at which its evaluations ended.
        shares: (k,) of the hypervolume of the true front, after each.
        budget_s: of the search.
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


def covered(asked: Ground, made: ReplayMethod, seed: int, seconds: str) -> Covered:
    """Search a table once.

    Args:
        asked: the table, as a regime sees it.
        made: the controller.
        seed: of the search.
        seconds: wall or cpu, that the simulated clock goes by.
    """
    evaluator = OfRegime(asked.space, ground=asked, seconds=seconds)
    study = Study(
        _controller(asked, made, seed, evaluator),
        asked.objectives,
        Pareto(name="pareto"),
        SearchConfig(candidates=ENDLESS, max_hours=asked.budget_s / 3600, max_failures=ENDLESS),
        MemoryRecord(asked.space, asked.objectives),
        clock=SimulatedClock(),
        identity=evaluator.identity,
        seed=seed,
    )
    ended: list[RecordedCandidate] = []
    options = ExecutorOptions(ExecutorConfig(name="inline"), Checkpoints(Path()), Path())
    Simulated(options).run(study, evaluator, ended.append)
    rows = [evaluator.row[evaluator.identity(each.arch).picks] for each in ended]
    values, last = [], 0.0
    points = asked.points[rows] if rows else np.zeros((0, len(asked.objectives)))
    there = np.atleast_1d(~np.isnan(points).any(axis=1))
    grown = iter(growth(points[there]))
    for own in there:
        last = next(grown) / asked.total if own else last
        values.append(last)
    return Covered(np.array([each.finished_s for each in ended]), np.array(values), asked.budget_s)


def _controller(asked: Ground, made: ReplayMethod, seed: int, evaluator: Replayed) -> Controller:
    options = dict(made.options)
    kind = controllers.find(made.controller)
    if kind.takes_budget:
        options = {"budget_seconds": asked.budget_s, **options}
    if kind is not Sequential:
        return get_controller(made.controller, asked.space, seed=seed, **options)
    two = TwoStages(asked.space, seed=seed, **options)
    plain = {picks: row for picks, row in evaluator.row.items() if picks[two.split :] == two.plain}
    two.plain_scores = {picks: asked.scores[row] for picks, row in plain.items()}
    return two


def measure_replays(
    table: PaperTable, method: Mapping[str, Any], seed: int, keep: Path | None, parts: Points
) -> tuple[dict[str, float], dict[str, Points]]:
    """The value of every column for one seed, and the share that is covered over time, of those that show an area.

    Args:
        table: whose protocol is a `JointReplay`.
        method: of the row.
        seed: of the search.
        keep: where what came of each search is kept, and found again.
        parts: of the budget, ascending, at which shares over time are read.
    """
    protocol, made = table.protocol, replay_method(method)
    assert isinstance(protocol, JointReplay), "the caller asks"
    found = {name: _searched(protocol, name, made, method, seed, keep) for name in protocol.regimes}
    values, curves = {}, {}
    for column in table.columns:
        own = found[column.search]
        if column.shows == "area":
            values[column.name] = own.area
            curves[column.name] = np.array([own.at(part) for part in parts.tolist()])
        elif column.shows == "time_to_95":
            values[column.name] = own.until(0.95)
        else:
            values[column.name] = own.at(column.part or 1.0)
    return values, curves


def _searched(
    protocol: JointReplay, regime: str, made: ReplayMethod, method: Mapping[str, Any], seed: int, keep: Path | None
) -> Covered:
    asked = ground(
        protocol.file, protocol.regimes[regime], protocol.objectives, protocol.seconds, protocol.budget_share
    )
    file = None
    if keep is not None:
        about = {
            "protocol": protocol.model_dump(mode="json", exclude={"text"}),
            "rows": hashlib.sha256(asked.table.path.read_bytes()).hexdigest(),
            "regime": regime,
            "method": dict(method),
            "seed": seed,
        }
        key = content_key(about)
        file = keep / f"{key}.json"
        if file.exists():
            kept = read_json(file, "delete it, and it is searched again", ("ended_s", "shares"))
            return Covered(np.array(kept["ended_s"]), np.array(kept["shares"]), asked.budget_s)
    done = covered(asked, made, seed, protocol.seconds)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        rose = np.flatnonzero(np.diff(done.shares, prepend=0.0) > 0)  # the rest follows
        done = Covered(done.ended_s[rose], done.shares[rose], done.budget_s)
        write_json(file, {**about, "ended_s": done.ended_s.tolist(), "shares": done.shares.tolist()})
    return done
