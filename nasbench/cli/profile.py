"""profile: what the networks of an experiment's space cost, and what share of them meets its limits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Json, Override, import_from
from nasbench.cli.output import progress_bar, show

if TYPE_CHECKING:
    from nasbench.devices.device import Device
    from nasbench.experiment.experiment import Experiment
    from nasbench.experiment.profile import SpaceProfile
    from nasbench.latency.calibration import Calibration
    from search_spaces import SearchSpace, Task

BARS = " ▁▂▃▄▅▆▇█"


def profile(
    experiment: Annotated[Path, typer.Argument(help="The experiment file.", show_default=False)],
    samples: Annotated[int, typer.Option(min=1, help="Number of distinct random architectures.")] = 200,
    latency: Annotated[
        bool, typer.Option("--latency", help="Predict latency, also if the experiment does not need it.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Random seed in place of that of the file.", show_default=False)
    ] = None,
    override: Override = None,
    json: Json = False,
) -> None:
    """Show what the networks of a space cost before training, and what share of them meets the limits."""
    from nasbench.experiment.loading import load_experiment

    loaded_experiment = load_experiment(experiment, override or [], seed)
    import_from(experiment.resolve().parent)
    from nasbench.devices.registry import get_device
    from nasbench.experiment.build import load_problem, named_space, stored_calibration
    from nasbench.experiment.profile import profile_space, to_json
    from nasbench.tables.devices import published_device
    from nasbench_registry import UserError

    space = named_space(loaded_experiment)
    device = get_device(loaded_experiment.device, published_device)
    predicted = latency or loaded_experiment.needs_latency
    missing = device.why_unavailable() if predicted else None
    if missing:
        raise UserError(missing)
    task = load_problem(loaded_experiment).task
    calibration = stored_calibration(loaded_experiment, task, device) if predicted else None
    with progress_bar() as bar:
        if predicted and calibration is None:
            calibration = _calibrate(bar, space, task, device, loaded_experiment)
        step = bar.add_task("counting", total=samples)
        started = time.perf_counter()
        space_profile = profile_space(
            space,
            task,
            loaded_experiment.objectives,
            samples=samples,
            seed=loaded_experiment.seed,
            predictor=calibration.predictor(space) if calibration else None,
            batch=device.batch,
            on_progress=lambda done, total: bar.update(step, completed=done, total=total),
        )
        seconds = time.perf_counter() - started
    result = {
        "experiment": loaded_experiment.name,
        "space": loaded_experiment.space.model_dump(mode="json"),
        "space_size": space.size,
        "input_shape": list(task.input_shape),
        "classes": task.classes,
        "seed": loaded_experiment.seed,
        "asked": samples,
        "seconds": seconds,
        **to_json(space_profile),
        "latency": _held_out(calibration, space) if calibration else None,
    }
    show(result, _table(space_profile, result), as_json=json)


def _calibrate(bar: Progress, space: SearchSpace, task: Task, device: Device, experiment: Experiment) -> Calibration:
    from nasbench.latency.calibrate import calibrate

    step = bar.add_task(f"measuring latency on {device.runtime}", total=experiment.device.samples)
    return calibrate(
        space,
        task,
        device,
        samples=experiment.device.samples,
        seed=experiment.seed,
        predictor=experiment.device.predictor,
        on_progress=lambda done, total: bar.update(step, completed=done, total=total),
    )


def _held_out(calibration: Calibration, space: SearchSpace) -> dict[str, Any]:
    held_out = calibration.hold_out(space)
    return {
        "predicted": True,
        "predictor": calibration.method,
        "spearman": held_out.spearman,
        "median_error_pct": held_out.median_error_pct,
        "n": held_out.n,
        "protocol": dict(calibration.protocol),
    }


def _table(space_profile: SpaceProfile, result: dict[str, Any]) -> Group:
    from nasbench.evaluators.costs import LATENCY

    table = Table(title=f"{_sample(space_profile, result)}; images {'x'.join(map(str, result['input_shape']))}")
    for column in ("cost", "min", "q25", "median", "q75", "max", "distribution", "limit", "within it"):
        text = column in ("cost", "distribution")
        table.add_column(column, justify="left" if text else "right", no_wrap=text)
    extremes: dict[tuple[str, str], list[str]] = {}
    for cost in space_profile.costs:
        predicted = " *" if cost.metric in LATENCY else ""
        limit, within = "", ""
        if cost.limit is not None and cost.share_within is not None:
            limit = f"{'<=' if cost.goal == 'min' else '>='} {readable(cost.metric, cost.limit)}"
            within = f"{100 * cost.share_within:.3g} %"
        values = [readable(cost.metric, value) for value in cost.quantiles.values()]
        table.add_row(cost.metric + predicted, *values, sparkline(cost.histogram), limit, within)
        if cost.metric != "throughput_per_s":  # that of latency, turned round
            extremes.setdefault((cost.at_min, cost.at_max), []).append(cost.metric)
    ends = Table(title="the cheapest and the dearest")
    for column in ("cost", "", "architecture"):
        ends.add_column(column, overflow="fold")
    for (least, most), metrics in extremes.items():
        ends.add_row(", ".join(metrics), "least", Text(least))
        ends.add_row("", "most", Text(most))
    return Group(table, ends, Text("\n".join(_remarks(space_profile, result))))


def _sample(space_profile: SpaceProfile, result: dict[str, Any]) -> str:
    size = result["space_size"]
    of = f"{size:,}" if size < 1e9 else f"{size:.2e}"
    if space_profile.exhaustive:
        return f"all {space_profile.architectures:,} distinct networks of {result['space']['name']}"
    return f"{space_profile.architectures:,} distinct random networks of {result['space']['name']} ({of} architectures)"


def _remarks(space_profile: SpaceProfile, result: dict[str, Any]) -> list[str]:
    remarks = []
    if any(cost.limit is not None for cost in space_profile.costs):
        share, (low, high) = space_profile.feasible_share, space_profile.interval
        interval = "" if space_profile.exhaustive else f", 95 % interval {100 * low:.3g} to {100 * high:.3g} %"
        remarks.append(f"{100 * share:.3g} % meet every limit that is known before training{interval}.")
    else:
        remarks.append("No objective has a limit that is known before training.")
    if space_profile.not_checked:
        remarks.append(f"Known only after training: {', '.join(space_profile.not_checked)}.")
    if not space_profile.exhaustive and space_profile.architectures + len(space_profile.failed) < result["asked"]:
        count = space_profile.architectures + len(space_profile.failed)
        remarks.append(f"{result['asked']:,} were asked for, and {count:,} distinct ones were found.")
    if result["latency"]:
        held_out = result["latency"]
        protocol = held_out["protocol"]
        remarks.append(
            f"* predicted: median error {held_out['median_error_pct']:.1f} %, rank correlation "
            f"{held_out['spearman']:.3f} on {held_out['n']} measured architectures, each held out once "
            f"({protocol['runtime']}, {protocol['threads']} thread(s), batch {protocol['batch']}, "
            f"{protocol['device']})."
        )
    if space_profile.failed:
        arch, reason = next(iter(space_profile.failed.items()))
        remarks.append(f"{len(space_profile.failed)} could not be built, such as {arch}: {reason}.")
    milliseconds = 1000 * result["seconds"] / (space_profile.architectures + len(space_profile.failed))
    return [*remarks, f"{milliseconds:.0f} ms an architecture."]


def readable(metric: str, value: float) -> str:
    """A cost with three digits that matter and its unit: 1.24 M, 312 KiB, 0.612 ms."""
    from nasbench.report.units import count, significant, size

    if metric.endswith("_bytes") or metric == "bytes_moved":
        return size(value)
    if metric == "flops_per_byte":
        return significant(value)
    return f"{significant(value)} ms" if metric.endswith("_ms") else count(value)


def sparkline(histogram: Sequence[int]) -> str:
    """One character for each interval, the higher the more values; only an empty interval is blank."""
    most = max(histogram)
    return "".join(BARS[0 if not height else max(1, round(8 * height / most))] for height in histogram)
