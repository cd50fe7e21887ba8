"""The most accurate cell under a latency limit on a new device (Lee et al. 2021, HELP).

Which cells may meet the limit is predicted from a few measurements; among those a search looks for accuracy; then cells
are measured one after the other, each time the one with the highest expected improvement: the gain in accuracy over the
best cell that is known to meet the limit, times the probability of meeting it (Schonlau, Welch & Jones 1998). What is
returned has been measured.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from controllers import Outcome, SearchFinished, get_controller, stalled
from nasbench.latency.transfer import TransferPredictor
from nasbench.reproduce.latency_ranking import RankingTask, cell_rows, suggested
from nasbench.tables.latencies import NewDevice, latency_cells
from nasbench.tables.oracles import IMAGES
from nasbench.tables.table import Table
from nasbench_registry import UserError, check_options, one_of
from search_spaces import Architecture
from search_spaces.nasbench201 import NASBench201

Vector = npt.NDArray[np.float64]

POSSIBLE, SAFE = 0.15, 0.95  # probabilities of meeting the limit: of cells that are searched, of cells to fall back on
SEARCH_EPOCHS, READ_EPOCHS = 12, 200
FOLDS = 10  # folds of the cross-validation that smooths accuracies


@dataclass(frozen=True)
class Choice:
    """A cell that was returned, and the cost of the search for it.

    Attributes:
        row: Row of the cell.
        latency_ms: Measured latency in milliseconds.
        measurements: Number of latencies that were measured on the device, that of the cell included.
        accuracy_queries: Number of cells whose accuracy the search was given.
    """

    row: int
    latency_ms: float
    measurements: int
    accuracy_queries: int


class ChoiceMethod(Protocol):
    """A dataclass whose fields are the options of a row."""

    def choose(self, task: RankingTask, device: NewDevice, limit_ms: float, table: Table, dataset: str) -> Choice:
        """The cell to deploy on a device."""


@dataclass(frozen=True, kw_only=True)
class TransferSearch:
    """A controller searches the cells that may meet the limit, as a `TransferPredictor` sees it.

    It is scored by validation accuracies after 12 epochs. The predictor learns from every cell that is measured.

    Attributes:
        measurements: Number of cells that the predictor suggests and that are measured before the search.
        verifications: Most cells that are measured after the search; more only until one of them meets the limit.
        accuracy_queries: Number of cells that the controller may query; None gives the accuracy of all cells.
        controller: Name of the controller.
        datasets: Data sets whose accuracies count, by the mean of a cell's ranks; if empty, that of the table alone.
        smooth: Whether the ranks by boosted trees, fitted on all other cells, count as much as a cell's own ranks. A
            training of 12 epochs is noisy, and similar cells tell of each other. Needs all accuracies.
        returned: Number of cells that meet the limit and are returned; the one with the best test accuracy is shown, as
            HELP does. With more than one, test accuracies decide.
    """

    name: ClassVar[str] = "transfer"
    measurements: int = 10
    verifications: int = 5
    accuracy_queries: int | None = None
    controller: str = "bayesian"
    datasets: tuple[str, ...] = ()
    smooth: bool = False
    returned: int = 1

    def choose(self, task: RankingTask, device: NewDevice, limit_ms: float, table: Table, dataset: str) -> Choice:
        """See `ChoiceMethod`."""
        accuracy = promise(table, self.datasets or (dataset,), smooth=self.smooth)
        predictor, rows = suggested(task, task.pool, self.measurements)
        device.measure(rows)
        candidates = self._search(task, meeting(predictor, device, limit_ms) >= POSSIBLE, accuracy)
        if not len(candidates):
            raise UserError(f"no cell is expected to meet {limit_ms} ms on {device.name!r}; allow a higher limit.")
        queries, chosen = len(candidates), list[int]()
        while len(chosen) < self.returned and len(candidates):
            row = self._next(candidates, accuracy[candidates], meeting(predictor, device, limit_ms)[candidates], device)
            if row in device.measured:
                chosen.append(row)
                candidates = candidates[candidates != row]
            else:
                device.measure([row])
        test = table.column(dataset=dataset, split="test", epochs=READ_EPOCHS)
        best = max(chosen, key=lambda row: float(test[row])) if len(chosen) > 1 else chosen[0]
        return Choice(best, device.measured[best], device.measurements, queries * len(self.datasets or (dataset,)))

    def _next(self, candidates: npt.NDArray[np.int64], accuracy: Vector, probability: Vector, device: NewDevice) -> int:
        """The row to measure next; one that has been measured and meets the limit, if that is the end."""
        measured = np.isin(candidates, list(device.measured))
        possible = np.where(measured, 0, probability)
        if (probability[measured] == 1).any():
            reference = int(np.where(measured & (probability == 1), accuracy, -np.inf).argmax())
        elif possible.max() > 0:
            reference = int(np.where(possible >= min(SAFE, possible.max()), accuracy, -np.inf).argmax())
        else:
            raise UserError(f"no cell that was looked at meets the limit on {device.name!r}; allow a higher limit.")
        improvement = possible * np.maximum(accuracy - accuracy[reference], 0)
        promising = int(improvement.argmax())
        left = self.measurements + self.verifications - device.measurements
        return int(candidates[promising if left > 0 and improvement[promising] > 0 else reference])

    def _search(self, task: RankingTask, fits: npt.NDArray[np.bool_], accuracy: Vector) -> npt.NDArray[np.int64]:
        """Rows of the cells whose accuracy is known after the search."""
        if self.accuracy_queries is None:
            return np.arange(len(accuracy))
        if not fits.any():
            return np.zeros(0, dtype=np.int64)
        controller = get_controller(self.controller, FittingCells(fits), seed=task.seed)
        numbers, queried = cell_rows(), dict[int, None]()
        for _ in range(20 * self.accuracy_queries):
            if len(queried) == self.accuracy_queries:
                break
            try:
                proposal = controller.ask()
            except SearchFinished:
                break
            if proposal is None:
                raise stalled(self.controller)
            row = numbers[proposal.arch.picks]
            queried[row] = None
            controller.tell(Outcome(proposal, (float(accuracy[row]),)))
        return np.array(list(queried), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class BestInTable:
    """The bound of all searches: the highest test accuracy in the table among all cells that meet the limit."""

    name: ClassVar[str] = "bound"

    def choose(self, task: RankingTask, device: NewDevice, limit_ms: float, table: Table, dataset: str) -> Choice:
        """See `ChoiceMethod`."""
        latency_ms = device.measure(np.arange(len(table)))
        accuracy = table.column(dataset=dataset, split="test", epochs=READ_EPOCHS)
        row = int(np.where(latency_ms <= limit_ms, accuracy, -np.inf).argmax())
        return Choice(row, float(latency_ms[row]), len(table), len(table))


METHODS: dict[str, type[TransferSearch] | type[BestInTable]] = {
    method.name: method for method in (TransferSearch, BestInTable)
}


def choice_method(method: Mapping[str, Any]) -> ChoiceMethod:
    """The method of a row from its name and options; UserError if one of them does not exist or is not allowed."""
    options = {key: value for key, value in method.items() if key != "name"}
    kind = METHODS[one_of("method", str(method["name"]), METHODS)]
    check_options(kind, options, what=f"method {kind.name!r}")
    if "datasets" in options:
        options["datasets"] = tuple(options["datasets"])
    choice = kind(**options)
    if isinstance(choice, TransferSearch):
        queries = choice.accuracy_queries
        if choice.returned < 1:
            raise UserError(f"returned={choice.returned} of method {kind.name!r} must be 1 or more.")
        if choice.smooth and queries is not None:
            raise UserError(f"smooth of method {kind.name!r} needs all accuracies; leave accuracy_queries out.")
        for dataset in choice.datasets:
            one_of("data set", dataset, IMAGES)
        if choice.measurements < 1 or (queries is not None and queries < 1):
            raise UserError(
                f"measurements={choice.measurements} and accuracy_queries={queries} of method {kind.name!r} must "
                f"be 1 or more."
            )
        get_controller(choice.controller, NASBench201(), seed=0)
    return choice


def promise(table: Table, datasets: tuple[str, ...], *, smooth: bool) -> Vector:
    """(15625,) how good cells look after 12 epochs: validation accuracy in percent, or a mean of ranks from 0 to 1.

    Args:
        table: Table with accuracies of all cells.
        datasets: Data sets; of one the accuracy itself is given, of several the mean of the ranks.
        smooth: Whether the ranks in cross-validated predictions of boosted trees count as much as the cells' own.
    """
    accuracies = [table.column(dataset=dataset, split="val", epochs=SEARCH_EPOCHS) for dataset in datasets]
    if len(accuracies) == 1 and not smooth:
        return accuracies[0]
    if smooth:
        accuracies += [_smoothed(table, dataset) for dataset in datasets]
    promised: Vector = np.mean([rankdata(accuracy) / len(accuracy) for accuracy in accuracies], axis=0)
    return promised


@functools.lru_cache(maxsize=4)  # it takes a quarter of a minute
def _smoothed(table: Table, dataset: str) -> Vector:
    """(15625,) validation accuracies after 12 epochs as boosted trees predict them that did not see the cell."""
    accuracy = table.column(dataset=dataset, split="val", epochs=SEARCH_EPOCHS)
    encoded = NASBench201().one_hot(latency_cells())
    trees = HistGradientBoostingRegressor(max_iter=400, random_state=0)
    predicted: Vector = cross_val_predict(trees, encoded, accuracy, cv=KFold(FOLDS, shuffle=True, random_state=0))
    return predicted


def meeting(predictor: TransferPredictor, device: NewDevice, limit_ms: float) -> Vector:
    """(15625,) probability that each cell meets the limit; 0 or 1 for those that were measured."""
    cells, rows, latency_ms = latency_cells(), list(device.measured), np.array(list(device.measured.values()))
    predictor.adapt([cells[row] for row in rows], latency_ms)
    mean, deviation = predictor.predict(cells)
    probability: Vector = ndtr((limit_ms - mean) / np.maximum(deviation, 1e-9))
    probability[rows] = latency_ms <= limit_ms
    return probability


class FittingCells(NASBench201):
    """The cells of NAS-Bench-201 that meet a limit; cells that build one network are different rows of a table.

    Args:
        fits: (15625,) whether each row meets the limit.
    """

    def __init__(self, fits: npt.NDArray[np.bool_]) -> None:
        super().__init__(merge_equal=False)  # an equal cell may be over the limit
        cells = latency_cells()
        self.fitting = frozenset(cells[row].picks for row in np.flatnonzero(fits).tolist())

    def is_valid(self, arch: Architecture) -> bool:
        """Whether the cell meets the limit."""
        return super().is_valid(arch) and arch.picks in self.fitting
