"""The survivors as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def survivors_table(report: Mapping[str, Any]) -> Table:
    """One row a survivor and stage: accuracy, latency, size, cost, and what the gate said."""
    device = report["experiment"]["device"]
    table = Table(
        title=f"Survivors of {report['experiment']['name']}",
        caption=f"latency: median, batch {device['batch']}, {device['threads']} thread(s), stages timed in turn",
    )
    for column, justify in [
        ("survivor", "left"),
        ("stage", "left"),
        ("test %", "right"),
        ("val %", "right"),
        ("latency ms", "right"),
        ("p95", "right"),
        ("KiB", "right"),
        ("params", "right"),
        ("MACs", "right"),
        ("runtime", "left"),
    ]:
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # rich wants a Literal
    for survivor in report["survivors"]:
        eager = survivor.get("baseline")
        if eager:
            latency = eager["latency_ms"]
            row = [f"{latency['median']:.3f}", f"{latency['p95']:.3f}", "", "", "", latency["runtime"]]
            table.add_row(f"#{survivor['rank']} (candidate {survivor['candidate']})", "eager PyTorch", "", "", *row)
        for index, stage in enumerate(survivor["stages"]):
            table.add_row("", *_row(stage), end_section=index == len(survivor["stages"]) - 1)
    return table


def _row(stage: Mapping[str, Any]) -> list[str]:
    metrics = stage["metrics"]
    name = stage["name"] if stage["accepted"] else f"[dim]{stage['name']}: rejected[/]"
    if not metrics:
        return [name, "", "", "", "", "", "", "", (stage["reason"] or "")[:60]]
    latency = metrics["latency_ms"]
    return [
        name,
        f"{metrics['test_acc_pct']:.2f}",
        f"{metrics['val_acc_pct']:.2f}",
        f"{latency['median']:.3f}",
        f"{latency['p95']:.3f}",
        f"{metrics['size_bytes'] / 1024:.1f}",
        f"{metrics['params']:,}",
        f"{metrics['macs']:,}",
        f"{latency['runtime']} {latency['precision']}",
    ]
