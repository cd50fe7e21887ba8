"""calibrate: measure a sample of a space on a device, and keep a latency predictor for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.progress import MofNCompleteColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Json, read_shape
from nasbench.cli.output import progress_bar, show
from nasbench_registry import UserError
from nasbench_registry.files import key_value

if TYPE_CHECKING:
    from nasbench.latency.predictors import HeldOut

FIGURES = {
    "spearman": ("rank correlation", "{:.3f}"),
    "median_error_pct": ("median error %", "{:.1f}"),
    "within_10_pct": ("within 10 %, %", "{:.0f}"),
    "coverage_pct": ("inside the 95 % interval, %", "{:.0f}"),
}


def calibrate(
    space: Annotated[str, typer.Option(help="Name of the space, or module:Class.", show_default=False)],
    space_option: Annotated[
        list[str] | None, typer.Option(help="key=value, an option of the space; may be given again.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device to measure: cpu | cuda | table | command")] = "cpu",
    device_option: Annotated[
        list[str] | None, typer.Option(help="key=value of the device: file=F.csv, command='...', timeout_s=90.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="What runs the networks [onnxruntime; eager on cuda].", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images in one inference.")] = 1,
    samples: Annotated[int, typer.Option(min=10, help="Number of architectures that are measured.")] = 100,
    predictor: Annotated[
        str, typer.Option(help="Predictor: work | lookup | trees | gp | auto, the best of them.")
    ] = "auto",
    check: Annotated[int, typer.Option(min=0, help="Number of fresh random architectures to check it on.")] = 0,
    data: Annotated[str, typer.Option(help="The data set whose images the networks take.")] = "digits",
    input_shape: Annotated[
        str | None, typer.Option(help="C,H,W of the images, in place of a data set.", show_default=False)
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes, with --input-shape.")] = 10,
    seed: Annotated[int, typer.Option(help="Random seed of the sample and of the weights.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder to keep it in [calibrations/SPACE-DEVICE-RUNTIME].", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Measure a sample of a space on a device, fit a latency predictor, and say how well it predicts."""
    from nasbench.data import load_data
    from nasbench.devices.registry import get_device
    from nasbench.experiment.loading import parse_experiment
    from nasbench.latency.calibrate import check_on_fresh, measure_sample
    from nasbench.latency.calibration import AUTO, decide
    from nasbench.latency.predictors import PREDICTORS
    from nasbench.latency.stored import CalibrationScope, save_calibration
    from nasbench.tables.devices import published_device
    from nasbench_registry import one_of
    from search_spaces import Task, get_space

    one_of("predictor", predictor, (*PREDICTORS, AUTO))
    options = dict(key_value(text, "--space-option", "layers=1") for text in space_option or ())
    search_space = get_space(space, **options)
    device_options = dict(key_value(text, "--device-option", "file=latencies.csv") for text in device_option or ())
    chosen_runtime = runtime or ("onnxruntime" if device in ("cpu", "command") else "eager")
    settings = {"name": device, "runtime": chosen_runtime, "threads": threads, "batch": batch, **device_options}
    # An experiment has the words for every mistake; the controller plays no part.
    config = parse_experiment({"name": "calibrate", "space": space, "controller": "random", "device": settings}).device
    target = get_device(config, published_device)
    missing = target.why_unavailable()
    if missing:
        raise UserError(missing)
    target.check(search_space)
    task = load_data(data).task if input_shape is None else Task(read_shape(input_shape), classes)

    started = time.perf_counter()
    with _phases() as (phase, progress):
        measured = measure_sample(
            search_space,
            task,
            target,
            samples=samples,
            seed=seed,
            predictor=predictor,
            on_phase=phase,
            on_progress=progress,
        )
        phase("fitting", 0)
        calibration, held_out_by_predictor = decide(measured, search_space, predictor, seed=seed)
        fresh = None
        if check:
            phase("measuring fresh networks", check)
            fresh = check_on_fresh(
                calibration, search_space, task, target, count=check, seed=seed + 1, on_progress=progress
            )
    folder = out or Path("calibrations") / f"{space.replace(':', '.')}-{device}-{target.runtime}"
    summary: dict[str, Any] = {
        "predictor": calibration.method,
        "measured": len(calibration.architectures),
        "measured_operators": None if calibration.operators is None else len(calibration.operators.ms),
        "seconds": time.perf_counter() - started,
        "cross_validation": {name: _figures(predictions, seed) for name, predictions in held_out_by_predictor.items()},
        "check": None if fresh is None else _figures(fresh, seed),
    }
    setting = CalibrationScope.of(space, options, task, target)
    save_calibration(folder, calibration, setting, summary)
    result = {
        "space": {"name": space, **options},
        "input_shape": list(task.input_shape),
        "classes": task.classes,
        "device": config.model_dump(mode="json"),
        "protocol": dict(calibration.protocol),
        **summary,
        "folder": str(folder),
    }
    show(result, _table(result), as_json=json)


def _figures(held_out: HeldOut, seed: int) -> dict[str, Any]:
    return {"n": held_out.n, **held_out.figures(seed=seed)}


def _table(result: Mapping[str, Any]) -> Group:
    protocol = result["protocol"]
    table = Table(
        title=f"{result['measured']} networks of {result['space']['name']}, {protocol['runtime']}, "
        f"{protocol['threads']} thread(s), batch {protocol['batch']}, {protocol['device']}"
    )
    for column in ("predictor", "judged on", *(words for words, _ in FIGURES.values())):
        table.add_column(column, justify="left" if column in ("predictor", "judged on") else "right")
    rows = [(name, "held out", predictor_figures) for name, predictor_figures in result["cross_validation"].items()]
    if result["check"]:
        rows.append((result["predictor"], "fresh ones", result["check"]))
    for name, judged_on, figures in rows:
        chosen = Text(name, style="bold" if name == result["predictor"] else "")
        table.add_row(
            chosen, f"{figures['n']} {judged_on}", *(_cell(figures[key], text) for key, (_, text) in FIGURES.items())
        )
    device = {key: value for key, value in result["device"].items() if value is not None}
    shown_keys = ("name", "runtime", "threads", "batch", "file", "command")
    named = ", ".join(f"{key}: {device[key]}" for key in shown_keys if key in device)
    use = f"In an experiment: device: {{{named}, calibration: {result['folder']}}}"
    return Group(table, Text(f"Intervals are 95 %, by the bootstrap. {result['seconds']:.0f} s.\n{use}"))


def _cell(figure: Mapping[str, float], text: str) -> str:
    return f"{text.format(figure['value'])} ({text.format(figure['low'])} to {text.format(figure['high'])})"


@contextlib.contextmanager
def _phases() -> Iterator[tuple[Any, Any]]:
    """Begin a part of the work, and go on with it, on a bar for each part."""
    with progress_bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:

        def phase(name: str, total: int) -> None:
            for task in bar.tasks:
                bar.update(task.id, visible=False)
            bar.add_task(name, total=total or None)

        def progress(done: int, total: int) -> None:
            bar.update(bar.tasks[-1].id, completed=done, total=total)

        yield phase, progress
