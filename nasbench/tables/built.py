"""A table that was built here: networks, and recipes on them, each measured once, in one parquet file.

The file holds its card, too, so that the two are written together or not at all; the JSON beside it is for people.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.objectives.metrics import METRICS
from nasbench.storage.files import of_file, write_json, written_aside
from nasbench_registry import UserError
from search_spaces import DecisionSpace

if TYPE_CHECKING:
    import pandas as pd  # to import it, and pyarrow, takes half a second, and most searches read no table

FORMAT = 1
CARD = b"nasbench.card"
KEYS = ("format", "space", "decisions", "recipe", "metrics", "experiment", "seconds")
SECONDS = ("training_seconds", "recipe_seconds", "training_cpu_seconds", "recipe_cpu_seconds")
ABOUT = ("network", "recipe", "picks", "status", "error")
"""Columns of a row beside its metrics and seconds."""
UNITS = ("_ms", "_us", "_s", "_bytes", "_kb", "_mb", "_pct", "_mj", "_per_s", "_seconds")
"""Units at the end of metrics' names."""


@dataclass(frozen=True)
class BuiltTable:
    """Rows of measurements, with the card that says how they were made.

    Attributes:
        path: Path of the parquet file.
        card: Description of the table: `space`, `decisions`, `recipe`, `metrics` (unit, goal, protocol of each),
            `experiment`, `seconds`, and with what it was built.
        rows: One row for each architecture: `ABOUT`, `SECONDS`, and a column for each metric; NaN where one is not
            known.
    """

    path: Path
    card: Mapping[str, Any]
    rows: pd.DataFrame

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its metrics."""
        return tuple(self.card["metrics"])

    def require_space(self, space: DecisionSpace) -> None:
        """Raise UserError if the rows are of another space."""
        space_name = self.card["space"]["name"]
        if space.name != space_name:
            raise UserError(
                f"table {self.path} holds rows of space {space_name!r}, not of {space.name!r}; search that space."
            )
        decisions = described(space)
        for stored, requested in zip(self.card["decisions"], decisions, strict=False):
            if stored != requested:
                raise UserError(
                    f"table {self.path} was built with decision {stored['name']} of {', '.join(stored['options'])}, "
                    f"and here it is {requested['name']} of {', '.join(requested['options'])}; write space and recipe "
                    f"as in the experiment of the table's card."
                )
        if len(self.card["decisions"]) != len(decisions):
            raise UserError(
                f"table {self.path} was built with {len(self.card['decisions'])} decisions, and here there are "
                f"{len(decisions)}; write space and recipe as in the experiment of the table's card."
            )

    def require_metric(self, name: str) -> None:
        """Raise UserError if the table has no such metric, with its unit if it has the same in another one."""
        if name in self.metrics:
            return
        stem = _stem(name)
        alike = next((metric for metric in self.metrics if stem is not None and _stem(metric) == stem), None)
        if alike is not None:
            raise UserError(f"table {self.path} gives {alike}, in other units than {name!r}; ask for {alike}.")
        raise UserError(f"table {self.path} gives no {name!r}; it has {', '.join(self.metrics)}.")


def _stem(name: str) -> str | None:
    """The name of a metric without its unit; None if it has none."""
    return next((name.removesuffix(unit) for unit in UNITS if name.endswith(unit)), None)


def described(space: DecisionSpace) -> list[dict[str, Any]]:
    """The decisions of a space, with their options as text: equal for spaces whose picks mean the same."""
    return [
        {"name": decision.name, "options": [decision.text(pick) for pick in range(len(decision.options))]}
        for decision in space.decisions
    ]


def require_parquet(path: Path) -> None:
    """Raise UserError if the name of a table's file does not end in .parquet; its card would have the same name."""
    if path.suffix != ".parquet":
        raise UserError(f"a table is a parquet file, and --out is {path}; name it {path.with_suffix('.parquet')}.")


def write_table(path: Path, rows: pd.DataFrame, card: Mapping[str, Any]) -> BuiltTable:
    """Write a table and its card, together or not at all.

    Args:
        path: File to write, ending in .parquet; the card lies beside it, ending in .json.
        rows: Rows of measurements, see `BuiltTable`.
        card: Description of the table, see `BuiltTable`.

    Raises:
        UserError: The file has another ending.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_parquet(path)
    written = pa.Table.from_pandas(_tidy(rows), preserve_index=False)
    text = json.dumps(card, sort_keys=True)
    written = written.replace_schema_metadata({**(written.schema.metadata or {}), CARD: text.encode()})
    with written_aside(path) as aside:
        pq.write_table(written, aside, compression="zstd", use_dictionary=True)
    write_json(path.with_suffix(".json"), {**card, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    return BuiltTable(path, card, rows)


def _tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with whole numbers as such, and the others to six digits, which is finer than any of their noise."""
    tidy = rows.copy()
    for name in tidy.columns:
        if name in ABOUT:
            continue
        column = tidy[name].astype(float)
        whole = bool(column.notna().all() and (column == column.round()).all() and column.abs().max() < 2**53)
        tidy[name] = column.astype("int64") if whole else column.map(lambda value: float(f"{value:.6g}"))
    return tidy


def read_table(path: Path) -> BuiltTable:
    """Read a table; UserError if there is none, or the file is none of ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with of_file(path):
            read = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"there is no table {path}; build it with nasbench build-table.") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read as a parquet file: {' '.join(str(error).split())[:200]}.") from None
    try:
        card = json.loads((read.schema.metadata or {})[CARD])
    except (KeyError, ValueError):
        raise UserError(f"{path} holds no card of nasbench build-table; name a table that it built.") from None
    missing = [key for key in KEYS if key not in card]
    if missing or card["format"] != FORMAT:
        fault = f"lacks {', '.join(missing)}" if missing else f"has format {card['format']}, not {FORMAT}"
        raise UserError(f"the card of {path} {fault}; build the table again with this version.")
    columns = (*ABOUT, "recipe_seconds", *card["metrics"])
    absent = [name for name in columns if name not in read.column_names]
    if absent:
        raise UserError(f"table {path} lacks column {', '.join(absent)}; build it again, or mend its card.")
    for name, about in card["metrics"].items():
        metric = METRICS.get(name)
        if metric is not None and about.get("unit") != metric.unit:
            raise UserError(
                f"table {path} gives {name} in {about.get('unit')!r}, and it is {metric.unit!r} here; convert the "
                f"column and its card."
            )
    return BuiltTable(path, card, read.to_pandas())


MUST_AGREE = ("space", "decisions", "recipe", "metrics", "training", "problem", "data", "device", "seed", "seconds")


def merge(tables: Sequence[BuiltTable]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of several parts of one table, and their card.

    Of a row that several parts hold, that of the first part counts: nothing is averaged in silence. The noise of parts
    whose rows were repeated is put together by the number of these rows.

    Raises:
        UserError: They were not built by the same experiment.
    """
    import pandas as pd

    first = tables[0]
    for other in tables[1:]:
        for key in MUST_AGREE:
            if other.card.get(key) != first.card.get(key):
                raise UserError(
                    f"{other.path} and {first.path} differ in {key}, so that they are no parts of one table; merge "
                    f"parts that the same experiment built."
                )
    rows = pd.concat([table.rows for table in tables], ignore_index=True)
    rows = rows.drop_duplicates(subset=["network", "recipe"], keep="first", ignore_index=True)
    built = [entry for table in tables for entry in table.card.get("built", ())]
    card = dict(first.card) | counted(rows) | {"built": built}
    noises = [table.card["noise"] for table in tables if "noise" in table.card]
    return rows, card | ({"noise": _pooled(noises)} if noises else {})


def _pooled(noises: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The noise of several parts of a table, see `nasbench.experiment.build_table.noise_between`."""
    metrics: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(name for noise in noises for name in noise["metrics"]):
        parts = [(noise["rows"], noise["metrics"][name]) for noise in noises if name in noise["metrics"]]
        metrics[name] = {}
        for key in ("std", "relative"):
            known = all(part[key] is not None for _, part in parts)
            squares = sum(rows * part[key] ** 2 for rows, part in parts) if known else 0.0
            metrics[name][key] = math.sqrt(squares / sum(rows for rows, _ in parts)) if known else None
    return {"rows": sum(noise["rows"] for noise in noises), "what": noises[0]["what"], "metrics": metrics}


def counted(rows: pd.DataFrame) -> dict[str, int]:
    """How many networks, recipes and rows there are."""
    return {"networks": int(rows["network"].nunique()), "recipes": int(rows["recipe"].nunique()), "rows": len(rows)}
