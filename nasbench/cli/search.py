"""search, resume, status, report: what is done with an experiment and its run folder."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nasbench.cli.output import err, show
from nasbench.cli.spaces import import_from
from nasbench.config import load_experiment
from nasbench.study import RunFolder
from nasbench.study.run_folder import to_yaml

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Run = Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]


def search(
    experiment: Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)],
    run: Annotated[Path | None, typer.Option(help="Folder of the run [runs/NAME-TIME].", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the seed of the file.", show_default=False)] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", help="key=value, dotted: -o training.epochs=2")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan, run nothing.")] = False,
    json: Json = False,
) -> None:
    """Run an experiment: search, compress the survivors, report."""
    asked = load_experiment(experiment, override or [], seed)
    code_folder = experiment.resolve().parent
    import_from(code_folder)
    if dry_run:
        _plan(asked, json)
        return
    from nasbench.search import prepare

    prepare(asked)  # before a folder is made
    folder = RunFolder(run or Path("runs") / f"{asked.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.start(asked, code_folder, shlex.join(["nasbench", *sys.argv[1:]]))
    _run(folder, json)


def resume(run: Run, json: Json = False) -> None:
    """Go on with a search that was interrupted or killed."""
    folder = RunFolder(run).require()
    import_from(folder.code_folder())
    _run(folder, json)


def status(run: Run, json: Json = False) -> None:
    """Show how far a run is."""
    folder = RunFolder(run).require()
    import_from(folder.code_folder())
    from nasbench.report import build_report

    report = build_report(folder)
    counts = {
        name: sum(candidate["status"] == name for candidate in report["candidates"])
        for name in ("done", "running", "failed", "infeasible")
    }
    scored = [candidate for candidate in report["candidates"] if candidate["compared"]]
    best = max(scored, key=lambda candidate: candidate["scores"], default=None)
    active = folder.is_locked()
    state = "running" if active else report["status"]
    told = {
        "run": str(run),
        "status": state,
        "active": active,
        "asked": report["experiment"]["search"]["candidates"],
        **counts,
        "front": report["front"],
        "survivors": len(report["survivors"]),
        "best": best,
    }
    table = Table(title=f"Run {run}", show_header=False)
    for key, value in told.items():
        if key == "best" and best is not None:
            value = f"candidate {best['id']}: score {best['scores'][0]:.3f}, {best['architecture']}"
        table.add_row(key, str(value))
    show(told, table, as_json=json)


def report(run: Run, json: Json = False) -> None:
    """Write report.json, report.html and trials.csv again from what the run holds."""
    folder = RunFolder(run).require()
    import_from(folder.code_folder())
    from nasbench.report import survivors_table, write_report

    written = write_report(folder)
    err.print(f"report: {folder.report_html.resolve()}", soft_wrap=True)
    show(written, survivors_table(written), as_json=json)


def _run(folder: RunFolder, json: bool) -> None:
    from nasbench.cli.progress import SearchProgress
    from nasbench.report import survivors_table
    from nasbench.search import run_search

    err.print(f"run folder: {folder.path}", soft_wrap=True, highlight=False)
    try:
        with folder.locked(), SearchProgress() as progress:
            written = run_search(folder.experiment(), folder, progress)
    except KeyboardInterrupt:
        err.print(f"stopped; nothing that finished is lost. Go on with: nasbench resume {folder.path}", soft_wrap=True)
        raise typer.Exit(1) from None
    show(written, survivors_table(written), as_json=json)
    err.print(f"status: {written['status']}", soft_wrap=True, highlight=False)
    err.print(f"report: {folder.report_html.resolve()}", soft_wrap=True, highlight=False)
    failed = [candidate for candidate in written["candidates"] if candidate["status"] == "failed"]
    done = any(candidate["status"] == "done" for candidate in written["candidates"])
    if not done or len(failed) > written["experiment"]["search"]["max_failures"]:
        if failed:
            err.print(f"last failure: {failed[-1]['error']}", soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(1)


def _plan(asked: Any, json: bool) -> None:
    from nasbench.search import prepare

    prepared = prepare(asked)
    plan = {
        "experiment": asked.model_dump(mode="json"),
        "space_size": prepared.space.size,
        "candidates": asked.search.candidates,
        "images": {part: len(getattr(prepared.data, part)) for part in ("train", "val", "test")},
        "input_shape": list(prepared.data.task.input_shape),
        "classes": prepared.data.task.classes,
        "stages": ["searched", *(step.stage for step in prepared.recipe.steps)],
    }
    text = (
        f"{to_yaml(asked)}\n"
        f"# {plan['candidates']} candidates of {prepared.space.size:,} architectures; images {plan['images']}; "
        f"stages {', '.join(plan['stages'])}. Nothing was run."
    )
    show(plan, text, as_json=json)
