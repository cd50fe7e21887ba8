"""Take a trained network through a recipe, and measure what every stage would be if it were deployed."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from nasbench.costs.cost import counts, stored_bytes
from nasbench.devices.device import Device
from nasbench.devices.measure import Latency
from nasbench.devices.table import NotInTable
from nasbench.models import Origin
from nasbench.models.workbench import Workbench
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Problem
from nasbench.storage.disk_errors import is_full
from nasbench.survivors.config import GateConfig
from nasbench.survivors.gate import Saving, saving
from nasbench.training.errors import Diverged, TimedOut
from nasbench_compression import CompiledModel, Recipe, Step
from nasbench_compression.quantization.modules import dequantize
from nasbench_registry import UserError, WorkFailed
from search_spaces import Task

SEARCHED = "searched"
BASELINE = "searched, eager"
MEASURE_S = 0.6

Failure = Literal["refused", "diverged", "failed"]

Advise = Callable[[nn.Module, CompiledModel, Workbench], str | None]
"""Function of a network, its artefact and the bench: what was tried, in words; None if there was nothing to try."""

log = logging.getLogger(__name__)


@dataclass
class Stage:
    """One stage of a survivor.

    Attributes:
        name: Name of the stage: searched, or the past participle of the step.
        model: Result of the step; None if it was refused or failed.
        network: Network behind it: `model`, or what was compiled into it.
        steps: All steps that led to it, with their notes.
        accepted: Whether the next step goes on from here.
        reason: Why the stage was not accepted.
        seconds: Seconds that the step took.
        scores: Metrics of validation data; empty if it failed.
        options: Options of the step.
        deployed: Artefact that the device runs; None where it was not compiled yet, or cannot be.
        saving: Saving against the stage before; None where that was not measured.
        advice: What would help where it saved nothing.
        problem: Why there is no model: the step was `refused`, for what is asked of it does not fit the network; its
            training `diverged`; or it `failed` in a way that nobody foresaw. None if there is one, whether it is
            accepted or rolled back.
    """

    name: str
    model: nn.Module | CompiledModel | None
    network: nn.Module
    steps: list[tuple[Step, dict[str, Any]]]
    accepted: bool
    reason: str | None
    seconds: float
    scores: Metrics
    options: dict[str, Any]
    deployed: CompiledModel | None = None
    saving: Saving | None = None
    advice: str | None = None
    problem: Failure | None = None

    @property
    def size_bytes(self) -> int:
        """The bytes of the artefact, or of the weights as they are deployed."""
        if self.model is None:
            raise UserError(f"the stage {self.name} has no model, and so no size: {self.reason}.")
        return self.model.bytes if isinstance(self.model, CompiledModel) else stored_bytes(self.model)

    @property
    def promised_bytes(self) -> int:
        """The bytes of the model in the form that the last step promises."""
        if isinstance(self.model, CompiledModel) or not self.steps:
            return self.size_bytes
        step, note = self.steps[-1]
        return step.bytes_promised(self.size_bytes, note)


def run_recipe(
    model: nn.Module,
    recipe: Recipe,
    bench: Workbench,
    gate: GateConfig,
    *,
    before: Sequence[tuple[Step, dict[str, Any]]] = (),
    teacher: nn.Module | None = None,
    skip_refused: bool = False,
    on_stage: Callable[[str], None] = lambda name: None,
    advise: Advise | None = None,
) -> list[Stage]:
    """The stages from the searched network to the last step; only validation data and the device decide.

    A step that costs more validation accuracy or time than the gate allows, whose training diverges, or that saves
    neither time nor bytes where it promised to, is rolled back with its reason, and the next step goes on from the
    stage before it. A step that is refused or fails, see `Stage.problem`, is the last stage: what follows would be
    another recipe than the one asked.

    Args:
        model: Trained network; it is not changed.
        recipe: Steps to apply.
        bench: Data, training and evaluation.
        gate: What a step may cost.
        before: Steps that were applied to `model` earlier.
        teacher: Teacher of distillation; None is `model`.
        skip_refused: Whether to go on behind a step that is refused, as one recipe for several networks needs it.
        on_stage: Called with the name of each stage before it begins.
        advise: Function that says what was tried on a stage that saved nothing, and what came of it; None tries
            nothing.

    Raises:
        OSError: The disk is full, or fails.
    """
    problem = bench.problem
    first = bench.score(model)
    stages = [Stage(SEARCHED, model, model, list(before), True, None, 0.0, first, {})]
    current = stages[0]
    context = bench.context(teacher=model if teacher is None else teacher)
    stage_counts = Counter({SEARCHED: 1})
    for step in recipe.steps:
        stage_counts[step.stage] += 1
        name = f"{step.stage}_{stage_counts[step.stage]}" if stage_counts[step.stage] > 1 else step.stage
        on_stage(name)
        started = time.perf_counter()
        try:
            result, note = step.apply(current.network, context)
            scores = bench.score(result)
        except UserError as error:
            kind: Failure = "failed" if isinstance(error, WorkFailed) else "refused"
            stage = _without_model(name, current, step, kind, str(error))
        except (Diverged, TimedOut) as error:
            stage = _without_model(name, current, step, "diverged", f"its training diverged: {error}")
        except Exception as error:  # a step may fail in any way; the stages before it must not be lost
            if is_full(error):
                raise
            log.exception("the step to %s failed", name)
            words = " ".join(str(error).split()) or "no message"
            stage = _without_model(name, current, step, "failed", f"it failed: {type(error).__name__}: {words}")
        else:
            network = current.network if isinstance(result, CompiledModel) else result
            done = [*current.steps, (step, note)]
            stage = Stage(name, result, network, done, True, None, 0.0, scores, step.options())
            too_far = _too_far(problem, scores[problem.quality], first[problem.quality], gate)
            if too_far is not None:
                stage.accepted, stage.reason = False, too_far
            elif gate.must_save or gate.max_latency_ratio is not None:
                _weigh(current, stage, step, bench, gate, advise)
        stage.seconds = time.perf_counter() - started
        stages.append(stage)
        if stage.accepted:
            current = stage
        if stage.problem == "failed" or (stage.problem == "refused" and not skip_refused):
            break
    return stages


def _too_far(problem: Problem, value: float, first: float, gate: GateConfig) -> str | None:
    """Why a stage is too much worse than the searched network; None if it is not."""
    drop, metric = problem.drop_pct(value, first), problem.metrics[problem.quality]
    if drop <= gate.max_drop_pct:
        return None
    allowed = f"than the searched model; gate.max_drop_pct allows {gate.max_drop_pct:g}"
    if problem.quality == "val_acc_pct":
        return f"validation accuracy {value:.2f} % is {drop:.2f} points below {allowed.removeprefix('than ')}"
    unit = "points" if metric.unit == "%" else "%"
    return f"{problem.quality} {value:.4g} is {drop:.2f} {unit} worse {allowed}"


def _without_model(name: str, before: Stage, step: Step, problem: Failure, reason: str) -> Stage:
    return Stage(name, None, before.network, before.steps, False, reason, 0.0, {}, step.options(), problem=problem)


def _weigh(before: Stage, stage: Stage, step: Step, bench: Workbench, gate: GateConfig, advise: Advise | None) -> None:
    """Measure what a step saved, and refuse it if it is too slow, or saved nothing though it promised something."""
    device = bench.device
    if device is None or not (device.times_networks and device.measures_many):
        return
    try:
        artefacts = [
            compared.deployed or bench.compiled(compared.model)
            for compared in (before, stage)
            if compared.model is not None
        ]
    except UserError:
        return  # the report says why it has no latency
    before.deployed, stage.deployed = artefacts
    sizes = (before.size_bytes, stage.promised_bytes)
    stage.saving = saving(device, bench.task, before.deployed, stage.deployed, sizes)
    latency, most = stage.saving.latency, gate.max_latency_ratio
    if most is not None and latency.low > most:
        stage.reason = (
            f"its artefact takes {latency.ratio:.2f} times as long as the one before ({latency.low:.2f} to "
            f"{latency.high:.2f}, timed in turn); gate.max_latency_ratio allows {most:g}"
        )
    elif gate.must_save and step.saves and not stage.saving.worth_it:
        stage.reason = stage.saving.reason
    if stage.reason is not None:
        stage.accepted = False
        tried = None
        if advise is not None and isinstance(stage.model, nn.Module):
            tried = advise(stage.model, stage.deployed, bench)
        stage.advice = "; ".join(part for part in (step.advice, tried) if part) or None


def measure_stages(
    stages: Sequence[Stage],
    bench: Workbench,
    device: Device,
    candidate: Callable[[nn.Module, Task], CompiledModel] | None = None,
) -> tuple[list[dict[str, Any]], Latency | None]:
    """Metrics of every stage, and the latency of the searched network in eager PyTorch, where the device has that.

    A network is compiled for the device's runtime, in int8 if it is quantized; a compiled stage runs as it is. All
    of them, and the eager baseline, are timed in turn, beside the anchors of the bench if it has any, so that their
    ratios hold, and their latencies are of one kind with those that the search decided with. A stage that the device
    cannot time has no latency, and `latency_reason` instead. The test images are read here, when every decision has
    been taken.

    Args:
        stages: Stages of one survivor; the first is the searched network.
        bench: Data and evaluation; its anchors are of `device`.
        device: Device that is deployed to.
        candidate: Function `Device.candidate` of the searched architecture; None compiles its network like any other.
    """
    task, device_bench = bench.task, dataclasses.replace(bench, device=device)
    deployed: dict[str, CompiledModel] = {}
    reasons: dict[str, str] = {}
    for stage in stages:
        if stage.model is None:
            continue
        try:
            if stage.deployed is not None:
                artefact = stage.deployed
            elif stage is stages[0] and candidate is not None and isinstance(stage.model, nn.Module):
                artefact = candidate(stage.model, task)
            else:
                artefact = device_bench.compiled(stage.model)
            missing = device.why_not(artefact)
        except (UserError, NotInTable) as error:
            missing = str(error)
        if missing is None:
            deployed[stage.name] = artefact
        else:
            reasons[stage.name] = missing
    eager = device.eager(stages[0].network, task)
    if eager is not None:
        deployed = {BASELINE: eager} | deployed
    timed_in_turn = device.measure_beside(deployed, task, bench.anchors, MEASURE_S)
    latencies, ratios = timed_in_turn.latencies, timed_in_turn.ratios if BASELINE in deployed else {}
    metrics: list[dict[str, Any]] = []
    for stage in stages:
        if stage.model is None:
            metrics.append({})
            continue
        counted = counts(dequantize(stage.network), task)
        latency = latencies.get(stage.name)
        timed: dict[str, Any] = {
            "latency_ms": None if latency is None else latency.to_json(),
            "throughput_per_s": None if latency is None else latency.throughput_per_s,
        }
        if latency is None:
            timed["latency_reason"] = reasons[stage.name]
        metrics.append(
            {
                **stage.scores,
                **bench.score(stage.model, "test"),
                "params": counted.params,
                "macs": counted.macs,
                "size_bytes": stage.size_bytes,
                **timed,
                "of_eager": ratios[stage.name].to_json() if stage.name in ratios else None,
            }
        )
    return metrics, latencies.get(BASELINE)


def save_stages(
    root: Path,
    place: Path,
    stages: Sequence[Stage],
    metrics: Sequence[dict[str, Any]],
    *,
    save: Callable[..., Path],
    origin: Origin,
) -> list[dict[str, Any]]:
    """Save every stage in a folder of its own, and describe it as the report does.

    Args:
        root: Folder of the run; paths in the description are relative to it.
        place: Folder of the survivor, below `root`.
        stages: Stages of the survivor.
        metrics: Metrics of each stage, as `measure_stages` gives them.
        save: Function `save_model` with all that is the same for every stage.
        origin: Origin of the models; their metrics are filled in.
    """
    described = []
    for stage, numbers in zip(stages, metrics, strict=True):
        folder = place / stage.name
        artefact = None if stage.model is None else folder.relative_to(root).as_posix()
        if stage.model is not None:
            try:
                save(folder, stage.model, steps=stage.steps, origin=dataclasses.replace(origin, metrics=numbers))
            except UserError as error:  # the other stages must not be lost, but without the first there are none
                if stage is stages[0]:
                    raise
                artefact, stage.accepted, stage.reason = None, False, str(error)
        described.append(
            {
                "name": stage.name,
                "accepted": stage.accepted,
                "reason": stage.reason,
                "seconds": stage.seconds,
                "artefact": artefact,
                "metrics": numbers,
                "options": stage.options,
                "saving": None if stage.saving is None else stage.saving.to_json(),
                "advice": stage.advice,
                "problem": stage.problem,
            }
        )
    return described
