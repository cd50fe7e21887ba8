"""sensitivity: the quality of a stored model with one layer at a time changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import AcceptChangedCode, Json, Model
from nasbench.cli.output import progress_bar, show, tell, typed
from nasbench_registry import UserError, one_of

if TYPE_CHECKING:
    from nasbench_compression.sensitivity import Sensitivity

ALL = "all"


def sensitivity(
    model: Model,
    technique: Annotated[str, typer.Option(help="Technique: prune | decompose | quantize | all")] = ALL,
    ratios: Annotated[str, typer.Option(help="Shares of the channels to remove.")] = "0.25,0.5,0.75",
    shares: Annotated[str, typer.Option(help="Shares of the weights that a decomposition keeps.")] = "0.75,0.5,0.25",
    bits: Annotated[str, typer.Option(help="Bits of the weights; inputs are not rounded.")] = "8,6,4,3,2",
    importance: Annotated[str, typer.Option(help="Importance of channels, as in the step prune.")] = "l2",
    method: Annotated[str, typer.Option(help="Method of decomposition: cp | tucker | tt | svd.")] = "svd",
    images: Annotated[
        int | None, typer.Option(min=1, help="Validation images to judge on [all].", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the map.", show_default=False)] = None,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Judge a model with one layer at a time pruned, decomposed, or in fewer bits, without fine-tuning."""
    from nasbench.models import load_model
    from nasbench.survivors.stored import workbench
    from nasbench_compression.quantization.modules import is_reduced
    from nasbench_compression.sensitivity import TECHNIQUES, sensitivity as measure_sensitivity
    from nasbench_compression.step import given

    if technique != ALL:
        one_of("technique", technique, (*TECHNIQUES, ALL))
    settings_of = {
        "prune": _numbers("--ratios", ratios, float, "0.25,0.5,0.75"),
        "decompose": _numbers("--shares", shares, float, "0.75,0.5,0.25"),
        "quantize": _numbers("--bits", bits, int, "8,4,2"),
    }
    stored = load_model(model)
    if is_reduced(stored.model):
        raise UserError(f"{model} is quantized already; take the stage before it.")
    bench = workbench(stored, model, seed)
    validation_images, bench = bench.problem.judged("val"), bench.fewer(images, seed)
    context = bench.context()
    unchanged_pct = given(context.evaluate)(stored.model)
    results = []
    with _progress() as advance:
        for name, settings in settings_of.items():
            if technique in (name, ALL):
                results.append(
                    measure_sensitivity(
                        stored.model,
                        context,
                        name,
                        settings,
                        importance=importance,
                        method=method,
                        on_progress=lambda done, total, name=name: advance(name, done, total),  # type: ignore[misc]  # the name is bound now
                    )
                )
    if not any(technique_result.layers for technique_result in results):
        reasons = "; ".join(
            f"{layer}: {reason}" for technique_result in results for layer, reason in technique_result.left_out.items()
        )
        raise UserError(f"no layer of {model} can be changed ({reasons or 'it has no convolution or linear layer'}).")
    result = {
        "model": str(model),
        "architecture": stored.build.text,
        "data": stored.origin.data.get("name", stored.origin.problem.get("name")),
        "images": bench.problem.judged("val"),
        "validation_images": validation_images,
        "quality": context.quality,
        "seed": seed,
        "importance": importance,
        "method": method,
        context.quality: unchanged_pct,
        "techniques": [
            _described(technique_result, settings_of[technique_result.technique], context.quality, unchanged_pct)
            for technique_result in results
        ],
    }
    if html is not None:
        from nasbench.report.sensitivity_page import write_sensitivity_page

        names = [name for name, _ in stored.model.named_modules()]
        write_sensitivity_page(result, names, html, typed())
        tell(f"drawn in {html}")
    show(result, _tables(result), as_json=json)


def _numbers(option: str, text: str, kind: type[float], example: str) -> list[float]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} is {text!r}; give numbers separated by commas, such as {example}.") from None
    return list(dict.fromkeys(numbers))


def _described(
    technique_result: Sensitivity, settings: Sequence[float], quality: str, unchanged_pct: float
) -> dict[str, Any]:
    from nasbench_compression.sensitivity import TECHNIQUES

    return {
        "technique": technique_result.technique,
        "setting": TECHNIQUES[technique_result.technique],
        "settings": list(settings),
        "layers": [
            {
                "layer": layer.layer,
                "coupled": list(layer.coupled),
                "weights": layer.weights,
                "tried": [
                    {
                        quality if key == "val_acc_pct" else key: value
                        for key, value in dataclasses.asdict(attempt).items()
                    }
                    | {
                        "drop_pct": None if attempt.val_acc_pct is None else unchanged_pct - attempt.val_acc_pct,
                    }
                    for attempt in layer.tried
                ],
            }
            for layer in technique_result.layers
        ],
        "left_out": technique_result.left_out,
    }


def _tables(result: Mapping[str, Any]) -> Group:
    from nasbench.report.sensitivity_page import judged_by, one_image, setting_text

    shown: list[Table | Text] = []
    for technique in result["techniques"]:
        option = {"prune": result["importance"], "decompose": result["method"]}.get(technique["technique"])
        table = Table(title=technique["technique"] + (f" ({option})" if option else ""))
        table.add_column("layer")
        table.add_column("weights", justify="right")
        for setting in technique["settings"]:
            table.add_column(f"{setting_text(technique['technique'], setting)}", justify="right")
        for layer in technique["layers"]:
            name = layer["layer"] + (f" and {len(layer['coupled'])} more" if layer["coupled"] else "")
            table.add_row(
                name, f"{layer['weights']:,}", *(_cell(attempt, result["quality"]) for attempt in layer["tried"])
            )
        shown.append(table)
        if technique["left_out"]:
            reasons = "\n".join(f"  {layer}: {reason}" for layer, reason in technique["left_out"].items())
            shown.append(Text(f"Left as they are:\n{reasons}"))
    shown.append(
        Text(
            f"{judged_by(result)}, and its change from {result[result['quality']]:.2f}, with only this layer "
            f"changed and no fine-tuning{one_image(result)}."
        )
    )
    return Group(*shown)


def _cell(attempt: Mapping[str, Any], quality: str) -> str:
    from nasbench.report import units

    if attempt[quality] is None:
        return "\N{EN DASH}"
    return f"{attempt[quality]:.2f} ({units.signed(-attempt['drop_pct'], 2)})"


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar for each technique on standard error."""
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        yield advance
