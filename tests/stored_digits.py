"""A small trained network in a folder, and backends of a user that fail in several ways."""

from pathlib import Path

from nasbench.models import Origin, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.training.config import TrainingConfig
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

OPTIONS = {"widths": [16, 32], "layers": 1}
TEXT = "convolution_k3_w1.0/inverted_residual_k3_w1.0"
TRAINING = {"epochs": 2, "learning_rate": 0.01}

BACKENDS = """
import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

from nasbench_compression.compilation.onnxruntime import OnnxRuntime, OnnxRuntimeModel
from nasbench_registry import UserError


@dataclass(frozen=True, kw_only=True)
class Good(OnnxRuntime):
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)


class Crashes(Good):
    def _compile(self, model, example_inputs, precision, calibration):
        os.kill(os.getpid(), signal.SIGSEGV)


class Hangs(Good):
    def _compile(self, model, example_inputs, precision, calibration):
        time.sleep(600)


class Refuses(Good):
    def _compile(self, model, example_inputs, precision, calibration):
        raise UserError("this network has a layer that the runtime does not know.")


class Missing(Good):
    packages: ClassVar[tuple[str, ...]] = ("no_such_package",)


class WrongModel(OnnxRuntimeModel):
    def __call__(self, images):
        return -super().__call__(images)


class Wrong(Good):
    def _compile(self, model, example_inputs, precision, calibration):
        made = super()._compile(model, example_inputs, precision, calibration)
        return WrongModel(made.artefact, made.precision, made.threads, made.graph_optimization)
"""


def store_trained(folder: Path, epochs: int = 3) -> Path:
    """A `mobile` network, trained on digits, in a folder of `save_model`."""
    bench = Workbench(image_classification("digits", training=TrainingConfig(**TRAINING)), seed=0)
    space = get_space("mobile", **OPTIONS)
    arch = space.parse(TEXT)
    model = fresh_model(space, arch, bench.problem.data.task, 0)
    bench.finetune(model, epochs=epochs)
    origin = Origin({"name": "digits"}, TRAINING)
    save_model(folder, model, build=SpaceBuild("mobile", OPTIONS, arch), task=bench.problem.data.task, origin=origin)
    return folder


def write_backends(folder: Path) -> None:
    """A user's module `mine` with backends `Good`, `Crashes`, `Hangs`, `Refuses`, `Missing` and `Wrong`."""
    (folder / "mine.py").write_text(BACKENDS)
