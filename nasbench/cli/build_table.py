"""build-table: networks, and recipes on them, each measured once and kept for searches that look them up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from nasbench.cli.options import Json, Override, import_from
from nasbench.cli.output import resumable, show, tell, typed
from nasbench_registry import UserError

if TYPE_CHECKING:
    from nasbench.tables.built import BuiltTable


def build_table(
    experiment: Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The table, a file ending in .parquet.", show_default=False)],
    networks: Annotated[
        int | None, typer.Option(min=1, help="Networks of the space, drawn without replacement.", show_default=False)
    ] = None,
    recipes: Annotated[str, typer.Option(help="Recipes of each network: all, or a number, drawn once.")] = "all",
    first: Annotated[int, typer.Option(min=0, help="Networks to leave out at the beginning, for another part.")] = 0,
    repeat: Annotated[
        int, typer.Option(min=0, help="Rows to measure a second time; the card says how far they differ.")
    ] = 0,
    merge: Annotated[
        list[Path] | None,
        typer.Option(help="A part that was built before; give several. Nothing is measured.", show_default=False),
    ] = None,
    override: Override = None,
    json: Json = False,
) -> None:
    """Measure networks, and recipes on them, once each, into a table that searches look up; resumable."""
    from nasbench.tables.built import merge as merge_tables, read_table, write_table

    if merge:
        if networks is not None or first or repeat or recipes != "all":
            raise UserError(
                "--merge puts parts together and measures nothing; leave out --networks, --recipes, --first and "
                "--repeat."
            )
        rows, card = merge_tables([read_table(part) for part in merge])
        machines = sorted({str(entry["machine"]) for entry in card["built"]})
        if len(machines) > 1:
            tell(
                f"warning: the parts were measured on {' and '.join(machines)}, whose latencies and seconds do not "
                f"compare with each other."
            )
        _show(write_table(out, rows, card), json)
        return
    if networks is None:
        raise UserError("how many networks shall be measured? Give --networks, or --merge with the parts of a table.")
    if recipes != "all" and not (recipes.isdecimal() and int(recipes) > 0):
        raise UserError(f"--recipes is {recipes!r}; give all, or a number from 1.")
    from nasbench.experiment.build_table import build_table as build
    from nasbench.experiment.loading import load_experiment
    from nasbench.report.progress import SearchProgress

    loaded_experiment = load_experiment(experiment, override or [])
    code_folder = experiment.resolve().parent
    import_from(code_folder)
    with resumable(), SearchProgress() as progress:
        built = build(
            loaded_experiment,
            out,
            networks=networks,
            recipes=None if recipes == "all" else int(recipes),
            first=first,
            repeat=repeat,
            code_folder=code_folder,
            command=typed(),
            callback=progress,
        )
    _show(built, json)


def _show(built: BuiltTable, json: bool) -> None:
    rows = built.rows
    by_status = {str(status): int(count) for status, count in rows["status"].value_counts().items()}
    result: dict[str, Any] = {
        "table": str(built.path),
        "networks": built.card["networks"],
        "networks_with_all_recipes": int((rows["network"].value_counts() == built.card["recipes"]).sum()),
        "recipes": built.card["recipes"],
        "rows": len(rows),
        "outcomes": by_status,
        "bytes": built.path.stat().st_size,
        "metrics": list(built.metrics),
        "training_seconds": float(rows.drop_duplicates("network")["training_seconds"].sum()),
        "recipe_seconds": float(rows["recipe_seconds"].sum()),
    }
    table = Table(title=str(built.path))
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if name not in ("table", "outcomes", "metrics"):
            table.add_row(name.replace("_", " "), f"{value:,.0f}")
    for status, count in by_status.items():
        table.add_row(f"rows {status}", f"{count:,}")
    show(result, table, as_json=json)
