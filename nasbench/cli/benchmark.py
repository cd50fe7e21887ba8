"""benchmark: latency, throughput and energy of stored models, timed in turn, as ratios that can be believed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import AcceptChangedCode, Json
from nasbench.cli.output import err, show
from nasbench.report.units import WORTH, count, significant, size
from nasbench_registry import UserError

if TYPE_CHECKING:
    from nasbench.costs.cost import Cost
    from nasbench.devices.device import Device
    from nasbench_compression import CompiledModel
    from search_spaces import Task


@dataclass(frozen=True)
class _Row:
    """A model in a runtime. `cost` is None for a compiled artefact, whose network is not there any more."""

    model: str
    backend: str
    compiled: CompiledModel
    task: Task
    cost: Cost | None
    precision: str

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
    threads: Annotated[str, typer.Option(help="Threads of one inference, comma-separated.")] = "1",
    streams: Annotated[
        str | None,
        typer.Option(
            help="Request streams at a time, comma-separated: each a process. [timed alone]", show_default=False
        ),
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(min=0, help="Pick the best throughput with a p95 below this.", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Budget of each measurement.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="Times to measure everything, to see whether results agree.")] = 1,
    energy: Annotated[bool, typer.Option("--energy", help="Also measure millijoules an inference, 3 s each.")] = False,
    dollars_per_hour: Annotated[
        float | None,
        typer.Option(help="Dollars an hour of this machine: also show images for a dollar.", show_default=False),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the curves.", show_default=False)] = None,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Measure latency and throughput of stored models; all models and backends are timed in turn."""
    from nasbench.devices.device import Device

    batches, counts = _numbers("--batch", batch), _numbers("--threads", threads)
    at_once = None if streams is None else _numbers("--streams", streams)
    if at_once and (energy or rounds > 1):
        raise UserError("--streams measures several processes at a time; leave --energy and --rounds out.")
    if dollars_per_hour is not None and not 0 < dollars_per_hour < math.inf:
        raise UserError(
            f"--dollars-per-hour is {dollars_per_hour:g}; give what an hour of this machine costs, above 0."
        )
    missing = Device().meter.why_unavailable() if energy else None
    if missing:
        raise UserError(f"--energy: {missing}")
    entries: list[dict[str, Any]] = []
    rows: list[_Row] = []
    reported: set[str] = set()
    for thread_count, images in itertools.product(counts, batches):
        rows = [row for folder in model for row in _rows(folder, backend, thread_count, images, reported)]
        _check_shapes(rows)
        if at_once is None:
            entries += _measure(rows, Device("eager", thread_count, images), seconds, rounds, energy)
        else:
            entries += [
                _measure_streams(row, number, thread_count, images, seconds) for row in rows for number in at_once
            ]
    for entry in entries:
        entry |= _worth(entry, dollars_per_hour)
    if max_latency_ms is not None:
        _pick(entries, max_latency_ms)
    if html is not None:
        from nasbench.report.throughput_page import write_throughput_page

        write_throughput_page(entries, html, max_latency_ms)
        err.print(f"page: {html.resolve()}", soft_wrap=True, highlight=False)
    show(entries, _shown(rows, entries, max_latency_ms), as_json=json)


def _numbers(option: str, text: str) -> list[int]:
    """Comma-separated whole numbers from 1."""
    try:
        numbers = list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise UserError(f"{option} is {text!r}; give numbers from 1, separated by commas, such as 1,8,32.")
    return numbers


def _worth(entry: Mapping[str, Any], dollars_per_hour: float | None) -> dict[str, float]:
    """Images for a dollar where a price is given, and for a joule where energy was counted."""
    worth = {}
    if dollars_per_hour is not None:
        worth["images_per_dollar"] = 3600 * entry["throughput_per_s"] / dollars_per_hour
    if "energy" in entry:
        worth["images_per_joule"] = 1000 * entry["batch"] / entry["energy"]["energy_mj"]
    return worth


def _worth_columns(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {key: head for key, head in WORTH.items() if key in entries[0]}


def _check_shapes(rows: Sequence[_Row]) -> None:
    shapes = {row.task.input_shape for row in rows}
    if len(shapes) > 1:
        raise UserError(
            f"the models take images of {' and '.join('x'.join(map(str, shape)) for shape in sorted(shapes))}; "
            f"compare models of one shape."
        )


def _pick(entries: Sequence[dict[str, Any]], max_latency_ms: float) -> None:
    """Mark, for each model and backend, the entry with the most images a second among those below the limit."""
    for entry in entries:
        entry["picked"] = False
    ways: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["latency_ms"]["p95"] <= max_latency_ms:
            ways.setdefault((entry["model"], entry["backend"]), []).append(entry)
    for within_limit in ways.values():
        max(within_limit, key=lambda entry: float(entry["throughput_per_s"]))["picked"] = True


def _measure_streams(row: _Row, streams: int, threads: int, batch: int, seconds: float) -> dict[str, Any]:
    """An entry for so many request streams at a time."""
    from nasbench.deploy.setting import Setting
    from nasbench.deploy.streams import measure_streams
    from nasbench.devices.clock import clock
    from nasbench.devices.device import processor_name
    from nasbench_compression.compilation.child import ChildError

    setting = None
    if row.cost is not None:  # a network, not an artefact
        setting = Setting.of(row.backend, row.precision, {"threads": threads}, batch).to_json()
    try:
        measured = measure_streams(Path(row.model), setting, streams, batch=batch, seconds=seconds)
    except ChildError as error:
        raise UserError(f"{row.name} with {streams} streams cannot be measured: {error}.") from None
    facts = row.compiled.describe()
    return {
        "model": row.model,
        "backend": row.backend,
        "batch": batch,
        "threads": threads,
        "streams": streams,
        "precision": facts["precision"],
        "latency_ms": {"median": measured.median_ms, "p95": measured.p95_ms},
        "throughput_per_s": measured.throughput_per_s,
        "ratio": None,
        "cost": None if row.cost is None else row.cost.to_json(),
        "protocol": {
            "repeats": measured.requests,
            "seconds": measured.seconds,
            "batch": batch,
            "threads": threads,
            "runtime": f"{facts['backend']} {facts['version']}",
            "device": processor_name(),
            "clock": clock(),
            "order": "a process for each stream, all at the same time; each asks again when it is answered",
        },
    }


def _rows(folder: Path, backends: Sequence[str] | None, threads: int, batch: int, reported: set[str]) -> list[_Row]:
    """A stored model in every backend that was asked for and can run it, compiled for so many images at a time."""
    from nasbench.costs.cost import cost
    from nasbench.models import load_compiled, load_model, read_description
    from nasbench.survivors.stored import workbench
    from nasbench_compression import get_backend
    from nasbench_compression.quantization.modules import dequantize, is_quantized
    from search_spaces import Task

    description = read_description(folder)
    task = Task.from_json(description["task"])
    if "compiled" in description:
        name = str(description["compiled"]["backend"])
        if backends and list(backends) != [name]:
            raise UserError(f"{folder} holds an artefact of backend {name!r}; it cannot run on {', '.join(backends)}.")
        compiled = load_compiled(folder)
        return [_Row(str(folder), name, compiled, task, None, str(compiled.describe()["precision"]))]
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
            if missing not in reported:
                err.print(f"left out: {missing}", soft_wrap=True)
                reported.add(missing)
            continue
        compiled = compiler.compile(stored.model, task.one_input(batch), precision, calibration)
        rows.append(_Row(str(folder), name, compiled, task, counted, precision))
    return rows


def _measure(rows: Sequence[_Row], device: Device, seconds: float, rounds: int, energy: bool) -> list[dict[str, Any]]:
    """An entry for each row at one batch size, in the same order."""
    from nasbench.devices.compare import agreement

    # Numbered, for the same model may be given twice, to see what a ratio of 1 looks like on this machine.
    numbered = {str(number): row.compiled for number, row in enumerate(rows)}
    task = rows[0].task
    measured = device.compare(numbered, task, seconds, rounds=rounds)
    entries = []
    for number, row in zip(numbered, rows, strict=True):
        latency, ratio = measured.latencies[number], measured.ratios.get(number)
        protocol = latency.to_json()
        numbers = {key: protocol.pop(key) for key in ("median", "p95", "iqr", "low", "high")}
        entry: dict[str, Any] = {
            "model": row.model,
            "backend": row.backend,
            "batch": device.batch,
            "threads": device.threads,
            "streams": None,
            "precision": latency.precision,
            "latency_ms": numbers,
            "throughput_per_s": latency.throughput_per_s,
            "ratio": None if ratio is None else ratio.to_json() | {"to": rows[0].name},
            "cost": None if row.cost is None else row.cost.to_json(),
            "protocol": protocol,
        }
        if rounds > 1:
            medians = [
                {"median": latency_of_round.median, "low": latency_of_round.low, "high": latency_of_round.high}
                for latency_of_round in measured.rounds[number]
            ]
            ratios = [ratio_of_round.to_json() for ratio_of_round in measured.ratio_rounds.get(number, ())]
            entry["rounds"] = {
                "latency_ms": medians,
                "ratio": ratios or None,
                "agreement": agreement(
                    [(interval["median"], interval["low"], interval["high"]) for interval in medians]
                ),
                "ratio_agreement": agreement(
                    [(interval["ratio"], interval["low"], interval["high"]) for interval in ratios]
                )
                if ratios
                else None,
            }
        if energy:
            entry["energy"] = device.energy(row.compiled, task).to_json()
        entries.append(entry)
    return entries


def _shown(rows: Sequence[_Row], entries: Sequence[Mapping[str, Any]], max_latency_ms: float | None) -> Group:
    several = len({row.model for row in rows}) > 1
    threads = sorted({int(entry["threads"]) for entry in entries})
    if entries[0]["streams"] is not None:
        return Group(_streams_table(rows, entries, several), Text("\n".join(_picked(entries, max_latency_ms))))
    rounds, energy = "rounds" in entries[0], "energy" in entries[0]
    table = Table(title=f"{'' if several else rows[0].model + ' at '}{', '.join(map(str, threads))} thread(s)")
    columns = [*(["model"] if several else []), "backend", "precision", *(["threads"] if len(threads) > 1 else [])]
    columns += ["batch", "median ms", "95 % interval", "p95 ms"]
    columns += [
        "images/s",
        "of the first",
        *(["mJ"] if energy else []),
        *_worth_columns(entries).values(),
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
            *([str(entry["threads"])] if len(threads) > 1 else []),
            str(entry["batch"]),
            f"{latency_ms['median']:.3f}",
            f"{latency_ms['low']:.3f} - {latency_ms['high']:.3f}",
            f"{latency_ms['p95']:.3f}",
            f"{entry['throughput_per_s']:,.0f}",
            f"{ratio['ratio']:.3f} ({ratio['low']:.3f} - {ratio['high']:.3f})" if ratio else "1",
            *([significant(entry["energy"]["energy_mj"])] if energy else []),
            *(count(entry[key]) for key in _worth_columns(entries)),
            *([_share(entry["rounds"][key]) for key in ("agreement", "ratio_agreement")] if rounds else []),
            f"{protocol['repeats']:,}",
            "no" if protocol["unstable"] else "yes",
        )
    return Group(table, Text("\n".join([*_remarks(rows, entries), *_picked(entries, max_latency_ms)])))


def _streams_table(rows: Sequence[_Row], entries: Sequence[Mapping[str, Any]], several: bool) -> Table:
    table = Table(title="" if several else rows[0].model)
    columns = [*(["model"] if several else []), "backend", "precision", "threads", "batch", "streams", "median ms"]
    for column in (*columns, "p95 ms", "images/s", *_worth_columns(entries).values(), "requests"):
        text = column in ("model", "backend", "precision")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "model", overflow="fold")
    for entry in entries:
        table.add_row(
            *([entry["model"]] if several else []),
            entry["backend"],
            entry["precision"],
            str(entry["threads"]),
            str(entry["batch"]),
            str(entry["streams"]),
            f"{entry['latency_ms']['median']:.3f}",
            f"{entry['latency_ms']['p95']:.3f}",
            f"{entry['throughput_per_s']:,.0f}",
            *(count(entry[key]) for key in _worth_columns(entries)),
            f"{entry['protocol']['repeats']:,}",
        )
    return table


def _picked(entries: Sequence[Mapping[str, Any]], max_latency_ms: float | None) -> list[str]:
    """The settings to deploy below a limit, in a sentence for each model and backend."""
    if max_latency_ms is None:
        return []
    several = len({entry["model"] for entry in entries}) > 1
    sentences = []
    for name, backend in dict.fromkeys((entry["model"], entry["backend"]) for entry in entries):
        model_text = f"{name} on {backend}" if several else str(backend)
        best = next(
            (entry for entry in entries if entry["picked"] and (entry["model"], entry["backend"]) == (name, backend)),
            None,
        )
        if best is None:
            sentences.append(f"{model_text}: nothing has a p95 of {max_latency_ms:g} ms at most.")
            continue
        streams = "" if best["streams"] is None else f", {best['streams']} stream(s)"
        sentences.append(
            f"{model_text} within {max_latency_ms:g} ms: batch {best['batch']}, {best['threads']} thread(s){streams}: "
            f"{best['throughput_per_s']:,.0f} images/s with a p95 of {best['latency_ms']['p95']:.3f} ms."
        )
    return sentences


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _remarks(rows: Sequence[_Row], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    protocol = entries[0]["protocol"]
    costs = {row.model: row.cost for row in rows if row.cost is not None}
    remarks = [
        f"{name}: {count(cost.macs)} MACs = {count(cost.flops)} FLOPs, {count(cost.params)} parameters, "
        f"{size(cost.bytes_moved)} moved an image, {significant(cost.flops_per_byte)} FLOPs a byte, "
        f"activations of {size(cost.peak_activation_bytes)} at most."
        for name, cost in costs.items()
    ]
    clock = protocol["clock"]
    governed = "the machine tells nothing of its clock"
    if clock is not None:
        governed = f"governor {clock['governor']}, {clock['min_mhz']} to {clock['max_mhz']} MHz"
    runtimes = dict.fromkeys(entry["protocol"]["runtime"] for entry in entries)
    remarks.append(f"{protocol['device']}; {', '.join(runtimes)}; {governed}; timed in turn.")
    if "rounds" in entries[0]:
        remarks.append("agree: the share of pairs of rounds that differ by no more than their intervals allow.")
    if "energy" in entries[0]:
        remarks.append(f"mJ: millijoules of one inference. {entries[0]['energy']['meter']}.")
    return remarks
