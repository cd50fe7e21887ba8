"""The common part of search and resume: a run folder is held while its search goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from nasbench.cli.output import err, show, tell
from nasbench.evaluators.outcomes import FAILURES

if TYPE_CHECKING:
    from nasbench.storage.run_folder import RunFolder


def run_to_end(folder: RunFolder, json: bool, begin: Callable[[], None], accept_changed_data: bool = False) -> None:
    """Hold the folder, begin, and search to the end."""
    from nasbench.experiment.build import prepare
    from nasbench.experiment.run import run_search
    from nasbench.experiment.stored import stored_experiment
    from nasbench.report import result_table, units
    from nasbench.report.progress import SearchProgress
    from nasbench.storage.optuna_storage import StorageLost

    try:
        with folder.locked():
            begin()
            tell(f"run folder: {folder.name}")
            with SearchProgress() as progress:
                prepared = prepare(stored_experiment(folder))
                report = run_search(prepared, folder, progress, accept_changed_data=accept_changed_data)
    except KeyboardInterrupt:
        err.print(f"stopped; nothing that finished is lost. Go on with: nasbench resume {folder.name}", soft_wrap=True)
        raise typer.Exit(1) from None
    except StorageLost as error:
        tell(f"{error}; nothing that it has is lost. Go on when it is back with: nasbench resume {folder.name}")
        raise typer.Exit(1) from None
    show(report, result_table(report), as_json=json)
    err.print(f"status: {report['status']}", soft_wrap=True, highlight=False)
    err.print(f"report: {folder.report_html.resolve()}", soft_wrap=True, highlight=False)
    failed_stages = [
        f"survivor {survivor['rank']}: the step to {stage['name']}: {stage['reason']}"
        for survivor in report["survivors"]
        for stage in survivor["stages"]
        if stage.get("problem") == "failed"
    ]
    for text in failed_stages:
        tell(text)
    if _came_to_nothing(report):
        failed = [candidate for candidate in report["candidates"] if candidate["status"] in (*FAILURES, "infeasible")]
        if failed:
            last = max(failed, key=lambda candidate: float(candidate["finished_s"]))
            text = f"last failure: candidate {last['id']} {units.outcome(last['status'])}: {last['error']}"
            err.print(text, soft_wrap=True, highlight=False)
        raise typer.Exit(1)
    if failed_stages:
        raise typer.Exit(1)


def _came_to_nothing(report: Mapping[str, Any]) -> bool:
    """Whether no candidate is done, or the search ended because more failed than search.max_failures."""
    if not any(row["count"] for row in report["outcomes"] if row["kind"] == "done"):
        return True
    counted = sum(row["count"] for row in report["outcomes"] if row["counts"])
    allowed: int = report["experiment"]["search"]["max_failures"]
    return bool(report["status"] != "complete" and counted > allowed)
