"""Rows of a table: a CSV or parquet file with one target column or several (see docs/data.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from nasbench.data.dataset import Data, Kind, check_division, make_data
from nasbench.data.given import encode_targets, with_missing_parts
from nasbench_registry import UserError, unknown
from nasbench_registry.files import user_path

MOST_CATEGORIES = 100
"""Largest number of categories of a column of texts; each becomes an input of its own."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def tabular(
    *,
    path: str | os.PathLike[str],
    target: str | Sequence[str],
    test_path: str | os.PathLike[str] | None = None,
    columns: Sequence[str] | None = None,
    val_share: float = 0.15,
    test_share: float = 0.15,
    split_seed: int = 0,
    kind: Kind | None = None,
) -> Data:
    """Numbers as they are, and an input of 0 or 1 for each text of a column of texts; all are then normalised.

    Args:
        path: File .csv, .tsv or .parquet, the first two also compressed (.csv.gz); the first line names the columns.
        target: Target column, or several columns of numbers.
        test_path: File with the same columns that tests; None takes a share of the rows.
        columns: Columns that are inputs; None takes all others.
        val_share: Share of the rows that validates.
        test_share: Share that tests, where no file does.
        split_seed: Random seed of the division.
        kind: Kind of the targets; None goes by their type: texts and whole numbers are classes, others are values.

    Raises:
        UserError: A file or a column is not there, a value is missing, or a column cannot be made numbers.
    """
    files = [user_path(path)] if test_path is None else [user_path(path), user_path(test_path)]
    name = f"tabular:{files[0].name}"
    check_division(name, val_share, test_share, split_seed)
    tables = [_read(file) for file in files]
    targets = [target] if isinstance(target, str) else list(target)
    input_columns = [str(column) for column in (columns if columns is not None else tables[0].columns)]
    input_columns = [column for column in input_columns if column not in targets]
    for file, table in zip(files, tables, strict=True):
        _check(file, table, [*targets, *input_columns])
    if not input_columns:
        raise UserError(f"{files[0]} has no column beside {', '.join(targets)}, so nothing is left as an input.")
    names, rows = _numbers(name, pd.concat([table[input_columns] for table in tables], ignore_index=True))
    raw_targets = [table[targets[0]].to_numpy() if len(targets) == 1 else table[targets].to_numpy() for table in tables]
    encoded_targets, classes = encode_targets(name, raw_targets, kind)
    lengths = [len(table) for table in tables]
    parts = {
        part: (chunk, part_targets)
        for part, chunk, part_targets in zip(
            ("train", "test"), np.split(rows, np.cumsum(lengths)[:-1]), encoded_targets, strict=False
        )
    }
    train, val, test = with_missing_parts(parts, val_share, test_share, split_seed)
    return make_data(name, train, val, test, classes, columns=names)


def table_files(path: str | os.PathLike[str], test_path: str | os.PathLike[str] | None = None) -> list[Path]:
    """The files that `tabular` reads; UserError if one is not there."""
    files = [user_path(file) for file in (path, test_path) if file is not None]
    for file in files:
        if not file.is_file():
            raise UserError(f"there is no table {file}; give a .csv, .tsv or .parquet file.")
    return files


def _read(file: Path) -> pd.DataFrame:
    suffix = next((suffix for suffix in file.suffixes if suffix in (*SEPARATORS, ".parquet")), None)
    if suffix is None:
        raise UserError(f"{file} is no .csv, .tsv or .parquet file; save the table as one of these.")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(file)
        return pd.read_csv(file, sep=SEPARATORS[suffix])
    except ImportError:
        raise UserError(f"{file} is a parquet file, which needs the package pyarrow; install it, or use CSV.") from None
    except (OSError, ValueError) as error:  # pandas raises subclasses of ValueError for what it cannot parse
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(f"{file} is not a table that can be read ({why}); check that it is there and whole.") from None


def _check(file: Path, table: pd.DataFrame, needed: Sequence[str]) -> None:
    for column in needed:
        if column not in table.columns:
            raise unknown("column", column, map(str, table.columns), where=f"of {file}")
    lost = table[list(needed)].isna().sum()
    lost = lost[lost > 0]
    if len(lost):
        counts = ", ".join(f"{column} ({count:,})" for column, count in lost.items())
        raise UserError(
            f"{file} has rows without a value in {counts}, of {len(table):,} rows; fill these, or leave the rows or "
            f"the columns out."
        )


def _numbers(name: str, table: pd.DataFrame) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The names of the inputs and (n, inputs) numbers."""
    names: list[str] = []
    blocks: list[npt.NDArray[np.float32]] = []
    for column, values in table.items():
        if pd.api.types.is_numeric_dtype(values.dtype):  # booleans, too
            names.append(str(column))
            blocks.append(values.to_numpy(dtype=np.float32)[:, None])
            continue
        categories = sorted(map(str, values.unique()))
        if len(categories) > MOST_CATEGORIES:
            raise UserError(
                f"column {column!r} of data set {name!r} has {len(categories):,} different texts, such as "
                f"{categories[0]!r}; leave it out by `columns`, or turn it into numbers or at most {MOST_CATEGORIES} "
                f"categories."
            )
        names += [f"{column}={category}" for category in categories]
        blocks.append((values.astype(str).to_numpy()[:, None] == np.array(categories)).astype(np.float32))
    return names, np.concatenate(blocks, axis=1)
