"""compare: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Json, import_from
from nasbench.cli.output import err, show
from nasbench_registry.files import user_path


def compare(
    run: Annotated[list[str], typer.Argument(help="Folders of runs; the first way of searching is the reference.")],
    html: Annotated[Path | None, typer.Option(help="Also write a page with curves and fronts.")] = None,
    json: Json = False,
) -> None:
    """Put runs of one experiment side by side: hypervolume over time, and which way of searching was better."""
    from nasbench.report.comparison import compare_runs, read_run
    from nasbench.storage.run_folder import RunFolder

    runs = []
    for name in run:
        folder = RunFolder(user_path(name)).require()
        import_from(folder.code_folder())
        runs.append(read_run(folder))
    comparison = compare_runs(runs)
    if html is not None:
        from nasbench.report.comparison_page import write_comparison_page

        write_comparison_page(comparison, html)
        err.print(f"page: {html.resolve()}", soft_wrap=True, highlight=False)
    show(comparison, _shown(comparison), as_json=json)


def _shown(comparison: dict[str, Any]) -> Group:
    names = [objective["metric"] for objective in comparison["objectives"]]
    table = Table(title=f"after {comparison['common_seconds']:,.0f} s of search")
    for column in ("search", "runs", "hypervolume", "candidates", "trained", *(f"best {name}" for name in names)):
        table.add_column(column, justify="left" if column == "search" else "right")
    for group in comparison["groups"]:
        volume, runs = group["hypervolume"], group["runs"]
        spread = "" if volume["std"] is None else f" +- {volume['std']:.4f}"
        best = []
        for objective in comparison["objectives"]:
            values = [
                candidate["metrics"][objective["metric"]]
                for compared_run in runs
                for candidate in compared_run["front"]
            ]
            pick = max if objective["goal"] == "max" else min
            best.append(f"{pick(values):,.4g}" if values else "")
        table.add_row(
            group["name"],
            str(volume["n"]),
            f"{volume['mean']:.4f}{spread}",
            f"{sum(compared_run['candidates'] for compared_run in runs) / len(runs):.1f}",
            f"{sum(compared_run['trained'] for compared_run in runs) / len(runs):.1f}",
            *best,
        )
    return Group(table, Text("\n".join(pair["statement"] for pair in comparison["comparisons"])))
