"""What several test files of this folder share."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.function import FunctionEvaluator
from nasbench.evaluators.trained import Trained
from nasbench.experiment.build import Brought, Prepared, prepare
from nasbench.experiment.experiment import Experiment
from nasbench.experiment.stored import start_run
from nasbench.latency.calibration import Calibration
from nasbench.search.study import Study
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.files import write_json
from nasbench.storage.run_folder import RunFolder

RECIPE = [
    {"prune": {"ratio": 0.3, "epochs": 2}},
    {"distill": {"epochs": 2}},
    {"quantize": {"precision": "int8"}},
    {"compile": {"backend": "onnxruntime"}},
]


def experiment_of(**changes):
    """A search of a few seconds: digits, small `mobile` networks, one epoch, costs on paper only."""
    return {
        "name": "small",
        "space": {"name": "mobile", "widths": [8, 16], "layers": 1},
        "controller": {"name": "regularized_evolution", "population": 4, "tournament": 2},
        "objectives": [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "macs", "goal": "min"}],
        "reward": {"name": "weighted_product", "target": {"macs": 100_000}},
        "training": {"epochs": 1},
        "search": {"candidates": 6},
        "survivors": 0,
    } | changes


@dataclass(frozen=True)
class Begun:
    """A run that has begun: its parts, its folder, what scores its candidates, and its study."""

    prepared: Prepared
    folder: RunFolder
    evaluator: Evaluator
    study: Study

    def evaluate_all(self, function, on_result=lambda candidate: None):
        """Run the search with a function of a candidate for its evaluator, under the executor of the experiment."""
        evaluator = FunctionEvaluator(self.study.space, function)
        self.prepared.executor(self.folder, evaluator).run(self.study, evaluator, on_result)


def begin(
    path: Path,
    experiment: Experiment,
    brought: Brought | None = None,
    calibration: Calibration | None = None,
    command: str = "test",
) -> Begun:
    """Begin a run of an experiment in a folder, or go on with the one that is there, as far as its study."""
    prepared, folder = prepare(experiment, brought), RunFolder(path)
    start_run(folder, experiment, path.parent, command)
    write_json(folder.space, prepared.describe_space())
    evaluator = prepared.evaluator(folder, calibration)
    return Begun(prepared, folder, evaluator, prepared.study(folder, evaluator))


def trained_of(
    experiment: Experiment, calibration: Calibration | None = None, checkpoints: Path | None = None
) -> Trained:
    """What trains the candidates of an experiment; it keeps their weights only if it is given a folder for them."""
    evaluator = prepare(experiment).evaluator(RunFolder(Path("nowhere")), calibration)
    assert isinstance(evaluator, Trained)
    evaluator.checkpoints = None if checkpoints is None else Checkpoints(checkpoints)
    return evaluator


# A user's file: candidates that wait in their second epoch, and write down who waits. A file called `open` lets all go
# on, one called `pass` the first that finds it; one called `stop` is a second Ctrl-C.
GATED = """
import os
import time
from pathlib import Path

import torch
from torch import nn

from search_spaces import Decision, SearchSpace

HERE = Path(__file__).parent


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.batches = 0
        self.passed = False

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            if (HERE / "stop").exists():
                raise KeyboardInterrupt
            self.batches += 1
            if self.batches > 20 and not self.passed:  # digits have 17 batches of 64
                self.wait()
        return x

    def wait(self):
        waits = HERE / f"waits.{os.getpid()}"
        while not (self.passed or (HERE / "open").exists()):
            waits.touch()
            time.sleep(0.01)
            try:
                (HERE / "pass").unlink()
            except FileNotFoundError:
                continue
            waits.unlink()
            self.passed = True


class Gated(SearchSpace):
    name = "gated"
    decisions = (Decision("width", tuple(range(4, 16))), Decision("kernel", (1, 3)))

    def build(self, arch, task):
        width, kernel = self.choices(arch).values()
        body = nn.Sequential(nn.Conv2d(task.input_shape[0], width, kernel), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        return nn.Sequential(Gate(), body, nn.Flatten(), nn.Linear(4 * width, task.classes))
"""


def write_gated(folder):
    """Write `GATED` into a folder; what this process has imported from another one is forgotten."""
    sys.modules.pop("gated", None)
    (folder / "gated.py").write_text(GATED)


def nasbench_process(*words, log):
    """The command line in a process group of its own, as a shell starts it; what it says goes into the file `log`."""
    with log.open("a") as file:
        command = [sys.executable, "-c", "from nasbench.cli.app import main; main()", *map(str, words)]
        return subprocess.Popen(command, cwd=log.parent, start_new_session=True, stdout=file, stderr=file)


def wait_until(reached, process, log):
    """Wait until `reached` gives something true, which it returns; fail if the process ends before."""
    deadline = time.monotonic() + 120
    while not (result := reached()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return result


def check_accuracies_of_export(exported):
    """The accuracies that `nasbench export --json` tells differ by no more images than those whose class differs.

    All validation images of digits were compared, and outputs that are too far apart end the command.
    """
    others = 100 - exported["agreement"]["same_class_pct"]
    assert abs(exported["val_acc_pct"] - exported["model_val_acc_pct"]) <= others + 1e-9
    assert exported["agreement"]["difference"] <= exported["agreement"]["allowed"]


def check_agreement(compiled, network, images, evaluate):
    """An artefact computes on images what its network does, within what its precision explains in that network.

    So their accuracies (of `evaluate`, on the same images) differ by no more than the images whose class differs.
    """
    agreement = compiled.limits.check(compiled, network, images)
    assert abs(evaluate(compiled) - evaluate(network)) <= 100 - agreement.same_class_pct + 1e-4


class Attending(nn.Module):
    """Self-attention of torch itself over the pixels of images (n, 16, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def flat_network() -> nn.Module:
    """The smallest network for digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


TINY_SPACE = """
from torch import nn

from search_spaces import Decision, SearchSpace


class Tiny(SearchSpace):
    name = "tiny"
    decisions = (Decision("depth", (1, 2, 3)), Decision("width", (8, 16, 32)), Decision("kernel", (1, 3, 5)))

    def build(self, arch, task):
        choice, layers, channels = self.choices(arch), [], task.input_shape[0]
        for _ in range(choice["depth"]):
            kernel = choice["kernel"]
            layers += [nn.Conv2d(channels, choice["width"], kernel, padding=kernel // 2), nn.ReLU()]
            channels = choice["width"]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, task.classes))
"""


TRANSFORMERS = "nasbench.models.outside:transformers"
SMALL_RESNET = {
    "architecture": "ResNetForImageClassification",
    "num_channels": 1,
    "num_labels": 10,
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
}
"""Options of `TRANSFORMERS` for a network of a few thousand weights."""
