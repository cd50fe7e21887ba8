"""search, resume, report: what is done with an experiment and its run folder."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench.cli.output import Json, err, show, tell
from nasbench.cli.spaces import import_from
from nasbench.evaluators.outcomes import FAILURES
from nasbench.experiment.loading import load_experiment
from nasbench.storage.optuna_storage import StorageLost
from nasbench.storage.run_folder import RunFolder, to_yaml

if TYPE_CHECKING:
    from nasbench.experiment.experiment import Experiment
    from nasbench.experiment.plan import Estimate

Override = Annotated[list[str] | None, typer.Option("-o", "--override", help="key=value, dotted: -o training.epochs=2")]
Run = Annotated[str, typer.Argument(help="The folder of a run, or its URL.", show_default=False)]


def search(
    experiment: Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)],
    run: Annotated[
        str | None, typer.Option(help="Folder of the run, or a URL [runs/NAME-TIME].", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the seed of the file.", show_default=False)] = None,
    override: Override = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, estimate hours and disk, keep nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Run an experiment: search, compress the survivors, report."""
    asked = load_experiment(experiment, override or [], seed)
    code_folder = experiment.resolve().parent
    import_from(code_folder)
    if dry_run:
        _plan(asked, json)
        return
    from nasbench.experiment.build import prepare
    from nasbench.experiment.doubts import doubts
    from nasbench.experiment.stored import start_run

    prepared = prepare(asked)  # before a folder is made
    for doubt in doubts(asked, prepared.space):
        tell(f"warning: {doubt}")
    folder = RunFolder(Path(run or f"runs/{asked.name}-{time.strftime('%Y%m%d-%H%M%S')}").expanduser())
    command = shlex.join(["nasbench", *sys.argv[1:]])
    _run(folder, json, lambda: start_run(folder, asked, code_folder, command))


def resume(
    run: Run,
    override: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", help="key=value of executor, ray, search, outcomes, checkpoints, ..."),
    ] = None,
    json: Json = False,
) -> None:
    """Go on with a search that was interrupted or killed; -o changes where it runs and when it ends."""
    from nasbench.experiment.stored import change_run

    folder = RunFolder(Path(run).expanduser()).require()
    import_from(folder.code_folder())
    _run(folder, json, lambda: change_run(folder, override) if override else None)


def report(run: Run, json: Json = False) -> None:
    """Write report.json, report.html and trials.csv again from what the run holds."""
    folder = RunFolder(Path(run).expanduser()).require()
    import_from(folder.code_folder())
    from nasbench.report import survivors_table, write_report

    written = write_report(folder)
    err.print(f"report: {folder.report_html.resolve()}", soft_wrap=True)
    show(written, survivors_table(written), as_json=json)


def _run(folder: RunFolder, json: bool, begin: Callable[[], None]) -> None:
    """Hold the folder, begin, and search to the end."""
    from nasbench.experiment.build import prepare
    from nasbench.experiment.run import run_search
    from nasbench.experiment.stored import stored_experiment
    from nasbench.report import survivors_table, units
    from nasbench.report.progress import SearchProgress

    try:
        with folder.locked():
            begin()
            tell(f"run folder: {folder.name}")
            with SearchProgress() as progress:
                written = run_search(prepare(stored_experiment(folder)), folder, progress)
    except KeyboardInterrupt:
        err.print(f"stopped; nothing that finished is lost. Go on with: nasbench resume {folder.name}", soft_wrap=True)
        raise typer.Exit(1) from None
    except StorageLost as error:
        tell(f"{error}; nothing that it has is lost. Go on when it is back with: nasbench resume {folder.name}")
        raise typer.Exit(1) from None
    show(written, survivors_table(written), as_json=json)
    err.print(f"status: {written['status']}", soft_wrap=True, highlight=False)
    err.print(f"report: {folder.report_html.resolve()}", soft_wrap=True, highlight=False)
    if _came_to_nothing(written):
        failed = [each for each in written["candidates"] if each["status"] in (*FAILURES, "infeasible")]
        if failed:
            last = max(failed, key=lambda each: float(each["finished_s"]))
            text = f"last failure: candidate {last['id']} {units.outcome(last['status'])}: {last['error']}"
            err.print(text, soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(1)


def _came_to_nothing(written: Mapping[str, Any]) -> bool:
    """Whether no candidate is done, or the search ended because more failed than search.max_failures."""
    if not any(row["count"] for row in written["outcomes"] if row["kind"] == "done"):
        return True
    counted = sum(row["count"] for row in written["outcomes"] if row["counts"])
    allowed: int = written["experiment"]["search"]["max_failures"]
    return bool(written["status"] != "complete" and counted > allowed)


def _plan(asked: Any, json: bool) -> None:
    from nasbench.experiment.build import prepare
    from nasbench.experiment.plan import estimate

    prepared = prepare(asked)
    err.print("training two pilots for a few seconds ...", highlight=False)
    made = estimate(asked, prepared)
    plan = {
        "experiment": asked.model_dump(mode="json"),
        "space_size": prepared.space.size,
        "candidates": asked.search.candidates,
        "images": {part: len(getattr(prepared.data, part)) for part in ("train", "val", "test")},
        "input_shape": list(prepared.data.task.input_shape),
        "classes": prepared.data.task.classes,
        "stages": ["searched", *dict.fromkeys(step.stage for each in prepared.recipes() for step in each.steps)],
        "estimate": made.to_json(),
    }
    if json:
        show(plan, "", as_json=True)
        return
    # Not through rich, which would break lines: the output is valid YAML.
    sys.stdout.write(to_yaml(asked).rstrip("\n") + "\n\n")
    for line in (
        f"{plan['candidates']:,} candidates of {prepared.space.size:,} architectures",
        f"images {plan['images']}",
        f"stages {', '.join(plan['stages'])}",
        *estimate_lines(asked, made),
    ):
        sys.stdout.write(f"# {line}\n")


def estimate_lines(asked: Experiment, made: Estimate) -> list[str]:
    """What the dry run says about time, disk and machine, for people."""
    from nasbench.report.units import count, duration

    device, pilots = made.device, made.pilots

    def row(name: str, hours: float, how: str) -> str:
        return f"  {name:<12} {duration(3600 * hours):>8}  {how}"

    lines = [
        f"estimate, from {len(pilots)} pilot{'s' if len(pilots) > 1 else ''} of "
        f"{' and '.join(count(pilot.macs) for pilot in pilots)} MACs that were trained for "
        f"{duration(made.trained_seconds)}; nothing was kept, and no candidate was run:"
    ]
    if made.calibration_hours:
        lines.append(row("calibration", made.calibration_hours, f"{asked.device.samples} architectures measured"))
    each = f"{asked.search.candidates:,} candidates x {duration(made.seconds_per_candidate)}"
    lines.append(row("search", made.search_hours, f"{each}, {asked.executor.workers} at a time"))
    if made.compression_hours:
        lines.append(row("compression", made.compression_hours, f"{asked.survivor_count} survivors"))
    lines.append(row("in all", made.total_hours, ""))
    lines.append(f"  {'disk':<12} {_disk(made.disk_gb):>8}")
    machine = f"{device['processor']}, {device['cores']} cores"
    if device["gpu"]:
        machine += f"; {device['gpu']}"
    machine += f"; {device['workers']} worker(s) with {device['threads']} thread(s) each"
    if device["runtime"]:
        machine += f"; latency on {device['runtime']}"
    lines.append(f"  {'device':<12} {machine}")
    return [line.rstrip() for line in lines] + [f"warning: {text}" for text in made.warnings]


def _disk(gigabytes: float) -> str:
    return f"{gigabytes:.3g} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.3g} MB"
