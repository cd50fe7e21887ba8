"""A table of a paper as a file: what it says, who says so, and the searches that measure the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from controllers import Controller, get_controller
from nasbench.tables import hw_nasbench
from nasbench.tables.latencies import DEVICES, SOURCE
from nasbench.tables.oracles import IMAGES
from nasbench.tables.protocols import (
    SHOWN,
    BestOfQueries,
    Compression,
    ElasticFront,
    Hypervolume,
    JointReplay,
    LatencyLimit,
    LatencyRanking,
    OneShot,
    Queries,
    SharedRanking,
    Strict,
    TimeBudget,
    TrainedNetworks,
    ZeroCostRanking,
)
from nasbench.tables.registry import TABLES
from nasbench.tables.zero_cost import best_published, published_features
from nasbench_registry import UserError, one_of, unknown
from nasbench_registry.files import read_yaml, user_path
from search_spaces import Architecture, get_space

FOLDER = Path("experiments/tables")

Trust = Literal["V", "V2", "M"]
TRUST: dict[Trust, str] = {
    "V": "read in the cited source",
    "V2": "read in another paper or repository that quotes it",
    "M": "from memory, not checked against the paper",
}


class Published(Strict):
    """One number of the paper.

    Attributes:
        mean: Mean over the paper's runs.
        std: Standard deviation of the runs that the paper prints; None if it prints none.
        source: Key of `sources`: where the number was read.
        trust: How far to believe the number, see `TRUST`.
    """

    mean: float
    std: float | None = None
    source: str
    trust: Trust


class TableColumn(Strict):
    """One column of the table.

    Attributes:
        name: Name of the column with its unit, such as "cifar10_test_acc_pct".
        search: Data set on which the search is scored; not for protocols of latency.
        read: Data set whose test accuracy after 200 epochs is read off; without it, that of `search`.
        budget_s: Simulated seconds of a search; only for the protocol "time_budget".
        shows: Value that is read off by a protocol of latency, see `LatencyRanking` and `LatencyLimit`.
        devices: Devices over which it is averaged, or which it counts; only for protocols of latency.
        limit_ms: Limit of the search on the device, in milliseconds; only for the protocol "latency_limit".
        queries: Number of different cells that were evaluated; only for the protocols "hypervolume" and
            "best_of_queries".
        part: Part of the budget that is used; only for the protocol "joint_replay", where `search` is a regime.
    """

    name: str
    search: str = ""
    read: str | None = None
    budget_s: Annotated[float, Field(gt=0)] | None = None
    shows: str | None = None
    devices: tuple[str, ...] = ()
    limit_ms: Annotated[float, Field(gt=0)] | None = None
    queries: Annotated[int, Field(ge=1)] | None = None
    part: Annotated[float, Field(gt=0, le=1)] | None = None

    @property
    def read_dataset(self) -> str:
        """`read` or, without it, `search`."""
        return self.read or self.search


class WarmStart(Strict):
    """The best of a sample by published zero-cost proxies, evaluated before the controller is asked.

    Attributes:
        proxies: Names of the proxies; the sum of the logarithms of their ranks counts.
        sample: Number of cells that are drawn.
        best: Number of them that are evaluated.
    """

    proxies: Annotated[tuple[str, ...], Field(min_length=1)]
    sample: Annotated[int, Field(ge=1)]
    best: Annotated[int, Field(ge=1)]


class Row(Strict):
    """A line of the table: a controller or a method that is run, or the reason why nothing is.

    Attributes:
        name: Name of the row, as in the paper.
        controller: Name and options of the controller.
        method: Name and options of the method; in tables of latency, where there are no controllers.
        space: Options of the space.
        runs: Number of runs behind the paper's numbers, if known.
        deviation: Where our run differs from the paper's.
        reason: Why there is no run; then no number is measured.
        max_seeds: Largest number of seeds of a row that takes long.
        max_queries: Largest number of queries of this row, if it is less than that of the protocol.
        warm_start: Cells that are evaluated first; only where a controller searches, and counted as its queries.
        features: Published zero-cost proxies that a controller with a model sees as features.
        published: Numbers of the paper, by column; those that it does not print are left out.
    """

    name: str
    controller: dict[str, Any] | None = None
    method: dict[str, Any] | None = None
    space: dict[str, Any] = Field(default_factory=dict)
    runs: int | None = None
    deviation: str | None = None
    reason: str | None = None
    max_seeds: Annotated[int, Field(ge=1)] | None = None
    max_queries: Annotated[int, Field(ge=1)] | None = None
    warm_start: WarmStart | None = None
    features: tuple[str, ...] = ()
    published: dict[str, Published] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _run_or_reason(self) -> Row:
        alternatives = {"controller": self.controller, "method": self.method, "reason": self.reason}
        if sum(value is not None for value in alternatives.values()) != 1:
            raise ValueError(
                f"row {self.name!r} needs either a controller or a reason why it is not run, or a method in a table of "
                f"latencies."
            )
        for kind, value in (("controller", self.controller), ("method", self.method)):
            if value is not None and "name" not in value:
                raise ValueError(f"the {kind} of row {self.name!r} has no name.")
        return self


SEARCHED = TimeBudget | Queries | BestOfQueries
"""Protocols whose rows are controllers that search a tabular benchmark."""


class PaperTable(Strict):
    """A file of `experiments/tables`.

    Attributes:
        name: Name that a user types; the name of the file.
        title: Title in one line.
        paper: Authors, year and title of the paper.
        arxiv: arXiv number of the paper; empty for an experiment of our own.
        table: Number of the table in the paper.
        benchmark: Tabular benchmark that answers; empty where networks are trained.
        seeds: Number of searches of each row, if the user asks for no other number.
        protocol: Protocol: how a search runs and is read.
        sources: Where numbers were read, by a short key.
        notes: Notes that a reader has to know.
        columns: Columns, which say what is measured.
        rows: Rows, which say what is compared.
    """

    name: str
    title: str
    paper: str
    arxiv: str = ""
    table: str
    benchmark: str = ""
    seeds: Annotated[int, Field(ge=1)]
    protocol: Annotated[
        TimeBudget
        | Queries
        | BestOfQueries
        | LatencyRanking
        | LatencyLimit
        | Compression
        | ElasticFront
        | ZeroCostRanking
        | Hypervolume
        | OneShot
        | SharedRanking
        | JointReplay,
        Field(discriminator="kind"),
    ]
    sources: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    columns: Annotated[tuple[TableColumn, ...], Field(min_length=1)]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @property
    def where(self) -> str:
        """Which table of which paper, in words."""
        return f"arXiv {self.arxiv}; {self.table}" if self.arxiv else self.table

    @property
    def published(self) -> bool:
        """Whether there are numbers to compare with."""
        return any(row.published for row in self.rows)

    @model_validator(mode="after")
    def _consistent(self) -> PaperTable:
        searched = isinstance(self.protocol, SEARCHED)
        if not isinstance(self.protocol, TrainedNetworks | SharedRanking | JointReplay):
            in_table = searched or isinstance(self.protocol, ZeroCostRanking | Hypervolume | OneShot)
            one_of("table", self.benchmark, TABLES if in_table else [SOURCE.name])
        for kind, names in (("column", [c.name for c in self.columns]), ("row", [r.name for r in self.rows])):
            if len(set(names)) != len(names):
                raise ValueError(f"two {kind}s have the same name.")
        for column in self.columns:
            if searched:
                self._check_search(column)
            elif isinstance(self.protocol, TrainedNetworks | SharedRanking):
                self._check_trained(column)
            elif isinstance(self.protocol, ZeroCostRanking):
                self._check_zero_cost(column, self.protocol)
            elif isinstance(self.protocol, Hypervolume):
                self._check_hypervolume(column)
            elif isinstance(self.protocol, OneShot):
                self._check_one_shot(column)
            elif isinstance(self.protocol, JointReplay):
                self._check_replay(column, self.protocol)
            else:
                self._check_latency(column)
        if isinstance(self.protocol, LatencyRanking | LatencyLimit):
            for device in self.protocol.known_devices:
                one_of("device", device, DEVICES)
        for row in self.rows:
            if (row.method if searched else row.controller) is not None:
                raise ValueError(
                    f"row {row.name!r}: tables of latency have methods, and so have those that train; all others have "
                    f"controllers; this protocol is "
                    f"{self.protocol.kind}."
                )
            for column_name, value in row.published.items():
                one_of("column", column_name, [column.name for column in self.columns])
                one_of("source", value.source, self.sources)
        return self

    def _check_search(self, column: TableColumn) -> None:
        one_of("data set", column.search, IMAGES)
        one_of("data set", column.read_dataset, IMAGES)
        if isinstance(self.protocol, TimeBudget) != (column.budget_s is not None):
            raise ValueError(f"column {column.name!r}: budget_s belongs to the protocol time_budget, and only to it.")
        if isinstance(self.protocol, BestOfQueries) != (column.queries is not None):
            raise ValueError(f"column {column.name!r}: queries go with the protocol best_of_queries, and only with it.")
        if column.shows is not None or column.devices or column.limit_ms is not None:
            raise ValueError(f"column {column.name!r}: shows, devices and limit_ms belong to protocols of latency.")

    def _check_latency(self, column: TableColumn) -> None:
        if column.search or column.read or column.budget_s:
            raise ValueError(
                f"column {column.name!r}: search, read and budget_s do not belong to protocols of latency."
            )
        one_of("shows", column.shows or "", SHOWN[self.protocol.kind])
        for device in column.devices:
            one_of("device", device, DEVICES)
        if not column.devices:
            raise ValueError(f"column {column.name!r} has no devices.")
        one_cell = column.shows in ("test_acc_pct", "latency_ms")
        if one_cell != (column.limit_ms is not None) or (one_cell and len(column.devices) > 1):
            raise ValueError(
                f"column {column.name!r}: columns that show test_acc_pct or latency_ms have one device and a limit_ms, "
                f"others have no limit."
            )

    def _check_hypervolume(self, column: TableColumn) -> None:
        if (
            column.search
            or column.read
            or column.budget_s
            or column.limit_ms
            or not column.devices
            or not column.queries
        ):
            raise ValueError(f"column {column.name!r}: in a table of fronts, columns have shows, devices and queries.")
        one_of("shows", column.shows or "", SHOWN["hypervolume"])
        allowed = hw_nasbench.ENERGY_DEVICES if column.shows == "hypervolume_energy" else hw_nasbench.DEVICES
        for device in column.devices:
            one_of("device", device, allowed)

    def _check_zero_cost(self, column: TableColumn, protocol: ZeroCostRanking) -> None:
        if column.read or column.budget_s or column.devices or column.limit_ms:
            raise ValueError(f"column {column.name!r}: in a table of proxies, columns have a name, search and shows.")
        one_of("data set", column.search, protocol.datasets)
        one_of("shows", column.shows or "", SHOWN[protocol.kind])

    def _check_trained(self, column: TableColumn) -> None:
        if column.search or column.read or column.budget_s or column.devices or column.limit_ms:
            raise ValueError(
                f"column {column.name!r}: where networks are trained, columns have a name and shows, no more."
            )
        one_of("shows", column.shows or "", SHOWN[self.protocol.kind])

    def _check_replay(self, column: TableColumn, protocol: JointReplay) -> None:
        one_of("regime", column.search, protocol.regimes)
        one_of("shows", column.shows or "", SHOWN[protocol.kind])
        if (column.shows == "share") != (column.part is not None):
            raise ValueError(
                f"column {column.name!r}: those that show a share have a part of the budget, and only those."
            )

    def _check_one_shot(self, column: TableColumn) -> None:
        one_of("shows", column.shows or "", SHOWN[self.protocol.kind])
        if column.search or column.budget_s or column.devices or column.limit_ms:
            raise ValueError(f"column {column.name!r}: in a table of one-shot searches, columns have shows and read.")
        if (column.shows == "test_acc_pct") != (column.read is not None):
            raise ValueError(f"column {column.name!r}: those that show test_acc_pct read a data set, and only those.")
        if column.read is not None:
            one_of("data set", column.read, IMAGES)

    def select(self, names: list[str] | None) -> tuple[Row, ...]:
        """The rows of these names, in the order of the table; all without names. UserError for an unknown one."""
        row_names = [row.name for row in self.rows]
        for name in names or ():
            if name not in row_names:
                raise unknown("row", name, row_names, where=f"of table {self.name!r}")
        return tuple(row for row in self.rows if not names or row.name in names)

    def split_names(self, text: str) -> list[str]:
        """Names with commas between them, one by one; a comma inside of a row's name does not end it."""
        row_names, parts, names = {row.name for row in self.rows}, text.split(","), []
        while parts:
            longest_first = range(len(parts), 0, -1)
            count = next((count for count in longest_first if ",".join(parts[:count]).strip() in row_names), 1)
            names.append(",".join(parts[:count]).strip())
            parts = parts[count:]
        return names


def make_controller(row: Row, benchmark: str, seed: int, dataset: str = "cifar10") -> Controller:
    """The controller of a row, on a data set. Raises UserError if its name or an option is not allowed."""
    assert row.controller is not None, "the row is run"
    options = {key: value for key, value in row.controller.items() if key != "name"}
    space = get_space(benchmark, **row.space)
    if row.features:
        options["features"] = published_features(dataset, row.features, space)
    return get_controller(row.controller["name"], space, seed=seed, **options)


def first_cells(row: Row, benchmark: str, seed: int, dataset: str) -> list[Architecture]:
    """The cells that a row evaluates before its controller is asked."""
    warm_start = row.warm_start
    if warm_start is None:
        return []
    space = get_space(benchmark, **row.space)
    return best_published(dataset, warm_start.proxies, space, sample=warm_start.sample, best=warm_start.best, seed=seed)


def table_files() -> dict[str, Path]:
    """The files of the tables by name: those of the working folder, then ours."""
    folders = (FOLDER, Path(__file__).resolve().parent / "papers")
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def load_paper_table(name: str) -> PaperTable:
    """The table of that name, or in that YAML file.

    Raises:
        UserError: There is none, or the file is not such a table.
    """
    files = table_files()
    path = user_path(name) if name.endswith((".yaml", ".yml")) else files.get(name)
    if path is None:
        raise unknown("table", name, [*files, "FILE.yaml"])
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path} holds {type(data).__name__}, not a table; write keys such as 'columns' and 'rows'.")
    try:
        return PaperTable.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"there is no key {place!r}; see docs/tables.md for those that there are."
    if problem["type"] == "missing":
        return f"the key {place!r} is missing."
    if problem["type"] == "value_error":
        return f"{place}: {problem['ctx']['error']}" if place else str(problem["ctx"]["error"])
    return f"{place} is {problem['input']!r}: {problem['msg']}."
