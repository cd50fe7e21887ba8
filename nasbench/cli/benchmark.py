"""benchmark: latency, throughput and energy of stored models, timed in turn, as ratios that can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from compression import CompiledModel, get_backend
from compression.quantization.modules import dequantize, is_quantized
from nasbench.cli.model import workbench
from nasbench.cli.output import err, show
from nasbench.cli.search import Json
from nasbench.hardware import Cost, Device, cost
from nasbench.hardware.compare import agreement
from nasbench.models import load_compiled, load_model, read_description
from nasbench.report.units import count, significant, size
from nasbench_registry import UserError
from search_spaces import Task


@dataclass(frozen=True)
class _Row:
    """A model in a runtime. `cost` is None for a compiled artefact, whose network is not there any more."""

    model: str
    backend: str
    compiled: CompiledModel
    task: Task
    cost: Cost | None

    @property
    def name(self) -> str:
        return f"{self.model} {self.backend}"


def benchmark(
    model: Annotated[
        list[Path], typer.Argument(help="Model folders, such as RUN/survivors/1/searched.", show_default=False)
    ],
    backend: Annotated[
        list[str] | None, typer.Option(help="A backend; may be given again [eager, onnxruntime].", show_default=False)
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, comma-separated.")] = "1",
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="Budget of each measurement.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measure everything so often, and tell whether it agrees.")] = 1,
    energy: Annotated[bool, typer.Option("--energy", help="Also millijoules an inference, 3 s each.")] = False,
    json: Json = False,
) -> None:
    """Measure latency and throughput of stored models; all models and backends are timed in turn."""
    try:
        batches = [int(text) for text in batch.split(",")]
    except ValueError:
        batches = [0]
    if min(batches) < 1:
        raise UserError(f"--batch is {batch!r}; give numbers from 1, separated by commas, such as 1,8,32.")
    missing = Device().meter.why_unavailable() if energy else None
    if missing:
        raise UserError(f"--energy: {missing}")
    rows = [row for folder in model for row in _rows(folder, backend, threads)]
    shapes = {row.task.input_shape for row in rows}
    if len(shapes) > 1:
        raise UserError(
            f"the models take images of {' and '.join('x'.join(map(str, shape)) for shape in sorted(shapes))}; "
            f"compare models of one shape."
        )
    entries = [
        entry for size in batches for entry in _measure(rows, Device("eager", threads, size), seconds, rounds, energy)
    ]
    show(entries, _shown(rows, entries, threads), as_json=json)


def _rows(folder: Path, backends: Sequence[str] | None, threads: int) -> list[_Row]:
    """A stored model in every backend that was asked for and can run it."""
    about = read_description(folder)
    task = Task(tuple(about["task"]["input_shape"]), about["task"]["classes"])
    if "compiled" in about:
        name = str(about["compiled"]["backend"])
        if backends and list(backends) != [name]:
            raise UserError(f"{folder} holds an artefact of backend {name!r}; it cannot run on {', '.join(backends)}.")
        return [_Row(str(folder), name, load_compiled(folder), task, None)]
    stored = load_model(folder)
    quantized = is_quantized(stored.model)
    precision = "int8" if quantized else "fp32"
    calibration = workbench(stored, folder, 0).context().calibration if quantized else None
    counted = cost(dequantize(stored.model), task)
    rows = []
    for name in backends or ["eager", "onnxruntime"]:
        compiler = get_backend(name, threads=threads)
        missing = compiler.why_unavailable()
        if missing and not backends:
            err.print(f"left out: {missing}", soft_wrap=True)
            continue
        made = compiler.compile(stored.model, torch.zeros(1, *task.input_shape), precision, calibration)
        rows.append(_Row(str(folder), name, made, task, counted))
    return rows


def _measure(rows: Sequence[_Row], device: Device, seconds: float, rounds: int, energy: bool) -> list[dict[str, Any]]:
    """An entry for each row at one batch size, in the same order."""
    # Numbered, for the same model may be given twice, to see what a ratio of 1 looks like on this machine.
    numbered = {str(number): row.compiled for number, row in enumerate(rows)}
    task = rows[0].task
    found = device.compare(numbered, task, seconds, rounds=rounds)
    entries = []
    for number, row in zip(numbered, rows, strict=True):
        latency, ratio = found.latencies[number], found.ratios.get(number)
        protocol = latency.to_json()
        numbers = {key: protocol.pop(key) for key in ("median", "p95", "iqr", "low", "high")}
        entry: dict[str, Any] = {
            "model": row.model,
            "backend": row.backend,
            "batch": device.batch,
            "precision": latency.precision,
            "latency_ms": numbers,
            "throughput_per_s": latency.throughput_per_s,
            "ratio": None if ratio is None else ratio.to_json() | {"to": rows[0].name},
            "cost": None if row.cost is None else row.cost.to_json(),
            "protocol": protocol,
        }
        if rounds > 1:
            medians = [{"median": one.median, "low": one.low, "high": one.high} for one in found.rounds[number]]
            ratios = [one.to_json() for one in found.ratio_rounds.get(number, ())]
            entry["rounds"] = {
                "latency_ms": medians,
                "ratio": ratios or None,
                "agreement": agreement([(one["median"], one["low"], one["high"]) for one in medians]),
                "ratio_agreement": agreement([(one["ratio"], one["low"], one["high"]) for one in ratios])
                if ratios
                else None,
            }
        if energy:
            entry["energy"] = device.energy(row.compiled, task).to_json()
        entries.append(entry)
    return entries


def _shown(rows: Sequence[_Row], entries: Sequence[Mapping[str, Any]], threads: int) -> Group:
    several = len({row.model for row in rows}) > 1
    rounds, energy = "rounds" in entries[0], "energy" in entries[0]
    table = Table(title=f"{'' if several else rows[0].model + ' at '}{threads} thread(s)")
    columns = [*(["model"] if several else []), "backend", "precision", "batch", "median ms", "95 % interval", "p95 ms"]
    columns += [
        "images/s",
        "of the first",
        *(["mJ"] if energy else []),
        *(["agree", "ratio agree"] if rounds else []),
    ]
    for column in (*columns, "repeats", "stable"):
        text = column in ("model", "backend", "precision", "stable")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "model", overflow="fold")
    for entry in entries:
        latency_ms, protocol, ratio = entry["latency_ms"], entry["protocol"], entry["ratio"]
        table.add_row(
            *([entry["model"]] if several else []),
            entry["backend"],
            entry["precision"],
            str(entry["batch"]),
            f"{latency_ms['median']:.3f}",
            f"{latency_ms['low']:.3f} - {latency_ms['high']:.3f}",
            f"{latency_ms['p95']:.3f}",
            f"{entry['throughput_per_s']:,.0f}",
            f"{ratio['ratio']:.3f} ({ratio['low']:.3f} - {ratio['high']:.3f})" if ratio else "1",
            *([significant(entry["energy"]["energy_mj"])] if energy else []),
            *([_share(entry["rounds"][key]) for key in ("agreement", "ratio_agreement")] if rounds else []),
            f"{protocol['repeats']:,}",
            "no" if protocol["unstable"] else "yes",
        )
    return Group(table, Text("\n".join(_remarks(rows, entries))))


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _remarks(rows: Sequence[_Row], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    about = entries[0]["protocol"]
    counted = {row.model: row.cost for row in rows if row.cost is not None}
    told = [
        f"{name}: {count(each.macs)} MACs = {count(each.flops)} FLOPs, {count(each.params)} parameters, "
        f"{size(each.bytes_moved)} moved an image, {significant(each.flops_per_byte)} FLOPs a byte, "
        f"activations of {size(each.peak_activation_bytes)} at most."
        for name, each in counted.items()
    ]
    clock = about["clock"]
    governed = "the machine tells nothing of its clock"
    if clock is not None:
        governed = f"governor {clock['governor']}, {clock['min_mhz']} to {clock['max_mhz']} MHz"
    runtimes = dict.fromkeys(entry["protocol"]["runtime"] for entry in entries)
    told.append(f"{about['device']}; {', '.join(runtimes)}; {governed}; timed in turn.")
    if "rounds" in entries[0]:
        told.append("agree: the share of pairs of rounds that differ by no more than their intervals allow.")
    if "energy" in entries[0]:
        told.append(f"mJ: millijoules of one inference. {entries[0]['energy']['meter']}.")
    return told
