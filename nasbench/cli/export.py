"""export: a stored model becomes the artefact of a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nasbench.cli.options import AcceptChangedCode, Json, Model
from nasbench.cli.output import show

IMAGES = 2000  # validation images, at most, on which an artefact is compared with its network


def export(
    model: Model,
    backend: Annotated[str, typer.Option(help="The compilation backend.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the artefact.", show_default=False)],
    precision: Annotated[
        str | None,
        typer.Option(help="Precision, fp32 or int8 [int8 if the model is quantized, else fp32].", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Compile a stored model for a runtime, check its accuracy, and save the artefact."""
    from nasbench.models import load_model
    from nasbench.models.workbench import agrees
    from nasbench.survivors.stored import save_made, workbench
    from nasbench_compression import get_backend
    from nasbench_compression.quantization.modules import is_quantized

    compiler = get_backend(backend, threads=threads)
    stored = load_model(model)
    bench = workbench(stored, model, 0)
    chosen_precision = precision or ("int8" if is_quantized(stored.model) else "fp32")
    context = bench.context()
    compiled = compiler.compile(stored.model, context.example_inputs, chosen_precision, context.calibration)
    agreement = agrees(compiled, stored.model, bench.problem.unseen(IMAGES, 0))
    accuracy = {"model": bench.validate(stored.model), "artefact": bench.validate(compiled)}
    file = save_made(out, compiled, stored, model)
    result = {
        "artefact": str(file),
        "size_bytes": compiled.bytes,
        bench.problem.quality: accuracy["artefact"],
        f"model_{bench.problem.quality}": accuracy["model"],
        "agreement": agreement.to_json(),
        **{key: value for key, value in compiled.describe().items() if key != "bytes"},
    }
    show(result, _facts(result, f"{backend} {chosen_precision}"), as_json=json)


def _facts(facts: dict[str, Any], title: str) -> Table:
    table = Table(title=title, show_header=False)
    for key, value in facts.items():
        table.add_row(key, str(value))
    return table
