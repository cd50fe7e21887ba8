"""One experiment from beginning to end: calibrate, search, compress, report."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from nasbench.data import ImageData
from nasbench.evaluators import Evaluator, Trial
from nasbench.evaluators.compressed.evaluate import Joint
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.evaluators.trained import Trained
from nasbench.experiment.baseline import run_baseline
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.peak import keep_peak
from nasbench.experiment.preflight import Prepared, prepare
from nasbench.experiment.remeasure import remeasure
from nasbench.latency.calibrate import calibrate
from nasbench.latency.calibration import Calibration
from nasbench.models import save_model
from nasbench.report import write_report
from nasbench.search.disk import Disk
from nasbench.search.executors import get_executor
from nasbench.search.feasibility import check_feasible
from nasbench.search.interrupt import stoppable
from nasbench.search.record import Candidate
from nasbench.search.select import choose_survivors
from nasbench.search.study import Study
from nasbench.search.tensorboard import Scalars
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import ARTEFACTS, SHARED, RunFolder
from nasbench.survivors import NO_GATE, Workbench, measure_stages, run_recipe, save_stages
from nasbench.survivors.stored import origin_of
from nasbench.training import train
from nasbench_compression import Recipe
from nasbench_registry import UserError
from search_spaces import Architecture
from search_spaces.fresh_model import fresh_model


class Watcher(Protocol):
    """Hears how a search goes; the command line shows it."""

    def phase(self, name: str, total: int) -> None:
        """A new part of the work begins."""

    def advance(self, done: int, text: str = "") -> None:
        """So much of the part is done."""

    def candidate(self, candidate: Candidate, study: Study) -> None:
        """A candidate finished."""

    def retry(self, number: int, status: str, error: str | None) -> None:
        """An attempt at a candidate failed, and another one will follow."""

    def stopping(self) -> None:
        """The user wants to stop; the running candidates finish first."""


def run_search(experiment: Experiment, folder: RunFolder, watcher: Watcher) -> dict[str, Any]:
    """Search, or go on with a search, in a folder that was started; return the report.

    What an earlier process finished is kept: the latency measurements, every finished candidate, every finished
    survivor.

    Raises:
        UserError: the experiment cannot run, or nothing was found that meets its limits.
    """
    prepared = prepare(experiment)
    if folder.summary.exists():  # it ended before, and goes on
        write_json(folder.summary, {"status": None})
    torch.set_num_threads(experiment.executor.threads)
    begun = folder.controller.exists()  # then a candidate was handed out, and the limits were looked at
    joint = isinstance(prepared.space, JointSpace)
    # What a network costs before it is compressed breaks no limit of an artefact.
    if not begun and not joint:  # what costs nothing to know comes before latency is measured
        check_feasible(prepared.space, prepared.data.task, experiment, None, seed=experiment.seed)
    calibration = _calibration(experiment, folder, prepared, watcher)
    if calibration is not None and not begun and not joint:
        predictor = calibration.predictor(prepared.space)
        check_feasible(prepared.space, prepared.data.task, experiment, predictor, seed=experiment.seed)
    keep_peak(experiment, folder)
    study = Study(folder, experiment, prepared.space)
    known = calibration.to_json() if calibration else None
    if not begun and not isinstance(experiment.survivors, int):
        choose_survivors(study, experiment.survivors)  # refused now, and not after hours

    def evaluator(asked: Experiment, place: RunFolder) -> Evaluator:
        if joint:
            return joint_evaluator(asked, place, known, prepared.data)
        return Trained(asked, known, place.checkpoints.place, prepared.data)

    run_candidates(study, evaluator(experiment, folder), watcher)
    if experiment.baseline is not None:
        run_baseline(experiment, folder, prepared.space, evaluator, run_candidates, watcher)
    measured = {}
    if joint or (experiment.needs_latency and experiment.device.latency == "predicted"):
        watcher.phase("measure the front", len(study.front))
        measured = remeasure(study, prepared, lambda done, total: watcher.advance(done))
    survivors = choose_survivors(study, experiment.survivors, measured)
    recipes = [_recipe(prepared, candidate) for candidate in survivors]
    watcher.phase("compress", sum(1 + len(recipe.steps) for recipe in recipes))
    begun_steps = 0
    for rank, candidate in enumerate(survivors, start=1):
        recipe = recipes[rank - 1]
        _survivor(experiment, folder, prepared, study, candidate, rank, recipe, begun_steps, watcher)
        begun_steps += 1 + len(recipe.steps)
        folder.push()
    reason = study.stop_reason or "complete"
    status = "complete" if reason == "complete" else f"search ended early: {reason}"
    write_json(folder.summary, {"status": status})
    return write_report(folder)


def run_candidates(study: Study, evaluator: Evaluator, watcher: Watcher) -> None:
    """The search alone: every candidate of a study, with all that follows from an outcome.

    Args:
        study: of a run folder that the caller holds.
        evaluator: what scores a candidate.
        watcher: hears how it goes.
    """
    experiment, folder = study.experiment, study.folder
    disk = Disk(study)
    scalars = Scalars(study, folder.tensorboard) if experiment.tensorboard else None

    def on_result(candidate: Candidate) -> None:
        disk.tidy(candidate.id)
        if scalars is not None:
            scalars.candidate(candidate)
        watcher.candidate(candidate, study)
        folder.push()

    study.on_retry = lambda number, evaluated: watcher.retry(number, evaluated.status, evaluated.error)
    watcher.phase("search", experiment.search.candidates)
    watcher.advance(study.finished)
    try:
        with stoppable(study, watcher.stopping):
            get_executor(experiment.executor).run(study, evaluator, on_result)
    finally:
        if scalars is not None:
            scalars.close()


def _calibration(experiment: Experiment, folder: RunFolder, prepared: Prepared, watcher: Watcher) -> Calibration | None:
    if not experiment.needs_latency or experiment.device.latency == "measured":
        return None
    if folder.calibration.exists():
        return Calibration.from_json(json.loads(folder.calibration.read_text(encoding="utf-8")))
    calibration = prepared.calibration or calibrate(
        prepared.network_space,
        prepared.data.task,
        prepared.device,
        samples=experiment.device.samples,
        seed=experiment.seed,
        predictor=experiment.device.predictor,
        on_phase=lambda name, total: watcher.phase(f"measure latency: {name}", total),
        on_progress=lambda done, total: watcher.advance(done),
    )
    write_json(folder.calibration, calibration.to_json())
    return calibration


def _survivor(
    experiment: Experiment,
    folder: RunFolder,
    prepared: Prepared,
    study: Study,
    candidate: Candidate,
    rank: int,
    recipe: Recipe,
    begun: int,
    watcher: Watcher,
) -> None:
    place = folder.survivors / str(rank)
    file = place / "survivor.json"
    steps = len(recipe.steps)
    arch = _network(prepared, candidate)
    if file.exists() and json.loads(file.read_text(encoding="utf-8"))["candidate"] == candidate.id:
        watcher.advance(begun + 1 + steps)
        return
    seed = study.seed_of(candidate.arch)
    bench = Workbench(prepared.data, experiment.training, seed, prepared.device)
    model = _trained_model(experiment, folder.checkpoints, prepared, candidate, seed)
    passed = iter(range(1, 1 + steps))
    stages = run_recipe(
        model,
        recipe,
        bench,
        NO_GATE if isinstance(prepared.space, JointSpace) else experiment.gate,
        on_stage=lambda name: watcher.advance(begun + next(passed), f"survivor {rank}: {name}"),
    )
    watcher.advance(begun + steps, f"survivor {rank}: measuring")
    known = functools.partial(prepared.device.candidate, prepared.network_space, arch)
    metrics, eager = measure_stages(stages, bench, prepared.device, known)
    described = save_stages(
        folder.path,
        place,
        stages,
        metrics,
        save=functools.partial(
            save_model,
            space=experiment.space.name,
            space_options=experiment.space.options,
            arch=arch,
            task=prepared.data.task,
        ),
        origin=origin_of(experiment, prepared.data),
    )
    survivor = {
        "rank": rank,
        "candidate": candidate.id,
        "architecture": prepared.space.format(candidate.arch),
        "recipe": recipe.to_json(),
        "predicted_latency_ms": study.record.candidates[candidate.id].metrics.get("latency_ms"),
        "baseline": None if eager is None else {"runtime": "eager", "latency_ms": eager.to_json()},
        "stages": described,
    }
    write_json(file, survivor)  # last: a survivor is finished when this file is there
    watcher.advance(begun + 1 + steps)


def _recipe(prepared: Prepared, candidate: Candidate) -> Recipe:
    """That of the experiment, or the candidate's own."""
    space = prepared.space
    return space.recipes.recipe(space.halves(candidate.arch)[1]) if isinstance(space, JointSpace) else prepared.recipe


def _network(prepared: Prepared, candidate: Candidate) -> Architecture:
    """The architecture, without a recipe."""
    space = prepared.space
    return space.halves(candidate.arch)[0] if isinstance(space, JointSpace) else candidate.arch


def joint_evaluator(
    experiment: Experiment, folder: RunFolder, calibration: Mapping[str, Any] | None, data: ImageData
) -> Joint:
    """The evaluator of a search over recipes, too; what candidates share lies in the run folder."""
    if folder.checkpoints.remote:
        raise UserError(
            f"{folder.name} is behind a URL, and a search over recipes shares files between its candidates; "
            f"run it in a folder."
        )
    return Joint(
        experiment,
        calibration,
        folder.checkpoints.place,
        str(folder.path.absolute() / SHARED),
        str(folder.path.absolute() / ARTEFACTS),
        data,
    )


def _trained_model(
    experiment: Experiment, checkpoints: Checkpoints, prepared: Prepared, candidate: Candidate, seed: int
) -> nn.Module:
    """The network with the weights of the search; trained again, in the same way, if they are not there."""
    arch = _network(prepared, candidate)
    model = fresh_model(prepared.network_space, arch, prepared.data.task, seed)
    trial = Trial(candidate.id, arch, candidate.epochs, seed)
    weights = checkpoints.load_weights(trial)
    if weights is None:
        train(model, prepared.data.train, experiment.training, seed=seed, epochs=candidate.epochs)
        checkpoints.save_weights(trial, model)
    else:
        model.load_state_dict(weights)
    return model.eval()
