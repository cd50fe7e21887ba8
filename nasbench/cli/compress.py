"""compress: a stored model goes through a recipe."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nasbench.cli.options import AcceptChangedCode, Json, Model, import_from
from nasbench.cli.output import err, show, tell
from nasbench.storage.files import write_json
from nasbench_registry import UserError

if TYPE_CHECKING:
    from nasbench.devices.device import Device


def compress(
    model: Model,
    recipe: Annotated[
        Path, typer.Argument(help="A YAML list of steps, or a file with a key recipe.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the stages.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    runtime: Annotated[str, typer.Option(help="The backend that stages are measured with.")] = "eager",
    gpu: Annotated[bool, typer.Option("--gpu", help="Fine-tune and judge on the GPU.")] = False,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Take a stored model through a recipe, measure every stage, and save them."""
    from nasbench.deploy.advice import tried_in_words
    from nasbench.devices.gpu import why_no_gpu
    from nasbench.models import load_model, save_model
    from nasbench.report import units
    from nasbench.survivors.config import GateConfig
    from nasbench.survivors.recipe_file import read_recipe
    from nasbench.survivors.stages import measure_stages, run_recipe, save_stages
    from nasbench.survivors.stored import workbench

    import_from(recipe.resolve().parent)
    steps = read_recipe(recipe)
    stored = load_model(model)
    device = _device(runtime, 1, 1)
    if gpu and (absent := why_no_gpu()):
        raise UserError(f"--gpu: {absent}")
    bench = workbench(stored, model, seed, device, "cuda" if gpu else "cpu")
    stages = run_recipe(
        stored.model,
        steps,
        bench,
        GateConfig(),
        before=stored.steps,
        on_stage=lambda name: err.print(f"{name} ...", highlight=False),
        advise=tried_in_words,
    )
    metrics, eager = measure_stages(stages, bench, device)
    save = functools.partial(save_model, build=stored.build, task=stored.task)
    described = save_stages(out, out, stages, metrics, save=save, origin=stored.origin)
    baseline = None if eager is None else eager.to_json()
    result = {"model": str(model), "recipe": steps.to_json(), "eager_latency_ms": baseline, "stages": described}
    write_json(out / "compress.json", result)
    table = Table(title=f"{model} through {recipe.name}")
    test = bench.problem.tested(bench.problem.quality)
    for column in ("stage", "accepted", units.column(test), "latency ms", "KiB", "params", "folder"):
        table.add_column(column)
    for stage in described:
        numbers = stage["metrics"]
        row = (
            [
                units.quality_text(numbers[test], test, unit=False),
                f"{numbers['latency_ms']['median']:.3f}" if numbers["latency_ms"] else numbers["latency_reason"],
                f"{numbers['size_bytes'] / 1024:.1f}",
                f"{numbers['params']:,}",
                str(out / stage["artefact"]),
            ]
            if numbers
            else ["", "", "", "", ""]
        )
        accepted_text = f"no: {stage['reason']}" + (f"; to help: {stage['advice']}" if stage["advice"] else "")
        table.add_row(stage["name"], "yes" if stage["accepted"] else accepted_text, *row)
    show(result, table, as_json=json)
    without = [stage for stage in stages if stage.problem is not None]
    for missing in without:
        if missing.problem == "refused":
            raise UserError(f"the step to {missing.name} does not fit: {missing.reason}")
        tell(f"error: the step to {missing.name}: {missing.reason}")
    if without:
        raise typer.Exit(1)


def _device(runtime: str, threads: int, batch: int) -> Device:
    from nasbench.devices.device import Device
    from nasbench_compression import get_backend

    missing = get_backend(runtime, threads=threads).why_unavailable()
    if missing:
        raise UserError(missing)
    return Device(runtime, threads, batch)
