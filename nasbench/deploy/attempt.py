"""One model in one runtime: compiled, compared with eager PyTorch, judged and timed, in a process of its own.

`attempt` runs in that process; `run_attempt` starts it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nasbench.deploy.process import ask
from nasbench.deploy.race import Runner, race
from nasbench.deploy.setting import Setting
from nasbench.models import StoredModel, load_model
from nasbench.models.workbench import Workbench, agrees
from nasbench.survivors.stored import save_made, workbench
from nasbench_compression import CompiledModel
from nasbench_compression.step import given

EAGER, COMPILED = "eager", "compiled"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to compile, judge and time a model.

    Attributes:
        model: Folder of `save_model` with a network.
        setting: Setting in which it is compiled, as `Setting.to_json` gives it.
        reference: Folder of the network whose latency in eager PyTorch, in float32, is the unit; None is `model`.
        seconds: Seconds of timing for each of the two; 0 does not time.
        images: Number of validation images, drawn by the seed, that accuracy and logits are read on; None is all.
        test: Whether test images are judged, too.
        artefact: Folder for the compiled artefact; None does not keep it.
        seed: Random seed of the images.
    """

    model: str
    setting: Mapping[str, Any]
    reference: str | None = None
    seconds: float = 0.5
    images: int | None = 2000
    test: bool = False
    artefact: str | None = None
    seed: int = 0


def run_attempt(request: Request, timeout_s: float) -> dict[str, Any]:
    """The numbers of a cell, JSON.

    Args:
        request: Request: the model, the setting and what is measured.
        timeout_s: Seconds after which the process is ended.

    Returns:
        `conversion_s` and `size_bytes` of the artefact; `agreement` with the stored network on these images (see
        `Agreement`), and of it `max_logit_diff`, the largest absolute difference to its logits in eager PyTorch, and
        `largest_logit` of those; what the problem says, such as `val_acc_pct`, and `val_images`; `quality`, which of
        these counts; `test_acc_pct` and the like, and `test_images`, if asked for; `latency_ms` (`Latency.to_json`),
        `eager_latency_ms`, and
        `of_eager`, the ratio with its interval, both None where nothing was timed; `describe`, see
        `CompiledModel.describe`.

    Raises:
        ChildError: it crashed, hung, the network cannot be compiled so, or the artefact computes something else; the
            message says why, in one sentence.
    """
    numbers: dict[str, Any] = ask("nasbench.deploy.attempt:attempt", asdict(request), timeout_s)
    return numbers


def compiled_again(folder: str, setting: Mapping[str, Any]) -> CompiledModel:
    """A stored network, compiled as a setting says."""
    stored = load_model(Path(folder))
    return _compile(stored, workbench(stored, Path(folder), 0), Setting.from_json(setting))


def _compile(stored: StoredModel, bench: Workbench, setting: Setting) -> CompiledModel:
    context = bench.context()
    example = given(context.calibration)[: setting.batch]
    if len(example) < setting.batch:
        example = bench.task.one_input(setting.batch)
    return setting.make().compile(stored.model, example, setting.precision, context.calibration)


def attempt(message: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a `Request` as JSON; what `run_attempt` returns."""
    request = Request(**message)
    setting, folder = Setting.from_json(request.setting), Path(request.model)
    torch.set_num_threads(setting.threads)
    stored = load_model(folder)
    bench = workbench(stored, folder, request.seed)
    started = time.perf_counter()
    compiled = _compile(stored, bench, setting)
    conversion_s = time.perf_counter() - started
    agreement = agrees(compiled, stored.model, bench.problem.unseen(request.images, request.seed))
    problem = bench.problem.fewer(request.images, request.seed)
    if request.artefact is not None:
        save_made(Path(request.artefact), compiled, stored, folder)
    timed: dict[str, Any] = {"latency_ms": None, "eager_latency_ms": None, "of_eager": None}
    if request.seconds:
        reference = Setting.of("eager", "fp32", {"threads": setting.threads}, setting.batch)
        runners = {
            EAGER: Runner(compiled_again(request.reference or request.model, reference.to_json()), setting.batch),
            COMPILED: Runner(compiled, setting.batch),
        }
        result = race(runners, bench.task, seconds=request.seconds)
        timed = {
            "latency_ms": result.latencies[COMPILED].to_json(),
            "eager_latency_ms": result.latencies[EAGER].median,
            "of_eager": result.ratios[COMPILED, EAGER].to_json(),
        }
    return {
        "conversion_s": conversion_s,
        "size_bytes": compiled.bytes,
        "max_logit_diff": agreement.max_diff,
        "largest_logit": agreement.largest,
        "agreement": agreement.to_json(),
        "quality": problem.quality,
        **problem.score(compiled, "val"),
        "val_images": problem.judged("val"),
        **(problem.score(compiled, "test") if request.test else {problem.tested(problem.quality): None}),
        "test_images": problem.judged("test") if request.test else None,
        **timed,
        "describe": compiled.describe(),
    }
