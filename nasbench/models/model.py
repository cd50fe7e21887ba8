"""A network or an artefact with all that it takes to use it: predict, compress, compile, measure, save."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nasbench.devices.device import Device
from nasbench.devices.measure import Latency
from nasbench.models.build import Build, FunctionBuild, inferred_build, read_build
from nasbench.models.code import importable
from nasbench.models.origin import origin_of, problem_of
from nasbench.models.outside import PACKED, check_fits, packed_network, task_of
from nasbench.models.program import read_program
from nasbench.models.store import Origin, load_compiled, load_model, read_description, read_origin, save_model
from nasbench.models.workbench import Workbench
from nasbench.problems.problem import Problem
from nasbench_compression import CompiledModel, Context, Recipe, Step, get_backend
from nasbench_compression.inputs import InputPart, Packed, one_tensor, packed
from nasbench_compression.outputs import tensors_of
from nasbench_compression.quantization.modules import is_quantized
from nasbench_compression.surgery import inference
from nasbench_registry import UserError
from nasbench_registry.files import user_path
from search_spaces import Task, TensorSpec

Noted = tuple[Step, dict[str, Any]]
"""A step that was applied, with its note."""


@dataclass(frozen=True)
class Model:
    """A network, or what was compiled of one.

    Attributes:
        network: Network in eval mode; None for an artefact that was read from disk alone.
        task: Inputs and outputs of the network.
        compiled: Artefact of a runtime, if it was compiled.
        build: How the network is built before its steps; None if that is not known, and then it cannot be saved.
        steps: Compression steps that were applied, in order, with their notes.
        problem: Problem that it solves; None if that is not known, or not read from its folder yet.
        origin: Data, training and metrics of the model.
        folder: Folder that it was read from.
        reports: Name of each step of the last `compress`, and the metrics of validation after it.
    """

    network: nn.Module | None
    task: Task
    compiled: CompiledModel | None = None
    build: Build | None = None
    steps: Sequence[Noted] = ()
    problem: Problem | None = field(default=None, repr=False)
    origin: Origin = field(default_factory=Origin, repr=False)
    folder: Path | None = None
    reports: Sequence[Mapping[str, Any]] = ()

    def predict(self, inputs: Any) -> Any:
        """The outputs for a batch, as a NumPy array; of regression in the units of the targets.

        Args:
            inputs: (n, ...) inputs as the network takes them: an array or a tensor, or a tuple of them, or a dict by
                the names with which the model was made.
        """
        model = self.compiled or self._require_network()
        parts = self._parts()
        if parts and isinstance(inputs, Mapping | tuple | list):
            inputs = packed(inputs, parts)
        return predicted(model, inputs, self.problem, self.task, self.origin.normalization)

    def compress(
        self,
        recipe: Sequence[Step | str | Mapping[str, Any]] | Recipe,
        *,
        problem: Problem | None = None,
        runtime: str = "onnxruntime",
        seed: int = 0,
        device: str = "cpu",
    ) -> Model:
        """A model to which the steps were applied; this one stays as it is.

        Args:
            recipe: Steps: objects, names, or as in an experiment file.
            problem: Data, training and metrics, for steps that need them; None is that of this model, which is read
                from its folder if a step needs anything, and where it is not known either, only steps that need no data
                can be applied.
            runtime: Backend that latencies are measured with, where a step asks for one.
            seed: Random seed of every random choice.
            device: Where it is fine-tuned and evaluated: cpu or cuda.

        Raises:
            UserError: A step does not fit the network, or needs what is not given; or the data that the folder names
                are not to be had.
        """
        steps = recipe if isinstance(recipe, Recipe) else parse_recipe(recipe)
        problem = problem or (self._own_problem() if any(step.needs for step in steps.steps) else self.problem)
        first = self._require_network()
        bench = None if problem is None else Workbench(problem, seed, Device(runtime), trains_on=device)
        if bench is None:  # then a step says what it needs besides
            context = Context(self.task.one_input(2, seed=seed)[:1], teacher=first, seed=seed)
        else:
            context = bench.context(teacher=first)
        network, compiled, noted = first, None, list(self.steps)
        reports: list[Mapping[str, Any]] = []
        for step in steps.steps:
            result, note = step.apply(network, context)
            noted.append((step, note))
            if isinstance(result, CompiledModel):
                compiled = result
            else:
                network = result
            scores = {} if bench is None else bench.score(result)
            reports.append({"stage": step.stage, **scores})
        return dataclasses.replace(
            self,
            network=network,
            compiled=compiled,
            steps=noted,
            problem=problem,
            origin=dataclasses.replace(self.origin, metrics={}),  # which were those of this one
            reports=tuple(reports),
        )

    def export(self, backend: str = "onnxruntime", *, precision: str | None = None, **options: Any) -> Model:
        """The network compiled for a runtime.

        Args:
            backend: Name of the backend, see ``nasbench list backends``.
            precision: Precision: fp32, fp16 or int8; None is int8 for a quantized network, else fp32.
            options: Options of the backend, such as ``threads=2``.

        Raises:
            UserError: The backend is not installed, or cannot compile the network.
        """
        network = self._require_network()
        example = self.task.one_input()
        chosen = precision or ("int8" if is_quantized(network) else "fp32")
        problem = self.problem if chosen == "fp32" else self._own_problem()
        calibration = None if problem is None else one_tensor(problem.examples(256))
        compiled = get_backend(backend, **options).compile(network, example, chosen, calibration)
        return dataclasses.replace(self, compiled=compiled)

    def benchmark(self, runtime: str = "onnxruntime", *, threads: int = 1, batch: int = 1) -> Latency:
        """Latency with the protocol that gave it: of the artefact if there is one, else of the network in fp32.

        Args:
            runtime: Backend that compiles a network.
            threads: Number of threads of one inference.
            batch: Examples in one inference.
        """
        device = Device(runtime, threads, batch)
        return device.measure(self.compiled or device.compile(self._require_network(), self.task), self.task)

    def save(self, folder: str | Path, *, build: str | None = None, options: Mapping[str, Any] | None = None) -> Path:
        """Write it into a folder: weights as safetensors or the artefact, everything else as JSON, no pickle.

        Args:
            folder: Folder to write; created if it is not there.
            build: Function ``module:function`` that makes the network before its steps; needed unless the model knows
                it, or its class can be imported and takes no arguments.
            options: Keyword arguments of `build`, JSON values.

        Raises:
            UserError: It is not known how to build the network.
        """
        network_build = FunctionBuild(build, dict(options or {})) if build is not None else self.build
        if network_build is None:
            network_build = inferred_build(self._require_network())
        origin = self.origin
        if self.problem is not None and not origin.problem:
            origin = origin_of(self.problem)
        place = user_path(folder)
        model = self.compiled or self._require_network()
        save_model(place, model, build=network_build, task=self.task, steps=self.steps, origin=origin)
        return place

    def _parts(self) -> Sequence[InputPart]:
        """The parts of its input, where several inputs are packed into one."""
        if isinstance(self.network, Packed):
            return self.network.parts
        if isinstance(self.build, FunctionBuild) and self.build.function == PACKED:
            return [InputPart(**fields) for fields in self.build.options["inputs"]]
        return ()

    def _own_problem(self) -> Problem | None:
        """The problem of the model, read from its folder where that is not done yet; None if it is not known."""
        if self.problem is not None or self.folder is None or not (self.origin.data or self.origin.problem):
            return self.problem
        return problem_of(self.origin, self.task, self.folder)

    def _require_network(self) -> nn.Module:
        if self.network is None:
            raise UserError("this is a compiled artefact, which cannot be changed any more; load its network instead.")
        return self.network


def predicted(
    model: nn.Module | CompiledModel,
    inputs: Any,
    problem: Problem | None = None,
    task: Task | None = None,
    normalization: Mapping[str, Any] | None = None,
) -> Any:
    """The outputs of a network or an artefact for a batch, in the units of the targets, as NumPy arrays.

    Args:
        model: Network or artefact, in any mode; it is not changed.
        inputs: Array or tensor, or a tuple of them.
        problem: Problem of the network; None leaves outputs as they are, unless `normalization` knows their scale.
        task: Inputs and outputs of the network; None is those of the problem.
        normalization: Normalization of its folder, see `normalization_of`.

    Returns:
        (n, ...); where it gives several tensors a dict of them, by where they are.
    """
    task = task or (None if problem is None else problem.task)
    values = inputs if isinstance(inputs, tuple) else (inputs,)
    dtypes = ["float32"] * len(values) if task is None else [spec.dtype for spec in task.inputs]
    arrays = [
        value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=dtype)
        for value, dtype in zip(values, dtypes, strict=False)
    ]
    if isinstance(model, CompiledModel):
        outputs = model(*arrays)
    else:
        with inference(model):
            tensors = tensors_of(model(*map(torch.from_numpy, arrays)))
        outputs = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        outputs = outputs[""] if set(outputs) == {""} else outputs
    scale = (normalization or {}).get("targets")
    if problem is not None:
        return problem.decode(outputs)
    return outputs if scale is None else np.asarray(outputs) * np.float32(scale["std"]) + np.float32(scale["mean"])


def parse_recipe(entries: Sequence[Step | str | Mapping[str, Any]]) -> Recipe:
    """A recipe of steps that are objects, names, or as in an experiment file."""
    written = [Recipe((entry,)).to_json()[0] if isinstance(entry, Step) else entry for entry in entries]
    return Recipe.parse([dict(entry) if isinstance(entry, Mapping) else entry for entry in written])


def compress(
    network: nn.Module | ExportedProgram | Model,
    recipe: Sequence[Step | str | Mapping[str, Any]],
    *,
    problem: Problem | None = None,
    example: Any = None,
    build: str | None = None,
    options: Mapping[str, Any] | None = None,
    runtime: str = "onnxruntime",
    seed: int = 0,
    device: str = "cpu",
) -> Model:
    """Apply compression steps to a trained network, which stays as it is; see `Model.compress`.

    Args:
        network: Network, a program of ``torch.export`` whose batch is dynamic, or a model.
        recipe: Steps: objects such as ``Prune(ratio=0.5)``, names, or as in an experiment file.
        problem: Problem of the network; without it, only steps that need no data can be applied.
        example: (n, ...) inputs, where no problem says what the network takes; networks of timm and Transformers say it
            themselves. Several are a tuple, or a dict by the names of the arguments of its forward.
        build: Function ``module:function`` that makes the network, for saving it.
        options: Options of `build`.
        runtime: Backend that latencies are measured with, where a step asks for one.
        seed: Random seed of every random choice.
        device: Where it is fine-tuned and evaluated: cpu or cuda.
    """
    model = network if isinstance(network, Model) else _of(network, problem, example, build, options)
    return model.compress(recipe, problem=problem, runtime=runtime, seed=seed, device=device)


def measure(
    network: nn.Module | Model, example: Any = None, *, runtime: str = "onnxruntime", threads: int = 1
) -> Latency:
    """Latency of a network in a runtime, with the protocol that gave it.

    Args:
        network: Network, or a model.
        example: (n, ...) inputs, of which shape and batch count; a `Model` knows its own for a batch of one.
        runtime: Backend that compiles and runs it.
        threads: Number of threads of one inference.

    Raises:
        UserError: The backend is not installed or cannot compile the network, or a network comes without an example.
    """
    missing = get_backend(runtime, threads=threads).why_unavailable()
    if missing:
        raise UserError(missing)
    if isinstance(network, Model):
        return network.benchmark(runtime, threads=threads, batch=1 if example is None else len(example))
    shape = tuple(int(size) for size in getattr(example, "shape", ()))
    if len(shape) < 2:
        raise UserError(
            f"the example has shape {shape}; give one batch of inputs, such as (n, channels, height, width)."
        )
    kind = str(torch.as_tensor(example[:1]).dtype).removeprefix("torch.")
    kind = "float32" if kind.startswith("float") else kind
    input_spec = TensorSpec(shape[1:], kind, None if kind == "float32" else int(torch.as_tensor(example).max()) + 1)
    return Device(runtime, threads, shape[0]).latency(network, Task(inputs=input_spec, outputs=TensorSpec((1,))))


def save(
    folder: str | Path,
    network: nn.Module | ExportedProgram | Model,
    *,
    build: str | None = None,
    options: Mapping[str, Any] | None = None,
    problem: Problem | None = None,
    example: Any = None,
) -> Path:
    """Write a network into a folder, from which `load` and every command reads it; see `Model.save`.

    Args:
        folder: Folder to write; created if it is not there.
        network: Network, a program of ``torch.export`` whose batch is dynamic, or a model.
        build: Function ``module:function`` that makes the network, such as ``timm:create_model``.
        options: Keyword arguments of `build`.
        problem: Problem of the network; without it, it is not trained or evaluated from the folder.
        example: (n, ...) inputs, where no problem says what the network takes; see `compress`.
    """
    model = network if isinstance(network, Model) else _of(network, problem, example, build, options)
    return model.save(folder)


def load(folder: str | Path, *, accept_changed_code: bool = False) -> Model:
    """Read a model folder.

    Args:
        folder: Folder of the model.
        accept_changed_code: Whether a network is given although the code that builds it was edited since, or gives
            other outputs.

    Raises:
        UserError: It is no model folder, is damaged, or its code changed.
    """
    place = user_path(folder)
    about = read_description(place)
    if "compiled" in about:
        task = Task.from_json(about["task"])
        with importable(place, about):
            return Model(None, task, load_compiled(place), read_build(about), origin=read_origin(about), folder=place)
    stored = load_model(place, accept_changed_code=accept_changed_code or None)
    return Model(stored.model, stored.task, None, stored.build, stored.steps, origin=stored.origin, folder=place)


def _of(
    network: nn.Module | ExportedProgram,
    problem: Problem | None,
    example: Any,
    build: str | None,
    options: Mapping[str, Any] | None,
) -> Model:
    network_build = None if build is None else FunctionBuild(build, dict(options or {}))
    if isinstance(network, ExportedProgram):
        if network_build is not None:
            raise UserError("an exported program says itself how it is built; leave out build and options.")
        network, network_build = read_program(network)
    if problem is None:
        network, network_build = packed_network(network, network_build, example)
        if isinstance(example, Mapping | tuple | list):
            example = one_tensor(example)
        return Model(network, task_of(network, example), build=network_build)
    if example is not None:
        raise UserError(
            "problem and example are given, and the problem says what the network takes; leave out example."
        )
    network, network_build = packed_network(network, network_build, problem.examples(2))
    check_fits(network, problem, f"the {type(network).__name__}" if network_build is None else network_build.text)
    return Model(network, problem.task.packed(), build=network_build, problem=problem)
