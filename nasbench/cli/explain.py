"""explain: where the time of one or two models goes, and what helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import AcceptChangedCode, Json
from nasbench.cli.output import err, progress_bar, show, typed
from nasbench.report.units import count, shorten, significant, size
from nasbench_registry import UserError

LONGEST = 44  # most characters of a name
MOST = 30  # operators in the table, the slowest; the page and --json have all
NAMES = 8  # most names in a sentence


def explain(
    model: Annotated[
        list[Path],
        typer.Argument(help="A model folder; a second one is compared with the first.", show_default=False),
    ],
    backend: Annotated[str, typer.Option(help="Backend for networks; an artefact runs as it is.")] = "onnxruntime",
    precision: Annotated[
        str | None,
        typer.Option(help="Precision: fp32, bf16, int8, ... [int8 if quantized, else fp32]", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a call.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images in a call.")] = 1,
    advice: Annotated[bool, typer.Option(help="Try what might help, each in turn with the model as it is.")] = True,
    max_advice_s: Annotated[float, typer.Option(min=0, help="Seconds for all trials together.")] = 60.0,
    seconds: Annotated[float, typer.Option(min=0.05, help="Seconds of timing by operator, for each model.")] = 1.0,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the bars.", show_default=False)] = None,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Tell where the time of a model goes in a runtime, what bounds it, and what helps, each tried."""
    from nasbench.deploy.explanation import explain as explained

    if len(model) > 2:
        raise UserError(f"{len(model)} models are given; explain one, or compare two.")
    with progress_bar(TextColumn("{task.fields[step]}")) as bar:
        task = bar.add_task("explain", total=None, step="")
        result = explained(
            *model,
            backend=backend,
            precision=precision,
            threads=threads,
            batch=batch,
            advice=advice,
            max_advice_s=max_advice_s,
            seconds=seconds,
            on_step=lambda step: bar.update(task, step=step),
        ).to_json()
    if html is not None:
        from nasbench.report.explain_page import write_explain_page

        write_explain_page(result, html, typed())
        err.print(f"page: {html.resolve()}", soft_wrap=True, highlight=False)
    show(result, _shown(result), as_json=json)


def _shown(result: Mapping[str, Any]) -> Group:
    last = result["models"][-1]
    parts: list[Any] = [_places(result)] if result["places"] else []
    parts.append(_operators(last))
    if last["why_not"]:
        parts.append(Text(str(last["why_not"])))
    if result["causes"]:
        parts.append(_causes(result))
    if result["advice"]:
        parts.append(_advice(result))
    return Group(*parts, Text("\n".join(_remarks(result))))


def _table(title: str, *columns: str, text: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in text else "right", overflow="fold")
    return table


def _places(result: Mapping[str, Any]) -> Table:
    ratio = result["ratio"]
    title = f"after takes {ratio['ratio']:.3f} times as long ({ratio['low']:.3f} - {ratio['high']:.3f}), timed in turn"
    columns = ("where", "operator", "before ms", "after ms", "difference", "MACs", "precision")
    table = _table(title, *columns, text=("where", "operator", "precision"))
    for row in result["places"]:
        macs = [count(macs_of_place) for macs_of_place in row["macs"] if macs_of_place is not None]
        kinds = [kind for kind in row["kind"] if kind is not None]
        precision = [precision_of_place for precision_of_place in row["precision"] if precision_of_place is not None]
        table.add_row(
            shorten(row["place"], LONGEST),
            " to ".join(dict.fromkeys(kinds)),
            significant(row["before_ms"]),
            significant(row["after_ms"]),
            f"{'+' if row['difference_ms'] > 0 else ''}{significant(row['difference_ms'])}",
            " to ".join(dict.fromkeys(macs)),
            " to ".join(dict.fromkeys(precision)),
        )
    return table


def _operators(model: Mapping[str, Any]) -> Table:
    title = f"{model['model']}: {model['label']}, {significant(model['call_ms'])} ms a call"
    columns = ("operator", "layer", "in", "ms", "share", "executed MACs", "moved", "bound by", "at the roof ms")
    table = _table(title, *columns, text=("operator", "layer", "in", "bound by"))
    slowest = sorted(model["operators"], key=lambda operator: -float(operator["ms"]))[:MOST]
    for operator in (shown for shown in model["operators"] if shown in slowest):
        table.add_row(
            operator["kind"],
            shorten(operator["layer"] or "", LONGEST),
            operator["precision"],
            significant(operator["ms"]),
            f"{100 * operator['share']:.1f} %",
            "" if operator["macs"] is None else count(operator["macs"]),
            "" if operator["bytes"] is None else size(operator["bytes"]),
            operator["bound"],
            significant(operator["roof_ms"]),
        )
    others_count = len(model["operators"]) - len(slowest)
    if others_count > 0:
        left_ms = model["operators_ms"] - sum(operator["ms"] for operator in slowest)
        share = f"{100 * left_ms / model['call_ms']:.1f} %"
        table.add_row(f"{others_count} others", "", "", significant(left_ms), share, "", "", "", "")
    if model["overhead_ms"] is not None:
        share = f"{100 * model['overhead_share']:.1f} %"
        table.add_row("overhead of the call", "", "", significant(model["overhead_ms"]), share, "", "", "", "")
    return table


def _causes(result: Mapping[str, Any]) -> Table:
    table = _table("What the time is spent on", "cause", "share", "meaning", text=("cause", "meaning"))
    for cause in result["causes"]:
        table.add_row(cause["cause"], f"{100 * cause['share']:.1f} %", cause["sentence"])
    return table


def _advice(result: Mapping[str, Any]) -> Table:
    table = _table(
        "What was tried: the time of an image, as a multiple of what it is",
        *("change", "against", "predicted", "measured", "95 % interval", "verdict"),
        text=("change", "against", "verdict"),
    )
    for suggestion in result["advice"]:
        ratio = suggestion["measured"]
        table.add_row(
            suggestion["change"],
            suggestion["cause"],
            "" if suggestion["predicted"] is None else f"{suggestion['predicted']:.3f}",
            "" if ratio is None else f"{ratio['ratio']:.3f}",
            "" if ratio is None else f"{ratio['low']:.3f} - {ratio['high']:.3f}",
            suggestion["verdict"]
            if suggestion["reason"] is None
            else f"{suggestion['verdict']}: {suggestion['reason']}",
        )
    return table


def _remarks(result: Mapping[str, Any]) -> list[str]:
    last, peaks = result["models"][-1], result["peaks"]
    remarks = [
        f"{last['latency_ms']['device']}; {last['latency_ms']['runtime']}; measured peaks: "
        + ", ".join(f"{speed / 1e9:,.0f} GFLOP/s {name}" for name, speed in peaks["flops_per_s"].items())
        + ", "
        + ", ".join(f"{speed / 1e9:,.0f} GB/s of {size(held_bytes)}" for held_bytes, speed in peaks["bytes_per_s"])
        + "."
    ]
    if last["float_in_int8"]:
        remarks.append(f"In float inside the int8 graph: {_named(last['float_in_int8'])}.")
    if last["awkward_widths"]:
        widths = [f"{name} ({a} to {b})" for name, (a, b) in last["awkward_widths"].items()]
        remarks.append(f"Widths that do not fill vector units: {_named(widths)}.")
    given_operators, run_operators = last["given_operators"], last["run_operators"]
    if given_operators and run_operators:
        remarks.append(
            f"Operators: {sum(given_operators.values())} as given, {sum(run_operators.values())} after fusing and "
            f"folding."
        )
    fused = [" + ".join(operator["fused"]) for operator in last["operators"] if operator["fused"]]
    if fused:
        remarks.append(f"Fused: {_named(fused)}.")
    return remarks


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {more} more" if more > 0 else "")
