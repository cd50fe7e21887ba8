"""Everything that can be wrong with an experiment, found before it costs a second of search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from compression import Recipe, get_backend
from nasbench.config import Experiment
from nasbench.config.experiment import Pareto
from nasbench.data import ImageData, load_data
from nasbench.hardware import Device
from nasbench.study import make_controller
from nasbench.study.storage import open_storage
from nasbench_registry import UserError
from search_spaces import SearchSpace, get_space


@dataclass(frozen=True)
class Prepared:
    """The parts of an experiment, made and checked."""

    data: ImageData
    space: SearchSpace
    device: Device
    recipe: Recipe


def prepare(experiment: Experiment) -> Prepared:
    """Make the parts of an experiment.

    Raises:
        UserError: a name, an option or a combination is not allowed, data are missing, or a runtime is not installed.
    """
    space = get_space(experiment.space.name, **experiment.space.options)
    controller = make_controller(experiment, space)
    several = isinstance(experiment.reward, Pareto) and len(experiment.objectives) > 1
    if several and not controller.multi_objective:
        raise UserError(
            f"controller {experiment.controller.name!r} takes one score, and reward 'pareto' gives "
            f"{len(experiment.objectives)}; use reward weighted_product or scalar, or another controller."
        )
    device = Device.from_config(experiment.device)
    recipe = Recipe.parse(list(experiment.recipe))
    wanted = {device.runtime} if experiment.needs_latency or experiment.survivors else set()
    wanted |= {step.options()["backend"] for step in recipe.steps if step.name == "compile"}
    for name in sorted(wanted):
        missing = get_backend(name).why_unavailable()
        if missing:
            raise UserError(missing)
    if experiment.executor.gpus > 0 and experiment.ray.address is None and not torch.cuda.is_available():
        raise UserError(
            f"executor.gpus is {experiment.executor.gpus:g}, but torch finds no GPU on this machine; set gpus: 0, or "
            f"connect to a cluster with ray.address."
        )
    if experiment.needs_latency and experiment.device.latency == "measured" and experiment.executor.workers > 1:
        raise UserError(
            f"device.latency is 'measured' with executor.workers={experiment.executor.workers}, and training "
            f"beside a measurement spoils it; use 1 worker, or device.latency: predicted."
        )
    data = load_data(experiment.data.name, **experiment.data.options)
    batch = experiment.training.batch_size
    if batch > len(data.train):
        raise UserError(
            f"training.batch_size is {batch}; {experiment.data.name} has {len(data.train)} training images."
        )
    if experiment.storage is not None:
        open_storage(experiment.storage, Path())
    return Prepared(data, space, device, recipe)
