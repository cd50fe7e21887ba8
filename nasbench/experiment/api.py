"""Searches from Python: the parts in, a result out."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from controllers import Controller
from nasbench.evaluators.evaluator import Evaluator
from nasbench.experiment.build import Brought, Prepared, prepare
from nasbench.experiment.experiment import SUPERNET
from nasbench.experiment.loading import parse_experiment
from nasbench.experiment.result import Result
from nasbench.experiment.run import run_search
from nasbench.experiment.stored import start_run, stored_experiment
from nasbench.problems.problem import Problem
from nasbench.problems.supervised import Supervised
from nasbench.report.progress import SearchProgress
from nasbench.search.callbacks import Callback
from nasbench.storage.run_folder import RunFolder
from nasbench.supernet.differentiable.registry import named_controllers
from nasbench.supernet.supernet import Supernet
from nasbench_registry import UserError
from nasbench_registry.files import user_path
from search_spaces import SearchSpace, spaces
from search_spaces.registry import declared_space, made_space

Section = Mapping[str, Any]
MakeController = Callable[[SearchSpace], Controller]


def search(
    space: SearchSpace | type[SearchSpace] | str | Section,
    *,
    evaluate: Callable[..., Any] | Evaluator | Supernet | str | Section | None = None,
    problem: Problem | str | Section | None = None,
    controller: str | Section | type[Controller] | MakeController = "random",
    objectives: Mapping[str, Any] | Sequence[Section],
    reward: str | Section | None = None,
    candidates: int,
    folder: str | Path,
    workers: int = 1,
    seed: int = 0,
    device: str | Section | None = None,
    recipe: Sequence[Any] = (),
    survivors: int | Sequence[int] = 0,
    start_with: Sequence[str] | str | Path | Section = (),
    stop_at: Mapping[str, float] | None = None,
    callbacks: Sequence[Callback | str | Section] = (),
    scheduler: str | Section | None = None,
    data: str | Section | None = None,
    training: Section | None = None,
    executor: Section | None = None,
    ray: Section | None = None,
    checkpoints: Section | None = None,
    outcomes: Section | None = None,
    budget: Section | None = None,
    joint: Section | None = None,
    gate: Section | None = None,
    baseline: str | Section | None = None,
    storage: str | None = None,
    cache: str | Path | None = None,
    tensorboard: bool = False,
    name: str | None = None,
    accept_changed_code: bool = False,
    accept_changed_data: bool = False,
    progress: bool = True,
) -> Result:
    """Search a space; if the folder holds the same search already, go on with it.

    What has a section in an experiment file may be given as that section, a dict; docs/experiments.md has their keys.
    This process is left as it was: no logging is set up, no signal handler, no number of threads.

    Args:
        space: Object or class of a search space, its name, ``module:Class``, or {"name": ..., option: value}. A class
            that was defined in a notebook travels to Ray workers by value.
        evaluate: Function of a `Candidate` that returns its metrics by name, an `Evaluator`, the name of one, or a
            supernet, whose weights all candidates share.
            None trains the network on `problem` or `data`.
        problem: Task of the networks, such as ``image_classification("digits", epochs=3)``; an object of a class
            derived from `Problem`; or the section of an experiment, for `data` and `training`.
        controller: Its name, {"name": ..., option: value}, a class, or a function that makes one for a space.
        objectives: {"val_acc_pct": "max", "latency_ms": minimize(limit=5)}, or the list of an experiment file.
        reward: What makes scores of metrics: its name or its section. None is every objective by itself, where the
            controller takes several scores, and else the first objective.
        candidates: Number of candidates that are done or were stopped early at which the search ends.
        folder: Folder of the run, created if it does not exist.
        workers: Candidates at a time; more than one run under Ray.
        seed: Random seed of every random choice.
        device: Device whose latency counts: its name, or its section.
        recipe: Steps that survivors go through: objects, or as in an experiment file.
        survivors: Number of candidates that go through the recipe, or a list of their numbers.
        start_with: Architectures in the notation of the space that are evaluated first; the folder of another run, for
            its best ones; or a mapping as in an experiment file, such as {"proxies": ["jacov", "params"]}.
        stop_at: Values of metrics; a candidate that reaches all of them ends the search.
        callbacks: Objects that hear how the search goes, or ``module:Class``.
        scheduler: Scheduler that stops candidates early, under Ray: its name or its section.
        data: Data set that networks are trained on, where there is no `problem`.
        training: Section of the training of networks, where there is no `problem`.
        executor: Section of the processors and GPUs of a candidate.
        ray: Section of the cluster.
        checkpoints: Section of the weights that are kept.
        outcomes: Section of the consequences of a failure.
        budget: Further keys of the section `search`: max_hours, max_failures, max_disk_gb, candidate_minutes.
        joint: Section of the early stages of a search over recipes.
        gate: Section of the gate, which rolls steps of the recipe back.
        baseline: Baseline with which the controller is compared.
        storage: URL of an Optuna storage for the record.
        cache: Folder of results that runs share.
        tensorboard: Whether scalars are written into the run folder.
        name: Name of the experiment; None is the name of the folder.
        accept_changed_code: Whether a search that is there goes on, although code that builds or scores networks was
            edited since.
        accept_changed_data: Whether it goes on, although the images changed.
        progress: Whether a bar is shown, on a terminal or in a notebook.

    Raises:
        UserError: something that was given is not allowed, or nothing was found that meets the limits.
    """
    callbacks, recipe = _listed("callbacks", callbacks), _listed("recipe", recipe)
    supernet = evaluate if isinstance(evaluate, Supernet) else None
    if supernet is not None and problem is None and data is None:
        problem = supernet.problem
    brought = Brought(
        space=_space_object(space),
        evaluate=_evaluate_object(evaluate),
        supernet=supernet,
        problem=problem if isinstance(problem, Problem) else None,
        controller=_controller_maker(controller, seed),
        callbacks=tuple(callback for callback in callbacks if isinstance(callback, Callback)),
    )
    parallel = workers > 1 or scheduler is not None
    experiment: dict[str, Any] = {
        "name": name or Path(folder).name,
        "seed": seed,
        "space": _described_space(space),
        "controller": _described(controller),
        "objectives": objectives,
        "reward": _reward(reward, objectives, controller),
        "search": {"candidates": candidates, **(budget or {})},
        "executor": {"name": "ray" if parallel else "inline", "workers": workers, **(executor or {})},
        "recipe": _written_recipe(recipe),
        "survivors": survivors,
        "start_with": _start_with(start_with),
        "stop_at": {} if stop_at is None else stop_at,
        "callbacks": [_described_callback(callback) for callback in callbacks if not isinstance(callback, Callback)],
        "tensorboard": tensorboard,
    }
    if evaluate is not None:
        experiment["evaluator"] = _described(evaluate)
    if problem is not None:
        experiment["problem"] = _described_problem(problem)
    if brought.problem is not None:
        experiment["training"] = brought.problem.training.model_dump(mode="json")
        if isinstance(brought.problem, Supervised):
            experiment["data"] = dict(brought.problem.data_source)
    sections = {
        "device": {"name": device} if isinstance(device, str) else device,
        "scheduler": scheduler,
        "data": data,
        "training": training,
        "ray": ray,
        "checkpoints": checkpoints,
        "outcomes": outcomes,
        "joint": joint,
        "gate": gate,
        "baseline": baseline,
        "storage": storage,
        "cache": None if cache is None else str(cache),
    }
    experiment |= {key: value for key, value in sections.items() if value is not None}
    prepared = prepare(parse_experiment(experiment), brought)
    run_folder = RunFolder(user_path(folder))
    with run_folder.locked():
        start_run(
            run_folder, prepared.experiment, _code_folder(brought), f"nasbench.search(..., folder={str(folder)!r})"
        )
        _run(prepared, run_folder, progress, accept_changed_code, accept_changed_data)
    return Result(run_folder, brought)


def resume(
    folder: str | Path,
    *,
    space: SearchSpace | type[SearchSpace] | None = None,
    evaluate: Callable[..., Any] | Evaluator | Supernet | None = None,
    problem: Problem | None = None,
    controller: type[Controller] | MakeController | None = None,
    callbacks: Sequence[Callback] = (),
    accept_changed_code: bool = False,
    accept_changed_data: bool = False,
    progress: bool = True,
) -> Result:
    """Go on with a search that was interrupted; one that is complete is read.

    Args:
        folder: Folder of the run.
        space: Space, if it was given as an object whose class no module holds.
        evaluate: Function, evaluator or supernet, if it was given as an object.
        problem: Problem that networks are for, if it was given as an object.
        controller: Controller, if it was given as a class or a function.
        callbacks: Objects that hear how the search goes.
        accept_changed_code: Whether it goes on, although code that builds or scores networks was edited since.
        accept_changed_data: Whether it goes on, although the images changed.
        progress: Whether a bar is shown.

    Raises:
        UserError: the folder holds no run, a part of it is needed and was not given, or code or images changed.
    """
    run_folder = RunFolder(user_path(folder)).require()
    experiment = stored_experiment(run_folder)
    code_folder = str(run_folder.code_folder())
    if code_folder not in sys.path:
        sys.path.insert(0, code_folder)
    brought = Brought(
        space=None if space is None else _space_object(space),
        evaluate=_evaluate_object(evaluate),
        supernet=evaluate if isinstance(evaluate, Supernet) else None,
        problem=problem,
        controller=None if controller is None else _controller_maker(controller, experiment.seed),
        callbacks=tuple(callbacks),
    )
    prepared = prepare(experiment, brought)
    with run_folder.locked():
        _run(prepared, run_folder, progress, accept_changed_code, accept_changed_data)
    return Result(run_folder, brought)


def _run(prepared: Prepared, run_folder: RunFolder, progress: bool, accept_code: bool, accept_data: bool) -> None:
    with _as_it_was(), SearchProgress() if progress else contextlib.nullcontext() as bar:
        run_search(
            prepared,
            run_folder,
            bar,
            handle_signals=False,
            accept_changed_code=accept_code or None,
            accept_changed_data=accept_data,
        )


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Give the caller's process back its threads and its environment when the block ends."""
    threads, environment = torch.get_num_threads(), dict(os.environ)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for key in set(os.environ) - set(environment):
            del os.environ[key]
        os.environ.update(environment)


def _space_object(space: Any) -> SearchSpace | None:
    """The space, if it was given as an object or a class."""
    if isinstance(space, SearchSpace):
        return declared_space(space, type(space).__qualname__)
    if isinstance(space, type) and issubclass(space, SearchSpace):
        return made_space(space, space.__qualname__, {})
    if isinstance(space, str | Mapping):
        return None
    raise UserError(
        f"the space is {space!r}; give a name, a class derived from search_spaces.SearchSpace, or an object of one."
    )


def _listed(section: str, entries: Any) -> list[Any]:
    """The entries of a section that is a list."""
    if isinstance(entries, str | Mapping) or not isinstance(entries, Iterable):
        raise UserError(f"{section} is {entries!r}; write it as a list.")
    return list(entries)


def _evaluate_object(evaluate: Any) -> Any:
    """The function or the evaluator, if it was given as an object."""
    if evaluate is None or isinstance(evaluate, str | Mapping | Supernet):
        return None
    if isinstance(evaluate, type) or not callable(evaluate):
        raise UserError(
            f"evaluate is {evaluate!r}; give a function of a candidate, an object of a class derived from "
            f"nasbench.Evaluator, a supernet, or a name."
        )
    return evaluate


def _described_callback(callback: Any) -> Any:
    if not isinstance(callback, str | Mapping):
        raise UserError(
            f"a callback is {callback!r}; give an object of a class derived from nasbench.Callback, or module:Class."
        )
    return callback


def _described_space(space: Any) -> dict[str, Any]:
    """Name and options of a space, by which it is loaded again where its class can be imported."""
    if isinstance(space, str):
        return {"name": space}
    if isinstance(space, Mapping):
        return dict(space)
    kind = space if isinstance(space, type) else type(space)
    names = {entry: name for name, entry in spaces.entries.items()}
    described: dict[str, Any] = {"name": names.get(kind, _object_name(kind))}
    if not isinstance(space, type):
        for name in inspect.signature(kind).parameters:
            value = getattr(space, name, None)
            if isinstance(value, str | int | float | bool | list | tuple | dict):
                described[name] = list(value) if isinstance(value, tuple) else value
    return described


def _object_name(part: Any) -> str:
    """``module:name`` of a class or a function, or of the class of an object."""
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}:{named.__qualname__}"


def _described(part: Any) -> Any:
    """The name or the section of a part; of an object, the name of its class or function."""
    if isinstance(part, Supernet):
        return {"name": SUPERNET}
    return part if isinstance(part, str | Mapping) else {"name": _object_name(part)}


def _controller_maker(controller: Any, seed: int) -> MakeController | None:
    if isinstance(controller, str | Mapping):
        return None
    if isinstance(controller, type) and issubclass(controller, Controller):
        kind = controller
        return lambda space: kind(space, seed=seed)
    if callable(controller):
        make: MakeController = controller
        return make
    raise UserError(
        f"the controller is {controller!r}; give a name, a class derived from controllers.Controller, or a function."
    )


def _reward(reward: str | Section | None, objectives: Any, controller: Any) -> Any:
    if reward is not None:
        return {"name": reward} if isinstance(reward, str) else reward
    several = len(objectives) > 1
    if isinstance(controller, str | Mapping):
        kind: Any = named_controllers.find(controller if isinstance(controller, str) else str(controller.get("name")))
    else:
        kind = controller
    return {"name": "pareto" if several and getattr(kind, "multi_objective", False) else "scalar"}


def _described_problem(problem: Problem | str | Section) -> dict[str, Any]:
    """The section of a problem; of an object, the name of its class and the options that it keeps."""
    if isinstance(problem, Problem):
        return dict(problem.source)
    if isinstance(problem, str):
        return {"name": problem}
    if isinstance(problem, Mapping):
        return dict(problem)
    raise UserError(
        f"the problem is {problem!r}; give a name, an object of a class derived from nasbench.Problem, or what "
        f"image_classification(...), image_segmentation(...) or regression(...) gives."
    )


def _written_recipe(recipe: Sequence[Any]) -> list[Any]:
    from nasbench_compression import Recipe, Step

    return [Recipe((entry,)).to_json()[0] if isinstance(entry, Step) else entry for entry in recipe]


def _start_with(start_with: Any) -> Any:
    if isinstance(start_with, str | Path):
        return {"run": str(start_with)}
    if isinstance(start_with, Mapping):
        return dict(start_with)
    return tuple(start_with) if isinstance(start_with, Iterable) else start_with


def _code_folder(brought: Brought) -> Path:
    """The folder of the code of the objects: that of a module, or the working folder for what a notebook defines."""
    for part in (brought.space, brought.evaluate, brought.problem):
        if part is None:
            continue
        with contextlib.suppress(TypeError, OSError):
            file = inspect.getsourcefile(part if inspect.isfunction(part) else type(part))
            if file and Path(file).exists() and "site-packages" not in file:
                return Path(file).resolve().parent
    return Path.cwd()
