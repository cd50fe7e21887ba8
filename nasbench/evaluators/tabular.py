"""Score a candidate by looking it up in a table of finished trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasbench.devices.device import Device
from nasbench.devices.table import TableDevice
from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.costs import ENERGY, LATENCY, known
from nasbench.evaluators.errors import InvalidNetwork
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.replayed import Replayed, is_built
from nasbench.objectives.metrics import Metrics, latency_and_throughput
from nasbench.tables.oracles import TableOracle, full_training_oracle, validation_oracle
from nasbench.tables.registry import load_table
from nasbench_registry import UserError, one_of
from search_spaces import Architecture, SearchSpace, Task

FINAL = (("test", 200), "test_acc_pct")  # what is read off a candidate and never searched


class Tabular(Evaluator):
    """The numbers of a tabular benchmark, charged with the seconds that the training took when the table was made.

    A search with it goes by a simulated clock: `search.max_hours` are hours of simulated training, by so many simulated
    workers as `executor.workers`, and `search.repeats: evaluated` charges a repeated architecture again, as NATS-Bench
    does.

    Args:
        space: Search space that candidates belong to.
        task: Not used; a table has its own task.
        table: Name of the benchmark.
        dataset: Dataset whose accuracies are looked up.
        split: Val, the accuracy after 12 epochs, charged with the training of these epochs; or test, after 200 epochs,
            for counting how many queries a search needs until it meets the best network.
        target_device: Device of the search; if it is a table of latencies, they are looked up, too, and energies if it
            has them.
    """

    summary = "looked up in a tabular benchmark, or in a table of one's own, by a simulated clock"
    looks_up = True

    @classmethod
    def for_options(cls, options: Mapping[str, Any]) -> type[Evaluator]:
        """`Replayed` for a file that `nasbench build-table` made."""
        return Replayed if is_built(options.get("table")) else cls

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        *,
        table: str,
        dataset: str = "cifar10",
        split: str = "val",
        target_device: Device | None = None,
    ) -> None:
        super().__init__(space, None)
        self.table = load_table(table)
        if space.name != self.table.space.name:
            raise UserError(
                f"table {table!r} holds networks of space {self.table.space.name!r}, and the search is over "
                f"{space.name!r}; search that space."
            )
        one_of("split of a tabular evaluator", split, ("val", "test"))
        self.dataset, self.split = dataset, split
        make = validation_oracle if split == "val" else full_training_oracle
        self.oracle: TableOracle = make(self.table, dataset=dataset)
        (final_split, final_epochs), self._final_name = FINAL
        self._final = self.table.column(dataset=dataset, split=final_split, epochs=final_epochs)
        self._device = target_device if isinstance(target_device, TableDevice) else None
        if self._device is not None:
            self._device.check(space)

    @property
    def metrics(self) -> tuple[str, ...]:
        """val_acc_pct or test_acc_pct, which is searched; test_acc_pct after 200 epochs; params; costs."""
        costs: tuple[str, ...] = ()
        if self._device is not None:
            costs = (*LATENCY, *(ENERGY if self._device.meter.why_unavailable() is None else ()))
        return tuple(dict.fromkeys((f"{self.split}_acc_pct", self._final_name, "params", *costs)))

    @property
    def simulated(self) -> bool:
        """The search goes by the seconds of the table."""
        return True

    def identity(self, arch: Architecture) -> Architecture:
        """The architecture itself: those that build equal networks were trained apart."""
        return arch

    def __call__(self, candidate: Candidate) -> Metrics:
        """Look the candidate up.

        Raises:
            InvalidNetwork: The table has no row for it.
            InfeasibleError: The device has no latency of it.
            UserError: It is asked for at a fidelity that the table does not have.
        """
        try:
            row = self.oracle.row(candidate.arch)
        except UserError as error:
            raise InvalidNetwork(str(error)) from None
        epochs = candidate.trial.epochs
        return {
            self._final_name: float(self._final[row]),
            f"{self.split}_acc_pct": self.oracle.score(row, epochs),
            "params": float(self.table.params[row]),
            "simulated_seconds": self.oracle.seconds(row, epochs),
            **self._costs(candidate.arch),
        }

    def _costs(self, arch: Architecture) -> Metrics:
        if self._device is None:
            return {}
        device = self._device
        cost = known(lambda: device.cost(self.space, arch))
        energy = {} if cost.energy_mj is None else {"energy_mj": cost.energy_mj}
        return latency_and_throughput(cost.latency_ms, device.batch) | energy
