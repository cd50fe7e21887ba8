"""The share of the front of accuracy and cost on a real device that a search covers, after so many cells."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from controllers import Outcome, controllers, get_controller
from nasbench.costs.cost import counts
from nasbench.objectives.hypervolume import Points, front, hypervolume
from nasbench.reproduce.simulate import REPEATS, proposals
from nasbench.storage.files import content_key, read_json, write_json
from nasbench.tables.hw_nasbench import load_hw_nasbench
from nasbench.tables.minibatches import SHAPES
from nasbench.tables.paper_table import PaperTable
from nasbench.tables.protocols import Hypervolume
from nasbench.tables.registry import load_table
from nasbench_registry import UserError, check_options, one_of
from search_spaces import Task, get_space


@dataclass(frozen=True, kw_only=True)
class FrontSearch:
    """A controller that gets several scores.

    Attributes:
        controller: Name of the controller.
        options: Options of the controller.
        merge_equal: Whether cells that compute the same are one candidate, of a controller that asks for that.
    """

    controller: str
    options: Mapping[str, Any] = field(default_factory=dict)
    merge_equal: bool = True


@dataclass(frozen=True, kw_only=True)
class MacsFront:
    """The front by accuracy and MACs, evaluated on the device."""


METHODS: dict[str, type[FrontSearch] | type[MacsFront]] = {"search": FrontSearch, "macs_front": MacsFront}


def front_method(method: Mapping[str, Any]) -> FrontSearch | MacsFront:
    """The method of a row; UserError if a name or an option is not allowed, or the controller takes one score only."""
    kind = METHODS[one_of("method", str(method["name"]), METHODS)]
    options = {key: value for key, value in method.items() if key != "name"}
    check_options(kind, options, what=f"method {method['name']!r}")
    front_search = kind(**options)
    if isinstance(front_search, FrontSearch):
        check_multi_objective(front_search.controller, front_search.options)
    return front_search


def check_multi_objective(controller: str, options: Mapping[str, Any]) -> None:
    """UserError if there is no such controller, an option is not allowed, or it takes one score only."""
    get_controller(controller, get_space("nasbench201"), seed=0, **options)
    if not controllers.find(controller).multi_objective:
        raise UserError(f"controller {controller!r} takes one score; name one of several, such as nsga2.")


@dataclass(frozen=True)
class Ground:
    """The cells of a device that were measured.

    Attributes:
        scores: (n, k) accuracy and costs with their signs turned, larger is better; NaN where not all were measured.
        points: (n, k) scores from 0, the worst, to 1, the best; costs by their logarithms.
        total: Hypervolume of the true front.
    """

    scores: Points
    points: Points
    total: float

    def share(self, rows: Sequence[int]) -> float:
        """The share of the hypervolume of the true front that these cells cover."""
        points = self.points[list(rows)]
        return hypervolume(front(points[~np.isnan(points).any(axis=1)])) / self.total


@functools.lru_cache(maxsize=16)
def ground(dataset: str, device: str, energy: bool) -> Ground:
    """See `Ground`."""
    table, costs = load_table("nasbench201"), load_hw_nasbench(dataset)
    rows = costs.aligned(table.architectures)
    accuracy = table.column(dataset=dataset, split="test", epochs=200)
    columns = [accuracy, -costs.latency_ms[device][rows]]
    shown = [accuracy, -np.log(costs.latency_ms[device][rows])]
    if energy:
        columns.append(-costs.energy_mj[device][rows])
        shown.append(-np.log(costs.energy_mj[device][rows]))
    scores, points = np.stack(columns, axis=1), np.stack(shown, axis=1)
    missing = np.isnan(points).any(axis=1)
    low, high = points[~missing].min(axis=0), points[~missing].max(axis=0)
    points = (points - low) / (high - low)
    points[missing] = np.nan
    return Ground(scores, points, hypervolume(front(points[~missing])))


def measure_fronts(table: PaperTable, method: Mapping[str, Any], seed: int, keep: Path | None) -> dict[str, float]:
    """The value of every column for one seed.

    Args:
        table: Table whose protocol is a `Hypervolume`.
        method: Method of the row.
        seed: Random seed of the search.
        keep: Folder in which the cells of each search are stored, and read again.
    """
    protocol, front_search = table.protocol, front_method(method)
    assert isinstance(protocol, Hypervolume), "the caller asks"
    most = max(column.queries or 0 for column in table.columns)
    cells_of_search: dict[tuple[str, bool], list[int]] = {}
    for column in table.columns:
        for device in column.devices:
            device_and_energy = device, column.shows == "hypervolume_energy"
            if device_and_energy not in cells_of_search:
                cells_of_search[device_and_energy] = _cells(
                    protocol.dataset, *device_and_energy, front_search, method, seed, most, keep
                )
    values = {}
    for column in table.columns:
        energy = column.shows == "hypervolume_energy"
        until = None if isinstance(front_search, MacsFront) else column.queries
        values[column.name] = float(
            np.mean(
                [
                    ground(protocol.dataset, device, energy).share(cells_of_search[device, energy][:until])
                    for device in column.devices
                ]
            )
        )
    return values


def _cells(
    dataset: str,
    device: str,
    energy: bool,
    front_search: FrontSearch | MacsFront,
    method: Mapping[str, Any],
    seed: int,
    most: int,
    keep: Path | None,
) -> list[int]:
    """The rows of the cells that a search looks at, in order."""
    if isinstance(front_search, MacsFront):
        return macs_front(dataset)
    request = {
        "dataset": dataset,
        "device": device,
        "energy": energy,
        "method": dict(method),
        "seed": seed,
        "most": most,
    }
    key = content_key(request)
    file = None if keep is None else keep / f"{key}.json"
    if file is not None and file.exists():
        rows: list[int] = read_json(file, "delete it, and it is searched again", ("rows",))["rows"]
        return rows
    rows = searched(front_search, ground(dataset, device, energy).scores, seed, most)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**request, "rows": rows})
    return rows


def searched(front_search: FrontSearch, scores: Points, seed: int, most: int) -> list[int]:
    """The rows of so many different cells that a controller looks at; repeated proposals do not count."""
    benchmark = load_table("nasbench201")
    space = get_space("nasbench201", merge_equal=front_search.merge_equal)
    controller = get_controller(front_search.controller, space, seed=seed, **front_search.options)
    rows: dict[int, None] = {}
    for proposal in proposals(controller, front_search.controller, REPEATS * most):
        row = benchmark.row(proposal.arch)
        rows[row] = None
        scores_of_cell = scores[row]
        controller.tell(Outcome(proposal, None if np.isnan(scores_of_cell).any() else tuple(scores_of_cell.tolist())))
        if len(rows) == most:
            break
    return list(rows)


@functools.lru_cache(maxsize=4)
def macs_front(dataset: str) -> list[int]:
    """The rows of the cells that no other beats by accuracy and MACs."""
    benchmark = load_table("nasbench201")
    macs = cell_macs(dataset)
    accuracy = benchmark.column(dataset=dataset, split="test", epochs=200)
    points = np.stack([accuracy, -macs], axis=1)
    points_of_front = {tuple(point) for point in front(points).tolist()}
    return [row for row, point in enumerate(points.tolist()) if tuple(point) in points_of_front]


def cell_macs(dataset: str) -> Points:
    """(n,) MACs of all cells: those of the cell without convolutions, and so many for each convolution."""
    benchmark, space = load_table("nasbench201"), get_space("nasbench201")
    shape, classes = SHAPES[dataset]
    task, operations = Task(shape, classes), space.decisions[0].options
    picks = np.array([arch.picks for arch in benchmark.architectures])

    def built(pick: int) -> int:
        skips = [operations.index("skip_connect")] * 5
        return counts(space.build(space.architecture([pick, *skips]), task), task).macs

    nothing = built(operations.index("none"))
    total = np.full(len(picks), float(nothing))
    for name in ("nor_conv_1x1", "nor_conv_3x3"):
        pick = operations.index(name)
        total += (picks == pick).sum(axis=1) * (built(pick) - nothing)
    return total
