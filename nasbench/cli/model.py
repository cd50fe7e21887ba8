"""compress, export: what is done with a stored model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nasbench.cli.output import Json, err, show
from nasbench.devices.device import Device
from nasbench.models import load_model, read_description, save_model
from nasbench.storage.files import write_json
from nasbench.survivors.config import GateConfig
from nasbench.survivors.recipe_file import read_recipe
from nasbench.survivors.stages import measure_stages, run_recipe, save_stages
from nasbench.survivors.stored import save_made, workbench
from nasbench_compression import get_backend
from nasbench_compression.quantization.modules import is_quantized
from nasbench_registry import UserError

Model = Annotated[Path, typer.Argument(help="A model folder, such as RUN/survivors/1/searched.", show_default=False)]


def compress(
    model: Model,
    recipe: Annotated[
        Path, typer.Argument(help="A YAML list of steps, or a file with a key recipe.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the stages.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    runtime: Annotated[str, typer.Option(help="The backend that stages are measured with.")] = "eager",
    json: Json = False,
) -> None:
    """Take a stored model through a recipe, measure every stage, and save them."""
    steps = read_recipe(recipe)
    stored = load_model(model)
    device = _device(runtime, 1, 1)
    bench = workbench(stored, model, seed, device)
    stages = run_recipe(
        stored.model,
        steps,
        bench,
        GateConfig(),
        before=stored.steps,
        on_stage=lambda name: err.print(f"{name} ...", highlight=False),
    )
    metrics, eager = measure_stages(stages, bench, device)
    save = functools.partial(
        save_model,
        space=str(read_description(model)["space"]["name"]),
        space_options=stored.space_options,
        arch=stored.arch,
        task=stored.task,
    )
    described = save_stages(out, out, stages, metrics, save=save, origin=stored.origin)
    baseline = None if eager is None else eager.to_json()
    result = {"model": str(model), "recipe": steps.to_json(), "eager_latency_ms": baseline, "stages": described}
    write_json(out / "compress.json", result)
    table = Table(title=f"{model} through {recipe.name}")
    for column in ("stage", "accepted", "test %", "latency ms", "KiB", "params", "folder"):
        table.add_column(column)
    for stage in described:
        numbers = stage["metrics"]
        row = (
            [
                f"{numbers['test_acc_pct']:.2f}",
                f"{numbers['latency_ms']['median']:.3f}" if numbers["latency_ms"] else numbers["latency_reason"],
                f"{numbers['size_bytes'] / 1024:.1f}",
                f"{numbers['params']:,}",
                str(out / stage["artefact"]),
            ]
            if numbers
            else ["", "", "", "", ""]
        )
        why = f"no: {stage['reason']}" + (f"; to help: {stage['advice']}" if stage["advice"] else "")
        table.add_row(stage["name"], "yes" if stage["accepted"] else why, *row)
    show(result, table, as_json=json)


def export(
    model: Model,
    backend: Annotated[str, typer.Option(help="The compilation backend.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the artefact.", show_default=False)],
    precision: Annotated[
        str | None, typer.Option(help="fp32 or int8 [int8 if the model is quantized, else fp32].", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    json: Json = False,
) -> None:
    """Compile a stored model for a runtime, check its accuracy, and save the artefact."""
    compiler = get_backend(backend, threads=threads)
    stored = load_model(model)
    bench = workbench(stored, model, 0)
    wanted = precision or ("int8" if is_quantized(stored.model) else "fp32")
    context = bench.context()
    compiled = compiler.compile(stored.model, context.example_inputs, wanted, context.calibration)
    accuracy = {"model": bench.validate(stored.model), "artefact": bench.validate(compiled)}
    file = save_made(out, compiled, stored, model)
    result = {
        "artefact": str(file),
        "size_bytes": compiled.bytes,
        "val_acc_pct": accuracy["artefact"],
        "model_val_acc_pct": accuracy["model"],
        **{key: value for key, value in compiled.describe().items() if key != "bytes"},
    }
    show(result, _facts(result, f"{backend} {wanted}"), as_json=json)


def _device(runtime: str, threads: int, batch: int) -> Device:
    missing = get_backend(runtime, threads=threads).why_unavailable()
    if missing:
        raise UserError(missing)
    return Device(runtime, threads, batch)


def _facts(facts: dict[str, Any], title: str) -> Table:
    table = Table(title=title, show_header=False)
    for key, value in facts.items():
        table.add_row(key, str(value))
    return table
