"""search: an experiment, from the first candidate to the report."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench.cli.options import Json, Override, import_from
from nasbench.cli.output import err, show, tell, typed
from nasbench.cli.running import run_to_end
from nasbench_registry.files import user_path

if TYPE_CHECKING:
    from nasbench.experiment.experiment import Experiment
    from nasbench.experiment.plan import Estimate
    from nasbench.problems.problem import Problem


def search(
    experiment: Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)],
    run: Annotated[str | None, typer.Option(help="Folder of the run [runs/NAME-TIME].", show_default=False)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed in place of that of the file.", show_default=False)
    ] = None,
    override: Override = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, estimate hours and disk, keep nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Run an experiment: search, compress the survivors, report."""
    from nasbench.experiment.loading import load_experiment
    from nasbench.storage.run_folder import RunFolder

    loaded_experiment = load_experiment(experiment, override or [], seed)
    code_folder = experiment.resolve().parent
    import_from(code_folder)
    if dry_run:
        _plan(loaded_experiment, json)
        return
    from nasbench.experiment.build import prepare
    from nasbench.experiment.doubts import doubts
    from nasbench.experiment.stored import start_run

    prepared = prepare(loaded_experiment)  # before a folder is made
    for doubt in doubts(loaded_experiment, prepared.space):
        tell(f"warning: {doubt}")
    folder = RunFolder(user_path(run or f"runs/{loaded_experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}"))
    run_to_end(folder, json, lambda: start_run(folder, loaded_experiment, code_folder, typed()))


def _plan(experiment: Experiment, json: bool) -> None:
    from nasbench.experiment.build import prepare
    from nasbench.experiment.plan import estimate
    from nasbench.storage.run_folder import to_yaml

    prepared = prepare(experiment)
    plan: dict[str, Any] = {
        "experiment": experiment.model_dump(mode="json"),
        "space_size": prepared.space.size,
        "candidates": experiment.search.candidates,
        "stages": ["searched", *dict.fromkeys(step.stage for recipe in prepared.recipes() for step in recipe.steps)],
    }
    problem, lines = prepared.problem, ["nothing is trained, so that no pilot tells how long it takes"]
    if problem is not None:
        err.print("training two pilots for a few seconds ...", highlight=False)
        plan_estimate = estimate(experiment, prepared)
        plan |= {"images": _examples(problem), **problem.task.to_json(), "estimate": plan_estimate.to_json()}
        lines = [f"images {plan['images']}", *estimate_lines(experiment, plan_estimate)]
    if json:
        show(plan, "", as_json=True)
        return
    # Not through rich, which would break lines: the output is valid YAML.
    sys.stdout.write(to_yaml(plan["experiment"]).rstrip("\n") + "\n\n")
    for line in (
        f"{plan['candidates']:,} candidates of {prepared.space.size:,} architectures",
        f"stages {', '.join(plan['stages'])}",
        *lines,
    ):
        sys.stdout.write(f"# {line}\n")


def _examples(problem: Problem) -> dict[str, int | None]:
    """The number of examples of each part."""
    from nasbench.problems.supervised import Supervised

    train = {"train": len(problem.data.train)} if isinstance(problem, Supervised) else {}
    return {**train, "val": problem.judged("val"), "test": problem.judged("test")}


def estimate_lines(experiment: Experiment, estimate: Estimate) -> list[str]:
    """The lines of the dry run on time, disk and machine, for people."""
    from nasbench.report.units import count, duration

    device, pilots = estimate.device, estimate.pilots

    def row(name: str, hours: float, basis: str) -> str:
        return f"  {name:<12} {duration(3600 * hours):>8}  {basis}"

    lines = [
        f"estimate, from {len(pilots)} pilot{'s' if len(pilots) > 1 else ''} of "
        f"{' and '.join(count(pilot.macs) for pilot in pilots)} MACs that were trained for "
        f"{duration(estimate.trained_seconds)}; nothing was kept, and no candidate was run:"
    ]
    if estimate.calibration_hours:
        lines.append(
            row("calibration", estimate.calibration_hours, f"{experiment.device.samples} architectures measured")
        )
    candidates_text = f"{experiment.search.candidates:,} candidates x {duration(estimate.seconds_per_candidate)}"
    lines.append(row("search", estimate.search_hours, f"{candidates_text}, {experiment.executor.workers} at a time"))
    if estimate.compression_hours:
        lines.append(row("compression", estimate.compression_hours, f"{experiment.survivor_count} survivors"))
    lines.append(row("in all", estimate.total_hours, ""))
    lines.append(f"  {'disk':<12} {_disk(estimate.disk_gb):>8}")
    machine = f"{device['processor']}, {device['cores']} cores"
    if device["gpu"]:
        machine += f"; {device['gpu']}"
    machine += f"; {device['workers']} worker(s) with {device['threads']} thread(s) each"
    if device["runtime"]:
        machine += f"; latency on {device['runtime']}"
    lines.append(f"  {'device':<12} {machine}")
    return [line.rstrip() for line in lines] + [f"warning: {text}" for text in estimate.warnings]


def _disk(gigabytes: float) -> str:
    return f"{gigabytes:.3g} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.3g} MB"
