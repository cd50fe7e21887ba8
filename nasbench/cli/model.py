"""compress, export, benchmark: what is done with a stored model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from compression import CompiledModel, Recipe, get_backend
from compression.quantization.modules import is_quantized
from nasbench.cli.output import err, show
from nasbench.cli.search import Json
from nasbench.config import read_yaml
from nasbench.config.experiment import GateConfig, TrainingConfig
from nasbench.data import load_data
from nasbench.files import write_json
from nasbench.hardware import Device
from nasbench.models import StoredModel, load_compiled, load_model, read_description, save_model
from nasbench.models.store import Origin
from nasbench.survivors import Workbench, measure_stages, run_recipe, save_stages
from nasbench_registry import UserError
from search_spaces import Task

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
    written = read_yaml(recipe)
    if isinstance(written, dict):
        if "recipe" not in written:
            raise UserError(f"{recipe} has no key 'recipe'; write a list of steps, or put the list under that key.")
        written = written["recipe"]
    steps = Recipe.parse(written)
    stored = load_model(model)
    bench = _workbench(stored, model, seed)
    device = _device(runtime, 1, 1)
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
        space=_space_name(model),
        space_options=stored.space_options,
        arch=stored.arch,
        task=stored.task,
    )
    described = save_stages(out, out, stages, metrics, save=save, origin=stored.origin)
    result = {"model": str(model), "recipe": steps.to_json(), "eager_latency_ms": eager.to_json(), "stages": described}
    write_json(out / "compress.json", result)
    table = Table(title=f"{model} through {recipe.name}")
    for column in ("stage", "accepted", "test %", "latency ms", "KiB", "params", "folder"):
        table.add_column(column)
    for stage in described:
        numbers = stage["metrics"]
        row = (
            [
                f"{numbers['test_acc_pct']:.2f}",
                f"{numbers['latency_ms']['median']:.3f}",
                f"{numbers['size_bytes'] / 1024:.1f}",
                f"{numbers['params']:,}",
                str(out / stage["artefact"]),
            ]
            if numbers
            else ["", "", "", "", ""]
        )
        table.add_row(stage["name"], "yes" if stage["accepted"] else f"no: {stage['reason']}", *row)
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
    bench = _workbench(stored, model, 0)
    wanted = precision or ("int8" if is_quantized(stored.model) else "fp32")
    context = bench.context()
    compiled = compiler.compile(stored.model, context.example_inputs, wanted, context.calibration)
    accuracy = {"model": bench.validate(stored.model), "artefact": bench.validate(compiled)}
    file = save_model(
        out,
        compiled,
        space=_space_name(model),
        space_options=stored.space_options,
        arch=stored.arch,
        task=stored.task,
        steps=stored.steps,
        origin=Origin(stored.origin.data, stored.origin.training, stored.origin.normalization),
    )
    result = {
        "artefact": str(file),
        "size_bytes": compiled.bytes,
        "val_acc_pct": accuracy["artefact"],
        "model_val_acc_pct": accuracy["model"],
        **{key: value for key, value in compiled.describe().items() if key != "bytes"},
    }
    show(result, _facts(result, f"{backend} {wanted}"), as_json=json)


def benchmark(
    model: Model,
    backend: Annotated[
        list[str] | None, typer.Option(help="A backend; may be given again [eager, onnxruntime].", show_default=False)
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, comma-separated.")] = "1",
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="Budget of each measurement.")] = 1.0,
    json: Json = False,
) -> None:
    """Measure latency and throughput of a stored model; backends are timed in turn."""
    try:
        batches = [int(text) for text in batch.split(",")]
    except ValueError:
        batches = [0]
    if min(batches) < 1:
        raise UserError(f"--batch is {batch!r}; give numbers from 1, separated by commas, such as 1,8,32.")
    about = read_description(model)
    task = Task(tuple(about["task"]["input_shape"]), about["task"]["classes"])
    compiled = _compiled_for(model, about, backend, threads)
    entries: list[dict[str, Any]] = []
    for size in batches:
        device = Device("eager", threads, size)
        for name, latency in device.measure_in_turn(compiled, task, budget_s=seconds).items():
            protocol = latency.to_json()
            numbers = {key: protocol.pop(key) for key in ("median", "p95", "iqr", "low", "high")}
            entries.append(
                {
                    "backend": name,
                    "batch": size,
                    "precision": latency.precision,
                    "latency_ms": numbers,
                    "throughput_per_s": latency.throughput_per_s,
                    "protocol": protocol,
                }
            )
    table = Table(title=f"{model} at {threads} thread(s)")
    for column in (
        "backend",
        "precision",
        "batch",
        "median ms",
        "95 % interval",
        "p95 ms",
        "images/s",
        "repeats",
        "stable",
    ):
        table.add_column(column, justify="right" if "ms" in column or "/s" in column else "left")
    for entry in entries:
        latency_ms, protocol = entry["latency_ms"], entry["protocol"]
        table.add_row(
            entry["backend"],
            entry["precision"],
            str(entry["batch"]),
            f"{latency_ms['median']:.3f}",
            f"{latency_ms['low']:.3f} - {latency_ms['high']:.3f}",
            f"{latency_ms['p95']:.3f}",
            f"{entry['throughput_per_s']:,.0f}",
            str(protocol["repeats"]),
            "no" if protocol["unstable"] else "yes",
        )
    show(entries, table, as_json=json)


def _compiled_for(
    model: Path, about: dict[str, Any], backends: list[str] | None, threads: int
) -> dict[str, CompiledModel]:
    if "compiled" in about:
        name = str(about["compiled"]["backend"])
        if backends and backends != [name]:
            raise UserError(f"{model} holds an artefact of backend {name!r}; it cannot run on {', '.join(backends)}.")
        return {name: load_compiled(model)}
    stored = load_model(model)
    precision = "int8" if is_quantized(stored.model) else "fp32"
    calibration = _workbench(stored, model, 0).context().calibration if precision == "int8" else None
    made = {}
    for name in backends or ["eager", "onnxruntime"]:
        compiler = get_backend(name, threads=threads)
        missing = compiler.why_unavailable()
        if missing and not backends:
            err.print(f"left out: {missing}", soft_wrap=True)
            continue
        made[name] = compiler.compile(stored.model, torch.zeros(1, *stored.task.input_shape), precision, calibration)
    return made


def _workbench(stored: StoredModel, folder: Path, seed: int) -> Workbench:
    origin = stored.origin
    if not origin.data:
        raise UserError(f"{folder / 'model.json'} names no data set, so the model cannot be trained or judged here.")
    options = {key: value for key, value in origin.data.items() if key != "name"}
    data = load_data(origin.data["name"], **options)
    if data.task != stored.task:
        raise UserError(
            f"{folder} was made for {stored.task}, and its data set now gives {data.task}; use the same data."
        )
    return Workbench(data, TrainingConfig.model_validate(dict(origin.training)), seed)


def _space_name(folder: Path) -> str:
    return str(read_description(folder)["space"]["name"])


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
