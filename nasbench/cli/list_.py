"""list: what there is."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Json
from nasbench.cli.output import show
from nasbench_registry import Registry, UserError, one_of
from nasbench_registry.lazy import load

if TYPE_CHECKING:
    from nasbench.storage.run_folder import RunFolder

Row = dict[str, Any]


def _registered(registry: Registry[Any]) -> list[Row]:
    return [{"name": name, **registry.texts(name)} for name in registry]


def _spaces() -> list[Row]:
    from search_spaces import spaces

    return _registered(spaces)


def _controllers() -> list[Row]:
    from nasbench.supernet.differentiable.registry import named_controllers

    return _registered(named_controllers)


def _steps() -> list[Row]:
    from nasbench_compression import steps

    return _registered(steps)


def _backends() -> list[Row]:
    from nasbench_compression import backends
    from nasbench_compression.registry import why_no_backend

    return [row | {"why_unavailable": why_no_backend(row["name"])} for row in _registered(backends)]


def _evaluators() -> list[Row]:
    from nasbench.evaluators.registry import EVALUATORS, evaluators

    return [
        {"name": name}
        | (EVALUATORS.literals(name, ("summary",)) if name in EVALUATORS else _summary_of(evaluators.find(name)))
        for name in evaluators
    ]


def _datasets() -> list[Row]:
    from nasbench.data.registry import DATASETS, why_no_files

    return [
        {"name": name, **_first_line(DATASETS.docstring(name)), "why_unavailable": why_no_files(name)}
        for name in DATASETS
    ]


def _problems() -> list[Row]:
    from nasbench.problems.names import PROBLEMS

    rows = []
    for name in PROBLEMS:
        texts = PROBLEMS.literals(name, ("summary", "kind"))
        rows.append({"name": name, "summary": texts["summary"], "targets": texts["kind"]})
    return rows


def _tables() -> list[Row]:
    """The tables of papers that `nasbench reproduce` measures again."""
    from nasbench.tables.paper_table import load_paper_table, table_files
    from nasbench.tables.protocols import JointReplay, OneShot, SharedRanking, TrainedNetworks
    from nasbench.tables.sources import SOURCES

    rows = []
    for table in map(load_paper_table, table_files()):
        source = f"{table.paper}, arXiv {table.arxiv}" if table.arxiv else table.paper
        protocol = table.protocol
        needed = []
        if isinstance(protocol, TrainedNetworks | JointReplay | OneShot | SharedRanking):
            needed.append(protocol.why_unavailable())
        needed += [SOURCES[table.benchmark].why_unavailable()] if table.benchmark else []
        row: Row = {"name": table.name, "summary": table.title, "source": source}
        rows.append(row | {"why_unavailable": next(filter(None, needed), None)})
    return rows


def _devices() -> list[Row]:
    from nasbench.devices.registry import DEVICES

    rows = []
    for name in DEVICES:
        row = {"name": name, **DEVICES.literals(name, ("summary", "source", "missing"))}
        missing = row.pop("missing")
        rows.append(row | {"why_unavailable": load(missing)() if missing else None})
    return rows


def _predictors() -> list[Row]:
    from nasbench.latency.predictors import PREDICTORS

    return [{"name": name, **PREDICTORS.literals(name, ("summary", "source"))} for name in PREDICTORS]


def _metrics() -> list[Row]:
    from nasbench.objectives.metrics import METRICS

    return [
        {"name": name, "unit": metric.unit, "goal": metric.goal, "summary": metric.summary}
        for name, metric in METRICS.items()
    ]


def _rewards() -> list[Row]:
    from nasbench.objectives.reward import Reward

    return _named(Reward)


def _schedulers() -> list[Row]:
    from nasbench.search.config import SchedulerConfig

    return _named(SchedulerConfig)


def _named(union: Any) -> list[Row]:
    """Rows of the members of a union of sections that are told apart by their `name`."""
    members = get_args(get_args(union)[0])
    return [{"name": get_args(member.model_fields["name"].annotation)[0], **_summary_of(member)} for member in members]


def _summary_of(thing: Any) -> dict[str, str]:
    """The summary and the source in the first line of its docstring."""
    return _first_line(inspect.getdoc(thing) or "")


def _first_line(text: str) -> dict[str, str]:
    """The first line of a docstring, and the source that it names in brackets at its end."""
    line = text.partition("\n")[0].rstrip(".")
    named = re.fullmatch(r"(?P<summary>.*) \((?P<source>[^()]*)\)", line)
    return named.groupdict() if named else {"summary": line, "source": ""}


def _runs(folder: Path) -> list[Row]:
    """The runs below a folder, the latest first; of one that cannot be read, why."""
    from nasbench.storage.run_folder import RunFolder

    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the one that your runs are in: nasbench list runs FOLDER.")
    runs = []
    for place, folders, _ in os.walk(folder):
        if RunFolder(Path(place)).exists:
            runs.append(RunFolder(Path(place)))
            folders.clear()  # a baseline inside a run is a part of it
    return [_run(run) for run in sorted(runs, key=lambda run: (-run.config.stat().st_mtime, run.name))]


def _run(folder: RunFolder) -> Row:
    from nasbench.cli.status import run_status

    row: Row = {"run": folder.name}
    try:
        state = run_status(folder)
    except UserError as error:
        return row | {"status": str(error), "finished": None, "asked": None, "score": None, "best": None}
    best = state["best"] or {"scores": [None], "architecture": None}
    return row | {
        "status": state["status"],
        "finished": state["done"] + state["stopped"],
        "asked": state["asked"],
        "score": best["scores"][0],
        "best": best["architecture"],
    }


KINDS: dict[str, Callable[[], Iterable[Row]]] = {
    "spaces": _spaces,
    "controllers": _controllers,
    "evaluators": _evaluators,
    "schedulers": _schedulers,
    "metrics": _metrics,
    "rewards": _rewards,
    "steps": _steps,
    "backends": _backends,
    "problems": _problems,
    "data": _datasets,
    "datasets": _datasets,
    "devices": _devices,
    "predictors": _predictors,
    "tables": _tables,
}
RUNS = "runs"
NAMES = (*KINDS, RUNS)


def list_(
    kind: Annotated[
        str, typer.Argument(help=" | ".join(NAMES), show_default=False, autocompletion=lambda: list(NAMES))
    ],
    folder: Annotated[Path, typer.Argument(help="Folder in which runs are looked for.")] = Path("runs"),
    json: Json = False,
) -> None:
    """List what an experiment or a command may name, or the runs below a folder."""
    rows = _runs(folder) if one_of("kind", kind, NAMES) == RUNS else list(KINDS[kind]())
    table = Table(title=kind)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column("available" if column == "why_unavailable" else column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, row[column]) for column in columns))
    show(rows, table, as_json=json)


def _cell(column: str, value: Any) -> Text:
    """A value for people; not read as markup, which names of runs and architectures may look like."""
    if column == "why_unavailable":
        return Text(value or "yes")
    return Text("" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
