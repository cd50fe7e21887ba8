"""``python -m benchmarks.zoo``: half the multiply-adds, int8 and ONNX Runtime on networks of other libraries.

Beside `prune`, whose cuts are checked, torch-pruning cuts the same network by itself, in the same process.
"""

from __future__ import annotations

import json as json_
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from benchmarks.command import child_environment, run_command
from nasbench.cli.options import Json
from nasbench.cli.output import err, show
from nasbench_registry import UserError

HERE = Path(__file__).parents[1]
WITHIN = 0.03
"""How far from half of the multiply-adds a network may end, as a share of the half."""
SAME = 1e-5
"""How far apart outputs of what is restored may be, in units of the largest."""


def command(
    name: Annotated[list[str] | None, typer.Argument(help="Networks of the zoo [all].", show_default=False)] = None,
    zoo: Annotated[Path, typer.Option(help="The list of networks.")] = HERE / "experiments" / "zoo.yaml",
    out: Annotated[
        Path | None, typer.Option(help="File of rows; those that are in it are not made again.", show_default=False)
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="Limit of one network.")] = 600,
    page: Annotated[
        Path | None, typer.Option(help="Markdown file for the table, such as docs/zoo.md.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Prune, quantize, export and restore each network of the zoo, and say what was not reached and why."""
    entries = _entries(zoo, name)
    rows = _rows_of_file(out)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=err, transient=True
    ) as bar:
        task = bar.add_task("zoo", total=len(entries))
        for entry in entries:
            bar.update(task, description=entry["name"])
            if entry["name"] not in rows:
                rows[entry["name"]] = _row(entry, seconds)
                if out is not None:
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json_.dumps(rows[entry["name"]]) + "\n")
            bar.advance(task)
    selected = [rows[entry["name"]] for entry in entries]
    summary = summed_up(selected)
    if page is not None:
        page.write_text(_page(selected, summary), encoding="utf-8")
    show({"networks": selected, **summary}, _table(selected, summary), as_json=json)


def summed_up(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of networks that reached each aim, and the time of `prune` in units of torch-pruning alone."""
    ratios = [row["prune_s"] / row["torch_pruning_s"] for row in rows if {"prune_s", "torch_pruning_s"} <= set(row)]
    return {
        "count": len(rows),
        "halved": sum(_halved(row.get("kept")) for row in rows),
        "halved_by_torch_pruning": sum(_halved(row.get("torch_pruning_kept")) for row in rows),
        "cut_by_torch_pruning": sum("torch_pruning_kept" in row for row in rows),
        "restored": sum(_restored(row) for row in rows),
        "exported": sum({"exported_off", "int8_exported_off"} <= set(row) for row in rows),
        "times_of_torch_pruning": math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None,
    }


def _entries(zoo: Path, names: Sequence[str] | None) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = yaml.safe_load(zoo.read_text(encoding="utf-8"))["networks"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{zoo} is no list of networks ({error}); give a file with a key networks.") from None
    unknown = sorted(set(names or ()) - {entry["name"] for entry in entries})
    if unknown:
        zoo_names = ", ".join(entry["name"] for entry in entries)
        raise UserError(f"the zoo has no {', '.join(unknown)}; it has {zoo_names}.")
    return [entry for entry in entries if not names or entry["name"] in names]


def _rows_of_file(out: Path | None) -> dict[str, dict[str, Any]]:
    if out is None or not out.exists():
        return {}
    rows = [json_.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return {row["name"]: row for row in rows}


def _row(entry: Mapping[str, Any], seconds: int) -> dict[str, Any]:
    """The row of one network, measured in a process of its own."""
    failed = {"name": entry["name"], "input": list(entry["input"])}
    child = [sys.executable, "-m", "benchmarks.zoo_network"]
    try:
        completed = subprocess.run(
            child, input=json_.dumps(entry), capture_output=True, text=True, timeout=seconds, env=child_environment()
        )
    except subprocess.TimeoutExpired:
        return {**failed, "errors": {"process": f"it took more than {seconds} seconds"}}
    if completed.returncode:
        last = (completed.stderr.strip().splitlines() or ["no message"])[-1]
        return {**failed, "errors": {"process": f"it ended with exit code {completed.returncode}: {last[:300]}"}}
    row: dict[str, Any] = json_.loads(completed.stdout.strip().splitlines()[-1])
    return row


def _halved(kept_share: float | None) -> bool:
    return kept_share is not None and abs(kept_share - 0.5) <= WITHIN * 0.5


def _restored(row: Mapping[str, Any]) -> bool:
    return all(row.get(key, math.inf) <= SAME for key in ("restored_off", "int8_restored_off"))


_COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "M MACs": ("macs", lambda macs: f"{macs[0] / 1e6:.1f}"),
    "kept": ("kept", "{:.3f}".format),
    "prune s": ("prune_s", "{:.1f}".format),
    "alone s": ("torch_pruning_s", "{:.1f}".format),
    "alone kept": ("torch_pruning_kept", "{:.3f}".format),
    "int8 layers": ("int8_layers", str),
    "int8 off": ("int8_exported_off", "{:.2g}".format),
}
"""Numbers of a row by the title of their column: the key, and how they are written."""


def _in_words(summary: Mapping[str, Any]) -> str:
    return (
        f"Of {summary['count']} networks, {summary['halved']} end within {100 * WITHIN:.0f} % of half the "
        f"multiply-adds, {summary['restored']} are restored to the same outputs, {summary['exported']} are exported in "
        f"fp32 and int8. torch-pruning alone cuts {summary['cut_by_torch_pruning']}, of which "
        f"{summary['halved_by_torch_pruning']} within the same bounds; prune takes "
        f"{summary['times_of_torch_pruning'] or math.nan:.1f} times the processor seconds (geometric mean)."
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    numbers = [_text(row, key, form) for key, form in _COLUMNS.values()]
    return [row["name"], "x".join(map(str, row["input"])), *numbers, _why(row)]


def _table(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Table:
    table = Table(caption=_in_words(summary))
    for column in ("network", "input"):
        table.add_column(column)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    table.add_column("not reached, and why", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    return table


def _page(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """The table as a page of the documentation."""
    titles = ["network", "input", *_COLUMNS, "not reached, and why"]
    cells = [[cell.replace("|", "\\|") for cell in _cells(row)] for row in rows]
    lines = [f"| {' | '.join(line)} |" for line in [titles, ["---"] * len(titles), *cells]]
    return (
        "# Networks of other libraries\n\nWritten by `python -m benchmarks.zoo --page FILE`, from "
        "`experiments/zoo.yaml`, with weights from a seed: `prune` with `macs_ratio: 0.5` and `heads: true`, int8, "
        "ONNX Runtime, and building the result again from its note. Beside it, torch-pruning cuts the same network "
        "alone, in the same process, with the same share of channels everywhere and no check. *kept* is the share of "
        "multiply-adds that is left, *int8 off* how far the outputs of the int8 artefact are from those of its "
        "network, in units of the largest output; *s* are processor seconds.\n\n"
        f"{_in_words(summary)}\n\n" + "\n".join(lines) + "\n"
    )


def _text(row: Mapping[str, Any], key: str, form: Any) -> str:
    return form(row[key]) if key in row else "\N{EN DASH}"


def _why(row: Mapping[str, Any]) -> str:
    reasons = [f"{stage}: {error}" for stage, error in row["errors"].items() if stage != "torch_pruning"]
    if "kept" in row and not _halved(row["kept"]):
        left = "; ".join(f"{layer}: {reason}" for layer, reason in list(row.get("left_out", {}).items())[:3])
        reasons.append(str(row["missed"] or left))
    if "restored_off" in row and not _restored(row):
        reasons.append(f"restored off by {max(row['restored_off'], row.get('int8_restored_off', 0)):.2g}")
    return "; ".join(reasons)


if __name__ == "__main__":
    run_command(command, "zoo")
