"""The parts of an experiment, made and checked before they cost a second of search."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from controllers import Controller, get_controller
from nasbench.devices.device import Device
from nasbench.devices.registry import get_device
from nasbench.evaluators.cache import Cache
from nasbench.evaluators.compressed.compressed import Compressed, Shared
from nasbench.evaluators.compressed.recipe_space import RecipeSpace, has_choice
from nasbench.evaluators.compressed.space import JointSpace
from nasbench.evaluators.costs import CandidateCosts
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.function import FunctionEvaluator
from nasbench.evaluators.latency import LatencyEstimator
from nasbench.evaluators.registry import evaluators
from nasbench.evaluators.replayed import Replayed, measured_part
from nasbench.evaluators.supernet import SupernetConfig, SupernetScores
from nasbench.evaluators.trained import Trained, TrainingLimits
from nasbench.experiment.experiment import SUPERNET, TRAINS, Experiment
from nasbench.experiment.start import check_start
from nasbench.latency.calibration import Calibration
from nasbench.latency.stored import CalibrationScope, load_calibration
from nasbench.models.workbench import Workbench
from nasbench.objectives.metrics import FOOTPRINT
from nasbench.objectives.reward import Pareto
from nasbench.problems.names import PROBLEMS
from nasbench.problems.problem import Problem
from nasbench.problems.registry import make_problem
from nasbench.problems.supervised import Supervised
from nasbench.search.callbacks import Callback
from nasbench.search.clock import SimulatedClock
from nasbench.search.disk_record import DiskRecord
from nasbench.search.executors.executor import Executor, ExecutorOptions
from nasbench.search.executors.registry import get_executor
from nasbench.search.executors.simulated import Simulated
from nasbench.search.settings import study_name
from nasbench.search.study import Study
from nasbench.search.trackers import MlflowCallback, WandbCallback
from nasbench.storage.code_digest import code_digests, versions
from nasbench.storage.optuna_storage import open_storage
from nasbench.storage.run_folder import ARTEFACTS, SHARED, RunFolder
from nasbench.supernet.differentiable.registry import METHODS, named_controllers
from nasbench.supernet.supernet import Supernet
from nasbench.tables.built import read_table
from nasbench.tables.devices import published_device
from nasbench_compression import Recipe, get_backend
from nasbench_registry import Registry, UserError, check_options, one_of
from nasbench_registry.files import user_path
from search_spaces import Architecture, SearchSpace, Task, get_space

BUILD = ("search_spaces", "nasbench_compression")
TRAIN = (*BUILD, "nasbench.data", "nasbench.problems", "nasbench.training")
"""Packages of this project that decide what training a candidate, or the first steps of its recipe, gives."""


@dataclass(frozen=True)
class Brought:
    """Parts that were given as objects, from Python, in place of their names in an experiment.

    Attributes:
        space: Space that is searched; None takes the one that the experiment names.
        evaluate: Evaluator, or a function of a candidate that returns its metrics.
        problem: Problem that networks are for, in place of the sections data and training.
        controller: Function that makes the controller for a space.
        callbacks: Callbacks of the search, beside those that the experiment names.
        supernet: Trained supernet whose weights candidates share, where the evaluator is `SUPERNET`.
    """

    space: SearchSpace | None = None
    evaluate: Evaluator | Callable[..., Any] | None = None
    problem: Problem | None = None
    controller: Callable[[SearchSpace], Controller] | None = None
    callbacks: tuple[Callback, ...] = ()
    supernet: Supernet | None = None


@dataclass(frozen=True)
class Prepared:
    """The parts of an experiment, made and checked.

    Attributes:
        experiment: Experiment that they were made of.
        network_space: Space of architectures alone.
        device: Device whose latency counts.
        recipe: Recipe of the survivors; an empty one where recipes are searched.
        joint: Space of architectures together with recipes, where the recipe leaves something to choose; else None.
        problem: Problem that networks are for; None where the evaluator trains none.
        calibration: Stored calibration that the experiment names; None if it names none.
        brought: Parts that were given as objects.
    """

    experiment: Experiment
    network_space: SearchSpace
    device: Device
    recipe: Recipe
    joint: JointSpace | None = None
    problem: Problem | None = None
    calibration: Calibration | None = None
    brought: Brought = Brought()

    @property
    def space(self) -> SearchSpace:
        """The searched space: architectures, or architectures together with recipes."""
        return self.joint or self.network_space

    @property
    def required(self) -> Problem:
        """The problem, where there is one."""
        if self.problem is None:
            raise UserError("this search has no data, for its evaluator trains nothing; give the section data.")
        return self.problem

    @property
    def searches_recipes(self) -> bool:
        """Whether the recipe leaves something to choose."""
        return self.joint is not None

    def recipes(self, samples: int = 64) -> list[Recipe]:
        """The recipe, or a sample of those that are searched."""
        if self.joint is None:
            return [self.recipe]
        rng, recipes = np.random.default_rng(0), self.joint.recipes
        return [recipes.recipe(recipes.sample(rng)) for _ in range(samples)]

    def describe_space(self) -> dict[str, Any]:
        """The numbers of networks and recipes of the space, and of the options of each decision, for a report."""
        return {
            "name": self.space.name,
            "architectures": self.network_space.size,
            "recipes": None if self.joint is None else self.joint.recipes.size,
            "joint": self.searches_recipes,
            "decisions": [
                {"name": decision.name, "options": len(decision.options)} for decision in self.space.decisions
            ],
        }

    def controller(self, folder: RunFolder | None = None) -> Controller:
        """A new controller; one of several fidelities goes up to the epochs of the training.

        Args:
            folder: Folder of the run, for a controller that trains a network itself; None stores nothing of that.
        """
        if self.brought.controller is not None:
            return self.brought.controller(self.space)
        name = self.experiment.controller.name
        if name in METHODS:
            return self._differentiable(name, folder)
        return make_controller(self.experiment, self.space)

    def _differentiable(self, name: str, folder: RunFolder | None) -> Controller:
        """A search that trains a network of mixed edges; it begins when the first candidate is asked for."""
        from nasbench.supernet.differentiable.controller import Differentiable
        from nasbench.supernet.differentiable.search import DifferentiableSearch

        experiment = self.experiment
        start = functools.partial(
            DifferentiableSearch,
            self.network_space,
            self.problem,
            name,
            seed=experiment.seed,
            device="cuda" if experiment.executor.gpus > 0 and torch.cuda.is_available() else "cpu",
            folder=None if folder is None else folder.differentiable,
            **experiment.controller.options,
        )
        return Differentiable(
            self.space, seed=experiment.seed, name=name, start=start, proposals=experiment.search.candidates
        )

    def evaluator(self, folder: RunFolder, calibration: Calibration | None) -> Evaluator:
        """The evaluator, which scores candidates.

        Args:
            folder: Folder of the run.
            calibration: Measurements before the search; None where there are none.
        """
        experiment, evaluate = self.experiment, self.brought.evaluate
        if isinstance(evaluate, Evaluator):
            return evaluate
        task = None if self.problem is None else self.problem.task
        if evaluate is not None:
            return FunctionEvaluator(self.space, evaluate, task)
        if experiment.evaluator is not None and experiment.evaluator.name not in TRAINS:
            return self._named(folder)
        problem = self.required
        estimator = self.latency_estimator(calibration)
        if self.joint is None:
            return self._trained(self.space, folder, estimator)
        plain = dataclasses.replace(self, experiment=training_alone(experiment, problem))
        short = experiment.joint.short_epochs
        shared = Shared(
            folder.path.absolute() / SHARED,
            self.trains_by() | {"device": experiment.device.model_dump(mode="json")},
            experiment.space,
            folder.path.absolute() / ARTEFACTS,
        )
        trained = plain._trained(
            self.network_space,
            folder,
            None,
            cache=experiment.cache or str(folder.path.absolute() / SHARED / "trained"),
            validate_every=short or experiment.training.validate_every,
        )
        return Compressed(
            self.joint,
            trained,
            self.device,
            stages=experiment.joint,
            shared=shared,
            objectives=experiment.objectives,
            estimator=estimator,
        )

    def latency_estimator(self, calibration: Calibration | None) -> LatencyEstimator | None:
        """The predictor of latency, with the networks beside which latency is measured; None without a calibration."""
        if calibration is None:
            return None
        return LatencyEstimator(self.network_space, self.required.task, self.device, calibration)

    def trains_by(self) -> dict[str, Any]:
        """All that the weights of a candidate depend on beside its architecture, its epochs and its seed."""
        space, problem = self.network_space, self.required
        plain_options = {name: value for name, value in vars(space).items() if isinstance(value, str | int | float)}
        return {
            "space": self.experiment.space.model_dump(mode="json"),
            "decisions": [
                [decision.name, *map(decision.text, range(len(decision.options)))] for decision in space.decisions
            ],
            "brought": None if self.brought.space is None else dict(sorted(plain_options.items())),
            "code": code_digests(space, type(problem)),
            "data": problem.digest,
            "problem": dict(problem.source),
            "training": problem.training.model_dump(mode="json", exclude={"epochs"}),
            "gpu": self.experiment.executor.gpus > 0,
            "versions": versions(*TRAIN, used_by=space),
        }

    def code(self) -> list[object]:
        """The code that builds and scores candidates and takes survivors through the recipe, see `code_digests`."""
        named = self.experiment.evaluator
        brought = self.brought.evaluate
        by_name = brought is None and named is not None and named.name not in TRAINS
        evaluator = evaluators.find(named.name) if by_name and named is not None else brought
        return [self.space, evaluator, type(self.problem), self.recipe]

    def _named(self, folder: RunFolder) -> Evaluator:
        """The evaluator that the experiment names, which is not one of those that train."""
        named = self.experiment.evaluator
        if named is None:
            raise UserError("the experiment names no evaluator.")
        task = None if self.problem is None else self.problem.task
        kind = evaluators.find(named.name)
        if not (isinstance(kind, type) and issubclass(kind, Evaluator)):
            if named.options:
                raise UserError(
                    f"evaluator {named.name!r} is a function, which takes no options such as "
                    f"{next(iter(named.options))!r}; write a class derived from Evaluator for that."
                )
            return FunctionEvaluator(self.space, cast("Callable[..., Any]", kind), task)
        parts: dict[str, Any] = {
            "task": task,
            "problem": self.problem,
            "calibration": self.calibration,
            "target_device": self.device,
            "differentiable": folder.differentiable.absolute(),
        }
        kind = kind.for_options(named.options)
        check_options(kind, named.options, what=f"evaluator {named.name!r}", reserved=("space", *parts))
        parameters = inspect.signature(kind).parameters
        return kind(self.space, **{name: part for name, part in parts.items() if name in parameters}, **named.options)

    def _trained(
        self,
        space: SearchSpace,
        folder: RunFolder,
        estimator: LatencyEstimator | None,
        *,
        cache: str | None = None,
        validate_every: int | None = None,
    ) -> Trained:
        experiment = self.experiment
        place = cache or experiment.cache
        costs = CandidateCosts(
            self.device,
            frozenset(experiment.needed_metrics),
            estimator,
            experiment.objectives,
            experiment.device.unsure_pct,
        )
        limits = training_limits(experiment, validate_every)
        if experiment.evaluator is not None and experiment.evaluator.name == SUPERNET:
            return SupernetScores(
                space,
                self.required,
                costs,
                SupernetConfig.read(dict(experiment.evaluator.options)),
                folder.supernet.absolute(),
                supernet=self.brought.supernet,
                seed=experiment.seed,
                objectives=experiment.objectives,
                limits=limits,
            )
        schedule_epochs = self._schedule_epochs()
        scheduled = {} if schedule_epochs is None else {"schedule_epochs": schedule_epochs}
        return Trained(
            space,
            self.required,
            costs,
            objectives=experiment.objectives,
            checkpoints=str(folder.checkpoints.folder.absolute()),
            cache=None if place is None else Cache(user_path(place), self.trains_by() | scheduled),
            limits=limits,
            schedule_epochs=schedule_epochs,
        )

    def _schedule_epochs(self) -> int | None:
        """See `Controller.schedule_epochs`."""
        if (
            self.brought.controller is None
            and not named_controllers.find(self.experiment.controller.name).multi_fidelity
        ):
            return None
        return self.controller().schedule_epochs

    def study(self, folder: RunFolder, evaluator: Evaluator, start_with: Sequence[Architecture] = ()) -> Study:
        """The study of a run, which goes on where a process before this one stood.

        Args:
            folder: Folder of the run; the caller holds its lock.
            evaluator: Evaluator of the same run.
            start_with: Architectures that are evaluated first.
        """
        experiment = self.experiment
        record = DiskRecord(
            folder.journal,
            self.space,
            experiment.objectives,
            name=study_name(experiment.name, experiment.storage, folder),
            storage=experiment.storage,
            parts=None if type(evaluator).parts is Evaluator.parts else evaluator.parts,
        )
        metrics = evaluator.metrics
        return Study(
            self.controller(folder),
            experiment.objectives,
            experiment.reward,
            experiment.search,
            record,
            outcomes=experiment.outcomes,
            full_epochs=experiment.training.epochs,
            seed=experiment.seed,
            state=folder.controller,
            workers=experiment.executor.workers,
            clock=SimulatedClock() if evaluator.simulated else None,
            identity=evaluator.identity,
            history=None if type(evaluator).history is Evaluator.history else evaluator.history,
            start_with=start_with,
            stop_at=experiment.stop_at,
            quality=metrics[0] if metrics else None,
        )

    def executor(self, folder: RunFolder, evaluator: Evaluator) -> Executor:
        """The executor, which runs several candidates at a time.

        Args:
            folder: Folder of the run.
            evaluator: Evaluator of the run; one that looks results up has simulated workers.
        """
        experiment = self.experiment
        options = ExecutorOptions(
            experiment.executor,
            folder.checkpoints,
            folder.code_folder(),
            experiment.ray,
            experiment.scheduler,
            experiment.search.candidate_minutes,
        )
        return Simulated(options) if evaluator.simulated else get_executor(options, evaluator)

    def callbacks(self) -> list[Callback]:
        """The callbacks that the experiment names, and those that were given as objects."""
        named = []
        for entry in self.experiment.callbacks:
            kind = callback_classes.find(entry.name)
            check_options(kind, entry.options, what=f"callback {entry.name!r}")
            named.append(kind(**entry.options))
        return [*named, *self.brought.callbacks]


CALLBACKS: dict[str, type[Callback]] = {"mlflow": MlflowCallback, "wandb": WandbCallback}

callback_classes: Registry[Callback] = Registry("callback", Callback, CALLBACKS, group="nasbench.callbacks")


def prepare(experiment: Experiment, brought: Brought | None = None) -> Prepared:
    """Make the parts of an experiment.

    Args:
        experiment: Experiment to prepare.
        brought: Parts that were given as objects.

    Raises:
        UserError: a name, an option or a combination is not allowed, data are missing, or a runtime is not installed.
    """
    brought = brought or Brought()
    network = brought.space if brought.space is not None else named_space(experiment)
    entries = list(experiment.recipe)
    recipes = RecipeSpace(entries) if has_choice(entries) else None
    kind = _evaluator_kind(experiment, brought)
    if kind is Replayed:
        network, recipes = measured(experiment, network, recipes)
    joint = None if recipes is None else JointSpace(network, recipes)
    trains = brought.evaluate is None and (experiment.evaluator is None or experiment.evaluator.name in TRAINS)
    if not trains and joint is not None and not (kind is not None and kind.searches_recipes):
        raise UserError(
            "the recipe leaves something to choose, and the evaluator is not one that compresses networks; leave the "
            "evaluator out, or write a recipe without choices."
        )
    recipe = Recipe(()) if joint is not None else Recipe.parse(entries)
    prepared = Prepared(
        experiment, network, get_device(experiment.device, published_device), recipe, joint, brought=brought
    )
    _check_controller(experiment, prepared.controller(), prepared.searches_recipes)
    if experiment.baseline is not None and experiment.storage is not None:
        raise UserError(
            f"baseline is {experiment.baseline!r} with storage {experiment.storage!r}: the record of a baseline lies "
            f"in the run folder; leave storage out, or search at random in a run of its own and use nasbench compare."
        )
    problem = brought.problem
    if trains:
        problem = _checked_problem(prepared)
    elif experiment.survivor_count:
        raise UserError(
            f"survivors is {experiment.survivors}, and the evaluator trains no network that could survive; set "
            f"survivors: 0."
        )
    elif (
        problem is None
        and not (kind is not None and kind.looks_up)
        and (experiment.data is not None or experiment.problem.name not in PROBLEMS)
    ):
        problem = load_problem(experiment)
    if experiment.storage is not None:
        open_storage(experiment.storage, Path())
    calibration = None if problem is None else stored_calibration(experiment, problem.task, prepared.device)
    prepared = dataclasses.replace(prepared, problem=problem, calibration=calibration)
    _check_differentiable(prepared)
    prepared.callbacks()
    check_start(prepared)
    evaluator = prepared.evaluator(RunFolder(Path()), None)
    _check_metrics(experiment, evaluator.metrics)
    scores = evaluator.training if isinstance(evaluator, Compressed) else evaluator
    if isinstance(scores, SupernetScores) and (experiment.survivor_count or prepared.searches_recipes):
        scores.check_storable()
    return prepared


def _evaluator_kind(experiment: Experiment, brought: Brought) -> type[Evaluator] | None:
    """The class of the evaluator that does not train; None where it trains, or is a function."""
    if isinstance(brought.evaluate, Evaluator):
        return type(brought.evaluate)
    named = experiment.evaluator
    if brought.evaluate is not None or named is None or named.name in TRAINS:
        return None
    kind = evaluators.find(named.name)
    return kind.for_options(named.options) if isinstance(kind, type) and issubclass(kind, Evaluator) else None


def measured(
    experiment: Experiment, network: SearchSpace, recipes: RecipeSpace | None
) -> tuple[SearchSpace, RecipeSpace | None]:
    """The networks and the recipes that are in the table of an experiment.

    Args:
        experiment: Experiment whose evaluator looks results up in a table that was built.
        network: Space of networks.
        recipes: Space of recipes; None where the recipe leaves nothing to choose.
    """
    named = experiment.evaluator
    assert named is not None, "the caller asks"
    table = read_table(user_path(str(named.options["table"])))
    return measured_part(table, network, recipes)


def _checked_problem(prepared: Prepared) -> Problem:
    """The problem that candidates are trained for, after the checks of the device, the runtimes and the data."""
    experiment = prepared.experiment
    _check_runtimes(experiment, prepared)
    problem = prepared.brought.problem or load_problem(experiment)
    _check_goals(experiment, problem)
    if isinstance(problem, Supervised):
        batch, images = problem.training.batch_size, len(problem.data.train)
        if batch > images:
            raise UserError(f"training.batch_size is {batch}; {problem.data.name} has {images} training images.")
    _check_space_fits(prepared.network_space, problem)
    for folder in _teachers(prepared):
        Workbench(problem, experiment.seed).load_teacher(folder)
    return problem


def load_problem(experiment: Experiment) -> Problem:
    """The problem of the sections problem, data and training; UserError if its data cannot be loaded."""
    data = None if experiment.data is None else experiment.data.model_dump(mode="json")
    return make_problem(experiment.problem.model_dump(mode="json"), data, experiment.training)


def _check_space_fits(network: SearchSpace, problem: Problem) -> None:
    """Refuse one of our spaces of image classifiers for a problem that needs another kind of network."""
    task = problem.task
    if not network.images_to_vectors or task.is_image_to_vector:
        return
    raise UserError(
        f"space {network.name!r} builds networks that take one image and give one vector, and this problem takes "
        f"{' and '.join(str(spec.shape) for spec in task.inputs)} and wants "
        f"{' and '.join(str(spec.shape) for spec in task.outputs)}; take a space such as mlp for rows or unet for maps "
        f"of pixels, or write one, whose build(arch, task) reads task.inputs and task.outputs."
    )


def named_space(experiment: Experiment) -> SearchSpace:
    """The space that an experiment names; UserError if it cannot be made."""
    named = experiment.space
    try:
        return get_space(named.name, **named.options)
    except UserError:
        if named.name.startswith("__main__:") or "<locals>" in named.name:
            raise UserError(
                f"the space {named.name!r} was given as an object by a notebook or a script; go on from there with "
                f"nasbench.resume(folder, space=...), or move its class into a module and name it module:Class."
            ) from None
        raise


def training_alone(experiment: Experiment, problem: Problem) -> Experiment:
    """The experiment with the quality for its only objective: nothing else is measured, limited or rewarded.

    Args:
        experiment: Experiment from which the new one is made.
        problem: Problem whose quality is the objective.
    """
    quality = {problem.quality: problem.metrics[problem.quality].goal or "max"}
    return Experiment.model_validate(
        experiment.model_dump() | {"objectives": quality, "reward": {"name": "scalar"}, "recipe": (), "stop_at": {}}
    )


def training_limits(experiment: Experiment, validate_every: int | None = None) -> TrainingLimits:
    """The limits of the training of one candidate."""
    every = validate_every or experiment.training.validate_every or (1 if experiment.scheduler else None)
    return TrainingLimits(
        threads=experiment.executor.threads,
        gpus=experiment.executor.gpus,
        minutes=experiment.search.candidate_minutes,
        validate_every=every,
        checkpoint_every=experiment.checkpoints.every,
    )


def make_controller(experiment: Experiment, space: SearchSpace) -> Controller:
    """The controller that an experiment names.

    One of several fidelities goes up to the epochs of the training, and one that weighs costs knows `search.max_hours`.

    Raises:
        UserError: the name or an option is unknown, or an option has a bad value.
    """
    name, options = experiment.controller.name, experiment.controller.options
    if named_controllers.find(name).multi_fidelity:
        options = {"max_epochs": experiment.training.epochs, **options}
    hours = experiment.search.max_hours
    if named_controllers.find(name).takes_budget and hours is not None:
        workers = 1 if experiment.executor.name == "inline" else experiment.executor.workers
        options = {"budget_seconds": 3600 * hours * workers, **options}
    return get_controller(name, space, seed=experiment.seed, **options)


def stored_calibration(experiment: Experiment, task: Task, device: Device) -> Calibration | None:
    """The calibration that an experiment names, None if it names none; UserError if it does not hold for it."""
    if experiment.device.calibration is None:
        return None
    setting = CalibrationScope.of(experiment.space.name, experiment.space.options, task, device)
    return load_calibration(user_path(experiment.device.calibration), setting)


def _check_goals(experiment: Experiment, problem: Problem) -> None:
    """Refuse an objective that asks for what is worst in a metric of the problem."""
    for objective in experiment.objectives:
        metric = problem.metrics.get(objective.metric)
        if metric is not None and metric.goal not in (None, objective.goal):
            raise UserError(
                f"{objective.metric} with goal {objective.goal!r} asks for what is worst in {metric.summary or 'it'}; "
                f"write goal: {metric.goal}, or drop the objective."
            )


def _check_metrics(experiment: Experiment, available: Sequence[str]) -> None:
    """Refuse a metric that the evaluator never gives."""
    if not available:
        return
    for metric in sorted(experiment.needed_metrics):
        validated = metric.replace("test_", "val_", 1)
        if metric not in available and validated in available:
            raise UserError(
                f"metric {metric!r} is not known during a search, for test data are read once, at the end. Did you "
                f"mean {validated!r}?"
            )
        one_of("metric", metric, available)


def _check_controller(experiment: Experiment, controller: Controller, joint: bool) -> None:
    if controller.name == "sequential" and not joint:
        raise UserError(
            "controller 'sequential' decides a recipe step by step, and this one leaves nothing to choose; write an "
            "option of the recipe as {choice: [...]}."
        )
    several = isinstance(experiment.reward, Pareto) and len(experiment.objectives) > 1
    if several and not controller.multi_objective:
        raise UserError(
            f"controller {controller.name!r} takes one score, and reward 'pareto' gives "
            f"{len(experiment.objectives)}; use reward weighted_product or scalar, or another controller."
        )


def _check_differentiable(prepared: Prepared) -> None:
    """Refuse a search that a controller of mixed edges cannot do, before it begins."""
    controller, evaluator = prepared.experiment.controller, prepared.experiment.evaluator
    by_shared_weights = evaluator is not None and evaluator.name == "shared_weights"
    if by_shared_weights and prepared.experiment.baseline is not None:
        raise UserError("evaluator 'shared_weights' knows nothing of what a baseline draws; set baseline: null.")
    if prepared.brought.controller is not None or controller.name not in METHODS:
        if by_shared_weights:
            raise UserError(
                f"evaluator 'shared_weights' needs a controller that trains them, one of {', '.join(METHODS)}, and not "
                f"{controller.name!r}."
            )
        return
    from nasbench.supernet.differentiable.search import check_search

    if prepared.searches_recipes:
        raise UserError(
            f"controller {controller.name!r} searches architectures alone, and the recipe leaves something to choose; "
            f"write a recipe without choices, or take another controller."
        )
    check_search(prepared.network_space, prepared.problem, controller.name, controller.options)


def _teachers(prepared: Prepared) -> list[str]:
    if prepared.joint is not None:
        return prepared.joint.recipes.teachers()
    return [step.options()["teacher"] for step in prepared.recipe.steps if step.options().get("teacher")]


def _check_runtimes(experiment: Experiment, prepared: Prepared) -> None:
    """Refuse an experiment whose device or runtimes cannot be used here."""
    device, joint = prepared.device, prepared.joint
    if joint is not None:
        backends = set(joint.recipes.backends())
        _check_joint(experiment, device)
    else:
        backends = {step.options()["backend"] for step in prepared.recipe.steps if step.name == "compile"}
    unavailable = [get_backend(name).why_unavailable() for name in sorted(backends)]
    if experiment.needs_latency or experiment.survivor_count or joint is not None:
        unavailable.insert(0, device.why_unavailable())
    for missing in unavailable:
        if missing:
            raise UserError(missing)
    device.check(prepared.network_space)
    if experiment.executor.gpus > 0 and experiment.ray.address is None and not torch.cuda.is_available():
        raise UserError(
            f"executor.gpus is {experiment.executor.gpus:g}, but torch finds no GPU on this machine; set gpus: 0, or "
            f"connect to a cluster with ray.address."
        )
    tunes = experiment.survivor_count and any(step.options().get("epochs") for step in prepared.recipe.steps)
    if tunes and experiment.training.precision == "fp16" and not torch.cuda.is_available():
        raise UserError(
            "training.precision is fp16, and survivors are fine-tuned in this process, where torch finds no GPU; use "
            "bf16, or start the search on a machine with a GPU."
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


def _check_joint(experiment: Experiment, device: Device) -> None:
    """Refuse what a search over recipes cannot do."""
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
    if named_controllers.find(experiment.controller.name).multi_fidelity:
        raise UserError(
            f"controller {experiment.controller.name!r} compares candidates after fewer epochs, and the recipe leaves "
            f"something to choose; use another controller, and set joint.short_epochs to end training early."
        )
    for metric in ("energy_mj", "peak_memory_bytes", *FOOTPRINT):
        if metric in experiment.needed_metrics:
            raise UserError(f"{metric} is not known of artefacts, and the recipe leaves something to choose; drop it.")
