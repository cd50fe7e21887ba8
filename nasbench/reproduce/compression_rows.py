"""Rows of a table of compression: each is a recipe on one trained network, measured as it would be deployed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError
from torch import nn

from nasbench.costs.cost import counts
from nasbench.data import load_data
from nasbench.data.folders import data_folders
from nasbench.devices.device import Device
from nasbench.models import load_model, save_model
from nasbench.models.build import Build, FunctionBuild, SpaceBuild
from nasbench.models.outside import network_from
from nasbench.models.workbench import Workbench
from nasbench.problems.image_classification import ImageClassification
from nasbench.problems.problem import Problem
from nasbench.storage.code_digest import versions
from nasbench.storage.files import content_key
from nasbench.storage.tensor_files import TensorFiles
from nasbench.survivors.gate import NO_GATE
from nasbench.survivors.stages import run_recipe
from nasbench.tables.protocols import Compression, NetworkSource, TrainedNetworks
from nasbench.training.config import TrainingConfig
from nasbench_compression import Recipe
from nasbench_compression.quantization.modules import dequantize
from nasbench_registry import UserError, check_options, one_of
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

RECIPE = "recipe"
DENSE, ROW = "dense", "row"
STATE = "state.safetensors"
SECONDS_EACH, ROUNDS = 0.5, 3


@dataclass(frozen=True, kw_only=True)
class RecipeMethod:
    """Take a network through steps.

    Attributes:
        recipe: Steps, as in an experiment file.
        network: Key of the network in the protocol's networks.
        trained: Whether the network is trained first; otherwise the steps begin with fresh weights. The first network
            of the protocol, trained, is the teacher of a distillation.
    """

    recipe: tuple[Any, ...] = ()
    network: str | None = None
    trained: bool = True


def recipe_method(protocol: Compression, method: Mapping[str, Any]) -> RecipeMethod:
    """The method of a row; UserError if a name, an option, a step or the network is not allowed."""
    one_of("method", str(method["name"]), [RECIPE])
    options = {key: value for key, value in method.items() if key != "name"}
    check_options(RecipeMethod, options, what=f"method {RECIPE!r}")
    recipe = RecipeMethod(**{**options, "recipe": tuple(options.get("recipe", ()))})
    one_of("network", _network(protocol, recipe), protocol.networks)
    Recipe.parse(list(recipe.recipe))
    missing = Device(protocol.runtime).why_unavailable()
    if missing:
        raise UserError(missing)
    return recipe


def measure_recipe(protocol: Compression, method: Mapping[str, Any], seed: int) -> dict[str, float]:
    """The values that a column may show of a row, for one seed.

    The artefact takes turns with that of the first network, trained and compiled for the same runtime.
    """
    recipe = recipe_method(protocol, method)
    bench = workbench(protocol, seed)
    dense = trained(protocol, next(iter(protocol.networks)), seed)
    name = _network(protocol, recipe)
    start = trained(protocol, name, seed) if recipe.trained else _fresh(protocol, name, seed)
    stages = run_recipe(start, Recipe.parse(list(recipe.recipe)), bench, NO_GATE, teacher=dense)
    last = stages[-1]
    failed = [stage for stage in stages if stage.model is None]
    if failed:
        raise UserError(f"the recipe of a row fails: {failed[0].name}: {failed[0].reason}")
    assert last.model is not None, "no stage failed"
    artefact = bench.compiled(last.model)
    assert bench.device is not None, "the bench was made with one"
    comparison = bench.device.compare(
        {DENSE: bench.compiled(dense), ROW: artefact}, bench.task, SECONDS_EACH, rounds=ROUNDS
    )
    counted = counts(dequantize(last.network), bench.task)
    return {
        "test_acc_pct": bench.problem.score(artefact, "test")["test_acc_pct"],
        "val_acc_pct": bench.validate(artefact),
        "macs": counted.macs,
        "params": counted.params,
        "stored_bytes": last.promised_bytes,
        "artefact_bytes": artefact.bytes,
        "latency_ms": comparison.latencies[ROW].median,
        "of_dense_latency": comparison.ratios[ROW].ratio,
        "seconds": sum(stage.seconds for stage in stages),
    }


def trained(protocol: TrainedNetworks, network: str, seed: int) -> nn.Module:
    """A network after the training of the protocol; trained once, and kept in the cache folder for the next time.

    A training that was interrupted goes on after its last epoch.
    """
    source = protocol.networks[network]
    facts = protocol.model_dump(mode="json", include={"data", "space", "training"}) | {
        "network": source if isinstance(source, str) else source.model_dump(mode="json"),
        "seed": seed,
        "images": load_data(**protocol.data).digest,
        "versions": versions("search_spaces", "nasbench.data", "nasbench.training"),
    }
    key = content_key(facts)
    folder = data_folders()[-1] / "trained" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "model.json").exists():
            bench, model = workbench(protocol, seed), _fresh(protocol, network, seed)
            _train(bench.problem, model, seed, folder.with_name(f"{key}.training"))
            aside = folder.with_name(f"{key}.{os.getpid()}")
            save_model(aside, model, build=build_of(protocol, network), task=bench.task)
            os.replace(aside, folder)
        stored = load_model(Path(folder)).model
    assert isinstance(stored, nn.Module), "it was saved as a network"
    return stored


def _train(problem: Problem, model: nn.Module, seed: int, folder: Path) -> None:
    """Train as `Problem.fit` does; the state after each epoch lies in a folder, from which the next process goes on."""
    assert isinstance(problem, ImageClassification), "the bench of a protocol has one"
    files = TensorFiles(folder)
    training = problem.begin(model, seed=seed, epochs=None, device="cpu", accumulate=1, deadline=None)
    with contextlib.suppress(FileNotFoundError, SafetensorError):
        training.load_state_dict(files.load(STATE)[0])
    while training.epoch < training.epochs:
        training.run_epoch()
        files.save(STATE, training.state_dict())
    training.finish()
    shutil.rmtree(folder, ignore_errors=True)


def build_of(protocol: TrainedNetworks, network: str) -> Build:
    """How a network of the protocol is built."""
    source = protocol.networks[network]
    if isinstance(source, NetworkSource):
        return FunctionBuild(source.build, source.options)
    assert protocol.space is not None, "the protocol was checked"
    options = {name: value for name, value in protocol.space.items() if name != "name"}
    return SpaceBuild(protocol.space["name"], options, get_space(**protocol.space).parse(source))


def _network(protocol: Compression, method: RecipeMethod) -> str:
    return method.network or next(iter(protocol.networks))


def workbench(protocol: TrainedNetworks, seed: int) -> Workbench:
    """The workbench of a protocol: its data, training and runtime."""
    data = load_data(**protocol.data)
    training = TrainingConfig.model_validate(protocol.training)
    return Workbench(ImageClassification(data, training), seed, Device(protocol.runtime))


def _fresh(protocol: TrainedNetworks, network: str, seed: int) -> nn.Module:
    source = protocol.networks[network]
    if isinstance(source, NetworkSource):
        return network_from(FunctionBuild(source.build, {**source.options, **source.start}), None, seed)
    assert protocol.space is not None, "the protocol was checked"
    space = get_space(**protocol.space)
    return fresh_model(space, space.parse(source), load_data(**protocol.data).task, seed)
