"""The tabular benchmarks by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from nasbench.tables.nasbench201 import load_nasbench201
from nasbench.tables.table import Table
from nasbench_registry import one_of

TABLES: dict[str, Callable[[], Table]] = {"nasbench201": load_nasbench201}


@functools.lru_cache(maxsize=2)
def load_table(name: str) -> Table:
    """The table called `name`; kept in memory, so a process reads it once.

    Raises:
        UserError: The name is unknown, or the data are not there.
    """
    return TABLES[one_of("table", name, TABLES)]()
