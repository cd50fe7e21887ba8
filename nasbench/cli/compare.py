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

    read = []
    for name in run:
        folder = RunFolder(user_path(name)).require()
        import_from(folder.code_folder())
        read.append(read_run(folder))
    found = compare_runs(read)
    if html is not None:
        from nasbench.report.comparison_page import write_comparison_page

        write_comparison_page(found, html)
        err.print(f"page: {html.resolve()}", soft_wrap=True, highlight=False)
    show(found, _shown(found), as_json=json)


def _shown(found: dict[str, Any]) -> Group:
    names = [each["metric"] for each in found["objectives"]]
    table = Table(title=f"after {found['common_seconds']:,.0f} s of search")
    for column in ("search", "runs", "hypervolume", "candidates", "trained", *(f"best {name}" for name in names)):
        table.add_column(column, justify="left" if column == "search" else "right")
    for group in found["groups"]:
        volume, runs = group["hypervolume"], group["runs"]
        spread = "" if volume["std"] is None else f" +- {volume['std']:.4f}"
        best = []
        for objective in found["objectives"]:
            values = [each["metrics"][objective["metric"]] for one in runs for each in one["front"]]
            pick = max if objective["goal"] == "max" else min
            best.append(f"{pick(values):,.4g}" if values else "")
        table.add_row(
            group["name"],
            str(volume["n"]),
            f"{volume['mean']:.4f}{spread}",
            f"{sum(one['candidates'] for one in runs) / len(runs):.1f}",
            f"{sum(one['trained'] for one in runs) / len(runs):.1f}",
            *best,
        )
    return Group(table, Text("\n".join(each["statement"] for each in found["comparisons"])))
