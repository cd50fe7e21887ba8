"""One experiment from beginning to end: calibrate, search, compress, report."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasbench.deploy.advice import tried_in_words
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.latency import LatencyEstimator, anchors_of
from nasbench.experiment.baseline import run_baseline
from nasbench.experiment.build import Prepared, training_limits
from nasbench.experiment.peak_compute import keep_peak_compute
from nasbench.experiment.remeasure import remeasure
from nasbench.experiment.start import start_architectures
from nasbench.experiment.unchanged import begin_or_check
from nasbench.latency.calibrate import calibrate
from nasbench.latency.calibration import MEASURED, Calibration
from nasbench.models.build import SpaceBuild
from nasbench.models.model import Noted
from nasbench.models.origin import origin_of
from nasbench.models.store import Origin, save_model
from nasbench.models.workbench import Workbench
from nasbench.report.build import write_report
from nasbench.search.callbacks import Callback, Callbacks
from nasbench.search.disk import Disk
from nasbench.search.feasibility import check_feasible
from nasbench.search.record import RecordedCandidate
from nasbench.search.search import search
from nasbench.search.select import choose_survivors
from nasbench.search.study import Study
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import RunFolder
from nasbench.survivors.gate import NO_GATE
from nasbench.survivors.stages import measure_stages, run_recipe, save_stages
from nasbench_compression import CompiledModel, Recipe
from nasbench_registry import UserError


def run_search(
    prepared: Prepared,
    folder: RunFolder,
    callback: Callback | None = None,
    *,
    handle_signals: bool = True,
    accept_changed_code: bool | None = None,
    accept_changed_data: bool = False,
) -> dict[str, Any]:
    """Search, or go on with a search, in a folder that was started and is held; return the report.

    What an earlier process finished is kept: the latency measurements, every finished candidate, every finished
    survivor.

    Args:
        prepared: Parts of the experiment.
        folder: Folder of the run.
        callback: Callback that hears how the search goes, beside those of the experiment.
        handle_signals: Whether Ctrl-C lets the running candidates finish first.
        accept_changed_code: Whether a search goes on with other code than it began with; None asks the environment.
        accept_changed_data: Whether it goes on with other images.

    Raises:
        UserError: the experiment cannot run, nothing was found that meets its limits, or code or images changed.
    """
    try:
        begin_or_check(prepared, folder, accept_code=accept_changed_code, accept_data=accept_changed_data)
    except UserError:
        write_report(folder)  # so that what it found before can be looked at
        raise
    experiment = prepared.experiment
    callbacks = Callbacks([*([] if callback is None else [callback]), *prepared.callbacks()])
    if folder.summary.exists():  # it ended before, and goes on
        write_json(folder.summary, {"status": None})
    begun = folder.controller.exists()  # then a candidate was handed out, and the limits were looked at
    write_json(folder.space, prepared.describe_space() | _described_problem(prepared))
    start_with = start_architectures(prepared, folder, callbacks)
    calibration = None
    if prepared.problem is not None:
        calibration = _before(prepared, folder, callbacks, begun)
        keep_peak_compute(experiment, folder)
    evaluator = prepared.evaluator(folder, calibration)
    estimator = prepared.latency_estimator(calibration)
    study = prepared.study(folder, evaluator, start_with)
    if not begun and not isinstance(experiment.survivors, int):
        choose_survivors(study, experiment.survivors)  # refused now, and not after hours
    callbacks.begin(study, experiment.model_dump(mode="json"))
    evaluator.begin(callbacks)
    search_run(prepared, folder, study, evaluator, callbacks, handle_signals=handle_signals)
    if experiment.baseline is not None:
        run_baseline(prepared, folder, calibration, callbacks)
    evaluator.end(callbacks, folder.path)
    measured = {}
    predicted = experiment.needs_latency and experiment.device.latency == "predicted"
    if prepared.problem is not None and (prepared.searches_recipes or predicted):
        callbacks.phase("measure the front", len(study.front))
        measured = remeasure(study, evaluator, prepared, folder, lambda done, total: callbacks.advance(done), estimator)
    survivors = choose_survivors(study, experiment.survivors, measured)
    recipes = [evaluator.recipe(candidate.arch) or prepared.recipe for candidate in survivors]
    if survivors:
        callbacks.phase("compress", sum(1 + len(recipe.steps) for recipe in recipes))
    begun_steps = 0
    for rank, (candidate, recipe) in enumerate(zip(survivors, recipes, strict=True), start=1):
        _survivor(prepared, folder, study, evaluator, candidate, rank, recipe, begun_steps, callbacks, estimator)
        begun_steps += 1 + len(recipe.steps)
    reason = study.stop_reason or "complete"
    status = "complete" if reason == "complete" else f"search ended early: {reason}"
    write_json(folder.summary, {"status": status})
    report = write_report(folder)
    callbacks.end(report)
    return report


def search_run(
    prepared: Prepared,
    folder: RunFolder,
    study: Study,
    evaluator: Evaluator,
    callback: Callback,
    *,
    handle_signals: bool = True,
) -> None:
    """The search of a run alone, with its limits on disk space and its scalars for TensorBoard."""
    experiment = prepared.experiment
    disk = Disk(
        study,
        folder.checkpoints,
        folder.path,
        keep=experiment.checkpoints.keep,
        max_gb=experiment.search.max_disk_gb,
    )
    search(
        study,
        evaluator,
        prepared.executor(folder, evaluator),
        callback,
        disk=disk,
        tensorboard=folder.tensorboard if experiment.tensorboard else None,
        handle_signals=handle_signals,
    )


def _described_problem(prepared: Prepared) -> dict[str, Any]:
    """The inputs and outputs of networks, and the metric that judges them; nothing where there is no problem."""
    problem = prepared.problem
    return {} if problem is None else {"task": problem.task.to_json(), "quality": problem.quality}


def _before(prepared: Prepared, folder: RunFolder, callback: Callback, begun: bool) -> Calibration | None:
    """Look whether anything meets the limits, and measure what latency is predicted from."""
    experiment, space = prepared.experiment, prepared.space
    torch.set_num_threads(experiment.executor.threads)
    check_limits = functools.partial(
        check_feasible,
        space,
        prepared.required.task,
        experiment.objectives,
        seed=experiment.seed,
        batch=experiment.device.batch,
    )
    # What a network costs before it is compressed breaks no limit of an artefact.
    checks = not begun and not prepared.searches_recipes
    if checks:  # what costs nothing to know comes before latency is measured
        check_limits(predictor=None)
    calibration = calibration_of(prepared, folder, callback)
    if calibration is not None and checks:
        check_limits(predictor=calibration.predictor(space))
    return calibration


def calibration_of(prepared: Prepared, folder: RunFolder, callback: Callback) -> Calibration | None:
    """The measurements before a search, from its folder if they are there; None where it predicts no latency."""
    experiment = prepared.experiment
    if not experiment.needs_latency or experiment.device.latency == "measured":
        return None
    if folder.calibration.exists():
        return Calibration.from_json(folder.read(folder.calibration, MEASURED))
    calibration = prepared.calibration or calibrate(
        prepared.network_space,
        prepared.required.task,
        prepared.device,
        samples=experiment.device.samples,
        seed=experiment.seed,
        predictor=experiment.device.predictor,
        on_phase=lambda name, total: callback.phase(f"measure latency: {name}", total),
        on_progress=lambda done, total: callback.advance(done),
    )
    held_out = calibration.hold_out(prepared.network_space)
    rows = {name: getattr(held_out, name).tolist() for name in ("measured_ms", "predicted_ms", "std_ms")}
    write_json(folder.calibration, calibration.to_json() | {"held_out": rows})
    return calibration


def _survivor(
    prepared: Prepared,
    folder: RunFolder,
    study: Study,
    evaluator: Evaluator,
    candidate: RecordedCandidate,
    rank: int,
    recipe: Recipe,
    begun: int,
    callback: Callback,
    estimator: LatencyEstimator | None,
) -> None:
    experiment = prepared.experiment
    place = folder.survivors / str(rank)
    file = place / "survivor.json"
    steps = len(recipe.steps)
    arch = evaluator.network_arch(candidate.arch)
    if file.exists() and folder.read(file, ("candidate",))["candidate"] == candidate.id:
        callback.advance(begun + 1 + steps)
        return
    seed = study.seed_of(candidate.arch)
    problem = prepared.required
    bench = Workbench(problem, seed, prepared.device, anchors_of(estimator), training_limits(experiment).device_here)
    model = evaluator.trained(candidate.id, candidate.arch, seed, candidate.epochs)
    passed = iter(range(1, 1 + steps))
    stages = run_recipe(
        model,
        recipe,
        bench,
        NO_GATE if prepared.searches_recipes else experiment.gate,
        skip_refused=True,
        on_stage=lambda name: callback.advance(begun + next(passed), f"survivor {rank}: {name}"),
        advise=tried_in_words,
    )
    callback.advance(begun + steps, f"survivor {rank}: measuring")
    as_candidate = functools.partial(prepared.device.candidate, prepared.network_space, arch)
    metrics, eager = measure_stages(stages, bench, prepared.device, as_candidate)
    named = SpaceBuild(experiment.space.name, experiment.space.options, arch)
    build, before = evaluator.stored_as(arch, named)

    def save(place: Path, network: nn.Module | CompiledModel, *, steps: Sequence[Noted], origin: Origin) -> Path:
        return save_model(place, network, build=build, task=problem.task, steps=[*before, *steps], origin=origin)

    described = save_stages(
        folder.path,
        place,
        stages,
        metrics,
        save=save,
        origin=origin_of(problem),
    )
    survivor = {
        "rank": rank,
        "candidate": candidate.id,
        "architecture": candidate.architecture,
        "recipe": recipe.to_json(),
        "quality": {"metric": problem.quality, "goal": problem.metrics[problem.quality].goal or "max"},
        "predicted_latency_ms": candidate.metrics.get("latency_ms"),
        "baseline": None if eager is None else {"runtime": "eager", "latency_ms": eager.to_json()},
        "stages": described,
    }
    write_json(file, survivor)  # last: a survivor is finished when this file is there
    for stage in described:
        callback.stage_done(rank, stage)
    callback.advance(begun + 1 + steps)
