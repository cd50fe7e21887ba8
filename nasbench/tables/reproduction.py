"""The results of measuring a table of a paper again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench.tables.paper_table import PaperTable

Vector = npt.NDArray[np.float64]
BAND = (10, 90)  # percentiles over the seeds


@dataclass(frozen=True)
class Entry:
    """One number of the table beside ours.

    Attributes:
        row: Name of the row.
        column: Name of the column, with its unit.
        paper: The published mean; None if the paper prints none.
        paper_std: Standard deviation of the paper's runs, as it prints it.
        source: Where the published number was read.
        trust: How far to believe the number, see `TRUST`.
        measured: Our mean; None if there is no run.
        std: Standard deviation of our runs, as numpy.std computes it; None for a single run.
        n: Number of our runs.
        seconds: Seconds of computing; searches that several columns read are counted in each of them.
        stopped: Runs that were stopped before they were done, so that `measured` is too low; None where that cannot be.
        p95: 95th percentile of our runs, where they count queries: their tail is heavy; None elsewhere.
        difference_se: Measured less paper, in standard errors of the difference; None if one of them is unknown.
        reason: Why there is no run.
        note: What to know about the published number.
    """

    row: str
    column: str
    paper: float | None
    paper_std: float | None
    source: str | None
    trust: str | None
    measured: float | None = None
    std: float | None = None
    n: int = 0
    seconds: float | None = None
    stopped: int | None = None
    p95: float | None = None
    difference_se: float | None = None
    reason: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Curve:
    """The best so far over the seeds.

    Attributes:
        x: (p,) simulated seconds, queries, or parts of a budget.
        mean: (p,) test accuracy after 200 epochs of the best cell so far, in percent; or the share of a front.
        low: (p,) lower percentile of `BAND`.
        high: (p,) upper percentile of `BAND`.
    """

    x: Vector
    mean: Vector
    low: Vector
    high: Vector


@dataclass(frozen=True)
class Reproduction:
    """The outcome of a table.

    Attributes:
        table: Table that was measured.
        seeds: Number of searches of a row.
        entries: Entries, row by row.
        curves: Curves by (row, column); none for tables that search nothing.
        optima: The best test accuracy in the benchmark that a column can reach, in percent, by column; none for
            tables that search nothing.
        wall_s: Seconds that it took.
    """

    table: PaperTable
    seeds: int
    entries: tuple[Entry, ...]
    curves: dict[tuple[str, str], Curve]
    optima: dict[str, float]
    wall_s: float

    def to_json(self) -> dict[str, Any]:
        """The table and its rows as JSON values; curves are left out."""
        table = self.table
        about = {"table": table.name, "title": table.title, "paper": table.paper, "arxiv": table.arxiv}
        about |= {"where": table.table, "protocol": table.protocol.text}
        deviations = {row.name: row.deviation for row in table.rows if row.deviation}
        return {
            **about,
            "notes": list(table.notes),
            "deviations": deviations,
            "seeds": self.seeds,
            "wall_s": self.wall_s,
            "rows": [asdict(cell) for cell in self.entries],
        }
