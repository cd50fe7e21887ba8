"""matrix: stored models, made smaller in several ways, in every runtime and precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import AcceptChangedCode, Json
from nasbench.cli.output import progress_bar, resumable, show, tell, typed
from nasbench_registry import UserError, one_of

if TYPE_CHECKING:
    from nasbench.deploy.matrix import Matrix


def matrix(
    model: Annotated[
        list[Path], typer.Argument(help="Model folders, such as RUN/survivors/1/searched.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the variants and the results.", show_default=False)],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="A way to make it smaller, or a recipe.yaml [dense, pruned, decomposed, quantized, qat, pruned_int8].",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="A backend; may be given again [all].", show_default=False)
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Precision: fp32 | fp16 | bf16 | int8 [all that a backend has].", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning, for the variants that train.")] = 3,
    images: Annotated[int, typer.Option(min=1, help="Validation images to judge on, at most.")] = 2000,
    test: Annotated[bool, typer.Option("--test", help="Judge on as many test images, too.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one call.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images of one call.")] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Seconds of timing for a cell, and as many for eager.")
    ] = 0.5,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which a cell is given up.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Accuracy, bytes, latency and conversion time of models x variants x backends x precisions."""
    from nasbench.deploy.matrix import Matrix, all_precisions
    from nasbench.deploy.setting import PRECISIONS, Setting
    from nasbench.deploy.variants import USUAL, read_variant
    from nasbench.report.matrix_page import write_matrix_page
    from nasbench_compression import backends

    names = backend or backends.names()
    for name in names:
        backends.find(name)
    precisions = [one_of("precision", text, PRECISIONS) for text in precision or all_precisions(names)]
    variants = [read_variant(text, epochs) for text in variant or USUAL]
    twice = {chosen.name for chosen in variants if [listed.name for listed in variants].count(chosen.name) > 1}
    if twice:
        raise UserError(f"--variant names {', '.join(sorted(twice))} twice; give each once, and files other names.")
    request = Matrix(
        models=tuple(model),
        variants=tuple(variants),
        settings=tuple(
            Setting.of(name, precision_name, {"threads": threads}, batch)
            for name in names
            for precision_name in precisions
        ),
        seconds=seconds,
        images=images,
        test=test,
        timeout_s=timeout,
        seed=seed,
    )
    with resumable():
        result = _filled(request, out)
    page = out / "matrix.html"
    write_matrix_page(result, page)
    tell(f"drawn in {page}")
    show(result, _tables(result), as_json=json)


def _filled(request: Matrix, out: Path) -> dict[str, Any]:
    """Fill the matrix, with a bar on standard error."""
    from nasbench.deploy.matrix import fill

    with progress_bar() as bar:
        task = bar.add_task("cells", total=request.size)
        return fill(
            request,
            out,
            command=typed(),
            on_variant=lambda model, variant_made, stage: tell(f"{model}, {variant_made.name}: {stage} ..."),
            on_cell=lambda cell: bar.update(task, advance=1, description=_name(cell)),
        )


def _name(cell: Mapping[str, Any]) -> str:
    return f"{cell['variant']}, {cell['backend']} {cell['precision']}"


MEASURED = ("logits differ", "KiB", "median ms", "p95 ms", "of eager", "95 % interval", "convert s")


def _tables(result: Mapping[str, Any]) -> Group:
    from nasbench.report.matrix_page import reasons

    shown: list[Table | Text] = []
    for model in result["models"]:
        cells = [cell for cell in result["cells"] if cell["model"] == model]
        shown.append(_table(model, [cell for cell in cells if cell["reason"] is None], result))
        shown += [Text(f"{cells_text}: unsupported because {reason}") for reason, cells_text in reasons(cells)]
    return Group(*shown)


def _table(title: str, cells: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> Table:
    from nasbench.report import units

    table = Table(title=f"{title}: {result['threads']} thread(s), batch {result['batch']}")
    quality = cells[0]["quality"] if cells else "val_acc_pct"
    test = quality.replace("val_", "test_", 1)
    tested = any(cell[test] is not None for cell in cells)
    for name in ("variant", "backend", "precision"):
        table.add_column(name)
    judged = (units.column(quality), *([units.column(test)] if tested else []))
    for name in (*judged, *MEASURED):
        table.add_column(name, justify="right")
    for cell in cells:
        latency, ratio = cell["latency_ms"], cell["of_eager"]
        table.add_row(
            cell["variant"],
            cell["backend"],
            cell["precision"],
            units.quality_text(cell[quality], quality, unit=False),
            *([units.quality_text(cell[test], test, unit=False)] if tested else []),
            f"{cell['max_logit_diff']:.1e}",
            f"{cell['size_bytes'] / 1024:.1f}",
            units.significant(latency["median"]),
            units.significant(latency["p95"]),
            f"{ratio['ratio']:.3f}",
            f"{ratio['low']:.3f} - {ratio['high']:.3f}",
            f"{cell['conversion_s']:.1f}",
        )
    return table
