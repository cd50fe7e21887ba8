"""A table of a paper as a file: what it says, who says so, and the searches that measure the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import nasbench
from controllers import Controller, get_controller
from nasbench.config import read_yaml
from nasbench.tabular.oracles import IMAGES
from nasbench.tabular.registry import TABLES
from nasbench_registry import UserError, one_of, unknown
from search_spaces import get_space

FOLDER = Path("experiments/tables")

Trust = Literal["V", "V2", "M"]
TRUST: dict[Trust, str] = {
    "V": "read in the cited source",
    "V2": "read in another paper or repository that quotes it",
    "M": "from memory, not checked against the paper",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Published(_Strict):
    """One number of the paper.

    Attributes:
        mean: over the paper's runs.
        std: the standard deviation of the runs that the paper prints; None if it prints none.
        source: a key of `sources`: where the number was read.
        trust: how far to believe it, see `TRUST`.
    """

    mean: float
    std: float | None = None
    source: str
    trust: Trust


class TableColumn(_Strict):
    """What one column measures.

    Attributes:
        name: with its unit, such as "cifar10_test_acc_pct".
        search: the data set on which the search is scored.
        read: the data set whose test accuracy after 200 epochs is read off; without it, that of `search`.
        budget_s: simulated seconds of a search; only for the protocol "time_budget".
    """

    name: str
    search: str
    read: str | None = None
    budget_s: Annotated[float, Field(gt=0)] | None = None

    @property
    def read_dataset(self) -> str:
        """`read` or, without it, `search`."""
        return self.read or self.search


class TimeBudget(_Strict):
    """A search spends simulated seconds; its best cell by 12-epoch validation accuracy is read off.

    Attributes:
        read: "interpolated": linearly in time, between the best cells before and behind the end of the budget, as
            NATS-Bench does; "last": the best cell among the evaluations that end within the budget.
        text: the protocol in words.
    """

    kind: Literal["time_budget"]
    read: Literal["interpolated", "last"]
    text: str


class Queries(_Strict):
    """A search queries test accuracies after 200 epochs until it meets the best one of the table.

    Repeated queries are free, so what is counted are different cells.

    Attributes:
        max_queries: a search that needs more is counted as having needed so many, and reported as stopped.
        text: the protocol in words.
    """

    kind: Literal["queries"]
    max_queries: Annotated[int, Field(ge=1)]
    text: str


class Row(_Strict):
    """A line of the table: a controller that is run, or the reason why nothing is.

    Attributes:
        name: as in the paper.
        controller: its name and options.
        space: options of the space.
        runs: behind the paper's numbers, if known.
        deviation: where our run differs from the paper's.
        reason: why there is no run; then no number is measured.
        max_seeds: of a row that takes long.
        max_queries: of this row, if it is less than that of the protocol.
        published: the paper's numbers, by column; those that it does not print are left out.
    """

    name: str
    controller: dict[str, Any] | None = None
    space: dict[str, Any] = Field(default_factory=dict)
    runs: int | None = None
    deviation: str | None = None
    reason: str | None = None
    max_seeds: Annotated[int, Field(ge=1)] | None = None
    max_queries: Annotated[int, Field(ge=1)] | None = None
    published: dict[str, Published] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _run_or_reason(self) -> Row:
        if (self.controller is None) == (self.reason is None):
            raise ValueError(f"row {self.name!r} needs either a controller or a reason why it is not run.")
        if self.controller is not None and "name" not in self.controller:
            raise ValueError(f"the controller of row {self.name!r} has no name.")
        return self


class PaperTable(_Strict):
    """A file of `experiments/tables`.

    Attributes:
        name: what a user types; the name of the file.
        title: one line.
        paper: authors, year, title.
        arxiv: its number.
        table: which table of it.
        benchmark: the tabular benchmark that answers.
        seeds: searches of each row, if the user asks for no other number.
        protocol: how a search runs and is read.
        sources: where numbers were read, by a short key.
        notes: what a reader has to know.
        columns: what is measured.
        rows: what is compared.
    """

    name: str
    title: str
    paper: str
    arxiv: str
    table: str
    benchmark: str
    seeds: Annotated[int, Field(ge=1)]
    protocol: Annotated[TimeBudget | Queries, Field(discriminator="kind")]
    sources: dict[str, str]
    notes: tuple[str, ...] = ()
    columns: Annotated[tuple[TableColumn, ...], Field(min_length=1)]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> PaperTable:
        one_of("table", self.benchmark, TABLES)
        for kind, names in (("column", [c.name for c in self.columns]), ("row", [r.name for r in self.rows])):
            if len(set(names)) != len(names):
                raise ValueError(f"two {kind}s have the same name.")
        timed = isinstance(self.protocol, TimeBudget)
        for column in self.columns:
            one_of("data set", column.search, IMAGES)
            one_of("data set", column.read_dataset, IMAGES)
            if timed != (column.budget_s is not None):
                raise ValueError(
                    f"column {column.name!r}: budget_s belongs to the protocol time_budget, and only to it."
                )
        for row in self.rows:
            for column_name, value in row.published.items():
                one_of("column", column_name, [column.name for column in self.columns])
                one_of("source", value.source, self.sources)
        return self

    def select(self, names: list[str] | None) -> tuple[Row, ...]:
        """The rows of these names, in the order of the table; all without names. UserError for an unknown one."""
        known = [row.name for row in self.rows]
        for name in names or ():
            if name not in known:
                raise unknown("row", name, known, where=f"of table {self.name!r}")
        return tuple(row for row in self.rows if not names or row.name in names)


def make_controller(row: Row, benchmark: str, seed: int) -> Controller:
    """The controller of a row. Raises UserError if its name or an option is not allowed."""
    assert row.controller is not None, "the row is run"
    options = {key: value for key, value in row.controller.items() if key != "name"}
    return get_controller(row.controller["name"], get_space(benchmark, **row.space), seed=seed, **options)


def table_files() -> dict[str, Path]:
    """The files of the tables by name: those of the working folder, then those beside the package."""
    folders = (FOLDER, Path(nasbench.__file__).resolve().parents[1] / FOLDER)
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def load_paper_table(name: str) -> PaperTable:
    """The table of that name, or in that YAML file.

    Raises:
        UserError: there is none, or the file is not such a table.
    """
    files = table_files()
    path = Path(name) if name.endswith((".yaml", ".yml")) else files.get(name)
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
