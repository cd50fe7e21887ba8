"""Score a candidate by looking it up in a table that `nasbench build-table` made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.compressed.recipe_space import RecipeSpace
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.evaluators.errors import InfeasibleError, InvalidNetwork
from nasbench.evaluators.evaluator import EarlierCandidate, Evaluator
from nasbench.evaluators.trial import History
from nasbench.objectives.metrics import Metrics
from nasbench.tables.built import BuiltTable, read_table
from nasbench_registry import UserError, one_of
from nasbench_registry.files import user_path
from search_spaces import Architecture, SearchSpace, Task
from search_spaces.only import only
from search_spaces.product import ProductSpace

CLOCKS = {"wall": ("training_seconds", "recipe_seconds"), "cpu": ("training_cpu_seconds", "recipe_cpu_seconds")}


class Replayed(Evaluator):
    """The rows of a table, charged with the seconds that they took when it was built.

    The training of a network is charged to the first candidate that has it, as a search pays for it; every recipe is
    charged whole, and a row that failed costs what it cost when the table was built. One evaluator is of one search.

    Args:
        space: Search space that candidates belong to.
        task: Not used; the rows have their own task.
        table: Parquet file, or a table that was read.
        seconds: Which seconds are charged: wall, those that passed, or cpu, those of the processor, which a busy
            machine does not change.
    """

    summary = "looked up in a table of nasbench build-table, by a simulated clock"
    looks_up = True
    searches_recipes = True

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        *,
        table: str | BuiltTable,
        seconds: Literal["wall", "cpu"] = "wall",
    ) -> None:
        super().__init__(space, None)
        self.table = read_table(user_path(table)) if isinstance(table, str) else table
        self.table.require_space(space)
        rows = self.table.rows
        training, recipe = CLOCKS[one_of("seconds of a tabular evaluator", seconds, CLOCKS)]
        if recipe not in rows:
            raise UserError(f"table {self.table.path} has no {recipe}; set seconds: wall.")
        self.row = {tuple(map(int, picks)): number for number, picks in enumerate(rows["picks"])}
        self._training_s = np.nan_to_num(rows[training].to_numpy(float)) if training in rows else np.zeros(len(rows))
        self._recipe_s = np.nan_to_num(rows[recipe].to_numpy(float))
        self._status, self._error = rows["status"].tolist(), rows["error"].tolist()
        self._columns = {name: rows[name].to_numpy(float) for name in self.table.metrics}
        self._networks = len(space.network.decisions) if isinstance(space, ProductSpace) else len(space.decisions)
        self._trained: set[tuple[int, ...]] | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the table."""
        return self.table.metrics

    @property
    def simulated(self) -> bool:
        """The search goes by the seconds of the table."""
        return True

    def parts(self, arch: Architecture) -> Mapping[str, Any]:
        """The notation of the network, and the entries of the recipe where there are several."""
        if not isinstance(self.space, JointSpace):
            return super().parts(arch)
        network, point = self.space.split(arch)
        return {"network": self.space.network.format(network), "recipe": self.space.recipes.entries(point)}

    def history(self, candidates: Sequence[EarlierCandidate]) -> History:
        """Nothing; a search that goes on has paid for the training of its candidates before."""
        if self._trained is None:
            ended = [self.identity(candidate.arch) for candidate in candidates if candidate.status != "running"]
            self._trained = {arch.picks[: self._networks] for arch in ended}
        return ()

    def __call__(self, candidate: Candidate) -> Metrics:
        """The metrics of a row; those that the table does not know of it are left out.

        Raises:
            InvalidNetwork: The table has no such row, or the evaluation failed when it was built.
            InfeasibleError: The recipe did not fit the network when the table was built.
        """
        picks = self.identity(candidate.arch).picks
        row = self.row.get(picks)
        if row is None:
            has_network = any(network_picks[: self._networks] == picks[: self._networks] for network_picks in self.row)
            missing = "recipe of a network that it has" if has_network else "network"
            raise InvalidNetwork(
                f"table {self.table.path} has no row for this {missing}, {self.space.format(candidate.arch)}; build it "
                f"with nasbench build-table, or search among what it has."
            )
        trained = self._trained = self._trained if self._trained is not None else set()
        network_picks = picks[: self._networks]
        is_trained = network_picks in trained
        trained.add(network_picks)
        training_s = 0.0 if is_trained else float(self._training_s[row])
        spent = {
            "training_seconds": training_s,
            "simulated_seconds": training_s + float(self._recipe_s[row]),
            "cached": float(is_trained),
        }
        if self._status[row] not in ("done", "infeasible"):
            raise InvalidNetwork(
                f"its outcome was {self._status[row]} when the table was built: {self._error[row]}", spent
            )
        metrics = {name: float(column[row]) for name, column in self._columns.items() if column[row] == column[row]}
        if self._status[row] == "infeasible":
            raise InfeasibleError(self._error[row], metrics | spent, "recipe")
        return metrics | spent


def is_built(table: object) -> bool:
    """Whether the option `table` of a tabular evaluator names a file, and not a published table."""
    return isinstance(table, BuiltTable) or (isinstance(table, str) and Path(table).suffix == ".parquet")


def measured_part(
    table: BuiltTable, network: SearchSpace, recipes: RecipeSpace | None
) -> tuple[SearchSpace, RecipeSpace | None]:
    """The networks that a table holds with all its recipes, and these recipes; whole spaces as they are.

    Args:
        table: Table that `nasbench build-table` made.
        network: Search space of networks.
        recipes: Search space of recipes; None where the recipe left nothing to choose.

    Raises:
        UserError: The table is of another space, or has no network that is done.
    """
    space = network if recipes is None else JointSpace(network, recipes)
    table.require_space(space)
    cut = len(network.decisions)
    parts = [
        (tuple(picks[:cut]), tuple(picks[cut:])) for picks in table.rows["picks"].map(lambda row: list(map(int, row)))
    ]
    points = dict.fromkeys(point for _, point in parts)
    counts = Counter(network_picks for network_picks, _ in parts)
    complete = [
        Architecture(network.name, network_picks) for network_picks, count in counts.items() if count == len(points)
    ]
    if not complete:
        raise UserError(f"table {table.path} has no network with all its recipes; go on with nasbench build-table.")
    if len(complete) < network.size:
        network = only(network, complete)
    if recipes is not None and len(points) < recipes.size:
        recipes = only(recipes, [Architecture(recipes.name, point) for point in points])
    return network, recipes
