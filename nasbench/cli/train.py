"""train: one architecture from scratch, as a model folder for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Json, Override, import_from, read_architecture
from nasbench.cli.output import resumable, show
from nasbench.storage.files import write_json
from nasbench_registry import UserError

if TYPE_CHECKING:
    from nasbench.experiment.experiment import Experiment
    from nasbench.experiment.retrain import Retrained
    from nasbench.objectives.metrics import Metrics
    from nasbench.problems.problem import Problem
    from nasbench.storage.run_folder import RunFolder
    from search_spaces import Architecture, SearchSpace


def train(
    experiment: Annotated[Path, typer.Argument(help="An experiment file, or the folder of a run.", show_default=False)],
    architecture: Annotated[
        str,
        typer.Argument(
            metavar="ARCH",
            help="Architecture in the notation of the space, or a JSON list of picks; of a run also a candidate's id.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder, with a model folder for each seed.", show_default=False)],
    seeds: Annotated[int, typer.Option(min=1, help="Networks to train, from the experiment's seed on.")] = 1,
    override: Override = None,
    json: Json = False,
) -> None:
    """Train one architecture from scratch as an experiment says, and judge it on test images.

    What is finished is kept, and what was interrupted goes on, when the command is given again.
    """
    from nasbench.experiment.build import load_problem
    from nasbench.experiment.loading import load_experiment
    from nasbench.storage.run_folder import RunFolder
    from search_spaces import get_space

    run = RunFolder(experiment).require() if experiment.is_dir() else None
    import_from(experiment.resolve().parent if run is None else run.code_folder())
    loaded_experiment = load_experiment(experiment if run is None else experiment / "config.yaml", override or [])
    space = get_space(loaded_experiment.space.name, **loaded_experiment.space.options)
    if run is not None and architecture.isdecimal():
        arch = _candidate(run, int(architecture), space)
    else:
        arch = read_architecture(space, architecture)
    problem = load_problem(loaded_experiment)
    with resumable():
        networks = _train(loaded_experiment, space, arch, problem, out, seeds)
    done = [network for network in networks if network.status == "done"]
    result = {
        "architecture": space.format(arch),
        "seeds": [vars(network) for network in networks],
        **_statistics(done),
    }
    write_json(out / "trained.json", result)
    show(result, _table(result, networks, problem), as_json=json)
    if len(done) < len(networks):
        raise typer.Exit(1)


def _candidate(run: RunFolder, number: int, space: SearchSpace) -> Architecture:
    """The architecture of a candidate, without its recipe."""
    from nasbench.search.settings import read_candidates, read_settings

    candidates = read_candidates(run, read_settings(run))
    if number >= len(candidates):
        raise UserError(f"{run.name} has no candidate {number}; its {len(candidates)} candidates count from 0.")
    return space.parse(candidates[number].network)


def _train(
    experiment: Experiment, space: SearchSpace, arch: Architecture, problem: Problem, out: Path, seeds: int
) -> list[Retrained]:
    """Every seed in turn, with a bar of epochs."""
    from nasbench.experiment.retrain import retrain
    from nasbench.report.progress import SearchProgress
    from nasbench.report.units import label, quality_text

    networks = []
    with SearchProgress() as progress:
        for seed in range(experiment.seed, experiment.seed + seeds):
            progress.phase(f"seed {seed}", experiment.training.epochs)

            def on_epoch(epoch: int, metrics: Metrics) -> None:
                parts = [f"{name} {metrics[name]:.4g}" for name in ("train_loss", problem.quality) if name in metrics]
                progress.advance(epoch, ", ".join(parts))

            networks.append(retrain(experiment, space, arch, problem, out / f"seed-{seed}", seed, on_epoch))
            if networks[-1].metrics:
                test = problem.tested(problem.quality)
                test_text = f"{label(test).partition(',')[0]} {quality_text(networks[-1].metrics[test], test)}"
                progress.advance(experiment.training.epochs, test_text)
    return networks


def _statistics(done: Sequence[Retrained]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (`numpy.std`) over the seeds."""
    import numpy as np

    columns = {name: [network.metrics[name] for network in done] for name in (done[0].metrics if done else ())}
    return {
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "std": {name: float(np.std(values)) for name, values in columns.items()},
    }


def _table(result: Mapping[str, Any], networks: Sequence[Retrained], problem: Problem) -> Table:
    from nasbench.report import units

    table = Table(title=Text(result["architecture"]))
    val, test = problem.quality, problem.tested(problem.quality)
    heads = ("validation %", "test %") if val == "val_acc_pct" else (val, test)
    for column in ("seed", *heads, "params", "MACs", "training", "folder"):
        table.add_column(column)
    for network in networks:
        if network.status != "done":
            table.add_row(str(network.seed), Text(f"{units.outcome(network.status)}: {network.error}"))
            continue
        numbers = network.metrics
        table.add_row(
            str(network.seed),
            units.quality_text(numbers[val], val, unit=False),
            units.quality_text(numbers[test], test, unit=False),
            f"{numbers['params']:,.0f}",
            f"{numbers['macs']:,.0f}",
            units.duration(numbers["training_seconds"]),
            network.folder,
        )
    if len(networks) > 1 and result["mean"]:
        mean_texts = [
            " +- ".join(units.quality_text(result[key][name], name, unit=False) for key in ("mean", "std"))
            for name in (val, test)
        ]
        table.add_row("mean", *mean_texts)
    return table
