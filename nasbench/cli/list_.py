"""list: what there is."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from rich.table import Table

from controllers import controllers
from nasbench.cli.options import Json
from nasbench.cli.output import show
from nasbench.data import DATASETS
from nasbench.tables.paper_table import load_paper_table, table_files
from nasbench.tables.protocols import Compression
from nasbench.tables.sources import SOURCES
from nasbench_compression import backends, steps
from nasbench_registry import Registry, one_of
from search_spaces import spaces


def _registered(registry: Registry[Any]) -> list[dict[str, Any]]:
    rows = []
    for name in registry:
        cls = registry.find(name)
        row = {"name": name, "summary": getattr(cls, "summary", ""), "source": getattr(cls, "source", "")}
        if hasattr(cls, "why_unavailable"):
            row["why_unavailable"] = cls.why_unavailable()
        rows.append(row)
    return rows


def _datasets() -> list[dict[str, Any]]:
    rows = []
    for name, load in DATASETS.items():
        module = inspect.getdoc(sys.modules[load.__module__]) or ""
        summary, _, source = module.splitlines()[0].rstrip(".").partition(" (")
        rows.append({"name": name, "summary": summary, "source": source.rstrip(")")})
    return rows


def _tables() -> list[dict[str, Any]]:
    """The tables of papers that `nasbench reproduce` measures again."""
    from nasbench.experiment.reproduce.compression_rows import compression_missing

    rows = []
    for name in table_files():
        table = load_paper_table(name)
        source = f"{table.paper}, arXiv {table.arxiv}" if table.arxiv else table.paper
        if isinstance(table.protocol, Compression):
            missing = compression_missing(table.protocol)
        else:
            missing = SOURCES[table.benchmark].why_unavailable()
        rows.append({"name": name, "summary": table.title, "source": source, "why_unavailable": missing})
    return rows


def _devices() -> list[dict[str, Any]]:
    from nasbench.devices.registry import DEVICES

    return [
        {"name": name, "summary": kind.summary, "source": kind.source, "why_unavailable": kind.why_missing()}
        for name, kind in DEVICES.items()
    ]


def _predictors() -> list[dict[str, Any]]:
    from nasbench.latency.predictors import PREDICTORS

    return [{"name": name, "summary": kind.summary, "source": kind.source} for name, kind in PREDICTORS.items()]


KINDS: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
    "spaces": lambda: _registered(spaces),
    "controllers": lambda: _registered(controllers),
    "steps": lambda: _registered(steps),
    "backends": lambda: _registered(backends),
    "datasets": _datasets,
    "devices": _devices,
    "predictors": _predictors,
    "tables": _tables,
}


def list_(kind: Annotated[str, typer.Argument(help=" | ".join(KINDS), show_default=False)], json: Json = False) -> None:
    """List what an experiment or a command may name."""
    rows = list(KINDS[one_of("kind", kind, KINDS)]())
    table = Table(title=kind)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column("available" if column == "why_unavailable" else column, overflow="fold")
    for row in rows:
        table.add_row(
            *(row[column] or "yes" if column == "why_unavailable" else str(row[column]) for column in columns)
        )
    show(rows, table, as_json=json)
