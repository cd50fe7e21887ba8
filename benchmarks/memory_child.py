"""The process whose memory `benchmarks.memory` measures: ``python -m benchmarks.memory_child FILE BATCHES SEED``."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import torch
from torch import nn

from nasbench.problems.image_classification import ImageClassification
from nasbench.training.training import Training


class Enough(Exception):  # no error: it ends the epoch
    """So many steps were done."""


def peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kibibytes)


def small_network(classes: int) -> nn.Module:
    """A network of some 25,000 weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def main(file: str, batches: str, seed: str) -> None:
    """Print the peaks of memory as JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    warm = small_network(2)  # what a first step allocates belongs to the libraries
    warm(torch.rand(64, 3, 32, 32)).sum().backward()
    torch.optim.AdamW(warm.parameters()).step()
    peaks = {"libraries_bytes": peak_bytes()}
    problem = ImageClassification.of("arrays", path=file, epochs=1)
    peaks["loading_bytes"] = peak_bytes()

    def on_batch(done: int, total: int) -> None:
        if done >= int(batches):
            raise Enough

    training = Training(
        small_network(problem.task.classes),
        problem.data.train,
        problem.training,
        seed=int(seed),
        on_batch=on_batch,
    )
    began, steps = time.perf_counter(), int(batches)
    try:
        training.run_epoch()
        steps = len(problem.data.train) // problem.training.batch_size
    except Enough:
        pass
    seconds = time.perf_counter() - began
    peaks["training_bytes"] = peak_bytes()
    print(json.dumps({**peaks, "steps": steps, "images_per_s": steps * problem.training.batch_size / seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
