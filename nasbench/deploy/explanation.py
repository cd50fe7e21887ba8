"""explain: one or two models in a runtime, from a network, a model or a folder to what people and programs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasbench.deploy.advice import Subject, causes, in_turn, measured, suggestions
from nasbench.deploy.explain import SECONDS, Profile, compared, profile
from nasbench.deploy.race import Runner
from nasbench.deploy.setting import Setting
from nasbench.devices.roofline import Roofline, measure_roofline
from nasbench.models.model import Model, load
from nasbench.models.outside import task_of
from nasbench_compression import CompiledModel
from nasbench_compression.inputs import one_tensor
from nasbench_compression.quantization.modules import is_quantized
from nasbench_registry import UserError
from search_spaces import Task

CALIBRATION = 128  # number of images


@dataclass(frozen=True)
class Explanation:
    """Why a model takes as long as it does, and of two what changed.

    Attributes:
        result: Whole result, as `nasbench explain --json` prints it.
    """

    result: Mapping[str, Any]

    @property
    def operators(self) -> list[dict[str, Any]]:
        """The operators of the last model, in the order in which they run."""
        return list(self.result["models"][-1]["operators"])

    @property
    def causes(self) -> list[dict[str, Any]]:
        """The causes on which the time of the last model is spent, the largest share first."""
        return list(self.result["causes"])

    @property
    def advice(self) -> list[dict[str, Any]]:
        """The suggestions that were tried on the last model, the most helpful first."""
        return list(self.result["advice"])

    def to_json(self) -> dict[str, Any]:
        """The result."""
        return dict(self.result)


def explain(
    model: nn.Module | Model | str | Path,
    other: nn.Module | Model | str | Path | None = None,
    *,
    backend: str = "onnxruntime",
    precision: str | None = None,
    threads: int = 1,
    batch: int = 1,
    example: Any = None,
    advice: bool = True,
    max_advice_s: float = 60.0,
    seconds: float = SECONDS,
    on_step: Callable[[str], None] = lambda text: None,
) -> Explanation:
    """Explain where the time of a model goes in a runtime, and try what would make it faster.

    Args:
        model: Network, model, or model folder; an artefact is explained as it is.
        other: Second model, which is then the one that is advised on; `model` is what it is compared with.
        backend: Backend that compiles networks.
        precision: Precision of the backend; None is int8 for a quantized network, else fp32.
        threads: Threads of a call.
        batch: Images in a call.
        example: (n, ...) inputs, where a bare network does not say what it takes.
        advice: Whether suggestions are tried.
        max_advice_s: Seconds for all suggestions together.
        seconds: Seconds of timing, for each model.
        on_step: Function that is called with the name of each step before it begins.

    Raises:
        UserError: a model is none, the backend is not installed, or cannot compile the network.
    """
    on_step("peaks of this machine")
    roofline = measure_roofline(threads)
    models = [_Loaded.of(source, example) for source in (model, other) if source is not None]
    if len({loaded.task.input_shape for loaded in models}) > 1:
        shapes = " and ".join("x".join(map(str, loaded.task.input_shape)) for loaded in models)
        raise UserError(f"the models take inputs of {shapes}; compare models of one shape.")
    profiles, artefacts = [], []
    for loaded in models:
        on_step(f"profile of {loaded.name}")
        setting, compiled = loaded.compiled(backend, precision, threads, batch)
        artefacts.append(compiled)
        inputs = loaded.task.one_input(setting.batch, seed=0)
        profiles.append(profile(compiled, setting, inputs, roofline, loaded.network, seconds=seconds))
    ratio = None
    if len(models) > 1:
        on_step("both in turn")
        first_runner, second_runner = (
            Runner(compiled, model_profile.setting.batch)
            for compiled, model_profile in zip(artefacts, profiles, strict=True)
        )
        ratio = in_turn(first_runner, second_runner, models[0].task).to_json()
    last, model_profile = models[-1], profiles[-1]
    outcomes, cause_rows = list[dict[str, Any]](), list[dict[str, Any]]()
    if last.network is not None:
        subject = Subject(
            last.network, last.task, model_profile.setting, artefacts[-1], model_profile, last.calibration
        )
        cause_rows = causes(subject)
        if advice:
            outcomes = measured(subject, suggestions(subject), max_s=max_advice_s, on_begin=on_step)
    return Explanation(_result(models, profiles, ratio, cause_rows, outcomes, roofline))


def _result(
    models: list[_Loaded],
    profiles: list[Profile],
    ratio: Mapping[str, float] | None,
    cause_rows: list[dict[str, Any]],
    outcomes: list[dict[str, Any]],
    roofline: Roofline,
) -> dict[str, Any]:
    return {
        "models": [
            {"model": loaded.name, **model_profile.to_json()}
            for loaded, model_profile in zip(models, profiles, strict=True)
        ],
        "ratio": ratio,
        "places": compared(*profiles)
        if len(profiles) > 1 and all(model_profile.operators for model_profile in profiles)
        else None,
        "causes": cause_rows,
        "advice": outcomes,
        "peaks": roofline.to_json(),
    }


@dataclass(frozen=True)
class _Loaded:
    """A model that is to be explained.

    Attributes:
        name: Name for people.
        network: Network; None of an artefact.
        task: Shapes of the inputs and outputs.
        artefact: Artefact of a model that is compiled already; else None.
        calibration: Real inputs, if there are any.
    """

    name: str
    network: nn.Module | None
    task: Task
    artefact: CompiledModel | None
    calibration: torch.Tensor | None

    @classmethod
    def of(cls, model: nn.Module | Model | str | Path, example: Any) -> _Loaded:
        if isinstance(model, str | Path):
            return cls.of_model(load(model), str(model))
        if isinstance(model, Model):
            return cls.of_model(model, str(model.folder or type(model.network).__name__))
        inputs = None if example is None else one_tensor(example)
        return cls(type(model).__name__, model.eval(), task_of(model, inputs), None, inputs)

    @classmethod
    def of_model(cls, model: Model, name: str) -> _Loaded:
        problem = model._own_problem()
        examples = None if problem is None or model.network is None else one_tensor(problem.examples(CALIBRATION))
        return cls(name, model.network, model.task, model.compiled, examples)

    def compiled(self, backend: str, precision: str | None, threads: int, batch: int) -> tuple[Setting, CompiledModel]:
        """The setting in which it is compiled, and the artefact."""
        if self.artefact is not None:
            facts = self.artefact.describe()
            options = dict(self.artefact.options)
            batch = self.artefact.batch or batch
            return Setting.of(str(facts["backend"]), str(facts["precision"]), options, batch), self.artefact
        assert self.network is not None, "it is a network or an artefact"
        chosen = precision or ("int8" if is_quantized(self.network) else "fp32")
        setting = Setting.of(backend, chosen, {"threads": threads}, batch)
        images = self.task.one_input(32, seed=0) if self.calibration is None else self.calibration
        return setting, setting.make().compile(self.network, self.task.one_input(batch, seed=0), chosen, images)
