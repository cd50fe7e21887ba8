"""tune: the fastest way to run a stored model, found by trying."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import AcceptChangedCode, Json, Model
from nasbench.cli.output import progress_bar, resumable, show, tell, typed
from nasbench.report.units import column, label, quality_text, significant
from nasbench_registry import one_of

if TYPE_CHECKING:
    from nasbench.deploy.tune import Tune

GOALS = ("latency", "throughput")


def tune(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder of the trials and the result.", show_default=False)],
    max_minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of the whole search.", show_default=False)],
    device: Annotated[str, typer.Option(help="Device that it will run on: this machine's cpu.")] = "cpu",
    goal: Annotated[str, typer.Option(help="Goal: latency | throughput")] = "latency",
    max_acc_drop_pct: Annotated[float, typer.Option(min=0, help="Points of accuracy that may be lost.")] = 1.0,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Largest latency of a call, ms.", show_default=False)
    ] = None,
    max_threads: Annotated[int, typer.Option(min=1, help="Threads of one call, at most.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images of one call.")] = 1,
    backend: Annotated[
        list[str] | None, typer.Option(help="A backend; may be given again [all].", show_default=False)
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Validation images to judge on, at most.")] = 2000,
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds of timing for each model in a trial.")] = 0.5,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which a trial is given up.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    accept_changed_code: AcceptChangedCode = False,
    json: Json = False,
) -> None:
    """Search backends, precisions, threads and options for the fastest that keeps the accuracy."""
    from nasbench.deploy.tune import Tune
    from nasbench.deploy.tuning import Tuning
    from nasbench_compression import backends

    one_of("device", device, ("cpu",))
    one_of("goal", goal, GOALS)
    names = tuple(dict.fromkeys(backend or backends.names()))
    tuning = Tuning(
        model=model,
        backends=names,
        goal=goal,
        max_acc_drop_pct=max_acc_drop_pct,
        max_latency_ms=max_latency_ms,
        max_threads=min(max_threads, os.cpu_count() or 1),
        batch=batch,
        images=images,
        seconds=seconds,
        timeout_s=timeout,
        seed=seed,
    )
    with Tune(tuning, out, typed()) as search:
        for reason in search.missing.values():
            tell(f"left out: {reason}")
        if search.finished(60 * max_minutes) is not None:
            tell(f"{out} was finished before; give it more --max-minutes to go on")
        result = _run(search, 60 * max_minutes)
    show(result, _shown(result, out), as_json=json)
    if result["winner"] is None:
        raise typer.Exit(1)


def _run(search: Tune, max_s: float) -> dict[str, Any]:
    """Run the search, with a bar of the time on standard error."""
    from nasbench.deploy.setting import Setting
    from nasbench.report.progress import time_left

    with progress_bar(TextColumn("{task.fields[left]}")) as bar, resumable():
        task = bar.add_task("tune", total=max_s, left=time_left(max_s - search.spent_s))
        bar.update(task, completed=search.spent_s)

        def finished(record: Mapping[str, Any]) -> None:
            bar.update(task, completed=search.spent_s, left=time_left(max_s - search.spent_s))
            tell(f"{Setting.from_json(record['setting']).label()}: {_outcome(record)}")

        return search.run(
            max_s, on_begin=lambda setting: bar.update(task, description=setting.label()), on_trial=finished
        )


def _outcome(record: Mapping[str, Any]) -> str:
    if record["ratio"] is None or record["reason"] is not None:
        return str(record["reason"])
    return f"{significant(record['latency_ms']['median'])} ms, {record['ratio']['ratio']:.3f} of eager"


def _shown(result: Mapping[str, Any], out: Path) -> Group:
    from nasbench.deploy.setting import Setting

    table = Table(title=f"{result['request']['model']}: {result['request']['goal']}")
    for name in ("", "setting"):
        table.add_column(name)
    quality = result["quality"]
    for name in (column(quality), "KiB", "median ms", "p95 ms", "images/s", "of eager", "95 % interval"):
        table.add_column(name, justify="right")
    for place in ("winner", "runner_up", "best_default"):
        row = result[place]
        if row is None:
            continue
        latency, ratio = row["latency_ms"], row["of_eager"]
        table.add_row(
            place.replace("_", " "),
            row["label"],
            quality_text(row[quality], quality, unit=False),
            f"{row['size_bytes'] / 1024:.1f}",
            significant(latency["median"]),
            significant(latency["p95"]),
            f"{row['throughput_per_s']:,.0f}",
            f"{ratio['ratio']:.3f}",
            f"{ratio['low']:.3f} - {ratio['high']:.3f}",
        )
    failed = [Text(f"{Setting.from_json(trial['setting']).label()}: {trial['reason']}") for trial in result["failed"]]
    notes = [
        Text(
            f"{len(result['trials'])} of {result['settings']} settings tried in {result['spent_s'] / 60:.1f} min; the "
            f"network has a {label(quality).partition(',')[0]} of {quality_text(result[quality], quality)}. The rows "
            f"were timed in turn with eager PyTorch at one thread, in three rounds, at the end."
        )
    ]
    if result["winner"] is None:
        none = "No setting that was tried keeps the limits." if result["trials"] else "There was no time for a trial."
        notes.append(Text(f"{none} Give more --max-minutes, or other limits in another folder."))
    else:
        notes.append(Text(f"The winner's artefact is in {out / 'best'}; all trials are in {out / 'tune.json'}."))
    return Group(table, *failed, *notes)
