"""elastic: a trained network becomes a supernet of the networks inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from nasbench.cli.options import AcceptChangedCode, Json, Model
from nasbench.cli.output import progress_bar, resumable, show, tell
from nasbench_registry import UserError

if TYPE_CHECKING:
    from nasbench.supernet.elastic import ElasticSupernet


def elastic(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the supernet.", show_default=False)],
    widths: Annotated[str, typer.Option(help="Shares of the channels of a group that may be left.")] = "0.5,0.75,1",
    round_to: Annotated[
        int | None, typer.Option(min=1, help="Numbers of channels are multiples of this.", show_default=False)
    ] = None,
    depth: Annotated[bool, typer.Option(help="Whether residual blocks may be left out.")] = True,
    resolutions: Annotated[
        str, typer.Option(help="Sides in pixels that images may be made smaller to, such as 24,28.", show_default=False)
    ] = "",
    importance: Annotated[str, typer.Option(help="Importance of channels, as in the step prune.")] = "l2",
    exclude: Annotated[
        list[str] | None, typer.Option(help="A module, or a pattern of names, whose layers stay whole.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of training [those of the model's training].", show_default=False)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate of training [that of the model's training].", show_default=False)
    ] = None,
    sampling: Annotated[
        str, typer.Option(help="Sampling of networks in a step: sandwich | uniform | fair | progressive")
    ] = "sandwich",
    device: Annotated[str, typer.Option(help="Device of the training: cpu | cuda")] = "cpu",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Train all networks inside a trained one together: fewer channels and blocks, smaller images."""
    from nasbench.models.model import load
    from nasbench.models.store import load_model
    from nasbench.supernet.elastic import elastic as make_elastic
    from nasbench.survivors.stored import workbench

    stored = load_model(model)
    problem = workbench(stored, model, seed).problem
    supernet = make_elastic(
        load(model),
        problem,
        widths=_numbers("--widths", widths, float, "0.5,0.75,1"),
        round_to=round_to,
        depth=depth,
        resolutions=[int(side) for side in _numbers("--resolutions", resolutions, int, "24,28")],
        importance=importance,
        exclude=tuple(exclude or ()),
        seed=seed,
    )
    tell(f"{supernet.space.size:,} networks, {len(supernet.space.decisions)} decisions")
    with resumable(), progress_bar() as bar:
        task = bar.add_task("train", total=None)
        supernet.train(
            epochs=epochs,
            seed=seed,
            device=device,
            sampling=sampling,
            learning_rate=learning_rate,
            folder=out,
            on_batch=lambda done, total: bar.update(task, completed=done, total=total),
        )
    result = {"model": str(model), "folder": str(out), **describe(supernet)}
    show(result, _table(result), as_json=json)


def describe(supernet: ElasticSupernet) -> dict[str, Any]:
    """An elastic network as JSON: the number of its networks, and the largest and the smallest one."""
    from nasbench.evaluators.costs import paper_costs

    extremes = {}
    for name, arch in (("largest", supernet.largest), ("smallest", supernet.smallest)):
        network = supernet.network(arch)
        costs = paper_costs(network, supernet.problem.task)
        extremes[name] = {
            "architecture": supernet.space.format(arch),
            **supernet.problem.score(network, "val"),
            "macs": costs["macs"],
            "params": costs["params"],
        }
    return {
        "networks": supernet.space.size,
        "decisions": {decision.name: list(decision.options) for decision in supernet.space.decisions},
        "left_whole": dict(supernet.left_out),
        "epochs": supernet.epochs,
        "quality": supernet.problem.quality,
        **extremes,
    }


def _numbers(option: str, text: str, kind: type[float], example: str) -> list[float]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"{option} is {text!r}; give numbers separated by commas, such as {example}.") from None


def _table(result: dict[str, Any]) -> Table:
    from nasbench.report import units

    quality = result["quality"]
    table = Table(title=f"{result['networks']:,} networks inside {result['model']}")
    for column in ("network", units.column(quality), "MACs", "params"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name in ("largest", "smallest"):
        numbers = result[name]
        table.add_row(
            name,
            units.quality_text(numbers[quality], quality, unit=False),
            f"{int(numbers['macs']):,}",
            f"{int(numbers['params']):,}",
        )
    if result["left_whole"]:
        table.caption = f"{len(result['left_whole'])} layers or blocks stay whole; --json has the reasons"
    return table
