"""Everything that can be wrong with an experiment, found before it costs a second of search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from controllers import controllers
from nasbench.data import ImageData, load_data
from nasbench.devices.device import Device
from nasbench.devices.registry import get_device
from nasbench.evaluators.compressed.space import JointSpace, experiment_space, network_space
from nasbench.experiment.experiment import Experiment
from nasbench.latency.calibration import Calibration
from nasbench.latency.stored import Setting, load_calibration
from nasbench.objectives.reward import Pareto
from nasbench.search.study import make_controller
from nasbench.storage.optuna_storage import open_storage
from nasbench.storage.remote_folder import is_url
from nasbench.survivors import Workbench
from nasbench_compression import Recipe, get_backend
from nasbench_registry import UserError
from search_spaces import SearchSpace, Task


@dataclass(frozen=True)
class Prepared:
    """The parts of an experiment, made and checked.

    Attributes:
        space: of architectures, or of architectures together with recipes.
        recipe: of the survivors; an empty one where recipes are searched.
        calibration: the stored one that the experiment names; None if it names none.
    """

    data: ImageData
    space: SearchSpace
    device: Device
    recipe: Recipe
    calibration: Calibration | None = None

    @property
    def network_space(self) -> SearchSpace:
        """The space of architectures alone."""
        return network_space(self.space)

    def recipes(self, samples: int = 64) -> list[Recipe]:
        """The recipe, or a sample of those that are searched."""
        if not isinstance(self.space, JointSpace):
            return [self.recipe]
        rng = np.random.default_rng(0)
        return [self.space.recipes.recipe(self.space.recipes.sample(rng)) for _ in range(samples)]


def prepare(experiment: Experiment) -> Prepared:
    """Make the parts of an experiment.

    Raises:
        UserError: a name, an option or a combination is not allowed, data are missing, or a runtime is not installed.
    """
    space = experiment_space(experiment)
    controller = make_controller(experiment, space)
    if experiment.controller.name == "sequential" and not isinstance(space, JointSpace):
        raise UserError(
            "controller 'sequential' decides a recipe step by step, and this one leaves nothing to choose; write an "
            "option of the recipe as {choice: [...]}."
        )
    several = isinstance(experiment.reward, Pareto) and len(experiment.objectives) > 1
    if several and not controller.multi_objective:
        raise UserError(
            f"controller {experiment.controller.name!r} takes one score, and reward 'pareto' gives "
            f"{len(experiment.objectives)}; use reward weighted_product or scalar, or another controller."
        )
    device = get_device(experiment.device)
    joint = isinstance(space, JointSpace)
    recipe = Recipe(()) if joint else Recipe.parse(list(experiment.recipe))
    if isinstance(space, JointSpace):
        backends, teachers = set(space.recipes.backends()), space.recipes.teachers()
        _check_joint(experiment, device)
    else:
        backends = {step.options()["backend"] for step in recipe.steps if step.name == "compile"}
        teachers = [step.options()["teacher"] for step in recipe.steps if step.options().get("teacher")]
    unavailable = [get_backend(name).why_unavailable() for name in sorted(backends)]
    if experiment.needs_latency or experiment.survivor_count or joint:
        unavailable.insert(0, device.why_unavailable())
    for missing in unavailable:
        if missing:
            raise UserError(missing)
    device.check(network_space(space))
    if experiment.executor.gpus > 0 and experiment.ray.address is None and not torch.cuda.is_available():
        raise UserError(
            f"executor.gpus is {experiment.executor.gpus:g}, but torch finds no GPU on this machine; set gpus: 0, or "
            f"connect to a cluster with ray.address."
        )
    timed = experiment.needs_latency and experiment.device.latency == "measured" and device.times_networks
    if timed and experiment.executor.workers > 1:
        raise UserError(
            f"device.latency is 'measured' with executor.workers={experiment.executor.workers}, and training "
            f"beside a measurement spoils it; use 1 worker, or device.latency: predicted."
        )
    if experiment.needs_energy:
        missing = device.meter.why_unavailable()
        if missing:
            raise UserError(f"energy_mj cannot be measured: {missing}")
        if experiment.executor.workers > 1:
            raise UserError(
                f"energy_mj is counted for the whole machine, and executor.workers is {experiment.executor.workers}; "
                f"use 1 worker."
            )
    data = load_data(experiment.data.name, **experiment.data.options)
    batch = experiment.training.batch_size
    if batch > len(data.train):
        raise UserError(
            f"training.batch_size is {batch}; {experiment.data.name} has {len(data.train)} training images."
        )
    for folder in teachers:
        Workbench(data, experiment.training, experiment.seed).load_teacher(folder)
    if experiment.baseline is not None and experiment.storage is not None:
        raise UserError(
            f"baseline is {experiment.baseline!r} with storage {experiment.storage!r}: the record of a baseline lies "
            f"in the run folder; leave storage out, or search at random in a run of its own and use nasbench compare."
        )
    if experiment.storage is not None:
        open_storage(experiment.storage, Path())
    return Prepared(data, space, device, recipe, stored_calibration(experiment, data.task, device))


def _check_joint(experiment: Experiment, device: Device) -> None:
    """What a search over recipes, too, cannot do."""
    if not (device.times_networks and device.measures_many):
        raise UserError(
            f"the recipe leaves something to choose, so that artefacts are measured during the search, and device "
            f"{experiment.device.name!r} cannot do that; use cpu, or write a recipe without choices."
        )
    if experiment.scheduler is not None:
        raise UserError(
            f"scheduler {experiment.scheduler.name!r} judges networks before they are compressed, and the recipe "
            f"leaves something to choose; leave scheduler out, and set joint.short_epochs to end training early."
        )
    if controllers.find(experiment.controller.name).multi_fidelity:
        raise UserError(
            f"controller {experiment.controller.name!r} compares candidates after fewer epochs, and the recipe leaves "
            f"something to choose; use another controller, and set joint.short_epochs to end training early."
        )
    for metric in ("energy_mj", "peak_memory_bytes"):
        if metric in experiment.needed_metrics:
            raise UserError(f"{metric} is not known of artefacts, and the recipe leaves something to choose; drop it.")
    if is_url(experiment.cache or ""):
        raise UserError(f"cache is {experiment.cache!r}; a search over recipes needs a folder.")


def stored_calibration(experiment: Experiment, task: Task, device: Device) -> Calibration | None:
    """The calibration that an experiment names, None if it names none; UserError if it does not hold for it."""
    if experiment.device.calibration is None:
        return None
    setting = Setting.of(experiment.space.name, experiment.space.options, task, device)
    return load_calibration(Path(experiment.device.calibration).expanduser(), setting)
