"""Models on disk: weights as safetensors, everything else as JSON, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import nn

from nasbench.models.build import Build, FunctionBuild, read_build
from nasbench.models.code import code_folders, importable
from nasbench.models.deployment import write_deployment
from nasbench.models.reference import difference, reference as answers
from nasbench.storage.checkpoints import save_weights
from nasbench.storage.code_digest import (
    accepts_changed_code,
    changed_code,
    changes,
    code_digests,
    moved_versions,
    versions,
)
from nasbench.storage.files import write_json
from nasbench_compression import CompiledModel, Recipe, Step, get_backend, get_step
from nasbench_compression.copying import copy_network, summary
from nasbench_compression.reference import OTHER_SEED, Reference
from nasbench_compression.step import seeded
from nasbench_registry import UserError
from search_spaces import Task

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
KEYS = ("task", "steps", "data", "training", "normalization", "metrics", "code")
BUILDS = ("search_spaces", "nasbench_compression")
"""Packages of this project that build what a folder describes."""


@dataclass(frozen=True)
class Origin:
    """Where a model comes from: what is needed to train it further and to feed it.

    Attributes:
        data: Name and options of the data set.
        training: Training section of the experiment.
        normalization: How images were normalised, see `normalization_of`, and the names of the labels.
        metrics: Metrics that were measured of it.
        problem: Name and options of the problem.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    normalization: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    problem: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredModel:
    """A model that was loaded, with its description.

    Attributes:
        model: Network in eval mode.
        build: How its network is built before the steps.
        task: Input shape and classes.
        steps: Compression steps that were applied, in order, with their notes.
        origin: Data, training and metrics of the model.
    """

    model: nn.Module
    build: Build
    task: Task
    steps: Sequence[tuple[Step, dict[str, Any]]]
    origin: Origin


def save_model(
    folder: Path,
    model: nn.Module | CompiledModel,
    *,
    build: Build,
    task: Task,
    steps: Sequence[tuple[Step, dict[str, Any]]] = (),
    origin: Origin | None = None,
) -> Path:
    """Write a model into a folder: its weights, or its artefact if it is compiled, and `model.json`.

    Beside an artefact stand a README that says how to run it without this project, and checksums.

    Args:
        folder: Folder to write; created if it is not there.
        model: Network, or the compiled model.
        build: How the network was built before any step.
        task: Input shape and classes.
        steps: Compression steps that were applied to it, in order, with their notes.
        origin: Data, training and metrics of the model.

    Returns:
        The file of the weights or of the artefact.

    Raises:
        UserError: What would be built again from the description gives other outputs than the network; nothing is
            written then.
    """
    if isinstance(model, nn.Module):
        _check_comes_back(model, build, task, steps)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, CompiledModel):
        file = model.save(folder)
        about: dict[str, Any] = {"compiled": model.describe() | {"file": file.name, "options": dict(model.options)}}
    else:
        file = folder / WEIGHTS
        save_weights(model, file)
        about = {"weights": WEIGHTS}
    origin = origin or Origin()
    built, applied = build.to_json(), [_described(step) for step, _ in steps]
    description = {
        "format": FORMAT,
        **about,
        **built,
        "task": task.to_json(),
        "steps": [named | {"note": note} for named, (_, note) in zip(applied, steps, strict=True)],
        "problem": dict(origin.problem),
        "data": dict(origin.data),
        "training": dict(origin.training),
        "normalization": dict(origin.normalization),
        "metrics": dict(origin.metrics),
        "code": {
            "folders": code_folders([built, applied, dict(origin.problem), dict(origin.data)]),
            "sha256": code_digests(build.code, [step for step, _ in steps]),
            "versions": versions(*BUILDS, used_by=build.code),
            "reference": None if isinstance(model, CompiledModel) else answers(model, task),
        },
    }
    write_json(folder / DESCRIPTION, description)
    if isinstance(model, CompiledModel):
        write_deployment(folder, description)
    return file


def load_model(folder: Path, *, accept_changed_code: bool | None = None) -> StoredModel:
    """Read what `save_model` wrote: build the architecture, restore the steps, load the weights.

    Args:
        folder: Folder of the model.
        accept_changed_code: Whether a network is given although the code that builds it was edited since, or gives
            other outputs; None asks the environment (`accept.ACCEPT`).

    Raises:
        UserError: The folder is no such folder, is damaged, or holds a compiled artefact, which has no weights to load;
            or what is built now is not the network that was stored.
    """
    about = read_description(folder)
    if "compiled" in about:
        raise UserError(
            f"{folder} holds an artefact compiled by {about['compiled']['backend']}, which cannot be changed any more; "
            f"give the folder of a stage before it."
        )
    task = Task.from_json(about["task"])
    accept = accepts_changed_code(accept_changed_code)
    with importable(folder, about):
        build = read_build(about)
        steps = [(get_step(stored["name"], **stored["options"]), stored["note"]) for stored in about["steps"]]
        edited = changes(about["code"]["sha256"], code_digests(build.code, [step for step, _ in steps]))
        if edited and not accept:
            raise changed_code(str(folder), edited)
        model = _built(build, task, steps)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (FileNotFoundError, safetensors.SafetensorError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(f"{folder / WEIGHTS} does not hold the weights that model.json describes: {why}.") from None
    mismatch = None if accept else difference(model, task, about["code"]["reference"])
    if mismatch is not None:
        moved = moved_versions(about["code"]["versions"], versions(*BUILDS, used_by=build.code))
        raise changed_code(str(folder), [mismatch, *moved])
    return StoredModel(model.eval(), build, task, tuple(steps), read_origin(about))


def _built(build: Build, task: Task, steps: Sequence[tuple[Step, dict[str, Any]]]) -> nn.Module:
    """The structure of a model, without its weights."""
    model = build.network(task)
    for step, note in steps:
        model = step.restore(model, note)
    return model


def _check_comes_back(model: nn.Module, build: Build, task: Task, steps: Sequence[tuple[Step, dict[str, Any]]]) -> None:
    """Refuse a model that is not the same when it is built again and given its weights."""
    inputs = task.example(2, seed=0)
    ours = copy_network(model).cpu()
    several = len(inputs) > 1
    expected = answers(ours, task) if several else {}
    try:
        reference = None if several else Reference.of("storing a model", ours, inputs[0])
    except UserError:
        if not isinstance(build, FunctionBuild):
            raise
        reference = None  # what a function's network takes is its own business; its structure is compared all the same
    try:
        with seeded(OTHER_SEED, device=torch.device("cpu")):
            built = _built(build, task, [(step, _plain(note)) for step, note in steps])
        built.load_state_dict(ours.state_dict())
        off = 0.0 if reference is None else reference.off(built)
    except UserError:
        raise
    except Exception as error:  # whatever the user's network raises
        raise UserError(
            f"this model cannot be stored, for it cannot be built again from {build.text} and the notes of its steps "
            f"({summary(error)}); make its structure depend on nothing but the options that it is built with."
        ) from error
    mismatch = difference(built, task, expected) if several else None
    if mismatch is not None:
        raise UserError(f"this model cannot be stored, for of what is built again from {build.text}, {mismatch}.")
    if reference is not None and not reference.explains(off, exact=True):
        raise UserError(
            f"this model cannot be stored, for what is built again from {build.text}, the notes of its steps and its "
            f"weights gives outputs that are off by {off:.2g} of their size; keep all that it uses in parameters "
            f"and buffers, and hooks in the code that builds it."
        )


def _plain(note: dict[str, Any]) -> dict[str, Any]:
    """The note as it is read again."""
    read: dict[str, Any] = json.loads(json.dumps(note))
    return read


def load_compiled(folder: Path) -> CompiledModel:
    """Load the compiled artefact that `save_model` wrote; UserError if the folder holds none."""
    about = read_description(folder)
    if "compiled" not in about:
        raise UserError(f"{folder} holds no compiled artefact; compile it with nasbench export.")
    compiled = about["compiled"]
    options = compiled.get("options") or {"threads": compiled["threads"]}
    return get_backend(compiled["backend"], **options).load(folder / compiled["file"])


def read_description(folder: Path) -> dict[str, Any]:
    """The `model.json` of a folder; UserError if there is none that can be read."""
    file = folder / DESCRIPTION
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder} is no model folder, for there is no {file}; give a folder such as RUN/survivors/1/searched."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not JSON ({error}); the folder is damaged, make it again.") from None
    file_format = about.get("format") if isinstance(about, dict) else None
    if file_format != FORMAT:
        raise UserError(f"{file} has format {file_format!r}; this version reads format {FORMAT}.")
    missing = [key for key in (*(() if "build" in about else ("space", "architecture")), *KEYS) if key not in about]
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}; the folder is damaged, make it again.")
    return about


def read_origin(about: Mapping[str, Any]) -> Origin:
    """Where the model of a `model.json` comes from."""
    return Origin(
        about["data"], about["training"], about["normalization"], about["metrics"], about.get("problem") or {}
    )


def _described(step: Step) -> dict[str, Any]:
    """Name and options; a step that is not ours is named module:Class, as a recipe names it."""
    name, options = next(iter(Recipe((step,)).to_json()[0].items()))
    return {"name": name, "options": options}
