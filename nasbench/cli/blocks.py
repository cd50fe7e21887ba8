"""blocks: what block modules cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from nasbench.cli.options import Json, read_shape
from nasbench.cli.output import err, show
from nasbench_registry import UserError


def blocks(
    block: Annotated[
        list[str] | None, typer.Argument(help="Names, or module:block of your own [the whole zoo].", show_default=False)
    ] = None,
    input_shape: Annotated[str, typer.Option(help="C,H,W that goes into each block.")] = "64,28,28",
    outputs: Annotated[
        int | None, typer.Option(min=1, help="Channels that come out [as many as go in].", show_default=False)
    ] = None,
    kernel: Annotated[int, typer.Option(min=1, help="Kernel size, where a block has one to choose.")] = 3,
    stride: Annotated[int, typer.Option(min=1, max=2, help="Stride, 1 or 2.")] = 1,
    backend: Annotated[str, typer.Option(help="Runtime that is timed.")] = "onnxruntime",
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images in one inference.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="Budget of each measurement.")] = 0.3,
    json: Json = False,
) -> None:
    """Compare block modules on one input shape: params, MACs, FLOPs per byte, peak memory, measured latency."""
    from nasbench.devices.block_costs import block_costs
    from nasbench.devices.device import Device
    from nasbench_compression import get_backend
    from search_spaces.blocks import BLOCKS, get_block

    shape = read_shape(input_shape)
    zoo = {name: get_block(name) for name in block or BLOCKS}
    if kernel % 2 == 0:
        raise UserError(f"--kernel {kernel} is even; blocks keep the image centred, so give 1, 3, 5 or 7.")
    missing = get_backend(backend, threads=threads).why_unavailable()
    if missing:
        raise UserError(missing)
    err.print(f"timing {len(zoo)} blocks in turn, {len(zoo) * seconds:.0f} s or less ...", highlight=False)
    rows, left_out = block_costs(
        zoo,
        shape,
        outputs=outputs or shape[0],
        kernel=kernel,
        stride=stride,
        device=Device(backend, threads, batch),
        budget_s=seconds,
    )
    table = Table(title=f"{input_shape} to {outputs or shape[0]} channels, kernel {kernel}, stride {stride}")
    table.add_column("block")
    for column in ("params", "MACs", "of them attention", "FLOPs/byte", "peak KiB", "median ms", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("what it is", overflow="fold")
    for row in rows:
        latency, counted = row.latency, row.cost
        assert latency is not None, "a device was given"
        share = f"{100 * counted.attention_macs / counted.macs:.1f} %" if counted.attention_macs else ""
        table.add_row(
            row.block,
            f"{counted.params:,}",
            f"{counted.macs:,}",
            share,
            f"{counted.flops_per_byte:.2f}",
            f"{counted.peak_activation_bytes / 1024:,.0f}",
            f"{latency.median:.3f}{' (unstable)' if latency.unstable else ''}",
            f"{latency.low:.3f} - {latency.high:.3f}",
            zoo[row.block].summary,
        )
    if rows and rows[0].latency:
        first_latency = rows[0].latency
        table.caption = (
            f"{first_latency.runtime}, {threads} thread(s), batch {batch}, {first_latency.device}; timed in turn"
        )
    result: list[dict[str, Any]] = []
    for name, zoo_block in zoo.items():
        about_block = {"summary": zoo_block.summary, "source": zoo_block.source}
        costs = next((row.to_json() for row in rows if row.block == name), None)
        result.append((costs or {"block": name, "reason": left_out.get(name)}) | about_block)
    for name, reason in left_out.items():
        err.print(f"left out: {name}: {reason}", soft_wrap=True, highlight=False)
    show(result, table, as_json=json)
