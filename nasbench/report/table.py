"""The result of a search, as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from nasbench.report import units
from nasbench.report.units import label, number, significant

SHOWN = 10  # candidates of the front


def result_table(report: Mapping[str, Any]) -> Table:
    """The survivors with their stages; of a search without survivors, its front."""
    return survivors_table(report) if report["survivors"] else front_table(report)


def front_table(report: Mapping[str, Any]) -> Table:
    """One row a candidate of the front, the best by the first objective first: every objective, and the network."""
    objectives = report["experiment"]["objectives"]
    first = objectives[0]
    numbers = set(report["front"])
    front = [candidate for candidate in report["candidates"] if candidate["id"] in numbers]
    front.sort(key=lambda candidate: candidate["metrics"][first["metric"]], reverse=first["goal"] == "max")
    left = len(front) - SHOWN
    table = Table(
        title=f"Front of {report['experiment']['name']}",
        caption=f"{left} more in trials.csv" if left > 0 else None,
    )
    table.add_column("candidate", justify="right")
    for objective in objectives:
        table.add_column(label(objective["metric"]), justify="right")
    table.add_column("architecture", overflow="fold")
    for candidate in front[:SHOWN]:
        values = [significant(candidate["metrics"][objective["metric"]]) for objective in objectives]
        table.add_row(str(candidate["id"]), *values, Text(candidate["architecture"]))
    return table


def survivors_table(report: Mapping[str, Any]) -> Table:
    """One row a survivor and stage: accuracy, latency, size, cost, and what the gate said."""
    device = report["experiment"]["device"]
    val = str(report.get("quality") or "val_acc_pct")
    test = "test_" + val.removeprefix("val_")
    table = Table(
        title=f"Survivors of {report['experiment']['name']}",
        caption=f"latency: median, batch {device['batch']}, {device['threads']} thread(s), stages timed in turn",
    )
    for column, justify in [
        ("survivor", "left"),
        ("stage", "left"),
        (units.column(test), "right"),
        (units.column(val), "right"),
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
            row = [*_milliseconds(latency), "", "", "", latency["runtime"]]
            table.add_row(f"#{survivor['rank']} (candidate {survivor['candidate']})", "eager PyTorch", "", "", *row)
        for index, stage in enumerate(survivor["stages"]):
            table.add_row("", *_row(stage, val, test), end_section=index == len(survivor["stages"]) - 1)
    return table


def _row(stage: Mapping[str, Any], val: str, test: str) -> list[str | Text]:
    metrics = stage["metrics"]
    rejected = stage.get("problem") or "rejected"
    name = stage["name"] if stage["accepted"] else Text(f"{stage['name']}: {rejected}", style="dim")
    if not metrics:
        return [name, "", "", "", "", "", "", "", (stage["reason"] or "")[:60]]
    latency = metrics["latency_ms"]
    runtime = f"{latency['runtime']} {latency['precision']}" if latency else (metrics.get("latency_reason") or "")[:60]
    return [
        name,
        units.quality_text(metrics[test], test, unit=False),
        units.quality_text(metrics[val], val, unit=False),
        *_milliseconds(latency),
        f"{metrics['size_bytes'] / 1024:.1f}",
        f"{metrics['params']:,}",
        f"{metrics['macs']:,}",
        runtime,
    ]


def _milliseconds(latency: Mapping[str, Any] | None) -> list[str]:
    """Median and 95th percentile; empty where the device did not measure them."""
    quantiles = [None, None] if latency is None else [latency["median"], latency["p95"]]
    return ["" if number(value) is None else f"{value:.3f}" for value in quantiles]
